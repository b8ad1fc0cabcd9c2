/** Workloads that never change: the ceilings, the spin that raises the clock, and the chain that shows it. */

import { createStorageBuffer } from '../src/gpu/buffers.js';
import { type Caps, isSoftware, type SubgroupMatrixConfig } from '../src/gpu/caps.js';
import type { Gpu } from '../src/gpu/gpu.js';
import { getPipeline } from '../src/gpu/pipeline.js';
import { composeShader, type ShaderDescription } from '../src/gpu/shader.js';
import { randomNormals } from './data.js';
import type { Ceilings } from './schema.js';
import clock from './shaders/clock.wgsl?raw';
import copy from './shaders/copy.wgsl?raw';
import dp4a from './shaders/dp4a.wgsl?raw';
import fma from './shaders/fma.wgsl?raw';
import matrix from './shaders/matrix.wgsl?raw';
import read from './shaders/read.wgsl?raw';

/** Something the GPU does again and again. */
export interface Workload {
  readonly label: string;
  encode(pass: GPUComputePassEncoder, repetition: number): void;
}

/** A workload, and what one repetition of it amounts to. */
export interface Probe extends Workload {
  readonly ceiling: keyof Ceilings | 'clock';
  /** Bytes, or floating-point (integer) operations. */
  readonly amount: number;
}

interface ProbeSizes {
  readonly bytes: number;
  readonly workgroups: number;
  readonly steps: number;
}

/** Past any last-level cache and long enough to fill every multiprocessor; on a CPU as little as will run. */
const GPU_SIZES: ProbeSizes = { bytes: 2 ** 28, workgroups: 2048, steps: 1024 };
const SOFTWARE_SIZES: ProbeSizes = { bytes: 2 ** 20, workgroups: 4, steps: 16 };

/** Compiled probes and the buffers they share. */
export class Probes {
  readonly all: readonly Probe[];
  readonly #buffers: readonly GPUBuffer[];

  private constructor(all: readonly Probe[], buffers: readonly GPUBuffer[]) {
    this.all = all;
    this.#buffers = buffers;
  }

  static async create(gpu: Gpu): Promise<Probes> {
    const { device } = gpu;
    const caps = await gpu.usableCaps();
    const sizes = isSoftware(gpu.adapterInfo) ? SOFTWARE_SIZES : GPU_SIZES;
    const { maxBufferSize, maxStorageBufferBindingSize } = caps.limits;
    // A whole number of workgroups of 256 threads that read eight vec4s each.
    const limit = Math.min(sizes.bytes, maxBufferSize, maxStorageBufferBindingSize);
    const bytes = limit - (limit % 32768);
    const x = createStorageBuffer(device, 'bench x', bytes);
    const y = createStorageBuffer(device, 'bench y', bytes);
    for (const buffer of [x, y])
      device.queue.writeBuffer(buffer, 0, randomNormals(2 ** 13).buffer as ArrayBuffer);
    const threads = sizes.workgroups * 256;
    const vectors = bytes / 16;
    const descriptions: ProbeDescription[] = [
      { ceiling: 'copy', source: copy, buffers: [x, y], workgroups: vectors / 4 / 256, amount: 2 * bytes },
      { ceiling: 'read', source: read, buffers: [x, y], workgroups: vectors / 8 / 256, amount: bytes },
      {
        ceiling: 'fma',
        source: fma,
        buffers: [x, y],
        workgroups: sizes.workgroups,
        steps: sizes.steps / 2,
        // An outer product of eight by eight, and the next eight values.
        amount: threads * (sizes.steps / 2) * 2 * (8 * 8 + 8),
      },
      { ceiling: 'clock', source: clock, buffers: [y], workgroups: 1, steps: 4 * sizes.steps, amount: 1 },
    ];
    if (caps.tiers.includes('dp4a')) {
      descriptions.push({
        ceiling: 'dp4a',
        source: dp4a,
        buffers: [y],
        workgroups: sizes.workgroups,
        steps: sizes.steps,
        amount: threads * sizes.steps * 64,
      });
    }
    descriptions.push(
      ...matrixProbes(caps, 'f16', 'f32', 'matrixF16', [x, y], sizes),
      ...matrixProbes(caps, 'i8', 'i32', 'matrixI8', [x, y], sizes),
    );
    const all = await Promise.all(descriptions.map((description) => compile(gpu, description)));
    return new Probes(all, [x, y]);
  }

  get(ceiling: Probe['ceiling']): Probe {
    return this.all.find((probe) => probe.ceiling === ceiling)!;
  }

  destroy(): void {
    for (const buffer of this.#buffers) buffer.destroy();
  }
}

interface ProbeDescription {
  readonly ceiling: Probe['ceiling'];
  readonly source: string;
  readonly buffers: readonly GPUBuffer[];
  readonly workgroups: number;
  readonly steps?: number;
  readonly amount: number;
  readonly shader?: Partial<ShaderDescription>;
}

/** A probe for each shape of matrix that the device multiplies. */
function matrixProbes(
  caps: Caps,
  component: 'f16' | 'i8',
  result: 'f32' | 'i32',
  ceiling: 'matrixF16' | 'matrixI8',
  buffers: readonly GPUBuffer[],
  sizes: ProbeSizes,
): ProbeDescription[] {
  const tier = component === 'f16' ? 'matrix-f16' : 'matrix-i8';
  const lanes = caps.subgroupMaxSize;
  if (!caps.tiers.includes(tier) || !lanes || lanes !== caps.subgroupMinSize) return [];
  const fits = (c: SubgroupMatrixConfig) =>
    c.componentType === component &&
    c.resultComponentType === result &&
    c.M * c.K * (component === 'f16' ? 2 : 1) <= 512;
  return caps.subgroupMatrixConfigs.filter(fits).map(({ M, N, K }) => ({
    ceiling,
    source: matrix,
    buffers,
    workgroups: sizes.workgroups / 2,
    amount: (sizes.workgroups / 2) * 4 * sizes.steps * 8 * 2 * M * N * K,
    shader: {
      enables: [
        'subgroups',
        'chromium_experimental_subgroup_matrix',
        ...(component === 'f16' ? ['f16'] : []),
      ],
      quietDiagnostics: ['chromium.subgroup_matrix_uniformity'],
      constants: {
        STEPS: sizes.steps,
        MMA_M: M,
        MMA_N: N,
        MMA_K: K,
        STRIDE: (K * (component === 'f16' ? 2 : 1)) / 8,
        SUBGROUP_SIZE: lanes,
      },
      aliases: { COMPONENT: component, RESULT: result },
    },
  }));
}

async function compile({ device, caps }: Gpu, d: ProbeDescription): Promise<Probe> {
  const label = `probe_${d.ceiling}`;
  const pipeline = await getPipeline(
    device,
    composeShader({
      label,
      constants: d.steps ? { STEPS: d.steps } : {},
      modules: [{ name: `${label}.wgsl`, source: d.source }],
      ...d.shader,
    }),
  );
  const group = device.createBindGroup({
    label,
    layout: pipeline.getBindGroupLayout(0),
    entries: d.buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  const workgroups = Math.min(d.workgroups, caps.limits.maxComputeWorkgroupsPerDimension);
  return {
    label,
    ceiling: d.ceiling,
    // Where the grid is cut, so is what it does.
    amount: (d.amount * workgroups) / d.workgroups,
    encode(pass) {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(workgroups);
    },
  };
}
