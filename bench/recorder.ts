/** What a product encodes, taken down and played back in parts. */
import { UnsupportedError } from '../src/errors.js';
import type { Gemm } from '../src/gemm/gemm.js';

/** One dispatch with what it needs. */
interface Dispatch {
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  /** What `setImmediates` was last given. */
  readonly immediates: Immediates | undefined;
  readonly workgroups: readonly [number, number, number];
}

type Immediates = readonly [offset: number, data: ArrayBuffer];

/** Takes the place of a compute pass; holds what a dispatch depends on, and refuses what it does not know. */
class RecordingPass {
  readonly dispatches: Dispatch[] = [];
  #pipeline: GPUComputePipeline | undefined;
  #group: GPUBindGroup | undefined;
  #immediates: Immediates | undefined;

  setPipeline(pipeline: GPUComputePipeline): void {
    this.#pipeline = pipeline;
  }

  setBindGroup(index: number, group: GPUBindGroup, ...offsets: unknown[]): void {
    if (index !== 0 || offsets.length)
      throw new UnsupportedError('bench', 'only bind group 0 can be recorded');
    this.#group = group;
  }

  setImmediates(offset: number, data: ArrayBuffer, ...part: unknown[]): void {
    if (offset !== 0 || part.length)
      throw new UnsupportedError('bench', 'only whole immediates can be recorded');
    this.#immediates = [offset, data];
  }

  dispatchWorkgroups(x: number, y = 1, z = 1): void {
    this.dispatches.push({
      pipeline: this.#pipeline!,
      group: this.#group!,
      immediates: this.#immediates,
      workgroups: [x, y, z],
    });
  }
}

/** The dispatches that make x ready, and those of the product. */
export interface Parts {
  readonly conversion: readonly Dispatch[];
  /** The kernel, and adding up its parts of k, in their order. */
  readonly product: readonly Dispatch[];
  /** Of the product, the kernel alone. */
  readonly kernel: readonly Dispatch[];
  /** Of the product, adding up parts of k; none where k is not split. The epilogue is there then. */
  readonly reduction: readonly Dispatch[];
}

/** Tells them apart by label, which begins with the kernel's id. Undefined where the product encodes anything else. */
export function recordParts(gemm: Gemm, encode: (pass: GPUComputePassEncoder) => void): Parts | undefined {
  const pass = new RecordingPass();
  try {
    encode(pass as unknown as GPUComputePassEncoder);
  } catch (error) {
    // A pass lacks a method that is newer than this file: parts are then not measured apart.
    if (error instanceof TypeError || error instanceof UnsupportedError) return undefined;
    throw error;
  }
  const ofKernel = ({ pipeline }: Dispatch) => pipeline.label.startsWith(`${gemm.plan.kernel}.`);
  const ofReduction = ({ pipeline }: Dispatch) => pipeline.label.startsWith('reduce_');
  const ofProduct = (dispatch: Dispatch) => ofKernel(dispatch) || ofReduction(dispatch);
  return {
    conversion: pass.dispatches.filter((dispatch) => !ofProduct(dispatch)),
    product: pass.dispatches.filter(ofProduct),
    kernel: pass.dispatches.filter(ofKernel),
    reduction: pass.dispatches.filter(ofReduction),
  };
}

export function replay(pass: GPUComputePassEncoder, dispatches: readonly Dispatch[]): void {
  for (const { pipeline, group, immediates, workgroups } of dispatches) {
    pass.setPipeline(pipeline);
    if (immediates) pass.setImmediates(...immediates);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(...workgroups);
  }
}
