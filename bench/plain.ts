/** The baseline that uses no FP4: products with f32 or f16 weights by the plain kernels of the language model. */
import { createPlainProduct } from '../demo/lm/plain.js';
import { createStorageBuffer } from '../src/gpu/buffers.js';
import type { Gpu } from '../src/gpu/gpu.js';

export interface PlainProduct {
  readonly label: string;
  readonly ceiling: 'fma';
  /** f32 roundings on the longest path of a sum. */
  readonly roundings: number;
  encode(pass: GPUComputePassEncoder): void;
  destroy(): void;
}

export interface PlainBuffers {
  readonly x: GPUBuffer;
  readonly w: GPUBuffer;
  readonly y: GPUBuffer;
}

/**
 * y f32[m, n] = x[m, k] · w[n, k]ᵀ, x and w of one type.
 * @throws UnsupportedError where the device lacks f16 or the grid does not fit
 */
export async function createPlain(
  gpu: Gpu,
  m: number,
  n: number,
  k: number,
  type: 'f32' | 'f16',
  buffers: PlainBuffers,
): Promise<PlainProduct> {
  const shape = { m, n, k, stride: n, first: 0, x: type, w: type, accumulate: false };
  const product = await createPlainProduct(gpu, shape);
  return {
    label: product.label,
    ceiling: 'fma',
    roundings: k + 8,
    ...product.bind(buffers),
    destroy: () => product.destroy(),
  };
}

/** Copies of w for a rotation past the cache. */
export function uploadPlain({ device }: Gpu, w: Float32Array | Uint16Array, copies: number): GPUBuffer[] {
  return Array.from({ length: copies }, () => createStorageBuffer(device, 'bench w', w));
}
