import { BufferUsage } from '../gpu/constants.js';
import type { Gpu } from '../gpu/gpu.js';
import { foldGrid } from '../gpu/grid.js';
import { getPipeline } from '../gpu/pipeline.js';
import { composeShader, type ShaderModuleText } from '../gpu/shader.js';
import { CHUNK, type MatrixShape, ROW_BLOCK } from '../matrix/pack.js';
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
/** Threads that look for the largest scale among a word's rows. */
const ROW_LANES = 16;

type Pipelines = Readonly<Record<'codes' | 'bytes' | 'rowMax', GPUComputePipeline>>;

/** Brings canonical bytes that are on the GPU to kernel order: the bytes of `pack`. */
export class Packer {
  readonly #gpu: Gpu;
  readonly #shape: Omit<MatrixShape, 'rows'>;
  readonly #pipelines: Pipelines;

  private constructor(gpu: Gpu, shape: Omit<MatrixShape, 'rows'>, pipelines: Pipelines) {
    this.#gpu = gpu;
    this.#shape = shape;
    this.#pipelines = pipelines;
  }

  static async create(gpu: Gpu, shape: Omit<MatrixShape, 'rows'>): Promise<Packer> {
    const compile = (label: string, main: ShaderModuleText, constants: Record<string, number>) =>
      getPipeline(gpu.device, composeShader({ label, constants, modules: [PACK_MODULES.problem, main] }));
    const [codes, bytes, rowMax] = await Promise.all([
      compile('pack_codes', PACK_MODULES.codes, { WORKGROUP }),
      compile('pack_bytes', PACK_MODULES.bytes, { WORKGROUP }),
      compile('pack_row_max', PACK_MODULES.rowMax, { LANES: ROW_LANES }),
    ]);
    return new Packer(gpu, shape, { codes, bytes, rowMax });
  }

  /**
   * Adds the packing of `rows` rows, from row `firstRow` of `from` on, a multiple of {@link ROW_BLOCK}, which is
   * word-aligned in every field.
   * @returns buffers to be destroyed after the submit
   */
  encode(
    encoder: GPUCommandEncoder,
    from: CanonicalBuffers,
    to: PackedBuffers,
    firstRow: number,
    rows: number,
  ): GPUBuffer[] {
    const { device } = this.#gpu;
    const { cols, blockSize, macroSize } = this.#shape;
    const { codes, bytes, rowMax } = this.#pipelines;
    const uniforms: GPUBuffer[] = [];
    const pass = encoder.beginComputePass({ label: 'fp4 packing' });
    const run = (
      pipeline: GPUComputePipeline,
      source: { readonly binding: GPUBufferBinding; readonly firstWord: number },
      buffer: GPUBuffer,
      widths: readonly [from: number, to: number],
      workgroups: number,
    ) => {
      const uniform = device.createBuffer({
        label: 'fp4 packing',
        size: 16,
        usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST,
      });
      uniforms.push(uniform);
      device.queue.writeBuffer(uniform, 0, Uint32Array.of(rows, ...widths, source.firstWord));
      pass.setPipeline(pipeline);
      pass.setBindGroup(
        0,
        device.createBindGroup({
          label: 'fp4 packing',
          layout: pipeline.getBindGroupLayout(0),
          entries: [{ buffer: uniform }, source.binding, { buffer }].map((resource, binding) => ({
            binding,
            resource,
          })),
        }),
      );
      pass.dispatchWorkgroups(...foldGrid(workgroups, device.limits.maxComputeWorkgroupsPerDimension));
    };
    // Bindings begin where the device lets them, the rows some words later.
    const alignment = device.limits.minStorageBufferOffsetAlignment;
    const range = (buffer: GPUBuffer, bytesPerRow: number) => {
      const start = firstRow * bytesPerRow;
      const offset = start - (start % alignment);
      const size = Math.ceil((start + rows * bytesPerRow - offset) / 4) * 4;
      return { binding: { buffer, offset, size }, firstWord: (start - offset) / 4 };
    };
    const packBytes = (source: GPUBuffer, target: GPUBuffer, width: number, packedWidth: number) => {
      const words = (Math.ceil(rows / ROW_BLOCK) * ROW_BLOCK * packedWidth) / 4;
      const workgroups = Math.ceil(words / WORKGROUP);
      run(bytes, range(source, width), target, [width, packedWidth], workgroups);
    };

    const chunks = Math.ceil(cols / CHUNK);
    const blocks = (chunks * CHUNK) / blockSize;
    // A workgroup takes eight rows and eight chunks.
    const patches = ((Math.ceil(rows / ROW_BLOCK) * ROW_BLOCK) / 8) * Math.ceil(chunks / 8);
    run(codes, range(from.codes, cols / 2), to.codes, [cols / 16, chunks], patches);
    packBytes(from.scales, to.scales, cols / blockSize, blocks);
    if (from.macroScales && to.macroScales && macroSize) {
      const macros = Math.ceil(cols / macroSize);
      packBytes(from.macroScales, to.macroScales, macros, macros);
    }
    const packedScales = { binding: { buffer: to.scales }, firstWord: 0 };
    run(rowMax, packedScales, to.rowMax, [0, blocks], Math.ceil(rows / ROW_BLOCK));
    pass.end();
    return uniforms;
  }
}

/** Bytes of each canonical field of some rows. */
export function canonicalSizes({ rows, cols, blockSize, macroSize }: MatrixShape) {
  return {
    codes: (rows * cols) / 2,
    scales: (rows * cols) / blockSize,
    macroScales: macroSize ? rows * Math.ceil(cols / macroSize) : 0,
  };
}
