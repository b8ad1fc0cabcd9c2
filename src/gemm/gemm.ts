import { InvalidArgumentError } from '../errors.js';
import { f32ToBits } from '../formats/bits.js';
import { BindingCache } from '../gpu/bindings.js';
import { type BufferSlice, checkSlice, createStorageBuffer, readBuffer } from '../gpu/buffers.js';
import type { Gpu } from '../gpu/gpu.js';
import { foldGrid } from '../gpu/grid.js';
import { getPipeline } from '../gpu/pipeline.js';
import { acquireScratch, type Scratch } from '../gpu/scratch.js';
import { composeShader } from '../gpu/shader.js';
import { UniformData, type UniformSource } from '../gpu/uniform-data.js';
import type { ActivationOptions } from './activations.js';
import { checksRows, describeReduction, describeShader, KERNELS, REDUCE_WORKGROUP } from './kernels/index.js';
import { BINDINGS, type BindingName } from './kernels/kernel.js';
import { type Preparation, PreparedX } from './operands/prepared-x.js';
import { type GemmPlan, planGemm, replan, spreadGrid } from './plan.js';
import { type GemmProblem, type GemmProblemOptions, resolveProblem } from './problem.js';
import type { GpuWeights, WeightPart } from './weights.js';

export interface GemmOptions {
  /** Rows of x. */
  m: number;
  weights: GpuWeights;
  /** Type of x in its buffer; 'f32' by default. */
  x?: 'f32' | 'f16' | undefined;
  /** Type of y in its buffer; 'f32' by default, 'f16' needs shader-f16. */
  y?: 'f32' | 'f16' | undefined;
  /** Whether `encode` is given a bias f32[n]; false by default. */
  bias?: boolean | undefined;
  /** Whether the product is added to what y holds; false by default, y is overwritten. */
  accumulate?: boolean | undefined;
  /** What x is turned into before it is multiplied; 'float' by default. */
  activations?: ActivationOptions | undefined;
  /**
   * With float activations, the least precise type that x and w may be rounded to before they are multiplied: 'f16'
   * (default) allows tensor cores, 'f32' keeps everything. Sums are f32, but for those that `GemmProblem` tells of.
   */
  precision?: 'f32' | 'f16' | undefined;
  /** Overrides the choice of kernel; see `planGemm`. One that cannot compute the product is refused. */
  plan?: GemmPlan | undefined;
}

export interface GemmBuffers {
  /** f32 or f16[m, k] */
  x: BufferSlice;
  /** f32 or f16[m, n], overwritten, or added to with `accumulate` */
  y: BufferSlice;
  /** f32[n] */
  bias?: BufferSlice | undefined;
  /**
   * True where x holds what it did for the product that was last encoded with this buffer, and passes are run in the order in
   * which they were encoded: k and v of attention after q, up after gate. What x was turned into for that product (f16 in
   * the order of tiles, int8, FP4) is taken again where this one needs the same and nothing else has been there
   * meanwhile, else made anew.
   */
  xUnchanged?: boolean | undefined;
}

/** The product with a part of the weights. */
interface PartStep {
  readonly part: WeightPart;
  readonly uniform: UniformData;
  readonly workgroups: readonly [number, number, number];
}

interface PartGroups {
  readonly product: GPUBindGroup;
  readonly reduction?: GPUBindGroup;
}

/** y = x · wᵀ (+ bias) (+ y), compiled for one shape and one weight matrix. */
export class Gemm {
  readonly problem: GemmProblem;
  readonly plan: GemmPlan;
  readonly #gpu: Gpu;
  readonly #parts: readonly PartStep[];
  readonly #pipeline: GPUComputePipeline;
  readonly #reduction: GPUComputePipeline | undefined;
  readonly #partials: Scratch | undefined;
  readonly #prepared: PreparedX;
  readonly #bindGroups = new BindingCache<readonly PartGroups[]>();

  /** @internal Use {@link createGemm}. */
  constructor(
    gpu: Gpu,
    problem: GemmProblem,
    plan: GemmPlan,
    weights: GpuWeights,
    stages: {
      source: UniformSource;
      pipeline: GPUComputePipeline;
      reduction: GPUComputePipeline | undefined;
      prepared: PreparedX;
    },
  ) {
    this.problem = problem;
    this.plan = plan;
    this.#gpu = gpu;
    this.#pipeline = stages.pipeline;
    this.#reduction = stages.reduction;
    this.#prepared = stages.prepared;
    this.#parts = weights.parts.map((part) => ({
      part,
      uniform: this.#createUniform(part, weights, stages.source),
      workgroups: spreadGrid(KERNELS[plan.kernel], plan.constants, { ...problem, n: part.rows }, gpu.caps),
    }));
    const rows = Math.max(...weights.parts.map((part) => part.rows));
    if (this.#reduction) {
      const bytes = plan.constants.SPLIT_K! * problem.m * rows * 4;
      this.#partials = acquireScratch(gpu.device, 'parts of k', bytes);
    }
  }

  /**
   * Adds the product to a compute pass of the caller, who submits it. Allocates nothing on the GPU; the bind group of
   * buffers seen before is reused. Leaves its own pipeline, bind group 0 and immediates set.
   * @throws InvalidArgumentError for a missing, small, misaligned or aliased buffer
   */
  encode(pass: GPUComputePassEncoder, buffers: GemmBuffers): void {
    const { x, y, bias } = this.#check(buffers);
    this.#prepared.encode(pass, x, buffers.xUnchanged ?? false);
    const own = this.#prepared.x;
    const groups = this.#bindGroups.get(y, [own ? undefined : x, bias], () =>
      this.#parts.map((step) => this.#createBindGroups(step, own ?? x, y, bias)),
    );
    this.#parts.forEach(({ part, uniform, workgroups }, i) => {
      pass.setPipeline(this.#pipeline);
      uniform.encode(pass);
      pass.setBindGroup(0, groups[i]!.product);
      pass.dispatchWorkgroups(...workgroups);
      if (this.#reduction) {
        const quads = this.problem.m * Math.ceil(part.rows / 4);
        const workgroups = Math.ceil(quads / REDUCE_WORKGROUP);
        pass.setPipeline(this.#reduction);
        pass.setBindGroup(0, groups[i]!.reduction!);
        pass.dispatchWorkgroups(
          ...foldGrid(workgroups, this.#gpu.caps.limits.maxComputeWorkgroupsPerDimension),
        );
      }
    });
  }

  /** Frees what the library made for this product; weights and pipelines stay, as others may share them. */
  destroy(): void {
    for (const { uniform } of this.#parts) uniform.destroy();
    this.#partials?.release();
    this.#prepared.destroy();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }

  #createUniform(
    part: WeightPart,
    { globalScale = 1, globalScaleBuffer }: GpuWeights,
    source: UniformSource,
  ): UniformData {
    const { device } = this.#gpu;
    const { m, n, k } = this.problem;
    const data = Uint32Array.of(m, part.rows, k, f32ToBits(globalScale), n, part.firstRow);
    const uniform = new UniformData(device, `fp4 ${this.plan.label} problem`, data, source);
    if (globalScaleBuffer && uniform.buffer) {
      const encoder = device.createCommandEncoder({ label: 'fp4 global scale' });
      encoder.copyBufferToBuffer(globalScaleBuffer, 0, uniform.buffer, 12, 4);
      device.queue.submit([encoder.finish()]);
    }
    return uniform;
  }

  #createBindGroups(
    { part, uniform }: PartStep,
    x: GPUBufferBinding,
    y: GPUBufferBinding,
    bias: GPUBufferBinding | undefined,
  ): PartGroups {
    const partials = this.#partials && { buffer: this.#partials.buffer };
    const kernel = KERNELS[this.plan.kernel];
    const rowMax = { w_row_max: { buffer: part.rowMax } };
    const epilogue = { y, ...(bias && { bias }), ...(checksRows(this.problem) && rowMax) };
    const problem = uniform.buffer && { problem: { buffer: uniform.buffer } };
    const extra = kernel.bindings ?? [];
    const { scales } = this.#prepared;
    const product = this.#createBindGroup(this.#pipeline, {
      ...problem,
      x,
      w_codes: { buffer: part.codes },
      w_scales: { buffer: part.scales },
      ...(part.macroScales && { w_macro: { buffer: part.macroScales } }),
      ...(scales && extra.includes('x_scales') && { x_scales: scales }),
      ...(extra.includes('w_row_max') && rowMax),
      ...(partials ? { y: partials } : epilogue),
    });
    if (!(this.#reduction && partials)) return { product };
    const bindings = { ...problem, x: partials, ...epilogue };
    return { product, reduction: this.#createBindGroup(this.#reduction, bindings) };
  }

  #createBindGroup(
    pipeline: GPUComputePipeline,
    resources: Partial<Record<BindingName, GPUBufferBinding>>,
  ): GPUBindGroup {
    return this.#gpu.device.createBindGroup({
      label: `fp4 ${this.plan.label}`,
      layout: pipeline.getBindGroupLayout(0),
      entries: Object.entries(resources).map(([name, resource]) => ({
        binding: BINDINGS[name as BindingName],
        resource,
      })),
    });
  }

  #check(buffers: GemmBuffers) {
    const { m, n, k, x: xType, y: yType, bias: hasBias } = this.problem;
    const { device } = this.#gpu;
    const check = (name: 'x' | 'y' | 'bias', type: 'f32' | 'f16', ...shape: number[]) =>
      checkSlice(device, 'gemm', name, buffers[name], type, ...shape);
    const x = check('x', xType, m, k);
    const y = check('y', yType, m, n);
    const bias = hasBias ? check('bias', 'f32', n) : undefined;
    if (!hasBias && buffers.bias) {
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
    return { x, y, bias };
  }
}

/** The problem of multiplying m rows with given weights, as plans take it. */
export function problemOf(w: GpuWeights, o: Omit<GemmOptions, 'weights' | 'plan'>): GemmProblem {
  const { n, k, format, blockSize, macroSize } = w;
  return resolveProblem({
    m: o.m,
    n,
    k,
    format,
    blockSize,
    ...(macroSize && { macroSize }),
    x: o.x ?? 'f32',
    y: o.y ?? 'f32',
    bias: o.bias ?? false,
    accumulate: o.accumulate ?? false,
    precision: o.precision ?? 'f16',
    ...(o.activations && { activations: o.activations }),
    ...(w.int8Snr !== undefined && { int8Snr: w.int8Snr }),
    ...(w.nanScales && { nanScales: true }),
  });
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
  const plan = options.plan
    ? replan(options.plan, problem, gpu.caps)
    : planGemm(problem, await gpu.usableCaps());
  const preparation = conversions(problem, plan, weights.hadamard);
  // A tensor scale that only the GPU knows is copied there, which takes a buffer.
  const source = weights.globalScaleBuffer ? 'buffer' : await gpu.uniformSource();
  const [[pipeline, reduction], prepared] = await Promise.all([
    getPipelines(gpu, preparation.inner, plan, source),
    PreparedX.create(gpu, preparation),
  ]);
  const stages = { source, pipeline, reduction, prepared };
  return new Gemm(gpu, problem, plan, weights, stages);
}

/** What x goes through before the kernel's own operand, and the problem that is left: f32 rows after either. */
function conversions(problem: GemmProblem, plan: GemmPlan, hadamard: boolean): Preparation {
  const { activations } = problem;
  const fp4 = activations.kind === 'mxfp4' || activations.kind === 'nvfp4';
  const takesFp4Rows = fp4 && KERNELS[plan.kernel].activations.includes('float');
  const inner: GemmProblem = hadamard || takesFp4Rows ? { ...problem, x: 'f32' } : problem;
  // What was to be read as it is may not be any more.
  const operandSpec =
    inner.x === problem.x ? plan.operand : KERNELS[plan.kernel].operand(plan.constants, inner);
  return { problem, inner, hadamard, takesFp4Rows, operandSpec };
}

/** The pipelines of the product and of adding up its parts of k. */
async function getPipelines(
  gpu: Gpu,
  problem: GemmProblem,
  { kernel, constants }: GemmPlan,
  source: UniformSource,
): Promise<[product: GPUComputePipeline, reduction: GPUComputePipeline | undefined]> {
  const splits = constants.SPLIT_K ?? 1;
  const product = describeShader(KERNELS[kernel], constants, problem, await gpu.probe(), source);
  return Promise.all([
    getPipeline(gpu.device, composeShader(product)),
    splits > 1
      ? getPipeline(gpu.device, composeShader(describeReduction(splits, problem, source)))
      : undefined,
  ]);
}

/** A problem, with the plan that its products are to have where that is not the one of `planGemm`. */
export type WarmUpProblem = GemmProblemOptions & { readonly plan?: GemmPlan | undefined };

export interface WarmUpOptions {
  /** Called as problems are done. */
  onProgress?: ((done: number, total: number) => void) | undefined;
}

/**
 * Compiles what the products of a model need, in parallel and each kernel once, so that `createGemm` finds it ready.
 * Problems come from {@link problemOf} or by hand; those of rotated weights compile what follows
 * the rotation, and weights whose tensor scale is only on the GPU what they share with others. A plan of `tuneGemm` is given
 * with its problem: `{ ...problem, plan }`.
 *
 * ```ts
 * await warmUp(gpu, layers.flatMap((weights) => [1, 16, 512].map((m) => problemOf(weights, { m }))));
 * ```
 * @throws InvalidArgumentError, UnsupportedError where no kernel can compute one; ShaderError
 */
export async function warmUp(
  gpu: Gpu,
  problems: Iterable<WarmUpProblem>,
  { onProgress }: WarmUpOptions = {},
): Promise<void> {
  const [caps, source] = await Promise.all([gpu.usableCaps(), gpu.uniformSource()]);
  const all = [...problems].map(({ plan, ...options }) => {
    const problem = resolveProblem(options);
    return { problem, plan: plan ? replan(plan, problem, gpu.caps) : planGemm(problem, caps) };
  });
  let done = 0;
  await Promise.all(
    all.map(async ({ problem, plan }) => {
      const preparation = conversions(problem, plan, false);
      const [, prepared] = await Promise.all([
        getPipelines(gpu, preparation.inner, plan, source),
        PreparedX.create(gpu, preparation),
      ]);
      prepared.destroy();
      onProgress?.(++done, all.length);
    }),
  );
}

export interface MatmulOptions extends Omit<GemmOptions, 'weights' | 'x' | 'y' | 'bias' | 'accumulate'> {
  /** f32[n] */
  bias?: Float32Array | undefined;
}

/**
 * The convenience: uploads x f32[m, k], computes y = x · wᵀ (+ bias), reads y f32[m, n] back.
 * @throws InvalidArgumentError for wrong lengths
 */
export async function matmul(
  gpu: Gpu,
  x: Float32Array,
  weights: GpuWeights,
  { m, bias, ...options }: MatmulOptions,
): Promise<Float32Array> {
  const { n, k } = weights;
  if (x.length !== m * k)
    throw new InvalidArgumentError('gemm', `x has ${x.length} values; [${m}, ${k}] needs ${m * k}`);
  if (bias && bias.length !== n)
    throw new InvalidArgumentError('gemm', `bias has ${bias.length} values; [${n}] needs ${n}`);
  const gemm = await createGemm(gpu, { ...options, m, weights, bias: bias !== undefined });
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
