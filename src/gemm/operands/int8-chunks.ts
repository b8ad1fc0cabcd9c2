import { BindingCache } from '../../gpu/bindings.js';
import { BufferUsage } from '../../gpu/constants.js';
import type { Gpu } from '../../gpu/gpu.js';
import { foldGrid } from '../../gpu/grid.js';
import { getPipeline } from '../../gpu/pipeline.js';
import { acquireScratch, type Scratch } from '../../gpu/scratch.js';
import { composeShader } from '../../gpu/shader.js';
import type { GemmProblem } from '../problem.js';
import { INT8_CHUNKS, X_MODULES } from '../shaders.js';
import type { Operand } from './operand.js';

/** x as int8 with a scale for each row and stretch of k; see shaders/operands/int8_chunks.wgsl. */
export interface Int8ChunksSpec {
  readonly kind: 'int8-chunks';
  /** Values that share a scale: a multiple of `tileK`. */
  readonly chunkK: number;
  /** What k is filled up to with zeros. */
  readonly tileK: number;
}

const WORKGROUP = 256;

export class Int8Chunks implements Operand {
  readonly x: GPUBufferBinding;
  readonly scales: GPUBufferBinding;
  readonly #gpu: Gpu;
  readonly #pipeline: GPUComputePipeline;
  readonly #uniform: GPUBuffer;
  readonly #scratch: readonly Scratch[];
  readonly #workgroups: readonly [number, number];
  readonly #bindGroups = new BindingCache<GPUBindGroup>();

  private constructor(gpu: Gpu, pipeline: GPUComputePipeline, spec: Int8ChunksSpec, p: GemmProblem) {
    const { device } = gpu;
    const cols = Math.ceil(p.k / spec.tileK) * spec.tileK;
    const stretches = p.m * Math.ceil(p.k / spec.chunkK);
    this.#gpu = gpu;
    this.#pipeline = pipeline;
    this.#workgroups = foldGrid(stretches, device.limits.maxComputeWorkgroupsPerDimension);
    const x = acquireScratch(device, 'int8 chunks of x', p.m * cols);
    const scales = acquireScratch(device, 'int8 chunk scales of x', stretches * 4);
    this.#scratch = [x, scales];
    this.x = { buffer: x.buffer };
    this.scales = { buffer: scales.buffer };
    this.#uniform = device.createBuffer({
      label: 'fp4 int8 chunks',
      size: 16,
      usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST,
    });
    device.queue.writeBuffer(this.#uniform, 0, Uint32Array.of(p.m, p.k, cols, 0));
  }

  static async create(gpu: Gpu, spec: Int8ChunksSpec, p: GemmProblem): Promise<Int8Chunks> {
    const shader = composeShader({
      label: `int8_chunks.${p.x}.${spec.chunkK}`,
      enables: ['subgroups'],
      constants: { WORKGROUP, CHUNK_K: spec.chunkK },
      modules: [X_MODULES[p.x], INT8_CHUNKS],
    });
    return new Int8Chunks(gpu, await getPipeline(gpu.device, shader), spec, p);
  }

  encode(pass: GPUComputePassEncoder, x: GPUBufferBinding): void {
    pass.setPipeline(this.#pipeline);
    pass.setBindGroup(0, this.#bindGroup(x));
    pass.dispatchWorkgroups(...this.#workgroups);
  }

  destroy(): void {
    this.#uniform.destroy();
    for (const scratch of this.#scratch) scratch.release();
  }

  #bindGroup(x: GPUBufferBinding): GPUBindGroup {
    return this.#bindGroups.get(x, [], () =>
      this.#gpu.device.createBindGroup({
        label: 'fp4 int8 chunks',
        layout: this.#pipeline.getBindGroupLayout(0),
        entries: [{ buffer: this.#uniform }, x, this.x, this.scales].map((resource, binding) => ({
          binding,
          resource,
        })),
      }),
    );
  }
}
