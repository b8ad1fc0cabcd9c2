/** What conversions of x have in common: one dispatch, and scratch buffers for what comes of it. */
import { BindingCache } from '../../gpu/bindings.js';
import { BufferUsage } from '../../gpu/constants.js';
import type { Gpu } from '../../gpu/gpu.js';
import { foldGrid } from '../../gpu/grid.js';
import type { Scratch } from '../../gpu/scratch.js';
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

/** One dispatch from x, which changes, to buffers that stay: bound as uniform, x, and the buffers. */
export class Stage {
  readonly #gpu: Gpu;
  readonly #pipeline: GPUComputePipeline;
  readonly #label: string;
  readonly #uniform: GPUBuffer;
  readonly #buffers: readonly (GPUBuffer | undefined)[];
  readonly #workgroups: readonly [number, number];
  readonly #bindGroups = new BindingCache<GPUBindGroup>();

  constructor(
    gpu: Gpu,
    pipeline: GPUComputePipeline,
    { label, uniform, workgroups, buffers }: StageDescription,
  ) {
    const { device } = gpu;
    this.#gpu = gpu;
    this.#pipeline = pipeline;
    this.#label = `fp4 ${label}`;
    this.#buffers = buffers;
    this.#workgroups = foldGrid(workgroups, device.limits.maxComputeWorkgroupsPerDimension);
    this.#uniform = device.createBuffer({
      label: this.#label,
      size: 16,
      usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST,
    });
    device.queue.writeBuffer(this.#uniform, 0, Uint32Array.from(uniform));
  }

  /** Adds the dispatch to a pass; the bind group of an x seen before is reused. */
  encode(pass: GPUComputePassEncoder, x: GPUBufferBinding): void {
    pass.setPipeline(this.#pipeline);
    pass.setBindGroup(0, this.#bindGroup(x));
    pass.dispatchWorkgroups(...this.#workgroups);
  }

  destroy(): void {
    this.#uniform.destroy();
  }

  #bindGroup(x: GPUBufferBinding): GPUBindGroup {
    return this.#bindGroups.get(x, [], () => {
      const own = this.#buffers.flatMap((buffer, i) =>
        buffer ? [{ binding: i + 2, resource: { buffer } }] : [],
      );
      return this.#gpu.device.createBindGroup({
        label: this.#label,
        layout: this.#pipeline.getBindGroupLayout(0),
        entries: [{ binding: 0, resource: { buffer: this.#uniform } }, { binding: 1, resource: x }, ...own],
      });
    });
  }
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
    pipeline: GPUComputePipeline,
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
