/**
 * NVFP4: E2M1 elements, one E4M3 scale per 16 values, one f32 scale per tensor, in TransformerEngine's order of
 * operations (`reference_nvfp4.py`; recipe: arXiv 2509.25149, appendix B). Every step is one correctly rounded f32
 * operation: f64 arithmetic on f32 operands followed by one `Math.fround`, which rounds + - * / the same way.
 */
import { E2M1_MAX } from '../formats/e2m1.js';
import { E4M3_MAX, E4M3_VALUES, encodeE4M3 } from '../formats/e4m3.js';
import type { QuantizedMatrix } from '../matrix/quantized-matrix.js';
import { ElementEncoder } from './encoder.js';
import type { QuantizeSpec } from './options.js';
import { type ErrorSum, lessWeighted, Residuals } from './residuals.js';
import { largestMagnitude, mapTile, type Tile } from './tile.js';

const FLOAT_MAX = 3.4028234663852886e38;
const ONE_SIXTH = Math.fround(1 / 6);
/** Four over six leaves head-room for 1.5 times the scale by mapping the tensor's maximum to 6 · 256, not 6 · 448. */
const FOUR_OVER_SIX_SCALE_MAX = 256;

/** @param largest the largest magnitude of the whole matrix, of which `values` are the rows from `firstRow` on */
export function quantizeNv(
  values: Float32Array,
  spec: QuantizeSpec,
  largest: number,
  firstRow: number,
): QuantizedMatrix {
  const { rows, cols, blockSize } = spec;
  const blockHeight = spec.tile === '2d' ? blockSize : 1;
  const blocksPerRow = cols / blockSize;
  const scales = new Uint8Array(rows * blocksPerRow);
  const encoder = new ElementEncoder(rows * cols, spec, firstRow * cols);
  const fourOverSix = spec.scaleRule === 'four-over-six';

  const tensor = tensorScale(largest, fourOverSix ? FOUR_OVER_SIX_SCALE_MAX : E4M3_MAX);
  const search = fourOverSix ? new FourOverSix(tensor, spec.fourOverSixError) : undefined;

  const stripe = new Float64Array(blockHeight * cols);
  for (let top = 0; top < rows; top += blockHeight) {
    const height = Math.min(blockHeight, rows - top);
    stripe.set(values.subarray(top * cols, (top + height) * cols));
    for (let block = 0; block < blocksPerRow; block++) {
      const tile: Tile = { data: stripe, start: block * blockSize, stride: cols, height, width: blockSize };
      const byte = search ? search.scaleByte(tile) : blockScaleByte(tile, tensor);
      for (let row = top; row < top + height; row++) scales[row * blocksPerRow + block] = byte;
      // A scale that rounds to zero makes every value zero; its codes stay 0 (TransformerEngine leaves them open).
      if (byte === 0) continue;
      const encode = encodeScale(byte, tensor);
      mapTile(tile, (x) => Math.fround(x * encode));
      encoder.encode(tile, top * cols + tile.start, 1);
    }
  }
  return {
    format: 'nvfp4',
    rows,
    cols,
    blockSize,
    codes: encoder.codes,
    scales,
    globalScale: tensor.decode,
    hadamard: spec.hadamard,
  };
}

interface TensorScale {
  /** s_enc = 6 · scaleMax / amax, 1 for a tensor of zeros. */
  readonly encode: number;
  /** s_dec = 1 / s_enc, the matrix's globalScale. */
  readonly decode: number;
}

function tensorScale(largest: number, scaleMax: number): TensorScale {
  const encode = largest === 0 ? 1 : Math.min(Math.fround((E2M1_MAX * scaleMax) / largest), FLOAT_MAX);
  return { encode, decode: Math.fround(1 / encode) };
}

/** E4M3 scale S of a block: amax · (s_enc · fl32(1/6)), the product of the last two rounded first. */
function blockScaleByte(tile: Tile, tensor: TensorScale): number {
  const multiplier = Math.fround(tensor.encode * ONE_SIXTH);
  return encodeE4M3(Math.min(Math.fround(largestMagnitude(tile) * multiplier), FLOAT_MAX));
}

/** What the elements of a block are multiplied by: 1 / (S · s_dec), from the rounded S. */
function encodeScale(byte: number, tensor: TensorScale): number {
  return Math.min(Math.fround(1 / Math.fround(E4M3_VALUES[byte]! * tensor.decode)), FLOAT_MAX);
}

/**
 * Four over six (arXiv 2512.02010, in TransformerEngine's form): maps the block's maximum to 6 or, with a scale 1.5
 * times as large, to 4, whichever has the smaller error against the original values; ties go to 6, and so do blocks
 * of a tensor so small (below about 2^-118) that the multiplier of the elements saturates.
 */
class FourOverSix {
  readonly #tensor: TensorScale;
  readonly #metric: 'mae' | 'mse';
  readonly #scaled = new Float64Array(16 * 16);
  readonly #residuals = new Residuals(16 * 16);

  constructor(tensor: TensorScale, metric: 'mae' | 'mse') {
    this.#tensor = tensor;
    this.#metric = metric;
  }

  scaleByte(tile: Tile): number {
    const base = Math.fround(Math.fround(largestMagnitude(tile) / 6) * this.#tensor.encode);
    const six = encodeE4M3(base);
    const four = encodeE4M3(Math.min(Math.fround(1.5 * base), E4M3_MAX));
    if (six === four || (six > 0 && encodeScale(six, this.#tensor) === FLOAT_MAX)) return six;
    return lessWeighted(
      this.#error(tile, four),
      this.#weight(four),
      this.#error(tile, six),
      this.#weight(six),
    )
      ? four
      : six;
  }

  /** Error in y, the scaled values: an exact number, so that a GPU decides alike. */
  #error({ data, start, stride, height, width }: Tile, byte: number): ErrorSum {
    const encode = byte === 0 ? this.#tensor.encode : encodeScale(byte, this.#tensor);
    for (let row = 0; row < height; row++) {
      for (let i = 0; i < width; i++) {
        this.#scaled[row * width + i] = Math.fround(data[start + row * stride + i]! * encode);
      }
    }
    this.#residuals.clear();
    const scaled: Tile = { data: this.#scaled, start: 0, stride: width, height, width };
    this.#residuals.add(scaled, byte === 0 ? ZERO_GRID_EXPONENT : 0);
    return this.#metric === 'mae' ? this.#residuals.absoluteError() : this.#residuals.squaredError();
  }

  /** What turns the error in y into one in x / s_dec: the scale in units of 2^-9, an integer, or its square. */
  #weight(byte: number): number {
    const scale = (byte === 0 ? 1 : E4M3_VALUES[byte]!) * 512;
    return this.#metric === 'mae' ? scale : scale * scale;
  }
}

/** Where a scale rounds to zero every value is lost: a grid so coarse that all round to zero says the same. */
const ZERO_GRID_EXPONENT = 300;
