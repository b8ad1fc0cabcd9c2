/** `quantize` against the independent reference quantizer, byte for byte. */
import { describe, expect, it } from 'vitest';
import { MACRO_SIZES } from '../../../src/formats/formats.js';
import { validateMatrix } from '../../../src/matrix/quantized-matrix.js';
import { type MxScaleRule, type QuantizeOptions, SCALE_RULES } from '../../../src/quantize/options.js';
import { dequantize, quantize } from '../../../src/quantize/quantize.js';
import { expectMatchesReference, expectSameElements } from '../../support/bytes.js';
import { DATA, DATA_KINDS, type DataKind } from '../../support/random-data.js';
import { referenceDequantize } from '../../support/reference-quantizer.js';

const MX_RULES = SCALE_RULES.mxfp4 as MxScaleRule[];
const TILES = ['1d', '2d'] as const;
const BLOCK_SIZES = [16, 32] as const;
const MACRO_SCALES = ['none', 'static', 'dynamic'] as const;

/** Cols that are not whole macro blocks, rows that are not whole tiles. */
const SHAPES: readonly [number, number][] = [
  [1, 32],
  [3, 160],
  [19, 96],
  [37, 160],
];
const NV_SHAPES = [...SHAPES, [5, 16]] as const;
const SMALL = SHAPES[1]!;
const TALL = SHAPES[3]!;

function check(kind: DataKind, options: QuantizeOptions, seed: number): void {
  const values = DATA[kind](options.rows * options.cols, seed);
  const before = values.slice();
  const q = quantize(values, options);
  const what = `${kind} ${JSON.stringify(options)}`;
  expectMatchesReference(q, values, options, what);
  validateMatrix(q);
  expectSameElements(values, before, `${what}: the input`);
  expectSameElements(dequantize(q), referenceDequantize(q), `${what}: dequantize`);
}

describe.each(DATA_KINDS)('%s values', (kind) => {
  it.each(MX_RULES)('mxfp4, rule %s: every block, macro block, tile and shape', (scaleRule) => {
    let seed = 1;
    for (const blockSize of BLOCK_SIZES) {
      for (const tile of TILES) {
        for (const [rows, cols] of tile === '2d' ? [TALL] : SHAPES.slice(0, 3)) {
          check(kind, { rows, cols, format: 'mxfp4', scaleRule, blockSize, tile }, seed++);
        }
        for (const macroSize of MACRO_SIZES) {
          const [rows, cols] = tile === '2d' ? TALL : SMALL;
          const macro = { macroScale: 'static', macroSize } as const;
          check(kind, { rows, cols, format: 'mxfp4', scaleRule, blockSize, tile, ...macro }, seed++);
        }
      }
    }
  });

  it('mxfp4, dynamic macro blocks: one rule each for every block, macro block and tile', () => {
    // All rules take part over the kinds of data; 'oas', the default, has a test of its own.
    let turn = DATA_KINDS.indexOf(kind);
    for (const tile of TILES) {
      for (const blockSize of BLOCK_SIZES) {
        for (const macroSize of MACRO_SIZES) {
          const scaleRule = MX_RULES[turn++ % MX_RULES.length]!;
          const [rows, cols] = tile === '2d' ? TALL : SMALL;
          check(
            kind,
            { rows, cols, format: 'mxfp4', scaleRule, blockSize, tile, macroScale: 'dynamic', macroSize },
            turn,
          );
        }
      }
    }
  });

  it('mxfp4 oas, dynamic macro blocks', () => {
    for (const macroSize of MACRO_SIZES) {
      for (const blockSize of BLOCK_SIZES) {
        const options = { rows: 7, cols: 288, format: 'mxfp4', blockSize, macroSize } as const;
        check(kind, { ...options, macroScale: 'dynamic' }, 100 + macroSize);
      }
    }
  });

  it('nvfp4, both tiles', () => {
    for (const tile of TILES) {
      for (const [rows, cols] of NV_SHAPES) check(kind, { rows, cols, format: 'nvfp4', tile }, rows);
    }
  });

  it('nvfp4 four over six, both tiles and both errors', () => {
    for (const tile of TILES) {
      for (const fourOverSixError of ['mse', 'mae'] as const) {
        for (const [rows, cols] of NV_SHAPES) {
          const options = { rows, cols, format: 'nvfp4', scaleRule: 'four-over-six' } as const;
          check(kind, { ...options, tile, fourOverSixError }, rows);
        }
      }
    }
  });

  it('stochastic rounding', () => {
    const [rows, cols] = TALL;
    const seeds = [0, 1, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER];
    seeds.forEach((seed, i) => {
      const common = { rows, cols, rounding: 'stochastic', seed, tile: TILES[i % 2]! } as const;
      check(
        kind,
        { ...common, format: 'mxfp4', macroScale: MACRO_SCALES[i % 2]!, scaleRule: MX_RULES[i]! },
        i,
      );
      check(kind, { ...common, format: 'nvfp4' }, i);
    });
  });
});

it('defaults to mxfp4 oas in blocks of 32 without macro blocks, 1d, nearest even, unrotated', () => {
  const values = DATA.gaussian(5 * 160, 1);
  const q = quantize(values, { rows: 5, cols: 160, format: 'mxfp4' });
  const explicit = quantize(values, {
    rows: 5,
    cols: 160,
    format: 'mxfp4',
    blockSize: 32,
    scaleRule: 'oas',
    macroScale: 'none',
    tile: '1d',
    rounding: 'nearest-even',
    hadamard: false,
  });
  expect(q).toEqual(explicit);
  expect(q).toMatchObject({
    format: 'mxfp4',
    rows: 5,
    cols: 160,
    blockSize: 32,
    globalScale: 1,
    hadamard: false,
  });
  expect(q).not.toHaveProperty('macroScales');
  expect(q).not.toHaveProperty('macroSize');
});

it('defaults to macro blocks of 128', () => {
  const values = DATA.gaussian(3 * 160, 1);
  const q = quantize(values, { rows: 3, cols: 160, format: 'mxfp4', macroScale: 'static' });
  expect(q.macroSize).toBe(128);
  expect(q.macroScales).toHaveLength(3 * 2);
});

it('reads a view of a larger buffer from where the view starts', () => {
  const whole = DATA.gaussian(7 + 2 * 32, 1);
  const options = { rows: 2, cols: 32, format: 'nvfp4' } as const;
  expect(quantize(whole.subarray(7), options)).toEqual(quantize(whole.slice(7), options));
});
