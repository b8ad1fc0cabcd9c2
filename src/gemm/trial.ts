/** Products of random operands, and their comparison with f64 on a sample of y: how plans are tried out. */

import { fromF16, toF16 } from '../formats/f16.js';
import { FORMATS } from '../formats/formats.js';
import { createStorageBuffer, readBuffer } from '../gpu/buffers.js';
import type { Gpu } from '../gpu/gpu.js';
import { type QuantizedMatrix, selectRows } from '../matrix/quantized-matrix.js';
import { Random } from '../random.js';
import { createGemm, type Gemm, warmUp } from './gemm.js';
import { KERNELS } from './kernels/index.js';
import type { GemmPlan } from './plan.js';
import type { GemmProblem } from './problem.js';
import {
  activationReference,
  addBefore,
  type ReferenceProduct,
  referenceProduct,
  worstError,
} from './reference.js';
import type { GpuWeights } from './weights.js';

/** Rows and columns of y that are compared with f64. */
export interface TrialSample {
  readonly rows: number;
  readonly columns: number;
}

/** One problem with random x, bias and y, in the types that the problem has them in. */
export class Trial {
  /** What a product of the problem is encoded with. */
  readonly buffers: { readonly x: GPUBuffer; readonly y: GPUBuffer; readonly bias?: GPUBuffer };
  readonly #gpu: Gpu;
  readonly #problem: GemmProblem;
  readonly #q: QuantizedMatrix;
  readonly #x: Float32Array;
  readonly #bias: Float32Array | undefined;
  /** What y holds before a product, where products are added to it. */
  readonly #before: { readonly values: Float32Array; readonly buffer: GPUBuffer } | undefined;
  readonly #rows: readonly number[];
  readonly #columns: readonly number[];
  #reference: ReferenceProduct | undefined;

  /** @param q the weights, see {@link randomMatrix} */
  constructor(gpu: Gpu, p: GemmProblem, q: QuantizedMatrix, sample: TrialSample) {
    const random = new Random(2);
    const { device } = gpu;
    this.#gpu = gpu;
    this.#problem = p;
    this.#q = q;
    this.#rows = spread(random, sample.rows, p.m);
    this.#columns = spread(random, sample.columns, p.n);
    const x = store(random.normals(p.m * p.k), p.x);
    this.#x = load(x, p.x);
    this.#bias = p.bias ? random.normals(p.n) : undefined;
    if (p.accumulate) {
      const before = store(random.normals(p.m * p.n), p.y);
      this.#before = {
        values: load(before, p.y),
        buffer: createStorageBuffer(device, 'fp4 trial y before', before),
      };
    }
    this.buffers = {
      x: createStorageBuffer(device, 'fp4 trial x', x),
      y: createStorageBuffer(device, 'fp4 trial y', p.m * p.n * bytesOf(p.y)),
      ...(this.#bias && { bias: createStorageBuffer(device, 'fp4 trial bias', this.#bias) }),
    };
  }

  /** Compiles kernels in parallel, for `createGemm`, which also says why one of them does not compile. */
  async compile(plans: readonly GemmPlan[]): Promise<void> {
    await Promise.allSettled(plans.map((plan) => warmUp(this.#gpu, [{ ...this.#problem, plan }])));
  }

  /** @throws what `createGemm` does */
  createGemm(weights: GpuWeights, plan: GemmPlan): Promise<Gemm> {
    const { m, x, y, bias, accumulate, activations, precision } = this.#problem;
    return createGemm(this.#gpu, { m, weights, x, y, bias, accumulate, activations, precision, plan });
  }

  /** Runs a product once: its largest error in parts of its bound, at most 1 where it is right, NaN where y is. */
  async worstError(gemm: Gemm): Promise<number> {
    const { device } = this.#gpu;
    const { y } = this.buffers;
    const encoder = device.createCommandEncoder({ label: 'fp4 trial' });
    if (this.#before) encoder.copyBufferToBuffer(this.#before.buffer, 0, y, 0, y.size);
    else encoder.clearBuffer(y);
    const pass = encoder.beginComputePass();
    gemm.encode(pass, this.buffers);
    pass.end();
    device.queue.submit([encoder.finish()]);
    this.#reference ??= this.#makeReference();
    const errors = KERNELS[gemm.plan.kernel].errors(gemm.plan.constants, this.#problem);
    const got = await readSample(device, y, this.#problem, this.#rows, this.#columns);
    return worstError(got, this.#reference, errors, this.#problem.y);
  }

  destroy(): void {
    for (const buffer of Object.values(this.buffers)) buffer.destroy();
    this.#before?.buffer.destroy();
  }

  #makeReference(): ReferenceProduct {
    const { k, n } = this.#problem;
    const rows = this.#rows;
    const columns = this.#columns;
    // FP4 activations may have a scale for all of x.
    const all = activationReference(this.#x, this.#problem);
    const x = new Float32Array(rows.length * k);
    rows.forEach((row, i) => void x.set(all.subarray(row * k, (row + 1) * k), i * k));
    const bias = this.#bias && Float32Array.from(columns, (column) => this.#bias![column]!);
    const reference = referenceProduct(x, selectRows(this.#q, columns), rows.length, bias);
    if (this.#before) {
      const { values } = this.#before;
      addBefore(
        reference,
        rows.flatMap((row) => columns.map((column) => values[row * n + column]!)),
      );
    }
    return reference;
  }
}

/** f64[rows, columns] of y[m, n] at given rows and columns; only those rows are copied back. */
export async function readSample(
  device: GPUDevice,
  y: GPUBuffer,
  { n, y: type }: Pick<GemmProblem, 'n' | 'y'>,
  rows: readonly number[],
  columns: readonly number[],
): Promise<Float64Array> {
  const sample = new Float64Array(rows.length * columns.length);
  const bytes = bytesOf(type);
  await Promise.all(
    rows.map(async (row, i) => {
      // Copies begin at multiples of four bytes: a row of halves may begin in the middle.
      const begin = row * n * bytes;
      const offset = begin - (begin % 4);
      const size = Math.ceil((begin + n * bytes - offset) / 4) * 4;
      const data = await readBuffer(device, { buffer: y, offset, size });
      const values = load(type === 'f16' ? new Uint16Array(data) : new Float32Array(data), type);
      const first = (begin - offset) / bytes;
      columns.forEach((column, j) => {
        sample[i * columns.length + j] = values[first + column]!;
      });
    }),
  );
  return sample;
}

const bytesOf = (type: 'f32' | 'f16') => (type === 'f16' ? 2 : 4);

function store(values: Float32Array, type: 'f32' | 'f16'): Float32Array | Uint16Array {
  return type === 'f16' ? toF16(values) : values;
}

function load(values: Float32Array | Uint16Array, type: 'f32' | 'f16'): Float32Array {
  return type === 'f16' ? fromF16(values as Uint16Array) : (values as Float32Array);
}

/** Numbers below `size`: the first, the last, and one at random in each part between, as tiles repeat at regular places. */
function spread(random: Random, count: number, size: number): number[] {
  if (count >= size) return Array.from({ length: size }, (_, i) => i);
  return Array.from({ length: count }, (_, i) => {
    if (i === 0) return 0;
    if (i === count - 1) return size - 1;
    return random.integer(Math.floor((i * size) / count), Math.floor(((i + 1) * size) / count) - 1);
  });
}

type WeightShape = Pick<GemmProblem, 'n' | 'k' | 'format' | 'blockSize' | 'macroSize'>;

/** Random codes with scales around 1: the values do not matter for speed, their spread does not for the check. */
export function randomMatrix({ n, k, format, blockSize, macroSize }: WeightShape, seed = 1): QuantizedMatrix {
  const random = new Random(seed);
  const codes = new Uint32Array(Math.ceil((n * k) / 8));
  for (let i = 0; i < codes.length; i++) codes[i] = random.u32();
  const one = FORMATS[format].scaleFormat === 'e8m0' ? 127 : 0x38;
  const bytes = (length: number, low: number, high: number) => {
    const array = new Uint8Array(length);
    for (let i = 0; i < length; i++) array[i] = random.integer(low, high);
    return array;
  };
  return {
    format,
    rows: n,
    cols: k,
    blockSize,
    codes: new Uint8Array(codes.buffer, 0, (n * k) / 2),
    scales: bytes((n * k) / blockSize, one - 3, one + 3),
    ...(macroSize && { macroSize, macroScales: bytes(n * Math.ceil(k / macroSize), 0, 255) }),
    globalScale: 1,
    hadamard: false,
  };
}
