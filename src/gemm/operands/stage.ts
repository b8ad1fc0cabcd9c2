/** What conversions of x have in common: one dispatch, and scratch buffers for what comes of it. */
import { BindingCache } from '../../gpu/bindings.js';
import type { Gpu } from '../../gpu/gpu.js';
import { foldGrid } from '../../gpu/grid.js';
import { getPipeline } from '../../gpu/pipeline.js';
import type { Scratch } from '../../gpu/scratch.js';
import { composeShader, type ShaderDescription } from '../../gpu/shader.js';
import { UniformData, type UniformSource } from '../../gpu/uniform-data.js';
import { CONVERSION_MODULES } from '../shaders.js';
import type { Operand } from './operand.js';

export interface StageDescription {
  readonly label: string;
  /** Up to four words. */
  readonly uniform: readonly number[];
  /** Before they are folded into the grid's limits. */
  readonly workgroups: number;
  /** Bound from 2 on; a number is left out for undefined. */
  readonly buffers: readonly (GPUBuffer | undefined)[];
}

/** A stage's shader, and where that looks for the uniform words. */
export interface StagePipeline {
  readonly pipeline: GPUComputePipeline;
  readonly source: UniformSource;
}

/** Compiles a shader that declares the struct `Conversion` and reads `conversion`, which this adds. */
export async function compileStage(gpu: Gpu, shader: ShaderDescription): Promise<StagePipeline> {
  const source = await gpu.uniformSource();
  const modules = [CONVERSION_MODULES[source], ...shader.modules];
  return { pipeline: await getPipeline(gpu.device, composeShader({ ...shader, modules })), source };
}

/** One dispatch from x, which changes, to buffers that stay: bound as uniform, x, and the buffers. */
export class Stage {
  readonly #gpu: Gpu;
  readonly #pipeline: GPUComputePipeline;
  readonly #label: string;
  readonly #uniform: UniformData;
  readonly #buffers: readonly (GPUBuffer | undefined)[];
  readonly #workgroups: readonly [number, number];
  readonly #bindGroups = new BindingCache<GPUBindGroup>();

  constructor(
    gpu: Gpu,
    { pipeline, source }: StagePipeline,
    { label, uniform, workgroups, buffers }: StageDescription,
  ) {
    const { device } = gpu;
    this.#gpu = gpu;
    this.#pipeline = pipeline;
    this.#label = `fp4 ${label}`;
    this.#buffers = buffers;
    this.#workgroups = foldGrid(workgroups, device.limits.maxComputeWorkgroupsPerDimension);
    this.#uniform = new UniformData(device, this.#label, Uint32Array.from(uniform), source);
  }

  /** Adds the dispatch to a pass; the bind group of an x seen before is reused. */
  encode(pass: GPUComputePassEncoder, x: GPUBufferBinding): void {
    pass.setPipeline(this.#pipeline);
    this.#uniform.encode(pass);
    pass.setBindGroup(0, this.#bindGroup(x));
    pass.dispatchWorkgroups(...this.#workgroups);
  }

  destroy(): void {
    this.#uniform.destroy();
  }

  #bindGroup(x: GPUBufferBinding): GPUBindGroup {
    return this.#bindGroups.get(x, [], () => {
      const bound = [this.#uniform.buffer, x, ...this.#buffers];
      return this.#gpu.device.createBindGroup({
        label: this.#label,
        layout: this.#pipeline.getBindGroupLayout(0),
        entries: bound.flatMap((resource, binding) =>
          resource ? [{ binding, resource: 'buffer' in resource ? resource : { buffer: resource } }] : [],
        ),
      });
    });
  }
}

/**
 * Threads that take a row of x together, and how often each of them holds eight of its values
 * (shaders/operands/row_values.wgsl): as many threads as the device has and the row needs.
 */
export function rowThreads({ device: { limits } }: Gpu, cols: number): { WORKGROUP: number; HELD: number } {
  const eights = Math.ceil(cols / 8);
  const most = Math.min(limits.maxComputeInvocationsPerWorkgroup, limits.maxComputeWorkgroupSizeX);
  const HELD = Math.ceil(eights / most);
  return { WORKGROUP: Math.min(roundUp(Math.ceil(eights / HELD), 32), most), HELD };
}

/** An operand that one stage makes. */
export class StagedOperand implements Operand {
  readonly x: GPUBufferBinding;
  readonly scales: GPUBufferBinding;
  readonly #stage: Stage;
  readonly #scratch: readonly Scratch[];

  /** Takes over the scratch buffers: what the stage writes, as bindings 2 and 3. */
  constructor(
    gpu: Gpu,
    pipeline: StagePipeline,
    x: Scratch,
    scales: Scratch,
    description: Omit<StageDescription, 'buffers'>,
  ) {
    this.x = { buffer: x.buffer };
    this.scales = { buffer: scales.buffer };
    this.#scratch = [x, scales];
    this.#stage = new Stage(gpu, pipeline, { ...description, buffers: [x.buffer, scales.buffer] });
  }

  encode(pass: GPUComputePassEncoder, x: GPUBufferBinding): void {
    this.#stage.encode(pass, x);
  }

  destroy(): void {
    this.#stage.destroy();
    for (const scratch of this.#scratch) scratch.release();
  }
}

export const roundUp = (value: number, step: number) => Math.ceil(value / step) * step;
