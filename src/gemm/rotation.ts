import { BindingCache } from '../gpu/bindings.js';
import { asBinding, type BufferSlice } from '../gpu/buffers.js';
import { BufferUsage } from '../gpu/constants.js';
import type { Gpu } from '../gpu/gpu.js';
import { foldGrid } from '../gpu/grid.js';
import { getPipeline } from '../gpu/pipeline.js';
import { acquireScratch, type Scratch } from '../gpu/scratch.js';
import { composeShader } from '../gpu/shader.js';
import { HADAMARD_SIZE } from '../quantize/hadamard.js';
import type { GemmProblem } from './problem.js';
import { HADAMARD, X_MODULES } from './shaders.js';

const WORKGROUP = 64;

/** Rotates x[m, k] by the random Hadamard transform into a buffer of its own, for weights that were rotated. */
export class Rotation {
  readonly #gpu: Gpu;
  readonly #pipeline: GPUComputePipeline;
  readonly #uniform: GPUBuffer;
  readonly #out: Scratch;
  readonly #workgroups: readonly [number, number];
  readonly #bindGroups = new BindingCache<GPUBindGroup>();

  private constructor(gpu: Gpu, pipeline: GPUComputePipeline, m: number, k: number) {
    const { device } = gpu;
    const tiles = (m * k) / HADAMARD_SIZE;
    this.#gpu = gpu;
    this.#pipeline = pipeline;
    this.#workgroups = foldGrid(Math.ceil(tiles / WORKGROUP), device.limits.maxComputeWorkgroupsPerDimension);
    this.#out = acquireScratch(device, 'rotated x', m * k * 4);
    this.#uniform = device.createBuffer({
      label: 'fp4 rotation',
      size: 16,
      usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST,
    });
    device.queue.writeBuffer(this.#uniform, 0, Uint32Array.of(tiles));
  }

  static async create(gpu: Gpu, { m, k, x }: Pick<GemmProblem, 'm' | 'k' | 'x'>): Promise<Rotation> {
    const shader = composeShader({
      label: `hadamard.${x}`,
      constants: { WORKGROUP },
      modules: [X_MODULES[x], HADAMARD],
    });
    return new Rotation(gpu, await getPipeline(gpu.device, shader), m, k);
  }

  /** Adds the rotation of x to the pass and returns the buffer that holds the result, in f32. */
  encode(pass: GPUComputePassEncoder, x: BufferSlice): GPUBuffer {
    pass.setPipeline(this.#pipeline);
    pass.setBindGroup(0, this.#bindGroup(asBinding(x)));
    pass.dispatchWorkgroups(...this.#workgroups);
    return this.#out.buffer;
  }

  destroy(): void {
    this.#uniform.destroy();
    this.#out.release();
  }

  #bindGroup(x: GPUBufferBinding): GPUBindGroup {
    return this.#bindGroups.get(x, [], () =>
      this.#gpu.device.createBindGroup({
        label: 'fp4 rotation',
        layout: this.#pipeline.getBindGroupLayout(0),
        entries: [
          { binding: 0, resource: { buffer: this.#uniform } },
          { binding: 1, resource: x },
          { binding: 2, resource: { buffer: this.#out.buffer } },
        ],
      }),
    );
  }
}
