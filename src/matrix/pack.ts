/**
 * Kernel order: the canonical bytes of a matrix, rearranged for the GPU. This is the only place that knows it, with its
 * shader twins: shaders/pack/ and the index functions of shaders/formats/order.wgsl.
 *
 * Rows stand in blocks of 32, the last one filled up with zeros; a row is cut into chunks of 32 values, the last one
 * filled up likewise (k is a multiple of 16). A chunk is four words of eight codes, loaded at once; the chunks at one
 * place along k of a block's rows are neighbours. So threads that share 32 rows read 512 bytes in one piece, as tiles
 * want it, and threads that share 8 rows and 4 chunks read four whole cache lines, as products with few rows of x do.
 *
 * Inside a word the codes c0..c7 stand as pairs of halves (c0 c1), (c2 c3), …, the even one in the low 16 bits, spread so
 * that a mask and at most two shifts bring a pair to where f16 has its sign (bit 15), the low two exponent bits (11, 10)
 * and the first mantissa bit (9): a half that is the code's value · 2^-14.
 *
 * | bit of the half | 15 | 14 | 13 | 12 | 11 10 9 | 8 7 6 | 5 4 3 | 2 1 0 |
 * |-----------------|----|----|----|----|---------|-------|-------|-------|
 * | pair            | s0 | s2 | s3 | s1 | eem of 0 | of 1 | of 2  | of 3  |
 *
 * Scales of a block of rows follow one another along k: eight words for each block of a chunk (blocks of 16 have two a
 * chunk, also in a last chunk that is half empty, where the second is 0), whose word j has rows j, 8 + j, 16 + j and
 * 24 + j, one byte each. Macro factors are stored likewise.
 */
import type { QuantizedMatrix } from './quantized-matrix.js';

/** Values of a chunk. */
export const CHUNK = 32;
/** Rows that are stored together. */
export const ROW_BLOCK = 32;

export interface PackedMatrix {
  /** u32[ceil(rows/32), ceil(cols/32), 32, 4] */
  readonly codes: Uint32Array;
  /** u8[ceil(rows/32), ceil(cols/32), 32/blockSize, 8, 4] */
  readonly scales: Uint8Array;
  /** u8[ceil(rows/32), ceil(cols/macroSize), 8, 4] */
  readonly macroScales?: Uint8Array;
  /** u8[rows]: the largest scale byte of each row */
  readonly rowMax: Uint8Array;
}

/** What sizes depend on. */
export type MatrixShape = Pick<QuantizedMatrix, 'rows' | 'cols' | 'blockSize' | 'macroSize'>;

/** Bytes of each field in kernel order; none is smaller than in canonical order. */
export function packedSizes({ rows, cols, blockSize, macroSize }: MatrixShape) {
  const chunks = Math.ceil(cols / CHUNK);
  const stored = Math.ceil(rows / ROW_BLOCK) * ROW_BLOCK;
  return {
    codes: stored * chunks * 16,
    scales: (stored * chunks * CHUNK) / blockSize,
    macroScales: macroSize ? stored * Math.ceil(cols / macroSize) : 0,
    rowMax: rows,
  };
}

/** Neighbouring rows of a matrix. */
export interface RowRange {
  readonly firstRow: number;
  readonly rows: number;
}

/**
 * Cuts a matrix along its rows, between blocks of them, into as few parts as possible, as equal as possible, whose fields
 * have at most `most` bytes each; undefined where rows are too long for that.
 */
export function splitRows(shape: MatrixShape, most: number): RowRange[] | undefined {
  if (Math.max(...Object.values(packedSizes(shape))) <= most) return [{ firstRow: 0, rows: shape.rows }];
  const step = Math.max(...Object.values(packedSizes({ ...shape, rows: ROW_BLOCK })));
  const mostSteps = Math.floor(most / step);
  if (mostSteps < 1) return undefined;
  const steps = Math.ceil(shape.rows / ROW_BLOCK);
  const parts = Math.ceil(steps / mostSteps);
  const start = (i: number) => Math.min(Math.floor((steps * i) / parts) * ROW_BLOCK, shape.rows);
  return Array.from({ length: parts }, (_, i) => ({ firstRow: start(i), rows: start(i + 1) - start(i) }));
}

/** Some neighbouring rows of a matrix, not copied. */
export function sliceRows(q: QuantizedMatrix, { firstRow, rows }: RowRange): QuantizedMatrix {
  if (rows === q.rows) return q;
  const slice = (bytes: Uint8Array) => {
    const perRow = bytes.length / q.rows;
    return bytes.subarray(firstRow * perRow, (firstRow + rows) * perRow);
  };
  return {
    ...q,
    rows,
    codes: slice(q.codes),
    scales: slice(q.scales),
    ...(q.macroScales && { macroScales: slice(q.macroScales) }),
  };
}

/** Bit of a half that holds the sign of pair p, and lowest bit of its other three. */
const SIGN_BIT = [15, 12, 14, 13];
const VALUE_BIT = [9, 6, 3, 0];

/** What byte `pair` (codes 2·pair and 2·pair + 1) of a canonical word contributes to the packed word. */
const PACK_BYTE: readonly Uint32Array[] = [0, 1, 2, 3].map((pair) =>
  Uint32Array.from({ length: 256 }, (_, byte) => {
    const half = (code: number) => ((code >> 3) << SIGN_BIT[pair]!) | ((code & 7) << VALUE_BIT[pair]!);
    return half(byte & 15) | (half(byte >> 4) << 16);
  }),
);

/** Eight codes in canonical order (code i in bits 4i..4i+3) to kernel order. */
export function packWord(word: number): number {
  return (
    (PACK_BYTE[0]![word & 255]! |
      PACK_BYTE[1]![(word >>> 8) & 255]! |
      PACK_BYTE[2]![(word >>> 16) & 255]! |
      PACK_BYTE[3]![word >>> 24]!) >>>
    0
  );
}

/** Inverse of {@link packWord}. */
export function unpackWord(packed: number): number {
  let word = 0;
  for (let i = 0; i < 8; i++) {
    const half = (i & 1 ? packed >>> 16 : packed) & 0xffff;
    const pair = i >> 1;
    const code = (((half >> SIGN_BIT[pair]!) & 1) << 3) | ((half >> VALUE_BIT[pair]!) & 7);
    word |= code << (4 * i);
  }
  return word >>> 0;
}

/** Where chunk `chunk` of a row stands among all chunks of a matrix that has `chunks` of them a row. */
const chunkIndex = (row: number, chunk: number, chunks: number) =>
  (Math.floor(row / ROW_BLOCK) * chunks + chunk) * ROW_BLOCK + (row % ROW_BLOCK);

/** Where byte `i` of a row stands in fields of bytes that have `width` of them a row. */
const byteIndex = (row: number, i: number, width: number) =>
  (Math.floor(row / ROW_BLOCK) * width + i) * ROW_BLOCK + (row % 8) * 4 + Math.floor((row % ROW_BLOCK) / 8);

/** Canonical bytes to kernel order. */
export function pack(q: QuantizedMatrix): PackedMatrix {
  const { rows, cols, blockSize, macroScales } = q;
  const chunks = Math.ceil(cols / CHUNK);
  const sizes = packedSizes(q);
  const codes = new Uint32Array(sizes.codes / 4);
  const bytes = q.codes;
  for (let row = 0, from = 0; row < rows; row++) {
    for (let word = 0; word < cols / 8; word++, from += 4) {
      codes[chunkIndex(row, word >> 2, chunks) * 4 + (word & 3)] =
        PACK_BYTE[0]![bytes[from]!]! |
        PACK_BYTE[1]![bytes[from + 1]!]! |
        PACK_BYTE[2]![bytes[from + 2]!]! |
        PACK_BYTE[3]![bytes[from + 3]!]!;
    }
  }
  return {
    codes,
    scales: packBytes(q.scales, rows, (chunks * CHUNK) / blockSize),
    ...(macroScales && { macroScales: packBytes(macroScales, rows, macroScales.length / rows) }),
    rowMax: rowMaxima(q),
  };
}

/** Rows of bytes to kernel order, each filled up with zeros to `width`. */
function packBytes(bytes: Uint8Array, rows: number, width: number): Uint8Array {
  const perRow = bytes.length / rows;
  const out = new Uint8Array(Math.ceil(rows / ROW_BLOCK) * ROW_BLOCK * width);
  for (let row = 0, from = 0; row < rows; row++) {
    for (let i = 0; i < perRow; i++, from++) out[byteIndex(row, i, width)] = bytes[from]!;
  }
  return out;
}

function rowMaxima({ rows, scales }: QuantizedMatrix): Uint8Array {
  const perRow = scales.length / rows;
  return Uint8Array.from({ length: rows }, (_, row) => {
    let largest = 0;
    for (let i = row * perRow; i < (row + 1) * perRow; i++) largest = Math.max(largest, scales[i]!);
    return largest;
  });
}

/** Kernel order back to canonical bytes; `like` gives the sizes and everything that packing leaves alone. */
export function unpack(
  packed: Omit<PackedMatrix, 'rowMax'>,
  like: Omit<QuantizedMatrix, 'codes' | 'scales' | 'macroScales'>,
): QuantizedMatrix {
  const { rows, cols, blockSize, macroSize } = like;
  const chunks = Math.ceil(cols / CHUNK);
  const codes = new Uint8Array((rows * cols) / 2);
  const view = new DataView(codes.buffer);
  for (let row = 0, to = 0; row < rows; row++) {
    for (let word = 0; word < cols / 8; word++, to += 4) {
      const at = chunkIndex(row, word >> 2, chunks) * 4 + (word & 3);
      view.setUint32(to, unpackWord(packed.codes[at]!), true);
    }
  }
  const bytes = (field: Uint8Array, perRow: number, width: number) =>
    Uint8Array.from(
      { length: rows * perRow },
      (_, i) => field[byteIndex(Math.floor(i / perRow), i % perRow, width)]!,
    );
  const macros = macroSize ? Math.ceil(cols / macroSize) : 0;
  return {
    ...like,
    codes,
    scales: bytes(packed.scales, cols / blockSize, (chunks * CHUNK) / blockSize),
    ...(packed.macroScales && { macroScales: bytes(packed.macroScales, macros, macros) }),
  };
}
