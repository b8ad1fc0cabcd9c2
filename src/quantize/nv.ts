/**
 * NVFP4: E2M1 elements, one E4M3 scale per 16 values, one f32 scale per tensor, in TransformerEngine's order of
 * operations (`reference_nvfp4.py`; recipe: arXiv 2509.25149, appendix B). Every step is one correctly rounded f32
 * operation: f64 arithmetic on f32 operands followed by one `Math.fround`, which rounds + - * / the same way.
 */
import { E2M1_MAX, nearestMagnitude } from '../formats/e2m1.js';
import { E4M3_MAX, E4M3_VALUES, encodeE4M3 } from '../formats/e4m3.js';
import type { QuantizedMatrix } from '../matrix/quantized-matrix.js';
import { ElementEncoder } from './encoder.js';
import { largestMagnitude, type Tile } from './mx-scale.js';
import type { QuantizeSpec } from './options.js';
import { floorLog2 } from './squared-error.js';

const FLOAT_MAX = 3.4028234663852886e38;
const ONE_SIXTH = Math.fround(1 / 6);
/** Four over six leaves head-room for 1.5 times the scale by mapping the tensor's maximum to 6 · 256, not 6 · 448. */
const FOUR_OVER_SIX_SCALE_MAX = 256;

export function quantizeNv(values: Float32Array, spec: QuantizeSpec): QuantizedMatrix {
  const { rows, cols, blockSize } = spec;
  const blockHeight = spec.tile === '2d' ? blockSize : 1;
  const blocksPerRow = cols / blockSize;
  const scales = new Uint8Array(rows * blocksPerRow);
  const encoder = new ElementEncoder(rows * cols, spec);
  const fourOverSix = spec.scaleRule === 'four-over-six';

  const tensor = tensorScale(values, fourOverSix ? FOUR_OVER_SIX_SCALE_MAX : E4M3_MAX);
  const chooseScale = fourOverSix
    ? (tile: Tile) => fourOverSixByte(tile, tensor, spec.fourOverSixError)
    : (tile: Tile) => blockScaleByte(tile, tensor);

  const stripe = new Float64Array(blockHeight * cols);
  const scaled = new Float64Array(blockHeight * cols);
  for (let top = 0; top < rows; top += blockHeight) {
    const height = Math.min(blockHeight, rows - top);
    stripe.set(values.subarray(top * cols, (top + height) * cols));
    for (let block = 0; block < blocksPerRow; block++) {
      const tile: Tile = { data: stripe, start: block * blockSize, stride: cols, height, width: blockSize };
      const byte = chooseScale(tile);
      for (let row = top; row < top + height; row++) scales[row * blocksPerRow + block] = byte;
      // A scale that rounds to zero makes every value zero; its codes stay 0 (TransformerEngine leaves them open).
      if (byte === 0) continue;
      const encode = encodeScale(byte, tensor);
      for (let row = 0, from = tile.start; row < height; row++, from += cols) {
        for (let i = from; i < from + blockSize; i++) scaled[i] = Math.fround(stripe[i]! * encode);
      }
      encoder.encode({ ...tile, data: scaled }, top * cols + tile.start, 1);
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

function tensorScale(values: Float32Array, scaleMax: number): TensorScale {
  let largest = 0;
  for (let i = 0; i < values.length; i++) {
    const magnitude = Math.abs(values[i]!);
    if (magnitude > largest) largest = magnitude;
  }
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
 * times as large, to 4, whichever has the smaller error against the original values; ties go to 6.
 */
function fourOverSixByte(tile: Tile, tensor: TensorScale, metric: 'mae' | 'mse'): number {
  const base = Math.fround(Math.fround(largestMagnitude(tile) / 6) * tensor.encode);
  const six = encodeE4M3(base);
  const four = encodeE4M3(Math.min(Math.fround(1.5 * base), E4M3_MAX));
  if (six === four) return six;
  return blockError(tile, four, tensor, metric) < blockError(tile, six, tensor, metric) ? four : six;
}

const residuals = new Float64Array(16 * 16);

/**
 * Error of a block quantized with scale byte `byte`, in units of s_dec (MAE) or its square (MSE): an exact number, so
 * that a GPU decides alike. Residuals |y - grid(y)| of the scaled elements are exact; they are truncated to integers
 * of at most 16 bits in a common unit (so that sums are low by 0.05 % at most) before they are added.
 */
function blockError(tile: Tile, byte: number, tensor: TensorScale, metric: 'mae' | 'mse'): number {
  // Where S rounds to zero every value is lost; measure them in the same unit by S = 1 and a grid of 0 alone.
  const scale = byte === 0 ? 1 : E4M3_VALUES[byte]!;
  const encode = byte === 0 ? tensor.encode : encodeScale(byte, tensor);
  let count = 0;
  let max = 0;
  for (let row = 0, from = tile.start; row < tile.height; row++, from += tile.stride) {
    for (let i = from; i < from + tile.width; i++) {
      const y = Math.abs(Math.fround(tile.data[i]! * encode));
      const residual = byte === 0 ? y : Math.abs(y - nearestMagnitude(y));
      residuals[count++] = residual;
      if (residual > max) max = residual;
    }
  }
  if (max === 0) return 0;
  const exponent = floorLog2(max) - 15;
  const unit = 2 ** -exponent;
  let sum = 0;
  for (let i = 0; i < count; i++) {
    const t = (residuals[i]! * unit) | 0;
    sum += metric === 'mae' ? t : t * t;
  }
  return metric === 'mae' ? sum * scale * 2 ** exponent : sum * scale * scale * 2 ** (2 * exponent);
}
