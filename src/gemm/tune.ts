/** Choosing a kernel by measuring all that can run, on the caller's device. */
import { UnsupportedError } from '../errors.js';
import type { Caps } from '../gpu/caps.js';
import type { Gpu } from '../gpu/gpu.js';
import { type TimerOptions, time } from '../gpu/timer.js';
import type { Gemm } from './gemm.js';
import { estimateTime } from './kernels/core-time.js';
import { KERNELS, type KernelConstants } from './kernels/index.js';
import { candidatePlans, type GemmPlan } from './plan.js';
import { type GemmProblem, type GemmProblemOptions, problemLabel, resolveProblem } from './problem.js';
import { randomMatrix, Trial } from './trial.js';
import { type GpuWeights, uploadCopies } from './weights.js';

/** Where measurements are kept: a Map, a page's own storage, in Node `tuneFile` of `fp4-webgpu/node`. */
export interface TuneStorage {
  get(key: string): string | null | undefined | Promise<string | null | undefined>;
  set(key: string, value: string): unknown;
}

export interface TuneOptions {
  /** Measurements are read from and written to it one by one, so that tuning can be interrupted and go on later. */
  storage?: TuneStorage | undefined;
  signal?: AbortSignal | undefined;
  timer?: TimerOptions | undefined;
  /** Called after each candidate; `seconds` is undefined where it could not run. */
  onProgress?:
    | ((candidate: GemmPlan, seconds: number | undefined, done: number, total: number) => void)
    | undefined;
}

/** Seconds of each candidate measured so far, by label; null for one that failed its check or did not compile. */
type Measurements = Record<string, number | null>;

/** How many times the least estimated time is too long to be measured, and µs that any product takes besides. */
const UNLIKELY = 3;
const DISPATCH = 4;

/** Columns of y that are compared with f64. */
const CHECKED_COLUMNS = 16;

/**
 * Measures the kernels and variants that may be the fastest for a problem on this device, the likeliest first, and returns
 * the plan of the one that is: those estimated to take up to three times as long as the best.
 * Each is first compared with f64 on random weights; one that is wrong or does not compile is left out.
 *
 * ```ts
 * const plan = await tuneGemm(gpu, problemOf(weights, { m: 1 }), { storage: new Map() });
 * const gemm = await createGemm(gpu, { m: 1, weights, plan });
 * ```
 * @throws UnsupportedError where no candidate works; the signal's reason where it aborts
 */
export async function tuneGemm(
  gpu: Gpu,
  wanted: GemmProblemOptions,
  options: TuneOptions = {},
): Promise<GemmPlan> {
  const problem = resolveProblem(wanted);
  const { storage, signal, onProgress } = options;
  const candidates = likelyPlans(problem, await gpu.usableCaps());
  const key = tuneKey(gpu, problem);
  const measurements = parseMeasurements(await storage?.get(key));

  let bench: Bench | undefined;
  try {
    for (const [index, plan] of candidates.entries()) {
      signal?.throwIfAborted();
      if (measurements[plan.label] === undefined) {
        bench ??= await Bench.create(gpu, problem);
        measurements[plan.label] = (await bench.measure(plan, options.timer)) ?? null;
        await storage?.set(key, JSON.stringify(measurements));
      }
      onProgress?.(plan, measurements[plan.label] ?? undefined, index + 1, candidates.length);
    }
  } finally {
    bench?.destroy();
  }

  const working = candidates.filter(({ label }) => typeof measurements[label] === 'number');
  const seconds = ({ label }: GemmPlan) => measurements[label]!;
  const [best, next] = working.sort((a, b) => seconds(a) - seconds(b));
  if (!best)
    throw new UnsupportedError(
      'tune',
      `none of ${candidates.length} kernels computes ${describe(problem)} on this device`,
    );
  const lead = next ? `, ${(seconds(next) / seconds(best)).toFixed(2)} times as fast as ${next.label}` : '';
  return {
    ...best,
    reason: `measured: ${(seconds(best) * 1e6).toFixed(1)} µs, the fastest of ${working.length}${lead}`,
  };
}

/** Storage key of a problem on a device: everything that a measurement depends on. */
export function tuneKey(gpu: Gpu, problem: GemmProblemOptions): string {
  const { vendor, architecture, device, description } = gpu.adapterInfo;
  const adapter = [vendor, architecture, device, description].filter(Boolean).join(' ');
  return `fp4-webgpu tune 1: ${adapter}: ${gpu.caps.tiers.join(' ')}: ${describe(resolveProblem(problem))}`;
}

function describe(p: GemmProblem): string {
  return `${p.m}x${p.n}x${p.k} ${problemLabel(p)} ${p.precision}`;
}

/** Those that another GPU than the one that estimates are made for may be fastest with, the likeliest first. */
function likelyPlans(problem: GemmProblem, caps: Caps): GemmPlan[] {
  const estimated = candidatePlans(problem, caps)
    .map((plan) => ({ plan, time: estimateTime(KERNELS[plan.kernel], plan.constants, problem, caps.cores) }))
    .sort((a, b) => a.time - b.time);
  const most = UNLIKELY * (estimated[0]?.time ?? 0) + DISPATCH;
  return estimated
    .filter(({ plan, time }) => time <= most && canWin(plan.constants, problem))
    .map(({ plan }) => plan);
}

/** False for tiles that are mostly empty, and rows of x that are not there. */
function canWin(c: KernelConstants, { m }: GemmProblem): boolean {
  if (c.X_ROWS) return c.X_ROWS < 2 * m;
  return !c.TILE_M || c.TILE_M < 16 * m;
}

function parseMeasurements(text: string | null | undefined): Measurements {
  if (!text) return {};
  try {
    const entries = Object.entries(JSON.parse(text) as object);
    return Object.fromEntries(
      entries.filter(([, value]) => value === null || (typeof value === 'number' && value > 0)),
    );
  } catch {
    // Something else was stored under the key, or half of it: measure again.
    return {};
  }
}

/** A problem to try plans on, and copies of its weights to rotate through. */
class Bench {
  readonly #gpu: Gpu;
  readonly #trial: Trial;
  readonly #weights: readonly GpuWeights[];

  private constructor(gpu: Gpu, trial: Trial, weights: readonly GpuWeights[]) {
    this.#gpu = gpu;
    this.#trial = trial;
    this.#weights = weights;
  }

  static async create(gpu: Gpu, p: GemmProblem): Promise<Bench> {
    const q = randomMatrix(p);
    const weights = await uploadCopies(gpu, q, p.m);
    return new Bench(gpu, new Trial(gpu, p, q, { rows: p.m, columns: CHECKED_COLUMNS }), weights);
  }

  /** Median seconds of a plan, or undefined where it does not compile or is wrong. */
  async measure(plan: GemmPlan, timer: TimerOptions | undefined): Promise<number | undefined> {
    let gemms: readonly Gemm[];
    try {
      gemms = await Promise.all(this.#weights.map((weights) => this.#trial.createGemm(weights, plan)));
    } catch {
      return undefined;
    }
    try {
      // Written so that NaN is wrong.
      if (!((await this.#trial.worstError(gemms[0]!)) <= 1)) return undefined;
      const run = (pass: GPUComputePassEncoder, i: number) =>
        gemms[i % gemms.length]!.encode(pass, this.#trial.buffers);
      return (await time(this.#gpu, run, timer)).median;
    } finally {
      for (const gemm of gemms) gemm.destroy();
    }
  }

  destroy(): void {
    this.#trial.destroy();
    for (const weights of this.#weights) weights.destroy();
  }
}
