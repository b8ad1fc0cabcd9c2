/** Products of one layer in every recipe, each compared with the CPU's f64 before anything of it is timed. */
import { largestNormal, normalsBetween, randomNormals } from '../bench/data.js';
import { plainError, spreadOver } from '../bench/operands.js';
import { createPlain, uploadPlain } from '../bench/plain.js';
import { type Parts, recordParts, replay } from '../bench/recorder.js';
import { addBefore, problemReference, worstError } from '../src/gemm/reference.js';
import { randomMatrix, readSample } from '../src/gemm/trial.js';
import { checkBufferSize, createStorageBuffer } from '../src/gpu/buffers.js';
import { isSoftware } from '../src/gpu/caps.js';
import { whileAlive } from '../src/gpu/loss.js';
import {
  createGemm,
  type Gemm,
  type Gpu,
  type GpuWeights,
  KERNELS,
  UnsupportedError,
  uploadWeights,
} from '../src/index.js';
import { byteLength, type QuantizedMatrix, selectRows } from '../src/matrix/quantized-matrix.js';
import { nextTask } from './dom.js';
import type { Workload } from './measure.js';
import { type ActivationsName, activationsFor, type Recipe, type WeightFormat } from './recipes.js';

/** Values of y that are compared with f64. */
const CHECKED_ROWS = 4;
const CHECKED_COLUMNS = 64;
/** Bytes of weights that products of few rows go through in turn, so that they come from memory and not from a cache. */
const ROTATED_BYTES = 128e6;
/** From here on, x and y push weights out of the cache themselves. */
const ROTATE_UP_TO = 64;

export interface Check {
  /** Largest error against f64, in parts of what the kernel's roundings allow: at most 1 where it is right. */
  readonly errorOfBound: number;
  /** Values of y that were compared. */
  readonly values: number;
}

export interface Product {
  readonly recipe: Recipe;
  readonly kernel: string;
  /** Why the plan chose it. */
  readonly reason: string;
  /** Bytes of weights, x and y. */
  readonly bytes: number;
  readonly total: Workload;
  /** Absent where it is one step, or cannot be told apart. */
  readonly stages?: Stages;
  /** The same with a bias and `y +=`, which the kernel does as it stores; where it was asked for and is possible. */
  readonly withEpilogue?: Workload;
  /** Compares the product, with its epilogue too, with the CPU. */
  check(): Promise<Check>;
  destroy(): void;
}

/** Dispatches of a product, one after another. */
export interface Stages {
  /** Making x ready: quantizing it, or converting it to what the kernel reads. */
  readonly convert?: Workload;
  readonly gemm: Workload;
  /** Adding up parts of k, where the plan splits it. The epilogue is there then, not in the kernel. */
  readonly reduce?: Workload;
}

export interface ProductOptions {
  readonly m: number;
  readonly x: ActivationsName;
  /** Whether {@link Product.withEpilogue} is wanted. */
  readonly epilogue?: boolean;
}

type PlainType = 'f32' | 'f16';
const BYTES = { f32: 4, f16: 2 } as const;

interface PlainOperands {
  readonly x: GPUBuffer;
  readonly copies: readonly GPUBuffer[];
}

interface Fp4 {
  readonly q: QuantizedMatrix;
  readonly copies: readonly GpuWeights[];
}

/** x, y and weights of a layer on the GPU; recipes with weights of the same format share them. */
export class Layer {
  readonly #gpu: Gpu;
  readonly #n: number;
  readonly #k: number;
  readonly #copies: (bytes: number) => number;
  readonly #x: GPUBuffer;
  readonly #y: GPUBuffer;
  readonly #most: number;
  readonly #fp4 = new Map<string, Promise<Fp4>>();
  readonly #plain = new Map<PlainType, Promise<PlainOperands>>();
  #bias: GPUBuffer | undefined;

  /**
   * @param m rows of the smallest and of the largest product
   * @throws UnsupportedError where x or y exceed what the device's buffers hold, or its memory
   */
  static async create(
    gpu: Gpu,
    m: readonly [least: number, most: number],
    n: number,
    k: number,
  ): Promise<Layer> {
    checkBufferSize(gpu.caps.limits, `x[${m[1]}, ${k}]`, m[1] * k * 4);
    checkBufferSize(gpu.caps.limits, `y[${m[1]}, ${n}]`, m[1] * n * 4);
    return inMemory(gpu, `x and y of ${m[1]} rows`, () => new Layer(gpu, m, n, k));
  }

  private constructor(gpu: Gpu, [least, most]: readonly [number, number], n: number, k: number) {
    this.#gpu = gpu;
    this.#n = n;
    this.#k = k;
    this.#most = most;
    // A software adapter has no cache to defeat.
    const one = least > ROTATE_UP_TO || isSoftware(gpu.adapterInfo);
    this.#copies = (bytes) => (one ? 1 : Math.min(64, Math.ceil(ROTATED_BYTES / bytes)));
    this.#x = createStorageBuffer(gpu.device, 'demo x', randomNormals(most * k));
    this.#y = createStorageBuffer(gpu.device, 'demo y', most * n * 4);
  }

  /** @throws UnsupportedError where the device or the library cannot; ShaderError; DeviceLostError */
  async prepare(recipe: Recipe, options: ProductOptions): Promise<Product> {
    const { weights } = recipe;
    return typeof weights === 'string'
      ? this.#plainProduct(recipe, weights, options.m)
      : this.#fp4Product(recipe, weights, options);
  }

  async #fp4Product(
    recipe: Recipe,
    format: WeightFormat,
    { m, x, epilogue }: ProductOptions,
  ): Promise<Product> {
    const { q, copies } = await this.#weights(format);
    const used = m > ROTATE_UP_TO ? copies.slice(0, 1) : copies;
    const options = { m, activations: activationsFor(recipe, x) };
    const first = await createGemm(this.#gpu, { ...options, weights: used[0]! });
    const { plan } = first;
    const withPlan = (weights: GpuWeights, rest = {}) =>
      createGemm(this.#gpu, { ...options, ...rest, weights, plan });
    const gemms = [first, ...(await Promise.all(used.slice(1).map((weights) => withPlan(weights))))];
    const adding = { bias: true, accumulate: true };
    const epilogues = epilogue ? await Promise.all(used.map((weights) => withPlan(weights, adding))) : [];
    const buffers = { x: this.#x, y: this.#y };
    const turn = <T>(all: readonly T[], i: number) => all[i % all.length]!;
    const total: Workload = { encode: (pass, i) => turn(gemms, i).encode(pass, buffers) };
    const bias = epilogue ? this.#biasBuffer() : undefined;
    const withEpilogue: Workload = {
      encode: (pass, i) => turn(epilogues, i).encode(pass, { ...buffers, bias }),
    };
    const stages = stagesOf(gemms.map((gemm) => recordParts(gemm, (pass) => gemm.encode(pass, buffers))));
    return {
      recipe,
      kernel: plan.label,
      reason: plan.reason,
      bytes: byteLength(q) + m * (this.#k + this.#n) * 4,
      total,
      ...(stages && { stages }),
      ...(epilogue && { withEpilogue }),
      check: async () => {
        const check = await this.#checkFp4(first, q, total);
        if (!epilogue) return check;
        const other = await this.#checkFp4(epilogues[0]!, q, withEpilogue);
        return {
          // Math.max keeps NaN.
          errorOfBound: Math.max(check.errorOfBound, other.errorOfBound),
          values: check.values + other.values,
        };
      },
      destroy: () => [...gemms, ...epilogues].forEach((gemm) => void gemm.destroy()),
    };
  }

  async #checkFp4({ problem, plan }: Gemm, q: QuantizedMatrix, work: Workload): Promise<Check> {
    const { m, k, activations, bias, accumulate } = problem;
    const wanted = spreadOver(CHECKED_ROWS, m);
    // The largest value sets the tensor scale of NVFP4: with its row, a sample of rows has the scale of all.
    if (activations.kind === 'nvfp4') wanted.push(Math.floor(largestNormal(m * k, 'f32') / k));
    const rows = [...new Set(wanted)];
    const columns = spreadOver(CHECKED_COLUMNS, this.#n);
    const before = rows.map((row) => normalsBetween(row * this.#n, (row + 1) * this.#n, 'f32'));
    const got = await this.#run(work, m, rows, columns, accumulate ? before : []);
    const biases = normalsBetween(0, this.#n, 'f32');
    const reference = problemReference(
      this.#rows(rows, 'f32'),
      selectRows(q, columns),
      { ...problem, m: rows.length },
      bias ? Float32Array.from(columns, (column) => biases[column]!) : undefined,
    );
    if (accumulate)
      addBefore(
        reference,
        before.flatMap((row) => columns.map((column) => row[column]!)),
      );
    const errors = KERNELS[plan.kernel].errors(plan.constants, problem);
    return { errorOfBound: worstError(got, reference, errors), values: got.length };
  }

  async #plainProduct(recipe: Recipe, type: PlainType, m: number): Promise<Product> {
    const [n, k] = [this.#n, this.#k];
    const { x, copies } = await this.#plainOperands(type);
    const used = m > ROTATE_UP_TO ? copies.slice(0, 1) : copies;
    const products = await Promise.all(
      used.map((w) => createPlain(this.#gpu, m, n, k, type, { x, w, y: this.#y })),
    );
    const total: Workload = { encode: (pass, i) => products[i % products.length]!.encode(pass) };
    const { label, roundings } = products[0]!;
    return {
      recipe,
      kernel: label,
      reason: `the baseline: weights and x in ${type}, a plain kernel`,
      bytes: (n + m) * k * BYTES[type] + m * n * 4,
      total,
      check: async () => {
        const rows = spreadOver(CHECKED_ROWS, m);
        const columns = spreadOver(CHECKED_COLUMNS, n);
        const got = await this.#run(total, m, rows, columns);
        const values = this.#rows(rows, type);
        const errorOfBound = plainError(values, type, rows.length, columns, k, got, roundings);
        return { errorOfBound, values: got.length };
      },
      destroy: () => products.forEach((product) => void product.destroy()),
    };
  }

  #weights({ format, blockSize, macroSize }: WeightFormat): Promise<Fp4> {
    const key = `${format} ${blockSize} ${macroSize}`;
    let weights = this.#fp4.get(key);
    if (!weights) {
      weights = this.#upload({ format, blockSize, ...(macroSize && { macroSize }) });
      this.#fp4.set(key, weights);
    }
    return weights;
  }

  async #upload(format: WeightFormat): Promise<Fp4> {
    await nextTask();
    // The values of weights do not change the speed; that they are random makes results worth checking.
    const q = randomMatrix({ n: this.#n, k: this.#k, ...format });
    const copies: GpuWeights[] = [];
    try {
      for (const wanted = this.#copies(byteLength(q)); copies.length < wanted; ) {
        copies.push(await uploadWeights(this.#gpu, q));
        await nextTask();
      }
    } catch (error) {
      for (const weights of copies) weights.destroy();
      throw error;
    }
    return { q, copies };
  }

  #plainOperands(type: PlainType): Promise<PlainOperands> {
    let operands = this.#plain.get(type);
    if (!operands) {
      operands = this.#uploadPlain(type);
      this.#plain.set(type, operands);
    }
    return operands;
  }

  async #uploadPlain(type: PlainType): Promise<PlainOperands> {
    const { device, caps } = this.#gpu;
    // Before anything is allocated for it.
    if (type === 'f16' && !caps.tiers.includes('f16'))
      throw new UnsupportedError('demo', 'the device lacks f16 (feature shader-f16)');
    const [n, k] = [this.#n, this.#k];
    const bytes = n * k * BYTES[type];
    checkBufferSize(caps.limits, `w[${n}, ${k}] in ${type}`, bytes);
    const w = randomNormals(n * k, type);
    return inMemory(this.#gpu, `weights in ${type}`, () => ({
      x:
        type === 'f32'
          ? this.#x
          : createStorageBuffer(device, 'demo x f16', randomNormals(this.#most * k, type)),
      copies: uploadPlain(this.#gpu, w, this.#copies(bytes)),
    }));
  }

  #biasBuffer(): GPUBuffer {
    this.#bias ??= createStorageBuffer(this.#gpu.device, 'demo bias', randomNormals(this.#n));
    return this.#bias;
  }

  /** f32[rows, k] of x. */
  #rows(rows: readonly number[], type: PlainType): Float32Array {
    const k = this.#k;
    const picked = new Float32Array(rows.length * k);
    rows.forEach((row, i) => void picked.set(normalsBetween(row * k, (row + 1) * k, type), i * k));
    return picked;
  }

  /**
   * Runs a product once over a y that is zero but for what given rows hold before, and reads a sample of it.
   * @param before f32[n] of each of the rows; none of them for zeros
   */
  async #run(
    work: Workload,
    m: number,
    rows: readonly number[],
    columns: readonly number[],
    before: readonly Float32Array[] = [],
  ): Promise<Float64Array> {
    const { device } = this.#gpu;
    device.queue.submit([this.#clearY(m)]);
    before.forEach((values, i) => {
      device.queue.writeBuffer(this.#y, rows[i]! * this.#n * 4, values.buffer as ArrayBuffer);
    });
    const encoder = device.createCommandEncoder({ label: 'demo check' });
    const pass = encoder.beginComputePass();
    work.encode(pass, 0);
    pass.end();
    device.queue.submit([encoder.finish()]);
    return readSample(device, this.#y, { n: this.#n, y: 'f32' }, rows, columns);
  }

  #clearY(m: number): GPUCommandBuffer {
    const encoder = this.#gpu.device.createCommandEncoder({ label: 'demo clear y' });
    encoder.clearBuffer(this.#y, 0, m * this.#n * 4);
    return encoder.finish();
  }

  async destroy(): Promise<void> {
    this.#x.destroy();
    this.#y.destroy();
    this.#bias?.destroy();
    for (const made of await Promise.allSettled(this.#plain.values())) {
      if (made.status === 'rejected') continue;
      for (const buffer of [made.value.x, ...made.value.copies]) buffer.destroy();
    }
    for (const made of await Promise.allSettled(this.#fp4.values()))
      if (made.status === 'fulfilled') for (const weights of made.value.copies) weights.destroy();
  }
}

/** The stages of products that take turns; undefined where there is but one, or one product cannot be taken apart. */
function stagesOf(parts: readonly (Parts | undefined)[]): Stages | undefined {
  const known = parts.filter((part) => part !== undefined);
  if (known.length < parts.length) return undefined;
  const stage = (name: keyof Parts): Workload => ({
    encode: (pass, i) => replay(pass, known[i % known.length]![name]),
  });
  const has = (name: keyof Parts) => known[0]![name].length > 0;
  if (!has('conversion') && !has('reduction')) return undefined;
  return {
    ...(has('conversion') && { convert: stage('conversion') }),
    gemm: stage('kernel'),
    ...(has('reduction') && { reduce: stage('reduction') }),
  };
}

/** @throws UnsupportedError where the device has no memory for what `create` makes */
async function inMemory<T>({ device }: Gpu, what: string, create: () => T): Promise<T> {
  device.pushErrorScope('out-of-memory');
  const made = create();
  const error = await whileAlive(device, `making ${what}`, device.popErrorScope());
  if (error) throw new UnsupportedError('demo', `the device has no memory for ${what}: ${error.message}`);
  return made;
}
