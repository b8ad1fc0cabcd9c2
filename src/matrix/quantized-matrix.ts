/** The canonical bytes of an FP4 matrix; loaders produce them, quantizers produce them, kernels are packed from them. */
import { InvalidArgumentError } from '../errors.js';
import { E0M8_INVERSES } from '../formats/e0m8.js';
import { E2M1_VALUES } from '../formats/e2m1.js';
import { E4M3_VALUES } from '../formats/e4m3.js';
import { decodeE8M0 } from '../formats/e8m0.js';
import { FORMATS, type Format, MACRO_SIZES, type MacroSize } from '../formats/formats.js';

/**
 * A matrix [rows, cols] in FP4. Element (r, c) is
 * `e2m1(code) · scale[r, c / blockSize] · fl32(1 / f[r, c / macroSize]) · globalScale`.
 */
export interface QuantizedMatrix {
  readonly format: Format;
  readonly rows: number;
  /** A multiple of `blockSize`. */
  readonly cols: number;
  readonly blockSize: number;
  /** u8[rows, cols/2]: E2M1 codes, element 2i in the low nibble, 2i+1 in the high nibble. */
  readonly codes: Uint8Array;
  /** u8[rows, cols/blockSize]: E8M0 (mxfp4) or non-negative E4M3 (nvfp4). */
  readonly scales: Uint8Array;
  /** u8[rows, ceil(cols/macroSize)]: E0M8 factors the values were multiplied by before block quantization. */
  readonly macroScales?: Uint8Array;
  readonly macroSize?: MacroSize;
  /** f32 multiplier of the whole tensor; 1 for mxfp4. */
  readonly globalScale: number;
  /** True where the values were rotated by the 16-wide random Hadamard transform along cols first. */
  readonly hadamard: boolean;
}

/** A {@link QuantizedMatrix} but for its arrays: what is known of it before they are read. */
export type MatrixHeader = Omit<QuantizedMatrix, 'codes' | 'scales' | 'macroScales'>;

/** Bytes of codes, block scales and macro factors together. */
export function byteLength(q: QuantizedMatrix): number {
  return q.codes.byteLength + q.scales.byteLength + (q.macroScales?.byteLength ?? 0);
}

/** Stored bits per value, scales included (the 32 bits of a tensor scale are not counted). */
export function bitsPerValue(q: Pick<QuantizedMatrix, 'format' | 'blockSize' | 'macroSize'>): number {
  const { elementBits, scaleBits } = FORMATS[q.format];
  return elementBits + scaleBits / q.blockSize + (q.macroSize ? 8 / q.macroSize : 0);
}

/** The given rows of a matrix, copied, in the given order. */
export function selectRows(q: QuantizedMatrix, rows: readonly number[]): QuantizedMatrix {
  const select = (array: Uint8Array): Uint8Array => {
    const perRow = array.length / q.rows;
    const out = new Uint8Array(rows.length * perRow);
    rows.forEach((row, i) => {
      out.set(array.subarray(row * perRow, (row + 1) * perRow), i * perRow);
    });
    return out;
  };
  return {
    ...q,
    rows: rows.length,
    codes: select(q.codes),
    scales: select(q.scales),
    ...(q.macroScales && { macroScales: select(q.macroScales) }),
  };
}

/** Rows `start` to `end` of a matrix, views of its arrays. */
export function rowRange(q: QuantizedMatrix, start: number, end: number): QuantizedMatrix {
  const range = (array: Uint8Array) => {
    const perRow = array.length / q.rows;
    return array.subarray(start * perRow, end * perRow);
  };
  return {
    ...q,
    rows: end - start,
    codes: range(q.codes),
    scales: range(q.scales),
    ...(q.macroScales && { macroScales: range(q.macroScales) }),
  };
}

/**
 * Checks what a matrix says of itself: format, sizes, tensor scale.
 * @throws InvalidArgumentError naming the field and the rule
 */
export function validateHeader(q: MatrixHeader): void {
  if (!Object.hasOwn(FORMATS, q.format)) fail(`unknown format ${JSON.stringify(q.format)}`);
  const format = FORMATS[q.format];
  if (!format.blockSizes.includes(q.blockSize)) {
    fail(`blockSize ${q.blockSize} is not one of ${q.format}'s ${format.blockSizes.join(', ')}`);
  }
  for (const field of ['rows', 'cols'] as const) {
    if (!(Number.isSafeInteger(q[field]) && q[field] > 0))
      fail(`${field} = ${q[field]} is not a positive integer`);
  }
  if (q.cols % q.blockSize)
    fail(`cols = ${q.cols} is not a multiple of the ${q.format} block ${q.blockSize}`);
  if (q.macroSize !== undefined) {
    if (q.format !== 'mxfp4') fail(`macroScales go with mxfp4, not with ${q.format}`);
    if (!MACRO_SIZES.includes(q.macroSize))
      fail(`macroSize ${q.macroSize} is not one of ${MACRO_SIZES.join(', ')}`);
  }
  if (
    !(Number.isFinite(q.globalScale) && q.globalScale > 0 && Math.fround(q.globalScale) === q.globalScale)
  ) {
    fail(`globalScale ${q.globalScale} is not a positive finite f32`);
  }
  if (q.format === 'mxfp4' && q.globalScale !== 1)
    fail(`globalScale ${q.globalScale} goes with nvfp4; mxfp4 has 1`);
}

/**
 * Checks that a matrix is what its fields say: sizes, lengths, scale bytes, tensor scale.
 * For matrices that come from outside `quantize`, such as checkpoints.
 * @throws InvalidArgumentError naming the field and the rule
 */
export function validateMatrix(q: QuantizedMatrix): void {
  validateHeader(q);
  const expectLength = (field: string, array: Uint8Array, length: number) => {
    if (array.length !== length)
      fail(`${field} has ${array.length} bytes; [${q.rows}, ${q.cols}] needs ${length}`);
  };
  expectLength('codes', q.codes, (q.rows * q.cols) / 2);
  expectLength('scales', q.scales, (q.rows * q.cols) / q.blockSize);
  if ((q.macroScales === undefined) !== (q.macroSize === undefined)) {
    fail('macroScales and macroSize come together or not at all');
  }
  if (q.macroScales && q.macroSize !== undefined) {
    expectLength('macroScales', q.macroScales, q.rows * Math.ceil(q.cols / q.macroSize));
  }
  const format = FORMATS[q.format];
  const bad = q.scales.findIndex((byte) => byte > format.maxScaleByte);
  if (bad >= 0) {
    const perRow = q.cols / q.blockSize;
    fail(
      `scale byte ${q.scales[bad]} at row ${Math.floor(bad / perRow)}, block ${bad % perRow} ` +
        `is not a non-negative ${format.scaleFormat.toUpperCase()} number`,
    );
  }
}

function fail(message: string): never {
  throw new InvalidArgumentError('matrix', message);
}

/**
 * Values f32[rows, cols] as the bytes say, without undoing a Hadamard rotation (see `dequantize` for that).
 * The products are rounded to f32 once, at the end; MXFP4 codes of 4 or 6 at 2^126 and above overflow to Infinity.
 */
export function decodeMatrix(q: QuantizedMatrix): Float32Array {
  return decodeInto(q, new Float32Array(q.rows * q.cols));
}

/** The same in f64, where every product is exact. */
export function decodeMatrixF64(q: QuantizedMatrix): Float64Array {
  return decodeInto(q, new Float64Array(q.rows * q.cols));
}

function decodeInto<T extends Float32Array | Float64Array>(q: QuantizedMatrix, out: T): T {
  const blocksPerRow = q.cols / q.blockSize;
  const macrosPerRow = q.macroSize ? Math.ceil(q.cols / q.macroSize) : 0;
  const scaleValues =
    q.format === 'nvfp4' ? E4M3_VALUES : Array.from({ length: 256 }, (_, byte) => decodeE8M0(byte));
  const table = new Float64Array(16);
  for (let row = 0; row < q.rows; row++) {
    for (let block = 0; block < blocksPerRow; block++) {
      let scale = scaleValues[q.scales[row * blocksPerRow + block]!]! * q.globalScale;
      if (q.macroScales) {
        const macro = Math.floor((block * q.blockSize) / q.macroSize!);
        scale *= E0M8_INVERSES[q.macroScales[row * macrosPerRow + macro]!]!;
      }
      for (let code = 0; code < 16; code++) table[code] = E2M1_VALUES[code]! * scale;
      const start = row * q.cols + block * q.blockSize;
      for (let i = start; i < start + q.blockSize; i += 2) {
        const byte = q.codes[i >> 1]!;
        out[i] = table[byte & 15]!;
        out[i + 1] = table[byte >> 4]!;
      }
    }
  }
  return out;
}
