import { expect } from 'vitest';
import type { QuantizedMatrix } from '../../src/matrix/quantized-matrix.js';
import type { QuantizeOptions } from '../../src/quantize/options.js';
import { type ReferenceBytes, referenceQuantize } from './reference-quantizer.js';

/** Fails with the number of differing elements (-0 and 0 differ) and the first eight of them. */
export function expectSameElements<T extends Uint8Array | Float32Array>(
  actual: T,
  expected: T,
  what: string,
): void {
  expect(actual.length, `${what}: length`).toBe(expected.length);
  const differing: number[] = [];
  for (let i = 0; i < expected.length; i++) if (!Object.is(actual[i], expected[i])) differing.push(i);
  const first = differing.slice(0, 8).map((i) => `[${i}] is ${actual[i]}, not ${expected[i]}`);
  expect(first, `${what}: ${differing.length} of ${expected.length} elements differ`).toEqual([]);
}

export function expectSameMatrix(actual: ReferenceBytes, expected: ReferenceBytes, what: string): void {
  // Scales before codes: a wrong scale explains wrong codes.
  const none = new Uint8Array(0);
  expectSameElements(actual.macroScales ?? none, expected.macroScales ?? none, `${what}: macroScales`);
  expectSameElements(actual.scales, expected.scales, `${what}: scales`);
  expectSameElements(actual.codes, expected.codes, `${what}: codes`);
  expect(actual.globalScale, `${what}: globalScale`).toBe(expected.globalScale);
}

export function expectMatchesReference(
  q: QuantizedMatrix,
  values: Float32Array,
  options: QuantizeOptions,
  what: string,
): void {
  expectSameMatrix(q, referenceQuantize(values, options, q), what);
}
