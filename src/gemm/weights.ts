import { UnsupportedError } from '../errors.js';
import type { Format, MacroSize } from '../formats/formats.js';
import { alignedSize, checkBufferSize, createStorageBuffer } from '../gpu/buffers.js';
import { isSoftware } from '../gpu/caps.js';
import type { Gpu } from '../gpu/gpu.js';
import { pack } from '../matrix/pack.js';
import { byteLength, type QuantizedMatrix, validateMatrix } from '../matrix/quantized-matrix.js';

/** An FP4 weight matrix w[n, k] on the GPU, in kernel order. */
export class GpuWeights {
  readonly format: Format;
  readonly n: number;
  readonly k: number;
  readonly blockSize: number;
  readonly macroSize?: MacroSize;
  readonly globalScale: number;
  readonly hadamard: boolean;
  readonly codes: GPUBuffer;
  readonly scales: GPUBuffer;
  readonly macroScales?: GPUBuffer;

  /** @internal Use {@link uploadWeights}. */
  constructor(q: QuantizedMatrix, buffers: { codes: GPUBuffer; scales: GPUBuffer; macroScales?: GPUBuffer }) {
    this.format = q.format;
    this.n = q.rows;
    this.k = q.cols;
    this.blockSize = q.blockSize;
    if (q.macroSize) this.macroSize = q.macroSize;
    this.globalScale = q.globalScale;
    this.hadamard = q.hadamard;
    this.codes = buffers.codes;
    this.scales = buffers.scales;
    if (buffers.macroScales) this.macroScales = buffers.macroScales;
  }

  /** Bytes on the GPU. */
  get byteLength(): number {
    return this.codes.size + this.scales.size + (this.macroScales?.size ?? 0);
  }

  destroy(): void {
    this.codes.destroy();
    this.scales.destroy();
    this.macroScales?.destroy();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }
}

/**
 * Copies a quantized matrix to the GPU. Resolves when the buffers exist; the bytes arrive before any later submit.
 * @throws InvalidArgumentError for a matrix that is not what its fields say; UnsupportedError where a buffer exceeds
 * the device's limits or its memory
 */
export async function uploadWeights(
  gpu: Gpu,
  q: QuantizedMatrix,
  { label = 'weights' }: { label?: string } = {},
): Promise<GpuWeights> {
  validateMatrix(q);
  const { device } = gpu;
  const parts = pack(q);
  for (const [name, bytes] of Object.entries(parts)) {
    checkBufferSize(device.limits, `${label} ${name}`, alignedSize(bytes.byteLength));
  }
  device.pushErrorScope('out-of-memory');
  const buffers = {
    codes: createStorageBuffer(device, `fp4 ${label} codes`, parts.codes),
    scales: createStorageBuffer(device, `fp4 ${label} scales`, parts.scales),
    ...(parts.macroScales && {
      macroScales: createStorageBuffer(device, `fp4 ${label} macro`, parts.macroScales),
    }),
  };
  const error = await device.popErrorScope();
  const weights = new GpuWeights(q, buffers);
  if (error) {
    weights.destroy();
    throw new UnsupportedError(
      'gpu',
      `${label}: the device has no memory for ${weights.byteLength} bytes: ${error.message}`,
    );
  }
  return weights;
}

/** Bytes of weights that products are timed over, so that decode is limited by memory and not by a cache. */
const ROTATED_BYTES = 256e6;
const MOST_COPIES = 64;

/**
 * As many copies of a matrix as products of m rows are timed with, in turn, to go past the last-level cache; one where
 * many rows share the weights, or the adapter is software and has no cache to defeat.
 */
export async function uploadCopies(gpu: Gpu, q: QuantizedMatrix, m: number): Promise<GpuWeights[]> {
  const wanted = m > 64 || isSoftware(gpu.adapterInfo) ? 1 : Math.ceil(ROTATED_BYTES / byteLength(q));
  return Promise.all(Array.from({ length: Math.min(wanted, MOST_COPIES) }, () => uploadWeights(gpu, q)));
}
