/** `quantizeOnGpu` against `quantize`, byte for byte. */
import { describe, expect, test } from 'vitest';
import { MACRO_SIZES } from '../../src/formats/formats.js';
import { quantizeOnGpu, readbackQuantized } from '../../src/gemm/gpu-quantizer.js';
import type { QuantizedMatrix } from '../../src/matrix/quantized-matrix.js';
import { type MxScaleRule, type QuantizeOptions, SCALE_RULES } from '../../src/quantize/options.js';
import { quantize } from '../../src/quantize/quantize.js';
import { useGpu } from '../support/gpu.js';
import { DATA, DATA_KINDS, type DataKind } from '../support/random-data.js';

const context = useGpu({ narrow: true });

/** The first bytes that differ, with where they are. */
function differences(actual: QuantizedMatrix, expected: QuantizedMatrix): string[] {
  const found: string[] = [];
  const hex = (byte: number | undefined) => byte?.toString(16).padStart(2, '0');
  for (const field of ['macroScales', 'scales', 'codes'] as const) {
    const a = actual[field];
    const b = expected[field];
    if (!a !== !b) found.push(`${field}: ${a ? 'unexpected' : 'missing'}`);
    if (!a || !b) continue;
    if (a.length !== b.length) found.push(`${field}: ${a.length} bytes, expected ${b.length}`);
    const perRow = b.length / expected.rows;
    let shown = 0;
    for (let i = 0; i < b.length && shown < 4; i++) {
      if (a[i] === b[i]) continue;
      found.push(`${field}[${Math.floor(i / perRow)}, ${i % perRow}]: ${hex(a[i])}, expected ${hex(b[i])}`);
      shown++;
    }
  }
  for (const field of [
    'format',
    'rows',
    'cols',
    'blockSize',
    'macroSize',
    'globalScale',
    'hadamard',
  ] as const) {
    if (actual[field] !== expected[field])
      found.push(`${field}: ${actual[field]}, expected ${expected[field]}`);
  }
  return found;
}

async function check(kind: DataKind, options: QuantizeOptions, seed: number): Promise<void> {
  const values = DATA[kind](options.rows * options.cols, seed);
  let expected: QuantizedMatrix;
  try {
    expected = quantize(values, options);
  } catch (error) {
    // Sums of the Hadamard rotation that leave the range of f32.
    using q = await quantizeOnGpu(context.gpu, values, options);
    expect(options.hadamard, String(error)).toBe(true);
    await expect(readbackQuantized(context.gpu, q)).rejects.toThrow(/Hadamard rotation/);
    return;
  }
  using q = await quantizeOnGpu(context.gpu, values, options);
  const found = differences(await readbackQuantized(context.gpu, q), expected);
  expect(found, `${kind} ${JSON.stringify(options)}`).toEqual([]);
}

const MX_RULES = SCALE_RULES.mxfp4 as MxScaleRule[];
const BUMP_RULES = MX_RULES.filter((rule) => rule !== 'mse');
const BLOCK_SIZES = [32, 16] as const;
const TILES = ['1d', '2d'] as const;
/** Rows that are not whole macro blocks, then rows that are; numbers of blocks that are not whole words. */
const ROW_SHAPES = [
  [1, 32],
  [3, 160],
  [5, 256],
] as const;
const TALL = [37, 160] as const;

describe.each(DATA_KINDS)('%s values', (kind) => {
  test('mxfp4 in one pass', async () => {
    let seed = 0;
    for (const scaleRule of BUMP_RULES) {
      for (const blockSize of BLOCK_SIZES) {
        for (const [rows, cols] of ROW_SHAPES) {
          const options = { rows, cols, format: 'mxfp4', scaleRule, blockSize } as const;
          await check(kind, options, seed++);
          for (const macroSize of MACRO_SIZES) {
            await check(kind, { ...options, macroScale: 'static', macroSize }, seed++);
          }
        }
      }
    }
  });

  test('mxfp4 mse', async () => {
    let seed = 0;
    for (const blockSize of BLOCK_SIZES) {
      for (const tile of TILES) {
        const [rows, cols] = tile === '2d' ? TALL : ROW_SHAPES[1];
        const options = { rows, cols, format: 'mxfp4', scaleRule: 'mse', blockSize, tile } as const;
        await check(kind, options, seed++);
        await check(kind, { ...options, macroScale: 'static' }, seed++);
      }
    }
  });

  test('mxfp4 2d tiles', async () => {
    let seed = 0;
    for (const scaleRule of BUMP_RULES) {
      for (const blockSize of BLOCK_SIZES) {
        const [rows, cols] = TALL;
        const options = { rows, cols, format: 'mxfp4', scaleRule, blockSize, tile: '2d' } as const;
        await check(kind, options, seed++);
        await check(kind, { ...options, macroScale: 'static', macroSize: MACRO_SIZES[seed % 3]! }, seed++);
      }
    }
  });

  test('mxfp4 dynamic', async () => {
    let turn = DATA_KINDS.indexOf(kind);
    for (const tile of TILES) {
      for (const blockSize of BLOCK_SIZES) {
        for (const macroSize of MACRO_SIZES) {
          const scaleRule = MX_RULES[turn++ % MX_RULES.length]!;
          const [rows, cols] = tile === '2d' ? TALL : [7, 288];
          const options = { rows, cols, format: 'mxfp4', blockSize, tile, macroSize } as const;
          await check(kind, { ...options, macroScale: 'dynamic', scaleRule }, turn);
        }
      }
    }
  });

  test('nvfp4', async () => {
    for (const tile of TILES) {
      for (const [rows, cols] of [...ROW_SHAPES, TALL, [5, 16]] as const) {
        const options = { rows, cols, format: 'nvfp4', tile } as const;
        await check(kind, options, rows);
        for (const fourOverSixError of ['mse', 'mae'] as const) {
          await check(kind, { ...options, scaleRule: 'four-over-six', fourOverSixError }, rows);
        }
      }
    }
  });

  test('stochastic rounding', async () => {
    const [rows, cols] = TALL;
    const seeds = [0, 1, 2 ** 32 - 1, 2 ** 32, Number.MAX_SAFE_INTEGER];
    for (const [i, seed] of seeds.entries()) {
      const common = { rows, cols, rounding: 'stochastic', seed, tile: TILES[i % 2]! } as const;
      const macroScale = (['none', 'static', 'dynamic'] as const)[i % 3]!;
      await check(kind, { ...common, format: 'mxfp4', macroScale, scaleRule: MX_RULES[i]! }, i);
      await check(kind, { ...common, format: 'nvfp4' }, i);
    }
  });

  test('Hadamard rotation', async () => {
    const [rows, cols] = TALL;
    const common = { rows, cols, hadamard: true } as const;
    await check(kind, { ...common, format: 'mxfp4', macroScale: 'static' }, 1);
    await check(kind, { ...common, format: 'mxfp4', tile: '2d', rounding: 'stochastic', seed: 7 }, 2);
    await check(kind, { ...common, format: 'nvfp4' }, 3);
    await check(kind, { ...common, format: 'nvfp4', scaleRule: 'four-over-six' }, 4);
  });
});
