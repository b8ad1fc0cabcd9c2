/** x, weights and y of the cases that share a weight matrix, and what their products should be. */
import { UnsupportedError } from '../src/errors.js';
import { createGemm, type Gemm, problemOf } from '../src/gemm/gemm.js';
import { KERNELS } from '../src/gemm/kernels/index.js';
import { candidatePlans, type GemmPlan } from '../src/gemm/plan.js';
import { problemReference, type ReferenceProduct, worstError } from '../src/gemm/reference.js';
import { randomMatrix, readSample } from '../src/gemm/trial.js';
import { type GpuWeights, uploadCopies } from '../src/gemm/weights.js';
import { checkBufferSize, createStorageBuffer } from '../src/gpu/buffers.js';
import { isSoftware } from '../src/gpu/caps.js';
import type { Gpu } from '../src/gpu/gpu.js';
import { byteLength, type QuantizedMatrix, selectRows } from '../src/matrix/quantized-matrix.js';
import { type BenchCase, parseFormat, type WeightFormat } from './cases.js';
import { largestNormal, normalsBetween, randomNormals } from './data.js';
import { createPlain, type PlainProduct, uploadPlain } from './plain.js';

type Type = 'f32' | 'f16';
const sizeOf = { f32: 4, f16: 2 } as const;

/** Rows and columns of y that are compared with f64. */
const CHECKED_ROWS = 4;
const CHECKED_COLUMNS = 64;

/** `count` of the integers below `size`, spread over them, the last one among them. */
export const spreadOver = (count: number, size: number): number[] =>
  Array.from(
    { length: Math.min(count, size) },
    (_, i, all = Math.min(count, size)) => Math.floor(((i + 1) * size) / all) - 1,
  );

/** x and y in buffers as large as the largest case needs, in both types where both are used. */
class Activations {
  readonly #gpu: Gpu;
  readonly #buffers = new Map<string, GPUBuffer>();
  readonly #m: number;
  readonly #n: number;
  readonly #k: number;

  constructor(gpu: Gpu, m: number, n: number, k: number) {
    this.#gpu = gpu;
    this.#m = m;
    this.#n = n;
    this.#k = k;
  }

  x(type: Type): GPUBuffer {
    return this.#buffer(`x ${type}`, () =>
      createStorageBuffer(this.#gpu.device, 'bench x', randomNormals(this.#m * this.#k, type)),
    );
  }

  y(type: Type): GPUBuffer {
    return this.#buffer(`y ${type}`, () =>
      createStorageBuffer(this.#gpu.device, 'bench y', this.#m * this.#n * sizeOf[type]),
    );
  }

  /** f32[rows, k] of given rows. */
  rows(type: Type, rows: readonly number[]): Float32Array {
    const k = this.#k;
    const picked = new Float32Array(rows.length * k);
    rows.forEach((row, i) => void picked.set(normalsBetween(row * k, (row + 1) * k, type), i * k));
    return picked;
  }

  /** The row below m with the largest magnitude, which sets the scale of a tensor in nvfp4. */
  largestRow(type: Type, m: number): number {
    return Math.floor(largestNormal(m * this.#k, type) / this.#k);
  }

  destroy(): void {
    for (const buffer of this.#buffers.values()) buffer.destroy();
  }

  #buffer(key: string, create: () => GPUBuffer): GPUBuffer {
    let buffer = this.#buffers.get(key);
    if (!buffer) {
      buffer = create();
      this.#buffers.set(key, buffer);
    }
    return buffer;
  }
}

/** A product that is compiled, checked and ready to be timed. */
export interface Product {
  readonly case: BenchCase;
  readonly kernel: string;
  /** Tiers of the kernel, which tell the ceiling it works against. */
  readonly tiers: readonly string[];
  /** The library's, one for each copy of the weights; absent for the plain kernels. */
  readonly gemms?: readonly Gemm[];
  /** Bytes of weights, x and y. */
  readonly bytes: number;
  encode(pass: GPUComputePassEncoder, repetition: number): void;
  /** Largest error against f64, in parts of its bound, at a sample of rows and columns. */
  check(): Promise<number>;
  destroy(): void;
}

interface Fp4Weights {
  readonly q: QuantizedMatrix;
  readonly copies: readonly GpuWeights[];
}

interface PlainWeights {
  readonly type: Type;
  readonly copies: readonly GPUBuffer[];
}

/** One weight matrix, in copies, with x and y for every case that multiplies with it. */
export class Operands {
  readonly #gpu: Gpu;
  readonly #activations: Activations;
  readonly #weights: Fp4Weights | undefined;
  readonly #plain: PlainWeights | undefined;
  readonly #n: number;
  readonly #k: number;
  /** That of the case that was checked last. */
  #known: { readonly case: BenchCase; readonly reference: ReferenceProduct } | undefined;

  private constructor(
    gpu: Gpu,
    n: number,
    k: number,
    activations: Activations,
    weights: Fp4Weights | undefined,
    plain: PlainWeights | undefined,
  ) {
    this.#gpu = gpu;
    this.#n = n;
    this.#k = k;
    this.#activations = activations;
    this.#weights = weights;
    this.#plain = plain;
  }

  /**
   * @param cases of one shape and format; those that do not fit the device are refused when they are prepared
   * @throws UnsupportedError where the weights do not fit
   */
  static async create(gpu: Gpu, cases: readonly BenchCase[]): Promise<Operands> {
    const { n, k, format: label } = cases[0]!;
    const format = parseFormat(label);
    const smallest = Math.min(...cases.map(({ m }) => m));
    const most = Math.max(0, ...cases.filter((c) => !misfit(gpu, c)).map(({ m }) => m));
    const activations = new Activations(gpu, most, n, k);
    if (format.format === 'f32' || format.format === 'f16') {
      const plain = plainWeights(gpu, n, k, format, smallest);
      return new Operands(gpu, n, k, activations, undefined, plain);
    }
    const { format: name, blockSize, macroSize } = format;
    const q = randomMatrix({ n, k, format: name, blockSize: blockSize!, ...(macroSize && { macroSize }) });
    const copies = await uploadCopies(gpu, q, smallest);
    return new Operands(gpu, n, k, activations, { q, copies }, undefined);
  }

  /**
   * Compiles a case. Copies of the weights take turns up to m = 64; above, x and y push each other out of the cache.
   * @param plan instead of the library's own choice
   * @throws UnsupportedError where the device or the library cannot; ShaderError
   */
  async prepare(c: BenchCase, plan?: GemmPlan): Promise<Product> {
    const reason = misfit(this.#gpu, c);
    if (reason) throw reason;
    return this.#weights ? this.#prepareGemm(c, this.#weights, plan) : this.#preparePlain(c);
  }

  /** Every plan for a case of FP4 weights that the device can run. */
  async candidates(c: BenchCase): Promise<GemmPlan[]> {
    const problem = problemOf(this.#weights!.copies[0]!, gemmOptions(c));
    return candidatePlans(problem, await this.#gpu.usableCaps());
  }

  /** Compiles them, so that preparing one takes no time; what does not compile fails there. */
  async compile(c: BenchCase): Promise<void> {
    if (misfit(this.#gpu, c)) return;
    const [weights] = this.#weights!.copies;
    const compile = async (plan: GemmPlan) =>
      (await createGemm(this.#gpu, { ...gemmOptions(c), weights: weights!, plan })).destroy();
    await Promise.allSettled((await this.candidates(c)).map(compile));
  }

  async #prepareGemm(c: BenchCase, { q, copies }: Fp4Weights, plan: GemmPlan | undefined): Promise<Product> {
    const { m, x, y } = c;
    const options = { ...gemmOptions(c), ...(plan && { plan }) };
    // x in f16 may be all the device lacks: the buffers are made after the plan has been refused for it.
    const first = await createGemm(this.#gpu, { ...options, weights: copies[0]! });
    const others = m > 64 ? [] : copies.slice(1);
    const gemms = [
      first,
      ...(await Promise.all(
        others.map((weights) => createGemm(this.#gpu, { ...options, weights, plan: first.plan })),
      )),
    ];
    const buffers = { x: this.#activations.x(x), y: this.#activations.y(y) };
    const encode = (pass: GPUComputePassEncoder, i: number) => gemms[i % gemms.length]!.encode(pass, buffers);
    const { kernel, constants, label } = first.plan;
    return {
      case: c,
      kernel: label,
      tiers: KERNELS[kernel].tiers,
      gemms,
      bytes: byteLength(q) + m * this.#k * sizeOf[x] + m * this.#n * sizeOf[y],
      encode,
      check: async () => {
        const { rows, columns, got } = await this.#run(c, (pass) => encode(pass, 0));
        const reference = this.#reference(c, () => {
          const problem = { ...first.problem, m: rows.length };
          return problemReference(this.#activations.rows(x, rows), selectRows(q, columns), problem);
        });
        return worstError(got, reference, KERNELS[kernel].errors(constants, first.problem), y);
      },
      destroy: () => gemms.forEach((gemm) => void gemm.destroy()),
    };
  }

  async #preparePlain(c: BenchCase): Promise<Product> {
    const { m, x } = c;
    const { type, copies } = this.#plain!;
    const used = m > 64 ? copies.slice(0, 1) : copies;
    const shared = { x: this.#activations.x(x), y: this.#activations.y('f32') };
    const products: PlainProduct[] = [];
    for (const w of used)
      products.push(await createPlain(this.#gpu, m, this.#n, this.#k, x, { ...shared, w }));
    const encode = (pass: GPUComputePassEncoder, i: number) => products[i % products.length]!.encode(pass);
    const { label, roundings } = products[0]!;
    return {
      case: c,
      kernel: label,
      tiers: ['base'],
      bytes: (this.#n + m) * this.#k * sizeOf[x] + m * this.#n * 4,
      encode,
      check: async () => {
        const { rows, columns, got } = await this.#run(c, (pass) => encode(pass, 0));
        return plainError(
          this.#activations.rows(x, rows),
          type,
          rows.length,
          columns,
          this.#k,
          got,
          roundings,
        );
      },
      destroy: () => products.forEach((product) => void product.destroy()),
    };
  }

  /** What all kernels of a case should give. */
  #reference(c: BenchCase, compute: () => ReferenceProduct): ReferenceProduct {
    if (this.#known?.case !== c) this.#known = { case: c, reference: compute() };
    return this.#known.reference;
  }

  /** Runs a product once over a cleared y, and reads a sample of it. */
  async #run(
    c: BenchCase,
    encode: (pass: GPUComputePassEncoder) => void,
  ): Promise<{ rows: number[]; columns: number[]; got: Float64Array }> {
    const { device } = this.#gpu;
    const y = this.#activations.y(c.y);
    const encoder = device.createCommandEncoder({ label: 'bench check' });
    encoder.clearBuffer(y);
    const pass = encoder.beginComputePass();
    encode(pass);
    pass.end();
    device.queue.submit([encoder.finish()]);
    const wanted = spreadOver(CHECKED_ROWS, c.m);
    if (c.activations === 'nvfp4') wanted.push(this.#activations.largestRow(c.x, c.m));
    const rows = [...new Set(wanted)];
    const columns = spreadOver(CHECKED_COLUMNS, this.#n);
    return { rows, columns, got: await readSample(device, y, c, rows, columns) };
  }

  destroy(): void {
    this.#activations.destroy();
    for (const buffer of [...(this.#weights?.copies ?? []), ...(this.#plain?.copies ?? [])]) buffer.destroy();
  }
}

const gemmOptions = ({ m, x, y, activations }: BenchCase) => ({
  m,
  x,
  y,
  activations: activations === 'f32' ? ('float' as const) : activations,
  precision: activations === 'f32' ? ('f32' as const) : ('f16' as const),
});

/** Why x or y of a case cannot be on the device. */
function misfit({ caps }: Gpu, { m, n, k, x, y }: BenchCase): UnsupportedError | undefined {
  try {
    checkBufferSize(caps.limits, `x[${m}, ${k}]`, m * k * sizeOf[x]);
    checkBufferSize(caps.limits, `y[${m}, ${n}]`, m * n * sizeOf[y]);
    return undefined;
  } catch (error) {
    return error as UnsupportedError;
  }
}

/** As many bytes as copies of FP4 weights have. */
const ROTATED_BYTES = 256e6;

function plainWeights(gpu: Gpu, n: number, k: number, { format }: WeightFormat, m: number): PlainWeights {
  const type = format as Type;
  if (type === 'f16' && !gpu.caps.tiers.includes('f16'))
    throw new UnsupportedError('bench', 'the device lacks f16');
  const bytes = n * k * sizeOf[type];
  checkBufferSize(gpu.caps.limits, `w[${n}, ${k}] in ${type}`, bytes);
  const one = m > 64 || isSoftware(gpu.adapterInfo);
  const copies = uploadPlain(gpu, randomNormals(n * k, type), one ? 1 : Math.ceil(ROTATED_BYTES / bytes));
  return { type, copies };
}

/** Largest error of y[rows, columns] in parts of the bound of a sum with so many roundings. */
export function plainError(
  x: Float32Array,
  type: Type,
  rows: number,
  columns: readonly number[],
  k: number,
  got: Float64Array,
  roundings: number,
): number {
  let worst = 0;
  columns.forEach((column, i) => {
    const w = normalsBetween(column * k, (column + 1) * k, type);
    for (let row = 0; row < rows; row++) {
      let sum = 0;
      let magnitude = 0;
      for (let j = 0; j < k; j++) {
        const product = x[row * k + j]! * w[j]!;
        sum += product;
        magnitude += Math.abs(product);
      }
      const bound = roundings * 2 ** -23 * magnitude + 1e-30;
      worst = Math.max(worst, Math.abs(got[row * columns.length + i]! - sum) / bound);
    }
  });
  return worst;
}
