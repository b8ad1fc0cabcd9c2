import { InvalidArgumentError, UnsupportedError } from '../errors.js';
import type { Format, MacroSize } from '../formats/formats.js';
import { BindingCache } from '../gpu/bindings.js';
import {
  alignedSize,
  type BufferSlice,
  checkBufferSize,
  checkSlice,
  createStorageBuffer,
  readBuffer,
} from '../gpu/buffers.js';
import { BufferUsage } from '../gpu/constants.js';
import type { Gpu } from '../gpu/gpu.js';
import { whileAlive } from '../gpu/loss.js';
import { getPipeline } from '../gpu/pipeline.js';
import type { QuantizedMatrix } from '../matrix/quantized-matrix.js';
import { type QuantizeOptions, type QuantizeSpec, resolveOptions } from '../quantize/options.js';
import {
  BINDINGS,
  type BindingName,
  macroThresholds,
  type QuantizerStep,
  quantizationUniform,
  quantizerSteps,
  scratchSizes,
} from './quantizer-steps.js';

/** Buffers a quantizer reads and writes, in canonical bytes; no two may be the same buffer. */
export interface QuantizerBuffers {
  /** f32[rows, cols] */
  x: BufferSlice;
  /** u8[rows, cols / 2] */
  codes: BufferSlice;
  /** u8[rows, cols / blockSize], up to a multiple of four bytes */
  scales: BufferSlice;
  /** u8[rows, ceil(cols / macroSize)], up to a multiple of four bytes; with macro factors only */
  macroScales?: BufferSlice | undefined;
  /** f32: written for nvfp4, left alone for mxfp4, whose scale is 1 */
  globalScale?: BufferSlice | undefined;
  /**
   * u32: 0, or the complement of the flat index of the first value that is NaN or Inf (of the first rotated value,
   * with `hadamard`). `encode` only ever raises it: one word serves many matrices, and whoever reads it zeroes it.
   */
  status: BufferSlice;
}

/** A matrix in FP4 on the GPU, in canonical bytes: what {@link QuantizedMatrix} is on the CPU. Owns its buffers. */
export class GpuQuantized {
  readonly format: Format;
  readonly rows: number;
  readonly cols: number;
  readonly blockSize: number;
  readonly macroSize?: MacroSize;
  readonly hadamard: boolean;
  readonly codes: GPUBuffer;
  readonly scales: GPUBuffer;
  readonly macroScales?: GPUBuffer;
  /** One f32. */
  readonly globalScale: GPUBuffer;
  /** One u32, see {@link QuantizerBuffers.status}. */
  readonly status: GPUBuffer;

  /** @internal Use {@link quantizeOnGpu} or {@link GpuQuantizer.createOutputs}. */
  constructor(device: GPUDevice, spec: QuantizeSpec, label: string) {
    this.format = spec.format;
    this.rows = spec.rows;
    this.cols = spec.cols;
    this.blockSize = spec.blockSize;
    this.hadamard = spec.hadamard;
    const { codes, scales, macroScales } = outputShapes(spec);
    const create = (name: string, [rows, bytes]: readonly [number, number]) =>
      createStorageBuffer(device, `fp4 ${label} ${name}`, rows * bytes);
    this.codes = create('codes', codes);
    this.scales = create('scales', scales);
    if (macroScales) {
      this.macroSize = spec.macroSize;
      this.macroScales = create('macro', macroScales);
    }
    this.globalScale = createStorageBuffer(device, `fp4 ${label} global scale`, Float32Array.of(1));
    this.status = createStorageBuffer(device, `fp4 ${label} status`, 4);
  }

  /** Bytes on the GPU. */
  get byteLength(): number {
    return this.#buffers().reduce((sum, buffer) => sum + buffer.size, 0);
  }

  destroy(): void {
    for (const buffer of this.#buffers()) buffer.destroy();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }

  #buffers(): GPUBuffer[] {
    const { codes, scales, macroScales, globalScale, status } = this;
    return [codes, scales, ...(macroScales ? [macroScales] : []), globalScale, status];
  }
}

/** Quantizes matrices of one shape with one set of options on the GPU: the same bytes as `quantize`. */
export class GpuQuantizer {
  readonly spec: QuantizeSpec;
  readonly #gpu: Gpu;
  readonly #steps: readonly QuantizerStep[];
  readonly #pipelines: readonly GPUComputePipeline[];
  /** Buffers of the quantizer's own: the uniform and what passes from one step to the next. */
  readonly #own: Partial<Record<BindingName, GPUBuffer>>;
  /** One bind group a step. */
  readonly #bindGroups = new BindingCache<GPUBindGroup[]>();

  /** @internal Use {@link createQuantizer}. */
  constructor(
    gpu: Gpu,
    spec: QuantizeSpec,
    steps: readonly QuantizerStep[],
    pipelines: GPUComputePipeline[],
  ) {
    this.spec = spec;
    this.#gpu = gpu;
    this.#steps = steps;
    this.#pipelines = pipelines;
    const problem = gpu.device.createBuffer({
      label: 'fp4 quantization',
      size: 48,
      usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST,
    });
    gpu.device.queue.writeBuffer(problem, 0, quantizationUniform(spec));
    const scratch = Object.entries(scratchSizes(spec)).map(([name, bytes]) => [
      name,
      createStorageBuffer(gpu.device, `fp4 quantizer ${name}`, bytes),
    ]);
    this.#own = {
      problem,
      ...Object.fromEntries(scratch),
      ...(spec.macroScale !== 'none' && {
        macro_thresholds: createStorageBuffer(gpu.device, 'fp4 macro thresholds', macroThresholds()),
      }),
    };
  }

  /** Allocates buffers for the result, to be passed to `encode` with `x`. The caller destroys them. */
  createOutputs({ label = 'quantized' }: { label?: string } = {}): GpuQuantized {
    return new GpuQuantized(this.#gpu.device, this.spec, label);
  }

  /**
   * Adds the quantization to a compute pass of the caller, who submits it. Allocates nothing on the GPU; the bind
   * groups of buffers seen before are reused. Quantizers with several steps keep what passes between them in buffers
   * of their own, so one quantizer belongs in one queue of work.
   * @throws InvalidArgumentError for a missing, small, misaligned or aliased buffer
   */
  encode(pass: GPUComputePassEncoder, buffers: QuantizerBuffers): void {
    const slices = checkBuffers(this.#gpu.device, this.spec, buffers);
    const groups = this.#bindGroupsFor(slices);
    this.#steps.forEach(({ workgroups }, i) => {
      pass.setPipeline(this.#pipelines[i]!);
      pass.setBindGroup(0, groups[i]!);
      pass.dispatchWorkgroups(...workgroups);
    });
  }

  /** Frees what the library made for this quantizer; outputs and pipelines stay. */
  destroy(): void {
    for (const buffer of Object.values(this.#own)) buffer.destroy();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }

  #bindGroupsFor(slices: Slices): GPUBindGroup[] {
    const { codes, ...rest } = slices;
    return this.#bindGroups.get(codes!, Object.values(rest), () =>
      this.#steps.map(({ shader, bindings, takesRotated }, i) =>
        this.#gpu.device.createBindGroup({
          label: `fp4 ${shader.label}`,
          layout: this.#pipelines[i]!.getBindGroupLayout(0),
          entries: bindings.map((name) => ({
            binding: BINDINGS[name],
            resource: this.#resource(name === 'x' && takesRotated ? 'rotated' : name, slices),
          })),
        }),
      ),
    );
  }

  #resource(name: BindingName, slices: Slices): GPUBufferBinding {
    const own = this.#own[name];
    return own ? { buffer: own } : slices[name as SliceName]!;
  }
}

/**
 * Compiles the kernels that quantize matrices of one shape; asynchronous, shared between equal kernels of a device.
 *
 * ```ts
 * const quantizer = await createQuantizer(gpu, { rows, cols, format: 'mxfp4', macroScale: 'static' });
 * const q = quantizer.createOutputs();
 * quantizer.encode(pass, { x, ...q });
 * ```
 * @throws InvalidArgumentError for options that do not go together; UnsupportedError where the matrix exceeds the
 * device's limits; ShaderError
 */
export async function createQuantizer(gpu: Gpu, options: QuantizeOptions): Promise<GpuQuantizer> {
  const spec = resolveOptions(options);
  checkLimits(gpu, spec);
  const steps = quantizerSteps(spec, gpu.caps);
  const pipelines = await Promise.all(steps.map(({ shader }) => getPipeline(gpu.device, shader)));
  return new GpuQuantizer(gpu, spec, steps, pipelines);
}

/**
 * The convenience: uploads x f32[rows, cols] if need be, allocates the result, quantizes. Resolves when the work is
 * submitted; nothing is read back. Bytes are those of `quantize`, for every finite input.
 *
 * A GPU cannot throw for NaN and Inf. A block with one gets the NaN scale (0xFF in mxfp4, 0x7F in nvfp4) and codes 0, a
 * macro block with one the factor byte 0; nvfp4's tensor scale comes from the finite values; and the status word says
 * where. A Hadamard rotation that leaves the range of f32 counts as such.
 * @throws InvalidArgumentError for options that do not go together, a wrong length or usage; UnsupportedError where the
 * matrix exceeds the device's limits or its memory; ShaderError
 */
export async function quantizeOnGpu(
  gpu: Gpu,
  x: BufferSlice | Float32Array,
  options: QuantizeOptions,
): Promise<GpuQuantized> {
  const { device } = gpu;
  const spec = resolveOptions(options);
  if (x instanceof Float32Array) {
    if (x.length !== spec.rows * spec.cols) {
      throw new InvalidArgumentError(
        'quantize',
        `x has ${x.length} values; [${spec.rows}, ${spec.cols}] needs ${spec.rows * spec.cols}`,
      );
    }
  } else {
    checkSlice(device, 'quantize', 'x', x, 'f32', spec.rows, spec.cols);
  }
  using quantizer = await createQuantizer(gpu, options);
  device.pushErrorScope('out-of-memory');
  const outputs = quantizer.createOutputs();
  const upload = x instanceof Float32Array ? createStorageBuffer(device, 'fp4 quantize x', x) : undefined;
  const error = await whileAlive(device, 'quantizing', device.popErrorScope());
  try {
    if (error) {
      throw new UnsupportedError(
        'quantize',
        `the device has no memory for ${outputs.byteLength + (upload?.size ?? 0)} bytes: ${error.message}`,
      );
    }
    const encoder = device.createCommandEncoder({ label: 'fp4 quantize' });
    const pass = encoder.beginComputePass({ label: 'fp4 quantize' });
    quantizer.encode(pass, { x: upload ?? (x as BufferSlice), ...outputs });
    pass.end();
    device.queue.submit([encoder.finish()]);
    return outputs;
  } catch (cause) {
    outputs.destroy();
    throw cause;
  } finally {
    // What was submitted still runs to its end.
    upload?.destroy();
  }
}

/**
 * Copies a matrix quantized on the GPU back.
 * @throws InvalidArgumentError where the status word says that a value was NaN or Inf
 */
export async function readbackQuantized(gpu: Gpu, q: GpuQuantized): Promise<QuantizedMatrix> {
  const { rows, cols, blockSize, macroSize } = q;
  const read = async (buffer: GPUBuffer, bytes: number) => {
    const data = await readBuffer(gpu.device, buffer, Math.ceil(bytes / 4) * 4);
    return new Uint8Array(data, 0, bytes);
  };
  const [codes, scales, macroScales, globalScale, status] = await Promise.all([
    read(q.codes, (rows * cols) / 2),
    read(q.scales, (rows * cols) / blockSize),
    q.macroScales && macroSize ? read(q.macroScales, rows * Math.ceil(cols / macroSize)) : undefined,
    readBuffer(gpu.device, q.globalScale, 4),
    readBuffer(gpu.device, q.status, 4),
  ]);
  const word = new Uint32Array(status)[0]!;
  if (word) {
    const index = ~word >>> 0;
    const place = `row ${Math.floor(index / cols)}, col ${index % cols}`;
    throw new InvalidArgumentError(
      'quantize',
      q.hadamard
        ? `the Hadamard rotation gives NaN or Inf at ${place}: its sixteen values are not finite or too large`
        : `value at ${place} is NaN or Inf; FP4 holds finite values only`,
    );
  }
  return {
    format: q.format,
    rows,
    cols,
    blockSize,
    codes,
    scales,
    ...(macroScales && macroSize && { macroScales, macroSize }),
    globalScale: new Float32Array(globalScale)[0]!,
    hadamard: q.hadamard,
  };
}

/** Slices by the name they are bound to. */
type SliceName = 'x' | 'codes' | 'scales' | 'factors' | 'global_scale' | 'status';
type Slices = Partial<Record<SliceName, GPUBufferBinding>>;

/** Rows of bytes of each output. */
function outputShapes({ rows, cols, blockSize, macroScale, macroSize }: QuantizeSpec) {
  return {
    codes: [rows, cols / 2] as const,
    scales: [rows, cols / blockSize] as const,
    macroScales: macroScale === 'none' ? undefined : ([rows, Math.ceil(cols / macroSize)] as const),
  };
}

function checkLimits(gpu: Gpu, spec: QuantizeSpec): void {
  checkBufferSize(gpu.caps.limits, 'quantize x', alignedSize(spec.rows * spec.cols * 4));
}

function checkBuffers(device: GPUDevice, spec: QuantizeSpec, buffers: QuantizerBuffers): Slices {
  const shapes = outputShapes(spec);
  const check = (name: keyof QuantizerBuffers, type: 'f32' | 'u32' | 'u8', ...shape: number[]) =>
    checkSlice(device, 'quantize', name, buffers[name], type, ...shape);
  const slices: Slices = {
    x: check('x', 'f32', spec.rows, spec.cols),
    codes: check('codes', 'u8', ...shapes.codes),
    scales: check('scales', 'u8', ...shapes.scales),
    ...(shapes.macroScales && { factors: check('macroScales', 'u8', ...shapes.macroScales) }),
    ...(spec.format === 'nvfp4' && { global_scale: check('globalScale', 'f32', 1) }),
    status: check('status', 'u32', 1),
  };
  if (buffers.macroScales && !shapes.macroScales) {
    throw new InvalidArgumentError(
      'quantize',
      "macroScales were given, but the quantizer was created without; pass macroScale: 'static' or 'dynamic'",
    );
  }
  const names = Object.keys(slices) as SliceName[];
  names.forEach((name, i) => {
    const other = names.slice(0, i).find((earlier) => slices[earlier]!.buffer === slices[name]!.buffer);
    if (other) {
      throw new InvalidArgumentError(
        'quantize',
        `${name} shares its buffer with ${other}; WebGPU needs them apart`,
      );
    }
  });
  return slices;
}
