/** A linear layer in the form chosen for it: FP4 through the engine's `createGemm`, or as it is through plain kernels. */
import { isSoftware } from '../../src/gpu/caps.js';
import {
  type ActivationOptions,
  type BufferSlice,
  bitsPerValue,
  createGemm,
  type Gpu,
  type GpuWeights,
  InvalidArgumentError,
  quantize,
  quantizeOnGpu,
  uploadWeights,
  weightsFromQuantized,
} from '../../src/index.js';
import type { LayerFormat } from './layers.js';
import { createPlainProduct, PlainWeights } from './plain.js';
import { isQuantized, type StoredMatrix } from './source.js';
import type { Step } from './step.js';

export interface ProductShape {
  /** Rows of x. */
  readonly m: number;
  /** Whether the product is added to y: a residual connection costs nothing so. */
  readonly accumulate?: boolean;
}

/** y f32[m, n] = x f32[m, k] · w[n, k]ᵀ (+ y), compiled for a number of rows; it may be bound several times. */
export interface Product {
  readonly label: string;
  /** @param xUnchanged whether x is what the last product before had, which then need not be converted again */
  bind(x: BufferSlice, y: BufferSlice, xUnchanged?: boolean): Step;
  destroy(): void;
}

export interface Linear {
  readonly n: number;
  readonly k: number;
  /** Bytes of the weights, scales included; 0 where they are someone else's. */
  readonly storedBytes: number;
  createProduct(shape: ProductShape): Promise<Product>;
  destroy(): void;
}

/**
 * Brings a matrix to the GPU in a format. One that the checkpoint has in FP4 stays what it is.
 * @throws InvalidArgumentError for options that do not go together; UnsupportedError where the device's limits or memory
 * are exceeded
 */
export async function createLinear(
  gpu: Gpu,
  name: string,
  matrix: StoredMatrix,
  format: LayerFormat,
): Promise<Linear> {
  const { activations, precision } = format;
  const { rows, cols } = matrix;
  if (isQuantized(matrix)) {
    return fp4Linear(gpu, await uploadWeights(gpu, matrix, { label: name }), activations, precision);
  }
  if (format.weights !== 'float') {
    const options = { ...format.weights, rows, cols };
    // Int8 kernels ask how well int8 can stand for the weights, which is known of bytes that the CPU has seen.
    const onCpu = isSoftware(gpu.adapterInfo) || kindOf(activations) === 'int8';
    if (onCpu) {
      const q = quantize(matrix.values, options);
      return fp4Linear(gpu, await uploadWeights(gpu, q, { label: name }), activations, precision);
    }
    using q = await quantizeOnGpu(gpu, matrix.values, options);
    return fp4Linear(gpu, await weightsFromQuantized(gpu, q, { label: name }), activations, precision);
  }
  if (kindOf(activations) !== 'float') {
    throw new InvalidArgumentError(
      'lm',
      `${name}: ${kindOf(activations)} activations go with FP4 weights, and these are floats; quantize them or leave the activations out`,
    );
  }
  return plainLinear(gpu, PlainWeights.upload(gpu, name, matrix));
}

const kindOf = (activations: ActivationOptions) =>
  typeof activations === 'string' ? activations : activations.kind;

function fp4Linear(
  gpu: Gpu,
  weights: GpuWeights,
  activations: ActivationOptions,
  precision: 'f32' | 'f16',
): Linear {
  const { n, k } = weights;
  return {
    n,
    k,
    storedBytes: Math.ceil((n * k * bitsPerValue(weights)) / 8),
    async createProduct({ m, accumulate = false }) {
      const gemm = await createGemm(gpu, { m, weights, accumulate, activations, precision });
      return {
        label: gemm.plan.label,
        bind: (x, y, xUnchanged) => ({ encode: (pass) => gemm.encode(pass, { x, y, xUnchanged }) }),
        destroy: () => gemm.destroy(),
      };
    },
    destroy: () => weights.destroy(),
  };
}

/** @param shared whether the weights are someone else's: an embedding that is the head too */
export function plainLinear(gpu: Gpu, weights: PlainWeights, shared = false): Linear {
  const { rows: n, cols: k, type } = weights;
  return {
    n,
    k,
    storedBytes: shared ? 0 : weights.byteLength,
    async createProduct({ m, accumulate = false }) {
      const products = await Promise.all(
        weights.parts.map(({ firstRow, rows }) =>
          createPlainProduct(gpu, {
            m,
            n: rows,
            k,
            stride: n,
            first: firstRow,
            x: 'f32',
            w: type,
            accumulate,
          }),
        ),
      );
      return {
        label: products[0]!.label,
        bind(x, y) {
          const steps = products.map((product, i) => product.bind({ x, w: weights.parts[i]!.buffer, y }));
          return {
            encode(pass) {
              for (const step of steps) step.encode(pass);
            },
          };
        },
        destroy() {
          for (const product of products) product.destroy();
        },
      };
    },
    destroy() {
      if (!shared) weights.destroy();
    },
  };
}
