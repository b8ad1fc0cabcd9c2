import { BindingCache } from '../../gpu/bindings.js';
import { BufferUsage } from '../../gpu/constants.js';
import type { Gpu } from '../../gpu/gpu.js';
import { foldGrid } from '../../gpu/grid.js';
import { getPipeline } from '../../gpu/pipeline.js';
import { acquireScratch, type Scratch } from '../../gpu/scratch.js';
import { composeShader } from '../../gpu/shader.js';
import type { GemmProblem } from '../problem.js';
import { HALF_FRAGMENTS, X_MODULES } from '../shaders.js';
import type { Operand } from './operand.js';

/** x as f16 fragments of a subgroup matrix; see shaders/operands/half_fragments.wgsl. */
export interface HalfFragmentsSpec {
  readonly kind: 'half-fragments';
  /** Rows and columns of a fragment. */
  readonly fragmentM: number;
  readonly fragmentK: number;
  /** What m and k are filled up to with zeros. */
  readonly tileM: number;
  readonly tileK: number;
}

const WORKGROUP = 256;

const roundUp = (value: number, step: number) => Math.ceil(value / step) * step;

export class HalfFragments implements Operand {
  readonly x: GPUBufferBinding;
  readonly scales: GPUBufferBinding;
  readonly #gpu: Gpu;
  readonly #pipeline: GPUComputePipeline;
  readonly #uniform: GPUBuffer;
  readonly #scratch: readonly Scratch[];
  readonly #workgroups: readonly [number, number];
  readonly #bindGroups = new BindingCache<GPUBindGroup>();

  private constructor(gpu: Gpu, pipeline: GPUComputePipeline, spec: HalfFragmentsSpec, p: GemmProblem) {
    const { device } = gpu;
    const rows = roundUp(p.m, spec.tileM);
    const cols = roundUp(p.k, spec.tileK);
    this.#gpu = gpu;
    this.#pipeline = pipeline;
    this.#workgroups = foldGrid(rows, device.limits.maxComputeWorkgroupsPerDimension);
    this.#scratch = [
      acquireScratch(device, 'x fragments', rows * cols * 2),
      acquireScratch(device, 'x scales', rows * 4),
    ];
    [this.x, this.scales] = this.#scratch.map(({ buffer }) => ({ buffer })) as [
      GPUBufferBinding,
      GPUBufferBinding,
    ];
    this.#uniform = device.createBuffer({
      label: 'fp4 half fragments',
      size: 16,
      usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST,
    });
    device.queue.writeBuffer(this.#uniform, 0, Uint32Array.of(p.m, p.k, rows, cols));
  }

  static async create(gpu: Gpu, spec: HalfFragmentsSpec, p: GemmProblem): Promise<HalfFragments> {
    const shader = composeShader({
      label: `half_fragments.${p.x}.${spec.fragmentM}x${spec.fragmentK}`,
      constants: { WORKGROUP, FRAGMENT_M: spec.fragmentM, FRAGMENT_K: spec.fragmentK },
      modules: [X_MODULES[p.x], HALF_FRAGMENTS],
    });
    return new HalfFragments(gpu, await getPipeline(gpu.device, shader), spec, p);
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
        label: 'fp4 half fragments',
        layout: this.#pipeline.getBindGroupLayout(0),
        entries: [{ buffer: this.#uniform }, x, this.x, this.scales].map((resource, binding) => ({
          binding,
          resource,
        })),
      }),
    );
  }
}
