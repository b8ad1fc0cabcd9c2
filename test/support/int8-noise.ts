/** What rounding weights and x to int8 does to a product, apart from what FP4 does: kernels of int8, emulated in f64. */
import { E2M1_VALUES } from '../../src/formats/e2m1.js';
import { int8BlockScales, int8Rounded } from '../../src/gemm/int8-weights.js';
import { type QuantizeOptions, quantize } from '../../src/index.js';
import { decodeMatrixF64, type QuantizedMatrix } from '../../src/matrix/quantized-matrix.js';
import { errorMetrics } from '../../src/quantize/metrics.js';

/** Values along k that share a scale; 'row', all of them, is what the kernels do, the others are what that costs. */
export type Stretch = 'row' | 4096 | 1024 | 32;
export const STRETCHES: readonly Stretch[] = ['row', 4096, 1024, 32];

const lengthOf = (stretch: Stretch, k: number) => (stretch === 'row' ? k : stretch);

/** FP4 weights as shaders/int8_weights.wgsl makes int8 of them, f64[n, k], without the tensor's scale. */
export function int8Weights(q: QuantizedMatrix, stretch: Stretch): Float64Array {
  const { rows, cols, blockSize, codes } = q;
  const { stored, effective } = int8BlockScales(q);
  const length = lengthOf(stretch, cols);
  const out = new Float64Array(rows * cols);
  for (let row = 0; row < rows; row++) {
    for (let first = 0; first < cols; first += length) {
      const end = Math.min(first + length, cols);
      const blocks = stored.subarray((row * cols + first) / blockSize, (row * cols + end) / blockSize);
      const reference = blocks.reduce((a, b) => Math.max(a, b), 0);
      for (let i = row * cols + first; i < row * cols + end; i++) {
        const code = (codes[i >> 1]! >> ((i & 1) * 4)) & 15;
        const size = int8Rounded(E2M1_VALUES[code & 7]!, effective[Math.floor(i / blockSize)]!, reference);
        out[i] = code & 8 ? -size : size;
      }
    }
  }
  return out;
}

/** x as shaders/operands/int8_rows.wgsl (and, with 32, int8_round.wgsl) makes int8 of it, f64[m, k]. */
export function int8Activations(x: Float32Array, k: number, stretch: Stretch): Float64Array {
  const out = new Float64Array(x.length);
  for (let row = 0; row < x.length; row += k) {
    for (let first = row; first < row + k; first += lengthOf(stretch, k)) {
      const end = Math.min(first + lengthOf(stretch, k), row + k);
      const largest = x.subarray(first, end).reduce((a, b) => Math.max(a, Math.abs(b)), 0);
      for (let i = first; i < end; i++) out[i] = (Math.round((x[i]! * 127) / largest) * largest) / 127;
    }
  }
  return out;
}

/** x[m, k] · w[n, k]ᵀ in f64. */
export function product(x: ArrayLike<number>, w: ArrayLike<number>, k: number): Float64Array {
  const [m, n] = [x.length / k, w.length / k];
  const y = new Float64Array(m * n);
  for (let row = 0; row < m; row++) {
    for (let col = 0; col < n; col++) {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += x[row * k + i]! * w[col * k + i]!;
      y[row * n + col] = sum;
    }
  }
  return y;
}

/** Signal to noise of y in dB, one source of noise at a time. */
export interface ProductNoise {
  /** Of FP4 weights against the originals. */
  readonly fp4: number;
  /** Of int8 weights against the FP4 ones. */
  readonly weights: Readonly<Record<Stretch, number>>;
  /** Of int8 x against x, with the FP4 weights. */
  readonly x: Readonly<Record<Stretch, number>>;
}

export function productNoise(x: Float32Array, w: Float32Array, q: QuantizedMatrix): ProductNoise {
  const k = q.cols;
  const decoded = decodeMatrixF64(q).map((value) => value / q.globalScale);
  const y = product(x, decoded, k);
  const each = (approximate: (stretch: Stretch) => Float64Array) =>
    Object.fromEntries(
      STRETCHES.map((stretch) => [stretch, errorMetrics(y, approximate(stretch)).sqnr]),
    ) as Record<Stretch, number>;
  return {
    fp4: errorMetrics(
      product(x, w, k),
      y.map((value) => value * q.globalScale),
    ).sqnr,
    weights: each((stretch) => product(x, int8Weights(q, stretch), k)),
    x: each((stretch) => product(int8Activations(x, k, stretch), decoded, k)),
  };
}

/** The FP4 formats that have different scales. */
export const NOISE_FORMATS: Readonly<Record<string, Omit<QuantizeOptions, 'rows' | 'cols'>>> = {
  mxfp4: { format: 'mxfp4' },
  'mxfp4 + MBS': { format: 'mxfp4', macroScale: 'static' },
  nvfp4: { format: 'nvfp4' },
};

/** {@link productNoise} of weights in a format. */
export function formatNoise(x: Float32Array, w: Float32Array, k: number, format: string) {
  const q = quantize(w, { rows: w.length / k, cols: k, ...NOISE_FORMATS[format]! });
  return { q, noise: productNoise(x, w, q) };
}
