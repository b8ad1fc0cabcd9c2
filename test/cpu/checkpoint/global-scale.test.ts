import { expect, it } from 'vitest';
import { type GlobalScaleConvention, globalMultiplier } from '../../../src/checkpoint/global-scale.js';

const multiplier = (stored: number, convention: GlobalScaleConvention) =>
  globalMultiplier(stored, convention, (message) => {
    throw new Error(message);
  });

// A tensor with amax 5.25 is the same, whichever way its producer says so.
const AMAX = 5.25;

it('multiplier: amax / 2688 as it is (ModelOpt, ComfyUI, TorchAO, GGUF, ours)', () => {
  expect(multiplier(Math.fround(AMAX / 2688), 'multiplier')).toBe(Math.fround(AMAX / 2688));
});

it('divisor: 2688 / amax turned over (compressed-tensors)', () => {
  expect(multiplier(512, 'divisor')).toBe(2 ** -9); // 2688 / 5.25 = 512
  expect(multiplier(3, 'divisor')).toBe(Math.fround(1 / 3));
});

it('amax: divided by 6 · 448 (MLX)', () => {
  expect(multiplier(AMAX, 'amax')).toBe(2 ** -9);
  expect(multiplier(6 * 448, 'amax')).toBe(1);
});

it.each(['multiplier', 'divisor', 'amax'] as const)('%s: only positive finite numbers', (convention) => {
  for (const stored of [0, -0, -1, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
    expect(() => multiplier(stored, convention)).toThrow('is not positive and finite');
  }
});

it('a multiplier that f32 does not have is an error, not 0 or Infinity', () => {
  expect(() => multiplier(1e-45, 'divisor')).toThrow('f32 does not reach so far');
  expect(() => multiplier(1e-45, 'amax')).toThrow('f32 does not reach so far');
});
