/** Matrices that are not FP4, and products with them: for layers that are kept, heads, and as a baseline. */
import { UnsupportedError } from '../../src/errors.js';
import { asBinding, createStorageBuffer } from '../../src/gpu/buffers.js';
import { BufferUsage } from '../../src/gpu/constants.js';
import { foldGrid } from '../../src/gpu/grid.js';
import { getPipeline } from '../../src/gpu/pipeline.js';
import { composeShader } from '../../src/gpu/shader.js';
import type { BufferSlice, Gpu } from '../../src/index.js';
import plainSource from './shaders/plain.wgsl?raw';
import gemmSource from './shaders/plain_gemm.wgsl?raw';
import gemvSource from './shaders/plain_gemv.wgsl?raw';
import bf16Source from './shaders/w_bf16.wgsl?raw';
import f16Source from './shaders/w_f16.wgsl?raw';
import f32Source from './shaders/w_f32.wgsl?raw';

/** Up to this many rows of x, a workgroup a row of w beats tiles that are mostly empty. */
const GEMV_MAX_M = 4;

/** How weights lie in memory, and the shader module that reads them. */
export type PlainType = 'f32' | 'f16' | 'bf16';
export const PLAIN_SOURCES: Readonly<Record<PlainType, string>> = {
  f32: f32Source,
  f16: f16Source,
  bf16: bf16Source,
};
const BYTES: Readonly<Record<PlainType, number>> = { f32: 4, f16: 2, bf16: 2 };

/** Some rows of a matrix in a buffer of their own. */
export interface PlainPart {
  readonly buffer: GPUBuffer;
  readonly firstRow: number;
  readonly rows: number;
}

/** A matrix [rows, cols] on the GPU, in as many parts as its bindings need. */
export class PlainWeights {
  readonly type: PlainType;
  readonly rows: number;
  readonly cols: number;
  readonly parts: readonly PlainPart[];

  private constructor(type: PlainType, rows: number, cols: number, parts: readonly PlainPart[]) {
    this.type = type;
    this.rows = rows;
    this.cols = cols;
    this.parts = parts;
  }

  /**
   * Uploads f32 values as they are, or as BF16 where all of them are.
   * @param mostBytes of a part; what a buffer and a binding of the device may hold by default
   * @throws UnsupportedError where cols is no multiple of 4, or a row exceeds the device's limits
   */
  static upload(
    gpu: Gpu,
    label: string,
    { rows, cols, values }: { readonly rows: number; readonly cols: number; readonly values: Float32Array },
    mostBytes = Math.min(gpu.device.limits.maxBufferSize, gpu.device.limits.maxStorageBufferBindingSize),
  ): PlainWeights {
    if (cols % 4) throw new UnsupportedError('lm', `${label}: rows of ${cols} values are no multiple of 4`);
    const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
    const type = bits.every((word) => (word & 0xffff) === 0) ? 'bf16' : 'f32';
    const data = type === 'bf16' ? Uint16Array.from(bits, (word) => word >>> 16) : values;
    const mostRows = Math.floor(mostBytes / (cols * BYTES[type]));
    if (mostRows < 1)
      throw new UnsupportedError('lm', `${label}: a row of ${cols} values exceeds the device's limits`);
    const parts: PlainPart[] = [];
    for (let firstRow = 0; firstRow < rows; firstRow += mostRows) {
      const count = Math.min(mostRows, rows - firstRow);
      const part = data.subarray(firstRow * cols, (firstRow + count) * cols);
      parts.push({ buffer: createStorageBuffer(gpu.device, label, part), firstRow, rows: count });
    }
    return new PlainWeights(type, rows, cols, parts);
  }

  /** Bytes of the values. */
  get byteLength(): number {
    return this.rows * this.cols * BYTES[this.type];
  }

  destroy(): void {
    for (const { buffer } of this.parts) buffer.destroy();
  }
}

export interface PlainShape {
  readonly m: number;
  /** Columns of y, and where those of w begin. */
  readonly stride: number;
  readonly first: number;
  readonly n: number;
  readonly k: number;
  readonly x: 'f32' | 'f16';
  readonly w: PlainType;
  /** Whether y is added to. */
  readonly accumulate: boolean;
}

export interface PlainBuffers {
  readonly x: BufferSlice;
  readonly w: BufferSlice;
  readonly y: BufferSlice;
}

/** A product, compiled; the caller's buffers are bound by `bind`. */
export interface PlainProduct {
  readonly label: string;
  bind(buffers: PlainBuffers): { encode(pass: GPUComputePassEncoder): void };
  destroy(): void;
}

/**
 * y f32[m, n] = x[m, k] · w[n, k]ᵀ (+ y).
 * @throws UnsupportedError where the device lacks f16, k is no multiple of 4, or the grid does not fit
 */
export async function createPlainProduct({ device, caps }: Gpu, shape: PlainShape): Promise<PlainProduct> {
  const { m, n, k, stride, first, x, w, accumulate } = shape;
  const f16 = x === 'f16' || w === 'f16';
  if (f16 && !caps.tiers.includes('f16')) throw new UnsupportedError('lm', 'the device lacks f16');
  if (k % 4) throw new UnsupportedError('lm', `k = ${k} is not a multiple of 4`);
  const gemv = m <= GEMV_MAX_M;
  const label = `plain_${gemv ? 'gemv' : 'gemm'}.${w}`;
  const max = caps.limits.maxComputeWorkgroupsPerDimension;
  const grid = gemv ? foldGrid(n, max) : ([Math.ceil(n / 64), Math.ceil(m / 64)] as const);
  if (Math.max(...grid) > max) throw new UnsupportedError('lm', `${label}: ${grid.join(' × ')} workgroups`);
  const pipeline = await getPipeline(
    device,
    composeShader({
      label,
      enables: f16 ? ['f16'] : [],
      constants: { ACCUMULATE: accumulate },
      aliases: { X: x },
      modules: [
        { name: `w_${w}.wgsl`, source: PLAIN_SOURCES[w] },
        { name: 'plain.wgsl', source: plainSource },
        { name: `${gemv ? 'plain_gemv' : 'plain_gemm'}.wgsl`, source: gemv ? gemvSource : gemmSource },
      ],
    }),
  );
  const uniform = device.createBuffer({ label, size: 32, usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST });
  device.queue.writeBuffer(uniform, 0, Uint32Array.of(m, n, k / 4, stride, first, 0, 0, 0));
  return {
    label,
    bind(buffers) {
      const group = device.createBindGroup({
        label,
        layout: pipeline.getBindGroupLayout(0),
        entries: [uniform, buffers.x, buffers.w, buffers.y].map((buffer, binding) => ({
          binding,
          resource: asBinding(buffer),
        })),
      });
      return {
        encode(pass) {
          pass.setPipeline(pipeline);
          pass.setBindGroup(0, group);
          pass.dispatchWorkgroups(...grid);
        },
      };
    },
    destroy: () => uniform.destroy(),
  };
}
