import { BufferUsage } from '../gpu/constants.js';
import type { Gpu } from '../gpu/gpu.js';
import { foldGrid } from '../gpu/grid.js';
import { getPipeline } from '../gpu/pipeline.js';
import { composeShader, type ShaderModuleText } from '../gpu/shader.js';
import { CHUNK, type MatrixShape, packedSizes } from '../matrix/pack.js';
import { PACK_MODULES } from './shaders.js';

/** Canonical bytes of some rows of a matrix, on the GPU. */
export interface CanonicalBuffers {
  readonly codes: GPUBuffer;
  readonly scales: GPUBuffer;
  readonly macroScales?: GPUBuffer | undefined;
}

/** Kernel order of some rows, see src/matrix/pack.ts. */
export interface PackedBuffers extends CanonicalBuffers {
  readonly rowMax: GPUBuffer;
}

const WORKGROUP = 64;
/** Threads that look for a row's largest scale; a workgroup takes four rows. */
const ROW_LANES = 16;

/** Brings canonical bytes that are on the GPU to kernel order: the bytes of `pack`. */
export class Packer {
  readonly #gpu: Gpu;
  readonly #shape: Omit<MatrixShape, 'rows'>;
  readonly #codes: GPUComputePipeline;
  readonly #scales: GPUComputePipeline | undefined;
  readonly #rowMax: GPUComputePipeline;

  private constructor(
    gpu: Gpu,
    shape: Omit<MatrixShape, 'rows'>,
    [codes, rowMax, scales]: readonly [GPUComputePipeline, GPUComputePipeline, GPUComputePipeline?],
  ) {
    this.#gpu = gpu;
    this.#shape = shape;
    this.#codes = codes;
    this.#rowMax = rowMax;
    this.#scales = scales;
  }

  static async create(gpu: Gpu, shape: Omit<MatrixShape, 'rows'>): Promise<Packer> {
    const compile = (
      label: string,
      main: ShaderModuleText,
      constants: Record<string, number> = { WORKGROUP },
    ) => getPipeline(gpu.device, composeShader({ label, constants, modules: [PACK_MODULES.problem, main] }));
    const BLOCK_SIZE = shape.blockSize;
    const pipelines = await Promise.all([
      compile('pack_codes', PACK_MODULES.codes),
      compile(`pack_row_max.b${BLOCK_SIZE}`, PACK_MODULES.rowMax, { BLOCK_SIZE, LANES: ROW_LANES }),
      ...(padsScales(shape) ? [compile('pack_scales', PACK_MODULES.scales)] : []),
    ] as const);
    return new Packer(gpu, shape, pipelines as [GPUComputePipeline, GPUComputePipeline, GPUComputePipeline?]);
  }

  /**
   * Adds the packing of `rows` rows, from row `firstRow` of `from` on, a multiple of four, which is word-aligned in every
   * field. What is the same buffer in `from` and `to`, such as scales that need no padding, stays as it is.
   * @returns a buffer to be destroyed after the submit
   */
  encode(
    encoder: GPUCommandEncoder,
    from: CanonicalBuffers,
    to: PackedBuffers,
    firstRow: number,
    rows: number,
  ): GPUBuffer {
    const { device } = this.#gpu;
    const { cols, blockSize, macroSize } = this.#shape;
    const copy = (source: GPUBuffer, destination: GPUBuffer, bytesPerRow: number) => {
      if (source === destination) return;
      const bytes = Math.ceil((rows * bytesPerRow) / 4) * 4;
      encoder.copyBufferToBuffer(source, firstRow * bytesPerRow, destination, 0, bytes);
    };
    if (from.macroScales && to.macroScales && macroSize) {
      copy(from.macroScales, to.macroScales, Math.ceil(cols / macroSize));
    }
    if (!this.#scales) copy(from.scales, to.scales, cols / blockSize);

    // Bindings begin where the device lets them, the rows some words later.
    const alignment = device.limits.minStorageBufferOffsetAlignment;
    const range = (buffer: GPUBuffer, bytesPerRow: number) => {
      const start = firstRow * bytesPerRow;
      const offset = start - (start % alignment);
      const size = Math.ceil((start + rows * bytesPerRow - offset) / 4) * 4;
      return { binding: { buffer, offset, size }, firstWord: (start - offset) / 4 };
    };
    const codes = range(from.codes, cols / 2);
    const scales = range(from.scales, cols / blockSize);
    const uniform = device.createBuffer({
      label: 'fp4 packing',
      size: 16,
      usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST,
    });
    device.queue.writeBuffer(uniform, 0, Uint32Array.of(rows, cols, codes.firstWord, scales.firstWord));

    const most = device.limits.maxComputeWorkgroupsPerDimension;
    const pass = encoder.beginComputePass({ label: 'fp4 packing' });
    const run = (
      pipeline: GPUComputePipeline,
      source: GPUBufferBinding,
      buffer: GPUBuffer,
      workgroups: number,
    ) => {
      pass.setPipeline(pipeline);
      pass.setBindGroup(
        0,
        device.createBindGroup({
          label: 'fp4 packing',
          layout: pipeline.getBindGroupLayout(0),
          entries: [{ buffer: uniform }, source, { buffer }].map((resource, binding) => ({
            binding,
            resource,
          })),
        }),
      );
      pass.dispatchWorkgroups(...foldGrid(workgroups, most));
    };
    const chunks = rows * Math.ceil(cols / CHUNK);
    run(this.#codes, codes.binding, to.codes, Math.ceil(chunks / WORKGROUP));
    if (this.#scales) {
      const words = packedSizes({ ...this.#shape, rows }).scales / 4;
      run(this.#scales, scales.binding, to.scales, Math.ceil(words / WORKGROUP));
    }
    run(this.#rowMax, { buffer: to.scales }, to.rowMax, Math.ceil(rows / 4));
    pass.end();
    return uniform;
  }
}

/** Whether rows of block scales are wider in kernel order. */
export function padsScales({ cols, blockSize }: Pick<MatrixShape, 'cols' | 'blockSize'>): boolean {
  return cols % CHUNK !== 0 && blockSize < CHUNK;
}
