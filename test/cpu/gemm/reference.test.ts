import { expect, test } from 'vitest';
import { pickColumns, worstError } from '../../../src/gemm/reference.js';
import { errorBound, type QuantizedMatrix, referenceProduct } from '../../../src/index.js';
import { selectRows } from '../../../src/matrix/quantized-matrix.js';

// Codes 1..8 of row 0: 0.5, 1, 1.5, 2, 3, 4, 6, -0, and zeros; row 1 the same with f = 1.5.
const codes = new Uint8Array(32);
codes.set([0x21, 0x43, 0x65, 0x87]);
codes.set([0x21, 0x43, 0x65, 0x87], 16);
const q: QuantizedMatrix = {
  format: 'mxfp4',
  rows: 2,
  cols: 32,
  blockSize: 32,
  codes,
  scales: Uint8Array.of(128, 126),
  macroScales: Uint8Array.of(0, 128),
  macroSize: 32,
  globalScale: 1,
  hadamard: false,
};

test('multiplies by hand', () => {
  const x = new Float32Array(64);
  x.fill(1, 0, 8);
  x[32 + 6] = -10;
  const sum = 0.5 + 1 + 1.5 + 2 + 3 + 4 + 6;
  const inverse = Math.fround(1 / 1.5);
  const { y, magnitude } = referenceProduct(x, q, 2, Float32Array.of(1, -1));
  expect([...y]).toEqual(
    [2 * sum + 1, sum * 0.5 * inverse - 1, -120 + 1, -30 * inverse - 1].map((v) => expect.closeTo(v, 12)),
  );
  expect([...magnitude]).toEqual(
    [2 * sum + 1, sum * 0.5 * inverse + 1, 121, 30 * inverse + 1].map((v) => expect.closeTo(v, 12)),
  );
});

test('the bound grows with the roundings and with the size of the terms, not of the sum', () => {
  const x = new Float32Array(32).fill(1);
  const cancelling = x.slice();
  cancelling[6] = -2;
  const bound = (input: Float32Array, roundings: number) =>
    errorBound(referenceProduct(input, q, 1), 0, { roundings });
  expect(bound(x, 20) / bound(x, 0)).toBeCloseTo(23 / 3, 4);
  expect(bound(cancelling, 10)).toBeGreaterThan(bound(x, 10));
});

test('selectRows copies rows of every part', () => {
  const second = selectRows(q, [1, 1]);
  expect(second.rows).toBe(2);
  const x = new Float32Array(32).fill(1);
  const [, expected] = referenceProduct(x, q, 1).y;
  expect([...referenceProduct(x, second, 1).y]).toEqual([expected, expected]);
});

test('worstError is in parts of the bound, and NaN wherever it stands', () => {
  const x = new Float32Array(64).fill(1);
  const reference = referenceProduct(x, q, 2);
  expect(worstError(reference.y, reference, { roundings: 10 })).toBe(0);
  const off = reference.y.slice();
  off[2]! += 3 * errorBound(reference, 2, { roundings: 10 });
  expect(worstError(off, reference, { roundings: 10 })).toBeCloseTo(3, 6);
  for (let i = 0; i < off.length; i++) {
    const bad = reference.y.slice();
    bad[i] = Number.NaN;
    expect(worstError(bad, reference, { roundings: 10 })).toBeNaN();
  }
});

test('pickColumns takes columns of every row', () => {
  expect([...pickColumns(Float32Array.of(1, 2, 3, 4, 5, 6), 2, 3, [2, 0])]).toEqual([3, 1, 6, 4]);
});
