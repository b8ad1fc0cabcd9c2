/** Properties of `quantize` that hold for every input. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { unpackE2M1 } from '../../../src/formats/e2m1.js';
import type { QuantizedMatrix } from '../../../src/matrix/quantized-matrix.js';
import { type MxScaleRule, type QuantizeOptions, SCALE_RULES } from '../../../src/quantize/options.js';
import {
  dequantize,
  largestValue,
  quantize,
  quantizeRows,
  tileHeight,
} from '../../../src/quantize/quantize.js';
import { expectSameElements, expectSameMatrix } from '../../support/bytes.js';
import { fill, gaussian, laplace, studentT, uniform } from '../../support/random-data.js';

const RUNS = { numRuns: 120, seed: 1 };

const MX_RULES = SCALE_RULES.mxfp4 as MxScaleRule[];

type Case = { values: Float32Array; options: QuantizeOptions };

/** Any options; values of any sign between 2^-60 and 2^60, with zeros, ties and repeated magnitudes among them. */
const anyCase = (fixed: Partial<QuantizeOptions> = {}): fc.Arbitrary<Case> =>
  fc
    .record({
      rows: fc.integer({ min: 1, max: 20 }),
      blocks: fc.integer({ min: 1, max: 5 }),
      mx: fc.boolean(),
      blockSize: fc.constantFrom(16 as const, 32 as const),
      mxRule: fc.constantFrom(...MX_RULES),
      nvRule: fc.constantFrom('te' as const, 'four-over-six' as const),
      macroScale: fc.constantFrom('none' as const, 'static' as const, 'dynamic' as const),
      macroSize: fc.constantFrom(32 as const, 64 as const, 128 as const),
      tile: fc.constantFrom('1d' as const, '2d' as const),
      kind: fc.constantFrom('integers', 'gaussian', 'wide'),
      seed: fc.nat(),
    })
    .map(({ rows, blocks, mx, mxRule, nvRule, kind, seed, ...rest }) => {
      const format = fixed.format ?? (mx ? 'mxfp4' : 'nvfp4');
      const options: QuantizeOptions =
        format === 'mxfp4'
          ? { format, rows, cols: 32 * blocks, ...rest, scaleRule: mxRule, ...fixed }
          : { format, rows, cols: 32 * blocks, tile: rest.tile, scaleRule: nvRule, ...fixed };
      const u = uniform(seed);
      const normal = gaussian(seed);
      const draw = {
        integers: () => Math.floor(u() * 25) - 12,
        gaussian: normal,
        wide: () => normal() * 2 ** (u() * 100 - 50),
      }[kind]!;
      return { values: fill(options.rows * options.cols, draw), options };
    });

const transpose = <T extends Float32Array | Uint8Array>(matrix: T, rows: number, cols: number): T => {
  const out = matrix.slice() as T;
  for (let row = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++) out[col * rows + row] = matrix[row * cols + col]!;
  }
  return out;
};

describe('quantizeRows', () => {
  const parts = fc.record({
    first: fc.integer({ min: 1, max: 19 }),
    rounding: fc.constantFrom('nearest-even' as const, 'stochastic' as const),
    hadamard: fc.boolean(),
  });

  it('gives any two parts of a matrix the bytes that they have in the whole', () => {
    fc.assert(
      fc.property(anyCase(), parts, ({ values, options: some }, { first, ...more }) => {
        const options = { ...some, ...more };
        const { rows, cols, format, tile = '1d', macroScale = 'none', macroSize = 128 } = options;
        const blockSize = options.blockSize ?? (format === 'mxfp4' ? 32 : 16);
        const height = tileHeight({ tile, blockSize, macroScale, macroSize });
        const split = Math.min(rows, first * height);
        const stripes = [
          { firstRow: 0, part: values.subarray(0, split * cols) },
          { firstRow: split, part: values.subarray(split * cols) },
        ].filter(({ part }) => part.length);
        const of = (part: Float32Array) => ({ ...options, rows: part.length / cols });
        const largest = Math.max(
          ...stripes.map(({ firstRow, part }) => largestValue(part, of(part), firstRow)),
        );
        const quantized = stripes.map(({ firstRow, part }) =>
          quantizeRows(part, of(part), { firstRow, largest }),
        );
        const join = (arrays: (Uint8Array | undefined)[]) =>
          Uint8Array.from(arrays.flatMap((array) => [...(array ?? [])]));
        const whole = quantize(values, options);
        expectSameMatrix(
          {
            globalScale: quantized[0]!.globalScale,
            codes: join(quantized.map(({ codes }) => codes)),
            scales: join(quantized.map(({ scales }) => scales)),
            ...(whole.macroScales && { macroScales: join(quantized.map((q) => q.macroScales)) }),
          },
          whole,
          JSON.stringify(options),
        );
      }),
      { ...RUNS, numRuns: 300 },
    );
  });

  it('names the row of the whole matrix, and refuses to cut a tile', () => {
    const values = fill(64, () => 1);
    values[35] = Number.NaN;
    const options = { rows: 2, cols: 32, format: 'mxfp4' } as const;
    expect(() => quantizeRows(values, options, { firstRow: 10 })).toThrow('value at row 11, col 3 is NaN');
    values.fill(3e38);
    expect(() => quantizeRows(values, { ...options, hadamard: true }, { firstRow: 1 })).toThrow(
      'values 32..47 leaves the range',
    );
    for (const firstRow of [-1, 0.5]) {
      expect(() => quantizeRows(values, options, { firstRow })).toThrow(`firstRow = ${firstRow} is not`);
    }
    const tiles = { ...options, tile: '2d', macroScale: 'static', macroSize: 64 } as const;
    expect(() => quantizeRows(values, tiles, { firstRow: 32 })).toThrow('not a multiple of 64');
  });
});

describe('quantize', () => {
  it('is idempotent without macro blocks: a dequantized matrix is represented exactly', () => {
    fc.assert(
      fc.property(anyCase({ format: 'mxfp4', macroScale: 'none' }), ({ values, options }) => {
        const once = dequantize(quantize(values, options));
        // -0 in a block of zeros becomes 0.
        const twice = dequantize(quantize(once, options));
        expectSameElements(
          twice.map((x) => x + 0),
          once.map((x) => x + 0),
          JSON.stringify(options),
        );
      }),
      RUNS,
    );
  });

  it('is equivariant under scaling by powers of two', () => {
    fc.assert(
      fc.property(anyCase(), fc.integer({ min: -40, max: 40 }), ({ values, options }, power) => {
        const q = quantize(values, options);
        const scaled = quantize(
          values.map((x) => x * 2 ** power),
          options,
        );
        const isMx = options.format === 'mxfp4';
        const hasZeroTensor = values.every((x) => x === 0);
        const expected: QuantizedMatrix = {
          ...q,
          // Byte 0 stands for blocks of zeros here: the values are far from 2^-127.
          scales: isMx ? q.scales.map((byte) => (byte === 0 ? 0 : byte + power)) : q.scales,
          globalScale: isMx || hasZeroTensor ? q.globalScale : q.globalScale * 2 ** power,
        };
        expectSameMatrix(scaled, expected, `${JSON.stringify(options)} times 2^${power}`);
      }),
      RUNS,
    );
  });

  it('is symmetric in the sign', () => {
    fc.assert(
      fc.property(anyCase(), ({ values, options }) => {
        const q = quantize(values, options);
        const negated = quantize(
          values.map((x) => -x),
          options,
        );
        const codes = unpackE2M1(q.codes);
        const others = unpackE2M1(negated.codes);
        expectSameElements(negated.scales, q.scales, 'scales');
        expect(negated.macroScales).toEqual(q.macroScales);
        expectSameElements(
          others.map((code) => code & 7),
          codes.map((code) => code & 7),
          'magnitudes',
        );
        let sameSigns = 0;
        // Blocks of zeros have codes 0 either way; elsewhere the sign bit flips, that of zero too.
        for (let i = 0; i < codes.length; i++) {
          const start = i - (i % q.blockSize);
          const hasCodes = (all: Uint8Array) =>
            all.subarray(start, start + q.blockSize).some((code) => code !== 0);
          if ((hasCodes(codes) || hasCodes(others)) && codes[i]! >> 3 === others[i]! >> 3) sameSigns++;
        }
        expect(sameSigns).toBe(0);
      }),
      RUNS,
    );
  });

  it('gives the transpose of the transpose with 2d tiles', () => {
    fc.assert(
      fc.property(
        anyCase({ tile: '2d' }),
        fc.integer({ min: 1, max: 4 }),
        ({ values: seedValues, options: { rows: _, ...rest } }, rowBlocks) => {
          // Both sides are whole blocks of 32; macro blocks may be ragged both ways.
          const rows = 32 * rowBlocks;
          const options = { ...rest, rows };
          const { cols } = options;
          const values = fill(rows * cols, (i) => seedValues[i % seedValues.length]! * (1 + (i % 7)));
          const q = quantize(values, options);
          const t = quantize(transpose(values, rows, cols), { ...options, rows: cols, cols: rows });
          const { blockSize } = q;

          const codes = transpose(unpackE2M1(q.codes), rows, cols);
          expectSameElements(unpackE2M1(t.codes), codes, 'codes');
          const expanded = (m: QuantizedMatrix, bytes: Uint8Array, size: number) =>
            Uint8Array.from({ length: m.rows * m.cols }, (_, i) => {
              const row = Math.floor(i / m.cols);
              return bytes[row * Math.ceil(m.cols / size) + Math.floor((i % m.cols) / size)]!;
            });
          expectSameElements(
            expanded(t, t.scales, blockSize),
            transpose(expanded(q, q.scales, blockSize), rows, cols),
            'scales',
          );
          if (q.macroScales) {
            expectSameElements(
              expanded(t, t.macroScales!, t.macroSize!),
              transpose(expanded(q, q.macroScales, q.macroSize!), rows, cols),
              'macroScales',
            );
          }
          expect(t.globalScale).toBe(q.globalScale);
        },
      ),
      { numRuns: 60, seed: 1 },
    );
  });

  it('rounds every unclipped value by at most half a step of its block', () => {
    fc.assert(
      fc.property(anyCase({ format: 'mxfp4', macroScale: 'none' }), ({ values, options }) => {
        const q = quantize(values, options);
        const approximation = dequantize(q);
        for (let i = 0; i < values.length; i++) {
          const scaled = Math.abs(values[i]!) / 2 ** (q.scales[Math.floor(i / q.blockSize)]! - 127);
          const error =
            Math.abs(values[i]! - approximation[i]!) / 2 ** (q.scales[Math.floor(i / q.blockSize)]! - 127);
          const halfStep = scaled <= 2 ? 0.25 : scaled <= 4 ? 0.5 : scaled <= 6 ? 1 : scaled - 6;
          expect(error).toBeLessThanOrEqual(halfStep);
        }
      }),
      RUNS,
    );
  });

  it('does not depend on other rows (1d, mxfp4)', () => {
    fc.assert(
      fc.property(anyCase({ format: 'mxfp4', tile: '1d' }), ({ values, options }) => {
        const q = quantize(values, options);
        const last = options.rows - 1;
        const row = quantize(values.slice(last * options.cols), { ...options, rows: 1 });
        expectSameElements(row.codes, q.codes.slice(last * row.codes.length), 'codes');
        expectSameElements(row.scales, q.scales.slice(last * row.scales.length), 'scales');
      }),
      RUNS,
    );
  });
});

const squaredError = (values: Float32Array, options: QuantizeOptions): number => {
  const approximation = dequantize(quantize(values, options));
  return values.reduce((sum, x, i) => sum + (x - approximation[i]!) ** 2, 0);
};

// The order that the methods exist for, on data where it holds with a margin far above the noise.
describe.each([
  ['Gauss', gaussian(1)],
  ['Laplace', laplace(1)],
  ['t(4)', studentT(1, 4)],
] as const)('errors on %s data', (_, draw) => {
  const values = fill(64 * 1024, draw);
  const common = { rows: 64, cols: 1024, format: 'mxfp4' } as const;

  it.each([16, 32] as const)(
    'fall from floor to oas to static to dynamic macro blocks of %i',
    (blockSize) => {
      const errors = [
        squaredError(values, { ...common, blockSize, scaleRule: 'floor' }),
        squaredError(values, { ...common, blockSize, scaleRule: 'oas' }),
        squaredError(values, { ...common, blockSize, macroScale: 'static' }),
        squaredError(values, { ...common, blockSize, macroScale: 'dynamic' }),
        squaredError(values, { ...common, blockSize, macroScale: 'dynamic', macroSize: 64 }),
        squaredError(values, { ...common, blockSize, macroScale: 'dynamic', macroSize: 32 }),
      ];
      expect(errors).toEqual([...errors].sort((a, b) => b - a));
    },
  );

  it('are no larger with mse than with any other rule', () => {
    const least = squaredError(values, { ...common, scaleRule: 'mse' });
    for (const scaleRule of MX_RULES) {
      expect(least).toBeLessThanOrEqual(squaredError(values, { ...common, scaleRule }) * 1.001);
    }
  });
});
