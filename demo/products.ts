/** Products of one layer in every recipe, each compared with the CPU's f64 before anything of it is timed. */
import { largestNormal, normalsBetween, randomNormals } from '../bench/data.js';
import { plainError, spreadOver } from '../bench/operands.js';
import { createPlain, uploadPlain } from '../bench/plain.js';
import { recordParts, replay } from '../bench/recorder.js';
import { problemReference, worstError } from '../src/gemm/reference.js';
import { randomMatrix, readSample } from '../src/gemm/trial.js';
import { checkBufferSize, createStorageBuffer } from '../src/gpu/buffers.js';
import { isSoftware } from '../src/gpu/caps.js';
import {
  createGemm,
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
  /** Making x ready, and what follows; absent where it is one step, or cannot be told apart. */
  readonly stages?: { readonly convert: Workload; readonly gemm: Workload };
  check(): Promise<Check>;
  destroy(): void;
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
  readonly #fp4 = new Map<string, Promise<Fp4>>();
  #plain: readonly GPUBuffer[] | undefined;

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
    // A software adapter has no cache to defeat.
    const one = least > ROTATE_UP_TO || isSoftware(gpu.adapterInfo);
    this.#copies = (bytes) => (one ? 1 : Math.min(64, Math.ceil(ROTATED_BYTES / bytes)));
    this.#x = createStorageBuffer(gpu.device, 'demo x', randomNormals(most * k));
    this.#y = createStorageBuffer(gpu.device, 'demo y', most * n * 4);
  }

  /** @throws UnsupportedError where the device or the library cannot; ShaderError; DeviceLostError */
  async prepare(recipe: Recipe, m: number, x: ActivationsName): Promise<Product> {
    return recipe.weights ? this.#fp4Product(recipe, recipe.weights, m, x) : this.#plainProduct(recipe, m);
  }

  async #fp4Product(recipe: Recipe, format: WeightFormat, m: number, x: ActivationsName): Promise<Product> {
    const { q, copies } = await this.#weights(format);
    const used = m > ROTATE_UP_TO ? copies.slice(0, 1) : copies;
    const options = { m, activations: activationsFor(recipe, x) };
    const first = await createGemm(this.#gpu, { ...options, weights: used[0]! });
    const { plan, problem } = first;
    const gemms = [
      first,
      ...(await Promise.all(
        used.slice(1).map((weights) => createGemm(this.#gpu, { ...options, weights, plan })),
      )),
    ];
    const buffers = { x: this.#x, y: this.#y };
    const turn = <T>(all: readonly T[], i: number) => all[i % all.length]!;
    const total: Workload = { encode: (pass, i) => turn(gemms, i).encode(pass, buffers) };
    const parts = gemms.map((gemm) => recordParts(gemm, (pass) => gemm.encode(pass, buffers)));
    const known = parts.filter((part) => part !== undefined);
    return {
      recipe,
      kernel: plan.label,
      reason: plan.reason,
      bytes: byteLength(q) + m * (this.#k + this.#n) * 4,
      total,
      ...(known.length === gemms.length &&
        known[0]!.conversion.length > 0 && {
          stages: {
            convert: { encode: (pass, i) => replay(pass, turn(known, i).conversion) },
            gemm: { encode: (pass, i) => replay(pass, turn(known, i).product) },
          },
        }),
      check: async () => {
        const wanted = spreadOver(CHECKED_ROWS, m);
        // The largest value sets the tensor scale of NVFP4: with its row, a sample of rows has the scale of all.
        if (x === 'nvfp4') wanted.push(Math.floor(largestNormal(m * this.#k, 'f32') / this.#k));
        const rows = [...new Set(wanted)];
        const columns = spreadOver(CHECKED_COLUMNS, this.#n);
        const got = await this.#run(total, m, rows, columns);
        const reference = problemReference(this.#rows(rows), selectRows(q, columns), {
          ...problem,
          m: rows.length,
        });
        const errors = KERNELS[plan.kernel].errors(plan.constants, problem);
        return { errorOfBound: worstError(got, reference, errors), values: got.length };
      },
      destroy: () => gemms.forEach((gemm) => void gemm.destroy()),
    };
  }

  async #plainProduct(recipe: Recipe, m: number): Promise<Product> {
    const [n, k] = [this.#n, this.#k];
    this.#plain ??= await this.#uploadPlain();
    const used = m > ROTATE_UP_TO ? this.#plain.slice(0, 1) : this.#plain;
    const products = await Promise.all(
      used.map((w) => createPlain(this.#gpu, m, n, k, 'f32', { x: this.#x, w, y: this.#y })),
    );
    const total: Workload = { encode: (pass, i) => products[i % products.length]!.encode(pass) };
    const { label, roundings } = products[0]!;
    return {
      recipe,
      kernel: label,
      reason: 'the baseline: weights and x in f32, a plain kernel',
      bytes: (n * k + m * (k + n)) * 4,
      total,
      check: async () => {
        const rows = spreadOver(CHECKED_ROWS, m);
        const columns = spreadOver(CHECKED_COLUMNS, n);
        const got = await this.#run(total, m, rows, columns);
        const errorOfBound = plainError(this.#rows(rows), 'f32', rows.length, columns, k, got, roundings);
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

  async #uploadPlain(): Promise<readonly GPUBuffer[]> {
    const bytes = this.#n * this.#k * 4;
    checkBufferSize(this.#gpu.caps.limits, `w[${this.#n}, ${this.#k}] in f32`, bytes);
    const w = randomNormals(this.#n * this.#k);
    return inMemory(this.#gpu, 'weights in f32', () => uploadPlain(this.#gpu, w, this.#copies(bytes)));
  }

  /** f32[rows, k] of x. */
  #rows(rows: readonly number[]): Float32Array {
    const k = this.#k;
    const picked = new Float32Array(rows.length * k);
    rows.forEach((row, i) => void picked.set(normalsBetween(row * k, (row + 1) * k, 'f32'), i * k));
    return picked;
  }

  /** Runs a product once over a cleared y, and reads a sample of it. */
  async #run(
    work: Workload,
    m: number,
    rows: readonly number[],
    columns: readonly number[],
  ): Promise<Float64Array> {
    const { device } = this.#gpu;
    const encoder = device.createCommandEncoder({ label: 'demo check' });
    encoder.clearBuffer(this.#y, 0, m * this.#n * 4);
    const pass = encoder.beginComputePass();
    work.encode(pass, 0);
    pass.end();
    device.queue.submit([encoder.finish()]);
    return readSample(device, this.#y, { n: this.#n, y: 'f32' }, rows, columns);
  }

  async destroy(): Promise<void> {
    this.#x.destroy();
    this.#y.destroy();
    for (const buffer of this.#plain ?? []) buffer.destroy();
    for (const made of await Promise.allSettled(this.#fp4.values()))
      if (made.status === 'fulfilled') for (const weights of made.value.copies) weights.destroy();
  }
}

/** @throws UnsupportedError where the device has no memory for what `create` makes */
async function inMemory<T>({ device }: Gpu, what: string, create: () => T): Promise<T> {
  device.pushErrorScope('out-of-memory');
  const made = create();
  const error = await device.popErrorScope();
  if (error) throw new UnsupportedError('demo', `the device has no memory for ${what}: ${error.message}`);
  return made;
}
