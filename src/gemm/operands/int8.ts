import { InvalidArgumentError } from '../../errors.js';
import type { Gpu } from '../../gpu/gpu.js';
import { acquireScratch, type Scratch } from '../../gpu/scratch.js';
import type { ShaderDescription } from '../../gpu/shader.js';
import { type Activations, activationSpec, activationsLabel, INT8_BLOCK } from '../activations.js';
import { createQuantizer, type GpuQuantizer, type QuantizerBuffers } from '../gpu-quantizer.js';
import type { GemmProblem } from '../problem.js';
import { INT8_MODULES, X_MODULES } from '../shaders.js';
import type { Operand } from './operand.js';
import { compileStage, roundUp, Stage, type StagePipeline } from './stage.js';

/** x as int8 with a scale a block; see shaders/operands/int8_layout.wgsl. */
export interface Int8Spec {
  readonly kind: 'int8';
  /** What m and k are filled up to with zeros. */
  readonly tileM: number;
  readonly tileK: number;
}

/** Values of x that share a scale as integers. */
export function activationBlock(a: Activations): number {
  switch (a.kind) {
    case 'mxfp4':
      return a.blockSize;
    case 'nvfp4':
      return 16;
    default:
      return INT8_BLOCK;
  }
}

const WORKGROUP = 64;

/** x rounded to int8, or to FP4 by the quantizer and from there to int8, where doubled E2M1 values are exact. */
export class Int8Operand implements Operand {
  readonly x: GPUBufferBinding;
  readonly scales: GPUBufferBinding;
  readonly #conversion: Stage;
  readonly #quantizer: QuantizerStage | undefined;
  readonly #scratch: readonly Scratch[];

  private constructor(x: Scratch, scales: Scratch, conversion: Stage, quantizer: QuantizerStage | undefined) {
    this.x = { buffer: x.buffer };
    this.scales = { buffer: scales.buffer };
    this.#scratch = [x, scales];
    this.#conversion = conversion;
    this.#quantizer = quantizer;
  }

  static async create(gpu: Gpu, spec: Int8Spec, p: GemmProblem): Promise<Int8Operand> {
    const rows = roundUp(p.m, spec.tileM);
    const cols = roundUp(p.k, spec.tileK);
    const [pipeline, quantizer] = await Promise.all([
      compileStage(gpu, describeConversion(p)),
      QuantizerStage.create(gpu, p),
    ]);
    const x = acquireScratch(gpu.device, 'int8 x', rows * cols);
    const scales = acquireScratch(
      gpu.device,
      'int8 x scales',
      (rows * cols * 4) / activationBlock(p.activations),
    );
    const outputs = [x.buffer, scales.buffer, ...(quantizer?.scaleBuffers ?? [])];
    const conversion = new Stage(gpu, pipeline, {
      label: 'int8 x',
      uniform: [p.m, p.k, rows, cols],
      workgroups: Math.ceil((rows * cols) / 32 / WORKGROUP),
      buffers: outputs,
    });
    return new Int8Operand(x, scales, conversion, quantizer);
  }

  encode(pass: GPUComputePassEncoder, x: GPUBufferBinding): void {
    this.#conversion.encode(pass, this.#quantizer ? this.#quantizer.encode(pass, x) : x);
  }

  destroy(): void {
    this.#conversion.destroy();
    this.#quantizer?.destroy();
    for (const scratch of this.#scratch) scratch.release();
  }
}

/** x rounded to FP4 and back to f32 rows: FP4 activations for kernels that multiply floats. */
export class Fp4Rows {
  readonly #rows: Scratch;
  readonly #quantizer: QuantizerStage;
  readonly #conversion: Stage;

  private constructor(gpu: Gpu, p: GemmProblem, quantizer: QuantizerStage, pipeline: StagePipeline) {
    this.#quantizer = quantizer;
    this.#rows = acquireScratch(gpu.device, 'fp4 rows', p.m * p.k * 4);
    this.#conversion = new Stage(gpu, pipeline, {
      label: 'fp4 rows',
      uniform: [p.m, p.k],
      workgroups: Math.ceil((p.m * p.k) / 8 / WORKGROUP),
      buffers: [this.#rows.buffer, undefined, ...quantizer.scaleBuffers],
    });
  }

  /** @throws InvalidArgumentError where the problem's activations are not FP4 */
  static async create(gpu: Gpu, p: GemmProblem): Promise<Fp4Rows> {
    const { activations } = p;
    const { scaleMxfp4, scaleNvfp4, macroMbs, macroNone, fp4Rows } = INT8_MODULES;
    const X_MACRO =
      activations.kind === 'mxfp4' && activations.macroScale !== 'none' ? activations.macroSize : undefined;
    const shader: ShaderDescription = {
      label: `fp4_rows.${activationsLabel(activations)}`,
      constants: { WORKGROUP, X_BLOCK: activationBlock(activations), ...(X_MACRO && { X_MACRO }) },
      modules:
        activations.kind === 'nvfp4'
          ? [scaleNvfp4, fp4Rows]
          : [scaleMxfp4, X_MACRO ? macroMbs : macroNone, fp4Rows],
    };
    const [pipeline, quantizer] = await Promise.all([
      compileStage(gpu, shader),
      QuantizerStage.create(gpu, p),
    ]);
    if (!quantizer) throw new InvalidArgumentError('gemm', `activations ${activations.kind} are not FP4`);
    return new Fp4Rows(gpu, p, quantizer, pipeline);
  }

  /** Where the f32 rows are. */
  get rows(): GPUBufferBinding {
    return { buffer: this.#rows.buffer };
  }

  /** Adds the rounding of x to the pass and returns the rows. */
  encode(pass: GPUComputePassEncoder, x: GPUBufferBinding): GPUBufferBinding {
    this.#conversion.encode(pass, this.#quantizer.encode(pass, x));
    return this.rows;
  }

  destroy(): void {
    this.#quantizer.destroy();
    this.#conversion.destroy();
    this.#rows.release();
  }
}

function describeConversion(p: GemmProblem): ShaderDescription {
  const { activations } = p;
  const label = `int8.${activationsLabel(activations)}.${p.x}`;
  const X_BLOCK = activationBlock(activations);
  const { layout, words, round, expand, decode, scaleMxfp4, scaleNvfp4, macroMbs, macroNone } = INT8_MODULES;
  switch (activations.kind) {
    case 'mxfp4': {
      const X_MACRO = activations.macroScale === 'none' ? undefined : activations.macroSize;
      return {
        label,
        constants: { WORKGROUP, X_BLOCK, ...(X_MACRO && { X_MACRO }) },
        modules: [layout, decode, scaleMxfp4, X_MACRO ? macroMbs : macroNone, expand],
      };
    }
    case 'nvfp4':
      return { label, constants: { WORKGROUP, X_BLOCK }, modules: [layout, decode, scaleNvfp4, expand] };
    default:
      return { label, constants: { WORKGROUP }, modules: [X_MODULES[p.x], layout, words, round] };
  }
}

/** x in FP4, in scratch buffers. */
class QuantizerStage {
  /** What block scales are made of: their bytes, and macro factors or the tensor's scale. */
  readonly scaleBuffers: readonly GPUBuffer[];
  readonly #quantizer: GpuQuantizer;
  readonly #widening: Stage | undefined;
  readonly #wide: GPUBufferBinding | undefined;
  readonly #outputs: Omit<QuantizerBuffers, 'x'> & { readonly codes: GPUBuffer };
  readonly #scratch: readonly Scratch[];

  private constructor(gpu: Gpu, quantizer: GpuQuantizer, p: GemmProblem, widening?: StagePipeline) {
    const scratch: Scratch[] = [];
    const acquire = (name: string, bytes: number) => {
      scratch.push(acquireScratch(gpu.device, `int8 x ${name}`, roundUp(bytes, 4)));
      return scratch.at(-1)!.buffer;
    };
    const { rows, cols, format, blockSize, macroScale, macroSize } = quantizer.spec;
    const scales = acquire('block scales', (rows * cols) / blockSize);
    const macroScales =
      macroScale === 'none' ? undefined : acquire('macro factors', rows * Math.ceil(cols / macroSize));
    const globalScale = format === 'nvfp4' ? acquire('tensor scale', 4) : undefined;
    this.#outputs = {
      codes: acquire('codes', (rows * cols) / 2),
      scales,
      macroScales,
      globalScale,
      status: acquire('status', 4),
    };
    this.scaleBuffers = [scales, macroScales, globalScale].filter((buffer) => buffer !== undefined);
    if (widening) {
      const buffer = acquire('f32', p.m * p.k * 4);
      const vectors = (p.m * p.k) / 4;
      this.#wide = { buffer };
      this.#widening = new Stage(gpu, widening, {
        label: 'x as f32',
        uniform: [vectors],
        workgroups: Math.ceil(vectors / WORKGROUP),
        buffers: [buffer],
      });
    }
    this.#quantizer = quantizer;
    this.#scratch = scratch;
  }

  static async create(gpu: Gpu, p: GemmProblem): Promise<QuantizerStage | undefined> {
    const { activations, m, k } = p;
    if (activations.kind === 'float' || activations.kind === 'int8') return undefined;
    const [quantizer, widening] = await Promise.all([
      createQuantizer(gpu, activationSpec(activations, m, k)),
      p.x === 'f16' ? compileStage(gpu, WIDENING) : undefined,
    ]);
    return new QuantizerStage(gpu, quantizer, p, widening);
  }

  /** Adds the quantization to a pass and returns where the codes are. */
  encode(pass: GPUComputePassEncoder, x: GPUBufferBinding): GPUBufferBinding {
    this.#widening?.encode(pass, x);
    this.#quantizer.encode(pass, { x: this.#wide ?? x, ...this.#outputs });
    return { buffer: this.#outputs.codes };
  }

  destroy(): void {
    this.#quantizer.destroy();
    this.#widening?.destroy();
    for (const scratch of this.#scratch) scratch.release();
  }
}

const WIDENING: ShaderDescription = {
  label: 'widen',
  constants: { WORKGROUP },
  modules: [X_MODULES.f16, INT8_MODULES.widen],
};
