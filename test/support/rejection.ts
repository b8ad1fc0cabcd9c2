import { expect } from 'vitest';
import { Fp4Error } from '../../src/errors.js';

/** The error that a promise is rejected with, which has to be one of this library's. */
export async function rejection(promise: Promise<unknown>): Promise<Fp4Error> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(Fp4Error);
  return error as Fp4Error;
}
