/** The baseline that uses no FP4: products with f32 or f16 weights by two plain kernels. */
import { UnsupportedError } from '../src/errors.js';
import { createStorageBuffer } from '../src/gpu/buffers.js';
import { BufferUsage } from '../src/gpu/constants.js';
import type { Gpu } from '../src/gpu/gpu.js';
import { foldGrid } from '../src/gpu/grid.js';
import { getPipeline } from '../src/gpu/pipeline.js';
import { composeShader } from '../src/gpu/shader.js';
import gemmSource from './shaders/plain_gemm.wgsl?raw';
import gemvSource from './shaders/plain_gemv.wgsl?raw';

/** Up to this many rows of x, a workgroup a row of w beats tiles that are mostly empty. */
const GEMV_MAX_M = 4;

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
  { device, caps }: Gpu,
  m: number,
  n: number,
  k: number,
  type: 'f32' | 'f16',
  buffers: PlainBuffers,
): Promise<PlainProduct> {
  if (type === 'f16' && !caps.tiers.includes('f16'))
    throw new UnsupportedError('bench', 'the device lacks f16');
  if (k % 4) throw new UnsupportedError('bench', `k = ${k} is not a multiple of 4`);
  const gemv = m <= GEMV_MAX_M;
  const label = `plain_${gemv ? 'gemv' : 'gemm'}.${type}`;
  const max = caps.limits.maxComputeWorkgroupsPerDimension;
  const grid = gemv ? foldGrid(n, max) : ([Math.ceil(n / 64), Math.ceil(m / 64)] as const);
  if (Math.max(...grid) > max)
    throw new UnsupportedError('bench', `${label}: ${grid.join(' × ')} workgroups`);
  const pipeline = await getPipeline(
    device,
    composeShader({
      label,
      enables: type === 'f16' ? ['f16'] : [],
      constants: {},
      aliases: { REAL: type },
      modules: [{ name: `${label}.wgsl`, source: gemv ? gemvSource : gemmSource }],
    }),
  );
  const uniform = device.createBuffer({ label, size: 16, usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST });
  device.queue.writeBuffer(uniform, 0, Uint32Array.of(m, n, k / 4, 0));
  const group = device.createBindGroup({
    label,
    layout: pipeline.getBindGroupLayout(0),
    entries: [uniform, buffers.x, buffers.w, buffers.y].map((buffer, binding) => ({
      binding,
      resource: { buffer },
    })),
  });
  return {
    label,
    ceiling: 'fma',
    roundings: k + 8,
    encode(pass) {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...grid);
    },
    destroy: () => uniform.destroy(),
  };
}

/** Copies of w for a rotation past the cache. */
export function uploadPlain({ device }: Gpu, w: Float32Array | Uint16Array, copies: number): GPUBuffer[] {
  return Array.from({ length: copies }, () => createStorageBuffer(device, 'bench w', w));
}
