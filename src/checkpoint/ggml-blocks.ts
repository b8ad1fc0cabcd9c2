/**
 * GGUF's FP4 blocks, and the canonical bytes of the same matrix.
 *
 * MXFP4, 17 bytes for 32 elements: E8M0 scale; byte j has element j in the low nibble, element j + 16 in the high one.
 * NVFP4, 36 bytes for 64 elements: four E4M3 scales, each of 16 elements; then 8 bytes for each 16, where byte j has
 * element j in the low nibble and element j + 8 in the high one. Its tensor scale is a tensor of its own.
 * Source: ggml (`ggml-common.h`, `ggml-quants.c`), which doubles the elements and halves the scales; the products are
 * the same. It ignores the sign bit of NVFP4 scales, which is cleared here; it takes the NaN 0x7F for 0 and 0xFF for
 * 480, both refused here, as is MXFP4's NaN 0xFF, which its validator refuses too.
 */
import { CheckpointError, InvalidArgumentError } from '../errors.js';
import { FORMATS, type Format } from '../formats/formats.js';
import { type QuantizedMatrix, validateMatrix } from '../matrix/quantized-matrix.js';

/** How a type lays out a block: its scales, then as many pieces of codes. */
interface BlockLayout {
  readonly type: 'MXFP4' | 'NVFP4';
  /** Of a block; each has a scale. */
  readonly pieces: number;
  /** Bytes of codes of a piece: the first half of its elements in the low nibbles, the second in the high ones. */
  readonly pieceBytes: number;
}

const LAYOUTS: Readonly<Record<Format, BlockLayout>> = {
  mxfp4: { type: 'MXFP4', pieces: 1, pieceBytes: 16 },
  nvfp4: { type: 'NVFP4', pieces: 4, pieceBytes: 8 },
};

/** Codes and scales as a {@link QuantizedMatrix} has them. */
export interface Fp4Bytes {
  /** u8[rows, cols/2], element 2i in the low nibble. */
  readonly codes: Uint8Array;
  /** u8[rows, cols/32] E8M0 (mxfp4), or u8[rows, cols/16] E4M3 (nvfp4). */
  readonly scales: Uint8Array;
}

/**
 * Codes and scales of a matrix in GGUF blocks, in new arrays; `bytes` may start at any address.
 * @param name what messages call the matrix
 * @throws InvalidArgumentError when `cols` is no multiple of the block, or `bytes` has another length than the sizes need
 * @throws CheckpointError naming row and block of the first scale that is not a number
 */
export function fromGgufBlocks(
  format: Format,
  rows: number,
  cols: number,
  bytes: Uint8Array,
  name = 'matrix',
): Fp4Bytes {
  const layout = LAYOUTS[format];
  const { type, pieces, pieceBytes } = layout;
  const blocks = blockCount(layout, rows, cols, name);
  const needed = blocks * pieces * (1 + pieceBytes);
  if (bytes.length !== needed) {
    throw new InvalidArgumentError(
      'gguf',
      `${name}: ${bytes.length} bytes given; [${rows}, ${cols}] of ${type} needs ${needed}`,
    );
  }

  const codes = new Uint8Array(blocks * pieces * pieceBytes);
  const scales = new Uint8Array(blocks * pieces);
  const { maxScaleByte } = FORMATS[format];
  const mask = format === 'nvfp4' ? 0x7f : 0xff;
  const half = pieceBytes / 2;
  let from = 0;
  let to = 0;
  for (let block = 0; block < blocks; block++) {
    for (let piece = 0; piece < pieces; piece++) {
      const scale = bytes[from + piece]! & mask;
      if (scale > maxScaleByte) refuseScale(bytes[from + piece]!, block * pieces + piece);
      scales[block * pieces + piece] = scale;
    }
    from += pieces;
    for (let piece = 0; piece < pieces; piece++) {
      for (let i = 0; i < half; i++) {
        const a = bytes[from + 2 * i]!;
        const b = bytes[from + 2 * i + 1]!;
        codes[to + i] = (a & 15) | (b << 4);
        codes[to + half + i] = (a >> 4) | (b & 0xf0);
      }
      from += pieceBytes;
      to += pieceBytes;
    }
  }
  return { codes, scales };

  function refuseScale(byte: number, index: number): never {
    const perRow = (blocks * pieces) / rows;
    throw new CheckpointError(
      'gguf',
      `${name}: scale byte ${byte} of ${type} at row ${Math.floor(index / perRow)}, block ${index % perRow} is NaN`,
    );
  }
}

/**
 * A matrix in GGUF blocks, MXFP4 or NVFP4 by its format. `globalScale` has no place in them: where it is not 1, write
 * it as an F32 tensor [1] named `X.scale` beside `X.weight`.
 * @throws InvalidArgumentError naming the field that is wrong, or that GGUF cannot express
 */
export function toGgufBlocks(q: QuantizedMatrix): Uint8Array<ArrayBuffer> {
  validateMatrix(q);
  const layout = LAYOUTS[q.format];
  const { type, pieces, pieceBytes } = layout;
  const fail = (message: string): never => {
    throw new InvalidArgumentError('gguf', message);
  };
  const blockSize = 2 * pieceBytes;
  if (q.blockSize !== blockSize) fail(`blockSize ${q.blockSize} has no GGUF type; ${type} has ${blockSize}`);
  if (q.macroScales) fail('macroScales have no GGUF type');
  if (q.hadamard) fail('GGUF cannot say that values are rotated; quantize without hadamard');
  const blocks = blockCount(layout, q.rows, q.cols, 'matrix');

  const bytes = new Uint8Array(blocks * pieces * (1 + pieceBytes));
  const half = pieceBytes / 2;
  let from = 0;
  let to = 0;
  for (let block = 0; block < blocks; block++) {
    for (let piece = 0; piece < pieces; piece++) bytes[to++] = q.scales[block * pieces + piece]!;
    for (let piece = 0; piece < pieces; piece++) {
      for (let i = 0; i < half; i++) {
        const first = q.codes[from + i]!;
        const second = q.codes[from + half + i]!;
        bytes[to + 2 * i] = (first & 15) | (second << 4);
        bytes[to + 2 * i + 1] = (first >> 4) | (second & 0xf0);
      }
      from += pieceBytes;
      to += pieceBytes;
    }
  }
  return bytes;
}

function blockCount(
  { type, pieces, pieceBytes }: BlockLayout,
  rows: number,
  cols: number,
  name: string,
): number {
  const size = pieces * 2 * pieceBytes;
  for (const [field, value] of Object.entries({ rows, cols })) {
    if (!(Number.isSafeInteger(value) && value > 0)) {
      throw new InvalidArgumentError('gguf', `${name}: ${field} = ${value} is not a positive integer`);
    }
  }
  if (cols % size !== 0) {
    throw new InvalidArgumentError(
      'gguf',
      `${name}: cols = ${cols} is not a multiple of the ${type} block ${size}`,
    );
  }
  return (rows * cols) / size;
}
