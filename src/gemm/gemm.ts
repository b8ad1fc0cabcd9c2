import { InvalidArgumentError } from '../errors.js';
import { BindingCache } from '../gpu/bindings.js';
import { asBinding, type BufferSlice, createStorageBuffer, readBuffer, sliceSize } from '../gpu/buffers.js';
import { BufferUsage } from '../gpu/constants.js';
import type { Gpu } from '../gpu/gpu.js';
import { getPipeline } from '../gpu/pipeline.js';
import { composeShader } from '../gpu/shader.js';
import { describeShader, KERNELS } from './kernels.js';
import { type GemmPlan, planGemm } from './plan.js';
import type { GemmProblem } from './problem.js';
import { Rotation } from './rotation.js';
import type { GpuWeights } from './weights.js';

/** Binding numbers, the same in every shader. */
const BINDINGS = { problem: 0, x: 1, w_codes: 2, w_scales: 3, w_macro: 4, y: 5, bias: 6 } as const;

export interface GemmOptions {
  /** Rows of x. */
  m: number;
  weights: GpuWeights;
  /** Type of x in its buffer; 'f32' by default. */
  x?: 'f32' | 'f16' | undefined;
  /** Type of y in its buffer; 'f32' by default. */
  y?: 'f32' | 'f16' | undefined;
  /** Whether `encode` is given a bias f32[n]; false by default. */
  bias?: boolean | undefined;
  /** Overrides the choice of kernel; see `planGemm`. */
  plan?: GemmPlan | undefined;
}

export interface GemmBuffers {
  /** f32[m, k] */
  x: BufferSlice;
  /** f32[m, n], overwritten */
  y: BufferSlice;
  /** f32[n] */
  bias?: BufferSlice | undefined;
}

/** y = x · wᵀ (+ bias), compiled for one shape and one weight matrix. */
export class Gemm {
  readonly problem: GemmProblem;
  readonly plan: GemmPlan;
  readonly #gpu: Gpu;
  readonly #weights: GpuWeights;
  readonly #pipeline: GPUComputePipeline;
  readonly #uniform: GPUBuffer;
  readonly #rotation: Rotation | undefined;
  readonly #bindGroups = new BindingCache<GPUBindGroup>();

  /** @internal Use {@link createGemm}. */
  constructor(
    gpu: Gpu,
    problem: GemmProblem,
    plan: GemmPlan,
    weights: GpuWeights,
    pipeline: GPUComputePipeline,
    rotation: Rotation | undefined,
  ) {
    this.problem = problem;
    this.plan = plan;
    this.#gpu = gpu;
    this.#weights = weights;
    this.#pipeline = pipeline;
    this.#rotation = rotation;
    const { m, n, k } = problem;
    const data = new DataView(new ArrayBuffer(16));
    [m, n, k].forEach((value, i) => void data.setUint32(i * 4, value, true));
    data.setFloat32(12, weights.globalScale, true);
    this.#uniform = gpu.device.createBuffer({
      label: `fp4 ${plan.label} problem`,
      size: 16,
      usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST,
    });
    gpu.device.queue.writeBuffer(this.#uniform, 0, data.buffer);
  }

  /**
   * Adds the product to a compute pass of the caller, who submits it. Allocates nothing on the GPU; the bind group of
   * buffers seen before is reused.
   * @throws InvalidArgumentError for a missing, small or aliased buffer
   */
  encode(pass: GPUComputePassEncoder, buffers: GemmBuffers): void {
    const x = this.#rotation ? this.#rotation.encode(pass, this.#check('x', buffers.x)) : buffers.x;
    pass.setPipeline(this.#pipeline);
    pass.setBindGroup(0, this.#bindGroup({ ...buffers, x }));
    pass.dispatchWorkgroups(...this.plan.workgroups);
  }

  /** Frees what the library made for this product; weights and pipelines stay, as others may share them. */
  destroy(): void {
    this.#uniform.destroy();
    this.#rotation?.destroy();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }

  #bindGroup(buffers: GemmBuffers): GPUBindGroup {
    const x = this.#check('x', buffers.x);
    const y = this.#check('y', buffers.y);
    const bias = this.problem.bias ? this.#check('bias', buffers.bias) : undefined;
    if (!this.problem.bias && buffers.bias) {
      throw new InvalidArgumentError(
        'gemm',
        'a bias was given, but the Gemm was created without; pass bias: true to createGemm',
      );
    }
    if (y.buffer === x.buffer || y.buffer === bias?.buffer) {
      throw new InvalidArgumentError(
        'gemm',
        `y shares its buffer with ${y.buffer === x.buffer ? 'x' : 'bias'}; WebGPU needs them apart`,
      );
    }
    return this.#bindGroups.get(y, [x, bias], () => this.#createBindGroup(x, y, bias));
  }

  #createBindGroup(
    x: GPUBufferBinding,
    y: GPUBufferBinding,
    bias: GPUBufferBinding | undefined,
  ): GPUBindGroup {
    const { codes, scales, macroScales } = this.#weights;
    const resources: Partial<Record<keyof typeof BINDINGS, GPUBufferBinding>> = {
      problem: { buffer: this.#uniform },
      x,
      w_codes: { buffer: codes },
      w_scales: { buffer: scales },
      ...(macroScales && { w_macro: { buffer: macroScales } }),
      y,
      ...(bias && { bias }),
    };
    return this.#gpu.device.createBindGroup({
      label: `fp4 ${this.plan.label}`,
      layout: this.#pipeline.getBindGroupLayout(0),
      entries: Object.entries(resources).map(([name, resource]) => ({
        binding: BINDINGS[name as keyof typeof BINDINGS],
        resource,
      })),
    });
  }

  #check(name: 'x' | 'y' | 'bias', slice: BufferSlice | undefined): GPUBufferBinding {
    const { m, n, k } = this.problem;
    const shapes = { x: [m, k], y: [m, n], bias: [n] };
    const shape = shapes[name];
    if (!slice) throw new InvalidArgumentError('gemm', `${name} is missing; it is f32[${shape.join(', ')}]`);
    const binding = asBinding(slice);
    const needed = shape.reduce((product, size) => product * size, 4);
    if (sliceSize(binding) < needed) {
      throw new InvalidArgumentError(
        'gemm',
        `${name} has ${sliceSize(binding)} bytes; f32[${shape.join(', ')}] needs ${needed}`,
      );
    }
    if (!(binding.buffer.usage & BufferUsage.STORAGE)) {
      throw new InvalidArgumentError('gemm', `${name} was created without GPUBufferUsage.STORAGE`);
    }
    return binding;
  }
}

/** The problem of multiplying m rows with given weights, as plans take it. */
export function problemOf(w: GpuWeights, o: Pick<GemmOptions, 'm' | 'x' | 'y' | 'bias'>): GemmProblem {
  const { n, k, format, blockSize, macroSize } = w;
  return {
    m: o.m,
    n,
    k,
    format,
    blockSize,
    ...(macroSize && { macroSize }),
    x: o.x ?? 'f32',
    y: o.y ?? 'f32',
    bias: o.bias ?? false,
  };
}

/**
 * Compiles the kernel for a product; asynchronous, shared between equal kernels of a device.
 *
 * ```ts
 * const gemm = await createGemm(gpu, { m: 1, weights });
 * gemm.encode(pass, { x, y });
 * ```
 * @throws InvalidArgumentError, UnsupportedError where no kernel can compute it on the device; ShaderError
 */
export async function createGemm(gpu: Gpu, options: GemmOptions): Promise<Gemm> {
  const { weights } = options;
  const problem = problemOf(weights, options);
  const plan = options.plan ?? planGemm(problem, gpu.caps);
  const shader = composeShader(
    describeShader(KERNELS[plan.kernel], plan.constants, problem, await gpu.probe()),
  );
  const [pipeline, rotation] = await Promise.all([
    getPipeline(gpu.device, shader),
    weights.hadamard ? Rotation.create(gpu, problem.m, problem.k) : undefined,
  ]);
  return new Gemm(gpu, problem, plan, weights, pipeline, rotation);
}

export interface MatmulOptions {
  /** Rows of x. */
  m: number;
  /** f32[n] */
  bias?: Float32Array | undefined;
  plan?: GemmPlan | undefined;
}

/**
 * The convenience: uploads x f32[m, k], computes y = x · wᵀ (+ bias), reads y f32[m, n] back.
 * @throws InvalidArgumentError for wrong lengths
 */
export async function matmul(
  gpu: Gpu,
  x: Float32Array,
  weights: GpuWeights,
  { m, bias, plan }: MatmulOptions,
): Promise<Float32Array> {
  const { n, k } = weights;
  if (x.length !== m * k)
    throw new InvalidArgumentError('gemm', `x has ${x.length} values; [${m}, ${k}] needs ${m * k}`);
  if (bias && bias.length !== n)
    throw new InvalidArgumentError('gemm', `bias has ${bias.length} values; [${n}] needs ${n}`);
  const gemm = await createGemm(gpu, { m, weights, bias: bias !== undefined, plan });
  const buffers: GPUBuffer[] = [];
  const upload = (label: string, data: Float32Array | number) => {
    const buffer = createStorageBuffer(gpu.device, `fp4 matmul ${label}`, data);
    buffers.push(buffer);
    return buffer;
  };
  try {
    const y = upload('y', m * n * 4);
    const slices: GemmBuffers = { x: upload('x', x), y, ...(bias && { bias: upload('bias', bias) }) };
    const encoder = gpu.device.createCommandEncoder({ label: 'fp4 matmul' });
    const pass = encoder.beginComputePass({ label: gemm.plan.label });
    gemm.encode(pass, slices);
    pass.end();
    gpu.device.queue.submit([encoder.finish()]);
    return new Float32Array(await readBuffer(gpu.device, y, m * n * 4));
  } finally {
    gemm.destroy();
    for (const buffer of buffers) buffer.destroy();
  }
}
