import { describe, expect, it } from 'vitest';
import { fromGgufBlocks, toGgufBlocks } from '../../../src/checkpoint/ggml-blocks.js';
import { CheckpointError, InvalidArgumentError } from '../../../src/errors.js';
import type { Format } from '../../../src/formats/formats.js';
import { decodeMatrixF64, type QuantizedMatrix } from '../../../src/matrix/quantized-matrix.js';
import { expectSameElements } from '../../support/bytes.js';
import { Random } from '../../support/random.js';

const BLOCK = { mxfp4: { size: 32, bytes: 17 }, nvfp4: { size: 64, bytes: 36 } } as const;
const FORMATS = ['mxfp4', 'nvfp4'] as const;

const hex = (text: string) =>
  Uint8Array.from(text.match(/../g) ?? [], (digits) => Number.parseInt(digits, 16));

function matrixOf(format: Format, rows: number, cols: number, blocks: Uint8Array): QuantizedMatrix {
  const bytes = fromGgufBlocks(format, rows, cols, blocks);
  const blockSize = format === 'mxfp4' ? 32 : 16;
  return { format, rows, cols, blockSize, ...bytes, globalScale: 1, hadamard: false };
}

/** Blocks with random codes, and scales in the range of numbers. */
function randomBlocks(format: Format, count: number, random: Random): Uint8Array<ArrayBuffer> {
  const { bytes } = BLOCK[format];
  return Uint8Array.from({ length: count * bytes }, (_, i) => {
    if (format === 'mxfp4' && i % bytes === 0) return random.integer(0, 254);
    if (format === 'nvfp4' && i % bytes < 4) return random.integer(0, 126);
    return random.integer(0, 255);
  });
}

/** The value of an element straight from the blocks, by the description of the format: doubled table, halved scale. */
function documentedValue(format: Format, blocks: Uint8Array, element: number): number {
  const { size, bytes } = BLOCK[format];
  const block = blocks.subarray(Math.floor(element / size) * bytes);
  const table = [0, 1, 2, 3, 4, 6, 8, 12, -0, -1, -2, -3, -4, -6, -8, -12];
  const i = element % size;
  if (format === 'mxfp4') {
    const code = i < 16 ? block[1 + i]! & 15 : block[1 + i - 16]! >> 4;
    return table[code]! * 2 ** (block[0]! - 128);
  }
  const scale = block[i >> 4]! & 0x7f;
  const exponent = scale >> 3;
  const value = exponent === 0 ? (scale & 7) * 2 ** -9 : (1 + (scale & 7) / 8) * 2 ** (exponent - 7);
  const byte = block[4 + (i >> 4) * 8 + (i & 7)]!;
  return table[i & 8 ? byte >> 4 : byte & 15]! * (value / 2);
}

describe('published blocks', () => {
  it('tinygrad: the first block of a tensor of GLM-4.7-Flash-MXFP4_MOE', () => {
    const matrix = matrixOf('mxfp4', 1, 32, hex('7a29ab61102102' + '4a15ca05019b390b0b1c'));
    // biome-ignore format: a block
    expect([...decodeMatrixF64(matrix)]).toEqual([
      -0.015625, -0.046875, 0.015625, 0, 0.015625, 0.03125, -0.03125, 0.09375,
      -0.03125, 0.09375, 0.015625, -0.046875, -0.015625, -0.046875, -0.046875, -0.0625,
      0.03125, -0.03125, 0.125, 0.015625, 0.03125, 0, 0.0625, 0.015625,
      -0.0625, 0, 0, -0.015625, 0.046875, 0, 0, 0.015625,
    ]);
  });

  it('tinygrad: codes 0 to 15 in the low nibbles, scale 2', () => {
    const matrix = matrixOf('mxfp4', 1, 32, Uint8Array.of(0x80, ...Array.from({ length: 16 }, (_, i) => i)));
    expect([...decodeMatrixF64(matrix)]).toEqual([
      ...[0, 1, 2, 3, 4, 6, 8, 12, -0, -1, -2, -3, -4, -6, -8, -12],
      ...new Array(16).fill(0),
    ]);
  });
});

describe.each(FORMATS)('%s', (format) => {
  const { size, bytes } = BLOCK[format];

  it('puts each element where the format says', () => {
    const random = new Random(1);
    const rows = 5;
    const cols = 3 * size;
    const blocks = randomBlocks(format, rows * 3, random);
    const values = decodeMatrixF64(matrixOf(format, rows, cols, blocks));
    // Object.is tells -0 from 0.
    for (let i = 0; i < values.length; i++) expect(values[i]).toBe(documentedValue(format, blocks, i));
  });

  it.each([0, 1, 2, 3])('starts at any address: %d', (offset) => {
    const blocks = randomBlocks(format, 4, new Random(2));
    const moved = new Uint8Array(blocks.length + offset);
    moved.set(blocks, offset);
    expect(fromGgufBlocks(format, 2, 2 * size, moved.subarray(offset))).toEqual(
      fromGgufBlocks(format, 2, 2 * size, blocks),
    );
  });

  it('comes back byte for byte, both ways', () => {
    const random = new Random(3);
    for (const [rows, perRow] of [
      [1, 1],
      [3, 5],
      [16, 2],
    ] as const) {
      const blocks = randomBlocks(format, rows * perRow, random);
      const matrix = matrixOf(format, rows, perRow * size, blocks);
      expectSameElements(toGgufBlocks(matrix), blocks, 'blocks');
      const again = fromGgufBlocks(format, rows, perRow * size, toGgufBlocks(matrix));
      expectSameElements(again.codes, matrix.codes as Uint8Array, 'codes');
      expectSameElements(again.scales, matrix.scales as Uint8Array, 'scales');
    }
  });

  it('keeps codes of -0', () => {
    const blocks = new Uint8Array(bytes).fill(0x88);
    blocks.fill(1, 0, bytes === 17 ? 1 : 4);
    const { codes } = fromGgufBlocks(format, 1, size, blocks);
    expect(codes.every((byte) => byte === 0x88)).toBe(true);
    expect([...decodeMatrixF64(matrixOf(format, 1, size, blocks))].every((v) => Object.is(v, -0))).toBe(true);
  });

  it('refuses sizes that the bytes do not have', () => {
    const type = format.toUpperCase();
    const blocks = randomBlocks(format, 2, new Random(4));
    const from = (rows: number, cols: number, given = blocks) => {
      return () => fromGgufBlocks(format, rows, cols, given, 'blk.0.w');
    };
    expect(from(1, size + 16)).toThrow(
      `gguf: blk.0.w: cols = ${size + 16} is not a multiple of the ${type} block ${size}`,
    );
    expect(from(3, size)).toThrow(
      `gguf: blk.0.w: ${2 * bytes} bytes given; [3, ${size}] of ${type} needs ${3 * bytes}`,
    );
    expect(from(2, size, blocks.subarray(1))).toThrow(`${2 * bytes - 1} bytes given`);
    expect(from(0, size)).toThrow('rows = 0 is not a positive integer');
    expect(from(2, 0.5)).toThrow('cols = 0.5 is not a positive integer');
    expect(from(2 ** 40, size * 2 ** 20)).toThrow(InvalidArgumentError);
  });
});

describe('scales that are not numbers', () => {
  it('mxfp4: 255, with its place', () => {
    const blocks = randomBlocks('mxfp4', 6, new Random(5));
    blocks[4 * 17] = 255;
    const decode = () => fromGgufBlocks('mxfp4', 2, 96, blocks, 'blk.0.w');
    expect(decode).toThrow(CheckpointError);
    expect(decode).toThrow('gguf: blk.0.w: scale byte 255 of MXFP4 at row 1, block 1 is NaN');
    blocks[4 * 17] = 254;
    expect(fromGgufBlocks('mxfp4', 2, 96, blocks).scales[4]).toBe(254);
  });

  it.each([0x7f, 0xff])('nvfp4: %d, with its place', (byte) => {
    const blocks = randomBlocks('nvfp4', 4, new Random(6));
    blocks[3 * 36 + 2] = byte;
    const decode = () => fromGgufBlocks('nvfp4', 2, 128, blocks);
    expect(decode).toThrow(CheckpointError);
    expect(decode).toThrow(`gguf: matrix: scale byte ${byte} of NVFP4 at row 1, block 6 is NaN`);
  });
});

it('nvfp4: the sign bit of scales says nothing, as in ggml', () => {
  const blocks = randomBlocks('nvfp4', 4, new Random(7));
  const signed = blocks.map((byte, i) => (i % 36 < 4 ? byte | 0x80 : byte));
  expect(fromGgufBlocks('nvfp4', 2, 128, signed)).toEqual(fromGgufBlocks('nvfp4', 2, 128, blocks));
});

describe('matrices that GGUF cannot hold', () => {
  const matrix = matrixOf('mxfp4', 1, 64, randomBlocks('mxfp4', 2, new Random(8)));
  const nvfp4 = matrixOf('nvfp4', 2, 64, randomBlocks('nvfp4', 2, new Random(9)));

  it.each<[string, QuantizedMatrix]>([
    ['blockSize 16 has no GGUF type; MXFP4 has 32', { ...matrix, blockSize: 16, scales: new Uint8Array(4) }],
    ['macroScales have no GGUF type', { ...matrix, macroSize: 64, macroScales: new Uint8Array(1) }],
    ['GGUF cannot say that values are rotated', { ...matrix, hadamard: true }],
    ['cols = 32 is not a multiple of the NVFP4 block 64', { ...nvfp4, rows: 4, cols: 32 }],
    ['codes has 3 bytes; [1, 64] needs 32', { ...matrix, codes: new Uint8Array(3) }],
  ])('%s', (message, wrong) => {
    expect(() => toGgufBlocks(wrong)).toThrow(InvalidArgumentError);
    expect(() => toGgufBlocks(wrong)).toThrow(message);
  });

  it('a tensor scale stays outside', () => {
    expect(toGgufBlocks({ ...nvfp4, globalScale: 0.25 })).toEqual(toGgufBlocks(nvfp4));
  });
});
