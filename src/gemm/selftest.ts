/**
 * Checks every kernel on a device against f64, on random problems: the same cases on every host for a given seed.
 * Half of them are exact (small integers, power-of-two scales), where a kernel has to agree bit for bit; the rest have
 * to agree within the bound that follows from the kernel's roundings.
 */
import { MACRO_SIZES } from '../formats/formats.js';
import type { Gpu } from '../gpu/gpu.js';
import type { QuantizedMatrix } from '../matrix/quantized-matrix.js';
import { type MacroScale, type MxScaleRule, type NvScaleRule, SCALE_RULES } from '../quantize/options.js';
import { quantize } from '../quantize/quantize.js';
import { Random } from '../random.js';
import type { Activations } from './activations.js';
import { matmul, problemOf } from './gemm.js';
import {
  KERNELS,
  type Kernel,
  type KernelConstants,
  type KernelId,
  kernelLabel,
  refusal,
} from './kernels/index.js';
import { planWith } from './plan.js';
import { type GemmProblem, WEIGHT_FORMATS, type WeightFormat } from './problem.js';
import { errorBound, problemReference, type ReferenceProduct } from './reference.js';
import { uploadWeights } from './weights.js';

export interface SelfTestOptions {
  /**
   * Random problems; 100 by default. They come in pairs of the same format and k, exact and real, which share their compiled
   * kernels: each pair is given to every kernel, with one variant and one kind of activations of each in turn. Formats come
   * each once in random order, then each once again.
   */
  cases?: number | undefined;
  /** 1 by default. */
  seed?: number | undefined;
  /** Largest m, n and k; 300 by default. */
  maxSize?: number | undefined;
  /** Largest m where that is less, for kernels that take few rows; `maxSize` by default. */
  maxRows?: number | undefined;
  /** 'all' (default): the cases take every kernel's variants in turn. 'first': only the first, the smallest one. */
  variants?: 'all' | 'first' | undefined;
  /** Kernels to check; all by default. */
  kernels?: readonly KernelId[] | undefined;
  /** Called after every case. */
  onProgress?: ((done: number, total: number) => void) | undefined;
}

export interface SelfTestFailure {
  /** Seed, sizes and kernel: enough to run the case again. */
  readonly what: string;
  readonly row: number;
  readonly col: number;
  readonly expected: number;
  readonly actual: number;
  /** Largest error allowed there; 0 in the exact class. */
  readonly bound: number;
}

export interface SelfTestReport {
  readonly cases: number;
  /** Products computed and compared. */
  readonly products: number;
  readonly exactProducts: number;
  /** Largest error of any element, as a fraction of its bound, by kernel. */
  readonly worst: Readonly<Record<KernelId, number>>;
  /** Labels of the kernels that ran. */
  readonly kernels: readonly string[];
  /** The first element that is off in each product that is. */
  readonly failures: readonly SelfTestFailure[];
}

/** Runs the check. Failures are reported, not thrown. */
export async function selfTest(gpu: Gpu, options: SelfTestOptions = {}): Promise<SelfTestReport> {
  const {
    cases = 100,
    seed = 1,
    maxSize = 300,
    maxRows = maxSize,
    variants = 'all',
    kernels,
    onProgress,
  } = options;
  const random = new Random(seed);
  const worst = Object.fromEntries(Object.keys(KERNELS).map((id) => [id, 0])) as Record<KernelId, number>;
  const labels = new Set<string>();
  const failures: SelfTestFailure[] = [];
  let products = 0;
  let exactProducts = 0;

  let formats: WeightFormat[] = [];
  let compiled: Compiled | undefined;
  for (let index = 0; index < cases; index++) {
    const exact = index % 2 === 0;
    if (exact || !compiled) {
      if (!formats.length) formats = shuffled(random, Object.values(WEIGHT_FORMATS));
      compiled = randomCompiled(random, formats.pop()!, maxSize);
    }
    const shape = { ...compiled, m: random.integer(1, maxRows), n: random.integer(1, maxSize) };
    const { q, x, m, bias, activations } = exact ? exactCase(random, shape) : realCase(random, shape, index);
    const references = new Map<string, ReferenceProduct>();
    const weights = await uploadWeights(gpu, q, { label: `self test ${index}` });
    for (const kernel of Object.values(KERNELS).filter(({ id }) => kernels?.includes(id) ?? true)) {
      const { id } = kernel;
      const turn = index >> 1;
      const fitting = activations.filter(({ kind }) => kernel.activations.includes(kind));
      const own = { activations: fitting[turn % fitting.length], bias: bias !== undefined };
      const whole = problemOf(weights, { ...own, m });
      const constants = variantFor(kernel, gpu, { ...whole, m: 1 }, variants === 'all' ? turn : 0);
      if (!constants) continue;
      // A variant for few rows is given as many as it takes. Those are for floats, whose rows do not depend on each other.
      const rows = Math.min(m, kernel.mostRows?.(constants) ?? m);
      const problem = { ...whole, m: rows };
      const { activations: as } = problem;
      const input = as.kind === 'int8' ? 'float' : as.kind;
      const reference = references.get(input) ?? problemReference(x, q, whole, bias);
      references.set(input, reference);
      labels.add(kernelLabel(kernel, constants, problem));
      const plan = planWith(id, constants, problem, gpu.caps, 'self test');
      const some = x.subarray(0, rows * q.cols);
      const y = await matmul(gpu, some, weights, { m: rows, activations: as, bias, plan });
      products++;
      if (exact) exactProducts++;
      let reported = false;
      for (let i = 0; i < y.length; i++) {
        const bound = exact ? 0 : errorBound(reference, i, kernel.errors(constants, problem));
        const error = Math.abs(y[i]! - reference.y[i]!);
        if (bound > 0) worst[id] = Math.max(worst[id], error / bound);
        // Written so that NaN fails.
        if (!(error <= bound) && !reported) {
          reported = true;
          failures.push({
            what: `seed ${seed}, case ${index}, m ${rows}, n ${q.rows}, k ${q.cols}: ${plan.label}`,
            row: Math.floor(i / q.rows),
            col: i % q.rows,
            expected: reference.y[i]!,
            actual: y[i]!,
            bound,
          });
        }
      }
    }
    weights.destroy();
    onProgress?.(index + 1, cases);
  }
  return { cases, products, exactProducts, worst, kernels: [...labels].sort(), failures };
}

/** One of the variants of a kernel that the device can run, by turns. */
function variantFor(kernel: Kernel, gpu: Gpu, p: GemmProblem, turn: number): KernelConstants | undefined {
  const variants = kernel.variants(gpu.caps).filter((c) => !refusal(kernel, c, p, gpu.caps));
  // Neighbours differ least, often in how k is cut alone: of many, a few turns see more by fives, and all turns all.
  const stride = variants.length > 9 && variants.length % 5 ? 5 : 1;
  return variants[(stride * turn) % variants.length];
}

interface Case {
  q: QuantizedMatrix;
  x: Float32Array;
  m: number;
  bias: Float32Array | undefined;
  /** One of each kind that the case is meant for. */
  activations: readonly Activations[];
}

/** What kernels are compiled for. */
interface Compiled extends WeightFormat {
  k: number;
  bias: boolean;
}

interface Shape extends Compiled {
  m: number;
  n: number;
}

function shuffled<T>(random: Random, values: readonly T[]): T[] {
  const result = [...values];
  for (let i = result.length - 1; i > 0; i--) {
    const other = random.integer(0, i);
    [result[i], result[other]] = [result[other]!, result[i]!];
  }
  return result;
}

function randomCompiled(random: Random, format: WeightFormat, maxSize: number): Compiled {
  const k = format.blockSize * random.integer(1, Math.floor(maxSize / format.blockSize));
  return { ...format, k, bias: random.pick([false, true]) };
}

function randomMxfp4(random: Random, k: number, macroScales: readonly MacroScale[]): Activations {
  return {
    kind: 'mxfp4',
    blockSize: k % 32 ? 16 : random.pick([16, 32]),
    scaleRule: random.pick(SCALE_RULES.mxfp4) as MxScaleRule,
    macroScale: random.pick(macroScales),
    macroSize: random.pick(MACRO_SIZES),
  };
}

/**
 * Integers -2..2 times E2M1 codes times scales 1/2 .. 2 (and macro factors 1): every product is a multiple of 1/4, up to 96
 * of them. So f32 holds every partial sum in any order for k ≤ 2^24 / 96, and f16 those of sixteen products, the most that
 * kernels add up as halves.
 * MXFP4 holds these integers as they are, by any rule; nvfp4, macro factors and int8 scale them by fractions.
 */
function exactCase(random: Random, { format, blockSize, macroSize, m, n, k, bias }: Shape): Case {
  // 1/2, 1, 2 in E8M0 and in E4M3.
  const scaleBytes = format === 'mxfp4' ? [126, 127, 128] : [0x30, 0x38, 0x40];
  const q: QuantizedMatrix = {
    format,
    rows: n,
    cols: k,
    blockSize,
    codes: Uint8Array.from({ length: (n * k) / 2 }, () => random.integer(0, 255)),
    scales: Uint8Array.from({ length: (n * k) / blockSize }, () => random.pick(scaleBytes)),
    ...(macroSize && { macroSize, macroScales: new Uint8Array(n * Math.ceil(k / macroSize)) }),
    globalScale: format === 'nvfp4' ? 0.5 : 1,
    hadamard: false,
  };
  return {
    q,
    m,
    x: random.integers(m * k, -2, 2),
    bias: bias ? random.integers(n, -64, 64) : undefined,
    activations: [{ kind: 'float' }, randomMxfp4(random, k, ['none'])],
  };
}

/** Real numbers of several distributions, quantized by a random rule. */
function realCase(
  random: Random,
  { format, blockSize, macroSize, m, n, k, bias }: Shape,
  index: number,
): Case {
  const heavyTailed = random.unit() < 0.3;
  const value = () => (heavyTailed ? random.normal() * 2 ** random.integer(-12, 12) : random.normal());
  const q = quantize(Float32Array.from({ length: n * k }, value), {
    rows: n,
    cols: k,
    format,
    blockSize: blockSize as 16 | 32,
    scaleRule: random.pick(SCALE_RULES[format]),
    macroScale: macroSize ? 'static' : 'none',
    macroSize,
    hadamard: index % 9 === 1,
  });
  const x = Float32Array.from({ length: m * k }, value);
  const activations: Activations[] = [
    { kind: 'float' },
    { kind: 'int8' },
    randomMxfp4(random, k, ['none', 'static', 'dynamic']),
    { kind: 'nvfp4', scaleRule: random.pick(SCALE_RULES.nvfp4) as NvScaleRule },
  ];
  return { q, m, x, bias: bias ? random.normals(n) : undefined, activations };
}

/** One line a person can read. */
export function describeReport(report: SelfTestReport): string {
  const worst = Object.entries(report.worst).map(([id, fraction]) => `${id} ${fraction.toFixed(3)}`);
  return (
    `${report.products} products (${report.exactProducts} bit for bit) by ${report.kernels.length} compiled kernels: ` +
    `${report.failures.length} wrong; largest error in parts of the bound: ${worst.join(', ')}`
  );
}
