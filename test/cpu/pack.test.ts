/** Kernel order against a decoder written from its picture, and back. */
import { expect, test } from 'vitest';
import { E2M1_VALUES, type QuantizedMatrix, quantize, unpackE2M1 } from '../../src/index.js';
import {
  CHUNK,
  pack,
  packedSizes,
  packWord,
  sliceRows,
  splitRows,
  unpack,
  unpackWord,
} from '../../src/matrix/pack.js';
import { Random } from '../support/random.js';

/** Value · 2^-14 of a half, as IEEE 754 defines binary16, subnormals included. */
function halfValue(half: number): number {
  const exponent = (half >> 10) & 31;
  const magnitude = exponent ? (1024 + (half & 1023)) * 2 ** (exponent - 25) : (half & 1023) * 2 ** -24;
  return half & 0x8000 ? -magnitude : magnitude;
}

/** The shifts and masks of shaders/formats/e2m1_half.wgsl. */
function decode(word: number): number[] {
  const pairs = [
    word & 0x8e008e00,
    (word << 3) & 0x8e008e00,
    ((word << 1) & 0x80008000) | ((word << 6) & 0x0e000e00),
    ((word << 2) & 0x80008000) | ((word << 9) & 0x0e000e00),
  ];
  return pairs.flatMap((pair) => [halfValue(pair & 0xffff) * 2 ** 14, halfValue(pair >>> 16) * 2 ** 14]);
}

test('every code in every place decodes to its value and comes back', () => {
  for (let place = 0; place < 8; place++) {
    for (let code = 0; code < 16; code++) {
      // Neighbours all ones, then all zeros: no bit of theirs may leak.
      for (const rest of [0, 0xffffffff]) {
        const word = ((rest & ~(15 << (4 * place))) | (code << (4 * place))) >>> 0;
        const packed = packWord(word);
        expect(decode(packed)[place]).toBe(E2M1_VALUES[code]);
        expect(unpackWord(packed)).toBe(word);
      }
    }
  }
});

test('packing is a permutation of bits', () => {
  const seen = new Set(Array.from({ length: 32 }, (_, bit) => packWord((1 << bit) >>> 0)));
  expect(seen.size).toBe(32);
  for (const packed of seen) expect(Math.log2(packed) % 1).toBe(0);
  expect(packWord(0xffffffff)).toBe(0xffffffff);
});

const random = new Random(5);
test.each([
  ['mxfp4', 32, 96, 'static'],
  ['mxfp4', 16, 48, 'static'],
  ['mxfp4', 16, 64, 'none'],
  ['nvfp4', 16, 80, 'none'],
] as const)('%s, block %i, k = %i, macro %s', (format, blockSize, cols, macroScale) => {
  const rows = 37;
  const stored = 64;
  const q = quantize(random.normals(rows * cols), { rows, cols, format, blockSize, macroScale });
  const packed = pack(q);
  const chunks = Math.ceil(cols / CHUNK);
  expect(packed.codes.length).toBe(stored * chunks * 4);
  expect(packed.scales.length).toBe((stored * chunks * 32) / blockSize);
  const codes = unpackE2M1(q.codes);
  /** Byte `i` of a row that has `width`: blocks of 32 rows, whose words j have rows j, 8 + j, 16 + j and 24 + j. */
  const byte = (field: Uint8Array, row: number, i: number, width: number) => {
    const block = Math.floor(row / 32);
    return field[((block * width + i) * 8 + (row % 8)) * 4 + Math.floor((row % 32) / 8)];
  };
  const expectBytes = (field: Uint8Array, canonical: Uint8Array, width: number) => {
    const perRow = canonical.length / rows;
    for (let row = 0; row < stored; row++) {
      for (let i = 0; i < width; i++) {
        const wanted = row < rows && i < perRow ? canonical[row * perRow + i] : 0;
        expect(byte(field, row, i, width)).toBe(wanted);
      }
    }
  };
  for (let row = 0; row < stored; row++) {
    const block = Math.floor(row / 32);
    for (let k = 0; k < chunks * CHUNK; k++) {
      const chunk = (block * chunks + (k >> 5)) * 32 + (row % 32);
      const value = decode(packed.codes[chunk * 4 + ((k >> 3) & 3)]!)[k & 7]!;
      expect(value).toBe(row < rows && k < cols ? E2M1_VALUES[codes[row * cols + k]!] : 0);
    }
  }
  expectBytes(packed.scales, q.scales, (chunks * 32) / blockSize);
  if (q.macroScales) expectBytes(packed.macroScales!, q.macroScales, Math.ceil(cols / q.macroSize!));
  const { codes: _, scales: __, macroScales: ___, ...rest } = q;
  expect(unpack(packed, rest)).toEqual({ ...q } satisfies QuantizedMatrix);
});

test.each([
  ['mxfp4', 32, 96, 'static'],
  ['mxfp4', 16, 48, 'none'],
  ['nvfp4', 16, 80, 'none'],
] as const)(
  'parts of %s, block %i, k = %i, macro %s, are the rows of the whole',
  (format, blockSize, cols, macroScale) => {
    const rows = 143;
    const q = quantize(random.normals(rows * cols), { rows, cols, format, blockSize, macroScale });
    const whole = pack(q);
    const sizes = packedSizes(q);
    expect(whole.codes.byteLength).toBe(sizes.codes);
    expect(whole.scales.byteLength).toBe(sizes.scales);
    expect(whole.macroScales?.byteLength ?? 0).toBe(sizes.macroScales);
    expect(whole.rowMax.byteLength).toBe(sizes.rowMax);
    const parts = splitRows(q, sizes.codes / 3)!.map((range) => pack(sliceRows(q, range)));
    expect(parts.length).toBeGreaterThan(2);
    for (const field of ['codes', 'scales', 'macroScales', 'rowMax'] as const) {
      expect(parts.flatMap((part) => [...(part[field] ?? [])])).toEqual([...(whole[field] ?? [])]);
    }
  },
);

test('parts cover all rows once, begin at multiples of 32, fit, and are about equal', () => {
  for (let rows = 1; rows <= 200; rows++) {
    for (const cols of [16, 48, 64]) {
      for (const most of [512, 1024, 1600, 4096, 1e6]) {
        const shape = { rows, cols, blockSize: 16 };
        const parts = splitRows(shape, most);
        const step = packedSizes({ ...shape, rows: Math.min(rows, 32) }).codes;
        if (!parts) {
          expect(step).toBeGreaterThan(most);
          continue;
        }
        expect(
          parts.reduce((next, part) => (part.firstRow === next ? next + part.rows : Number.NaN), 0),
        ).toBe(rows);
        for (const part of parts) {
          expect(part.rows).toBeGreaterThan(0);
          expect(part.firstRow % 32).toBe(0);
          for (const bytes of Object.values(packedSizes({ ...shape, rows: part.rows }))) {
            expect(bytes).toBeLessThanOrEqual(most);
          }
        }
        // The last one ends where the rows do, not at a multiple of 32.
        const sizes = parts.map((part) => Math.ceil(part.rows / 32));
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
      }
    }
  }
});
