import { InvalidArgumentError, UnsupportedError } from '../errors.js';
import type { Caps } from '../gpu/caps.js';
import { foldGrid } from '../gpu/grid.js';
import { estimateTime } from './kernels/core-time.js';
import {
  KERNELS,
  type Kernel,
  type KernelConstants,
  type KernelId,
  kernelLabel,
  refusal,
} from './kernels/index.js';
import { describeOperand, type OperandSpec } from './operands/operand.js';
import { type GemmProblem, type GemmProblemOptions, problemLabel, resolveProblem } from './problem.js';

/** Which kernel computes a problem, with which constants, over which grid, and why. Plain JSON. */
export interface GemmPlan {
  readonly kernel: KernelId;
  readonly constants: KernelConstants;
  /** How x is brought into the order the kernel reads. */
  readonly operand: OperandSpec;
  readonly workgroups: readonly [x: number, y: number, z: number];
  readonly label: string;
  readonly reason: string;
}

/** A variant, and why it is the one; or why the kernel cannot compute the problem. */
type Choice = Chosen | { readonly refused: string };

interface Chosen {
  readonly constants: KernelConstants;
  readonly reason: string;
}

/** A kernel that is good at a problem, and how its variant is chosen. */
interface Preference {
  readonly kernel: Kernel;
  choose(kernel: Kernel, p: GemmProblem, caps: Caps): Choice;
}

/** Workgroups that give every part of a large GPU something to do, and threads that keep its units busy. */
const BUSY_WORKGROUPS = 256;
const BUSY_THREADS = 32768;
const MOST_GEMV_WORKGROUPS = 384;
/** Part of k that is worth a workgroup of its own. */
const LEAST_PART = 256;
const LEAST_MATRIX_PART = 128;
/** Without matrices: up to this many rows of x, decoding weights again for every few rows beats filling tiles. */
const GEMV_MAX_M = 24;
/** Likewise where x is made integers for DP4A, with a scale a row or a block. */
const GEMV_DP4A_ROWS_MAX_M = 16;
const GEMV_DP4A_MAX_M = 48;
/** Up to this many rows of x, reading weights row by row beats matrices; up to more where there are few rows of weights. */
const GEMV_MATRIX_MAX_M = 4;
const GEMV_MATRIX_MAX_M_NARROW = 8;
const NARROW = 2048;

const GEMV: Preference = { kernel: KERNELS.gemv, choose: chooseGemv };
const GEMV_F16: Preference = { kernel: KERNELS.gemv_f16, choose: chooseGemv };
const TILED: Preference = { kernel: KERNELS.gemm_tiled, choose: chooseTiles };
const DP4A: Preference = { kernel: KERNELS.gemm_dp4a, choose: chooseLargestBusy };
const DP4A_ROWS: Preference = { kernel: KERNELS.gemm_dp4a_rows, choose: chooseTiles };
/** Of these, what is estimated to be the fastest. */
const MATRICES = [
  KERNELS.gemm_subgroup_matrix_skinny,
  KERNELS.gemm_subgroup_matrix,
  KERNELS.gemm_subgroup_matrix_direct,
];
const INT8_MATRICES = [KERNELS.gemm_subgroup_matrix_i8, ...MATRICES];

/** Kernels without matrices in the order in which they are preferred: the first that can compute the problem does. */
function preferences(p: GemmProblem): readonly Preference[] {
  const { m, activations } = p;
  const gemv = prefersF32(p) ? [GEMV, GEMV_F16] : [GEMV_F16, GEMV];
  const rows = m <= GEMV_MAX_M ? [...gemv, TILED] : [TILED, GEMV];
  if (m <= GEMV_MATRIX_MAX_M) return rows;
  const integerRows = activations.kind === 'int8' && m > GEMV_DP4A_ROWS_MAX_M ? [DP4A_ROWS] : [];
  const integers = activations.kind === 'float' ? [] : [DP4A];
  return [...integerRows, ...(m <= GEMV_DP4A_MAX_M ? [...rows, ...integers] : [...integers, ...rows])];
}

/**
 * Chooses a kernel for a problem on a device. Pure: the same problem and caps give the same plan.
 * @throws InvalidArgumentError, UnsupportedError where the problem is malformed or no kernel can run it
 */
export function planGemm(problem: GemmProblemOptions, caps: Caps): GemmPlan {
  const p = resolveProblem(problem);
  const passedOver: string[] = [];
  const plan = ({ id }: Kernel, { constants, reason }: Chosen) =>
    planWith(id, constants, p, caps, [reason, ...passedOver].join('; '));
  if (p.m > (p.n <= NARROW ? GEMV_MATRIX_MAX_M_NARROW : GEMV_MATRIX_MAX_M)) {
    // FP4 activations are made f16; int8 is an allowance.
    const kernels = p.activations.kind === 'int8' ? INT8_MATRICES : MATRICES;
    const [best, refusals] = chooseMatrix(kernels, p, caps);
    passedOver.push(...refusals);
    if (best) return plan(best.kernel, best);
  }
  for (const { kernel, choose } of preferences(p)) {
    const choice = choose(kernel, p, caps);
    if ('constants' in choice) return plan(kernel, choice);
    passedOver.push(`${kernel.id} cannot: ${choice.refused}`);
  }
  throw new UnsupportedError(
    'plan',
    `no kernel can compute ${p.m}x${p.n}x${p.k} ${problemLabel(p)} here: ${passedOver.join('; ')}`,
  );
}

/** Plan with a given kernel and constants, for tuners, tests and measurements. */
export function planWith(
  id: KernelId,
  constants: KernelConstants,
  problem: GemmProblemOptions,
  caps: Caps,
  reason = 'asked for by the caller',
): GemmPlan {
  const p = resolveProblem(problem);
  const kernel = KERNELS[id];
  if (!kernel) throw new InvalidArgumentError('plan', `unknown kernel ${JSON.stringify(id)}`);
  const label = kernelLabel(kernel, constants, p);
  const why = refusal(kernel, constants, p, caps);
  if (why) throw new UnsupportedError('plan', `${label} cannot run: ${why}`);
  const operand = kernel.operand(constants, p);
  const preparation = describeOperand(operand);
  return {
    kernel: id,
    constants,
    operand,
    workgroups: spreadGrid(kernel, constants, p, caps.limits.maxComputeWorkgroupsPerDimension),
    label,
    reason: preparation ? `${reason}; ${preparation}` : reason,
  };
}

/** Every variant of every kernel that can compute a problem on a device, as plans. */
export function candidatePlans(problem: GemmProblemOptions, caps: Caps): GemmPlan[] {
  const p = resolveProblem(problem);
  return Object.values(KERNELS).flatMap((kernel) =>
    fitting(kernel, p, caps).map((c) => planWith(kernel.id, c, p, caps, 'candidate')),
  );
}

function fitting(kernel: Kernel, p: GemmProblem, caps: Caps): KernelConstants[] {
  return kernel.variants(caps).filter((c) => !refusal(kernel, c, p, caps));
}

/** Why no variant of a kernel can run, in the words of the smallest. */
function refused(kernel: Kernel, p: GemmProblem, caps: Caps): { readonly refused: string } {
  const [smallest] = kernel.variants(caps);
  const missing = kernel.tiers.filter((tier) => !caps.tiers.includes(tier));
  return {
    refused: smallest
      ? refusal(kernel, smallest, p, caps)!
      : `the device lacks ${missing.join(', ') || 'a matrix shape that it is written for'}`,
  };
}

const total = ({ x, y, z }: ReturnType<Kernel['workgroups']>) => x * y * z;

// Rows of x that share a decoded weight: more amortize its decoding, but take registers and workgroup memory. Few rows of
// w a thread give more workgroups; where there are enough of them, more rows share what is read of x.

const isLarge = (p: GemmProblem) => p.n * p.k >= 2 ** 27;

/** Workgroups of 16 rows of weights and `rows` of x. */
const gemvWorkgroups = (p: GemmProblem, rows: number) => Math.ceil(p.n / 16) * Math.ceil(p.m / rows);

/** The fewest rows of x that do not make more workgroups than a large GPU holds. */
const sharedRows = (p: GemmProblem) =>
  [1, 2, 4].find((rows) => rows >= p.m || gemvWorkgroups(p, rows) <= MOST_GEMV_WORKGROUPS) ?? 4;

/** Two rows of x that share weights of short rows are faster as f32: 6.7 for 7.7 µs at 2880 × 2880, 8.7 for 9.8 at 5760 × 2880. */
const prefersF32 = (p: GemmProblem) => sharedRows(p) === 2 && p.k < 4096;

function gemvConstants(p: GemmProblem): KernelConstants {
  const X_ROWS = sharedRows(p);
  if (X_ROWS === 4) {
    return { X_ROWS, ROWS: 4, THREADS: gemvWorkgroups(p, 4) <= 2 * BUSY_WORKGROUPS ? 256 : 128 };
  }
  if (X_ROWS === 2) return { X_ROWS, ROWS: 2 };
  if (p.n <= 2048) return { X_ROWS, ROWS: 2, SLAB: 128, DEPTH: 4 };
  return { X_ROWS, ROWS: isLarge(p) ? 4 : 2, SLAB: p.n > 4096 ? 64 : 128, DEPTH: 1 };
}

function gemvF16Constants(p: GemmProblem): KernelConstants {
  const X_ROWS = sharedRows(p);
  if (X_ROWS === 4) return { X_ROWS, THREADS: gemvWorkgroups(p, 4) <= BUSY_WORKGROUPS ? 256 : 128 };
  if (X_ROWS === 2) return { X_ROWS };
  if (isLarge(p)) return { X_ROWS, ROWS: 4 };
  return { X_ROWS, ROWS: 2, DEPTH: p.n <= 4096 && p.n * p.k < 2 ** 25 ? 4 : 2 };
}

function chooseGemv(kernel: Kernel, p: GemmProblem, caps: Caps): Choice {
  const wanted = kernel.precision === 'f16' ? gemvF16Constants(p) : gemvConstants(p);
  const variants = fitting(kernel, p, caps);
  const matches = (c: KernelConstants) => Object.entries(wanted).every(([name, value]) => c[name] === value);
  const constants =
    variants.find(matches) ?? variants.findLast((c) => c.X_ROWS! <= wanted.X_ROWS!) ?? variants[0];
  if (!constants) return refused(kernel, p, caps);
  const reason =
    `m = ${p.m} ≤ ${GEMV_MAX_M}: weights are decoded where they are used, once for ${constants.X_ROWS} ` +
    `row${constants.X_ROWS === 1 ? '' : 's'} of x${kernel.precision === 'f16' ? ', and multiplied as halves' : ''}, by ${constants.THREADS} threads for ${8 * constants.ROWS!} rows of w`;
  return { constants, reason };
}

function chooseTiles(kernel: Kernel, p: GemmProblem, caps: Caps): Choice {
  // The smallest tile that holds all rows of x, or the largest, with k in as few parts as keep the device busy.
  const variants = fitting(kernel, p, caps);
  const tallest = variants.find((c) => c.TILE_M! >= p.m) ?? variants.at(-1);
  if (!tallest) return refused(kernel, p, caps);
  const parts = variants.filter(
    (c) =>
      c.TILE_M === tallest.TILE_M &&
      c.TILE_N === tallest.TILE_N &&
      (c.SPLIT_K === 1 || p.k / c.SPLIT_K! >= LEAST_PART),
  );
  const threads = (c: KernelConstants) => total(kernel.workgroups(c, p)) * kernel.threads(c);
  const constants = parts.find((c) => threads(c) >= BUSY_THREADS) ?? parts.at(-1)!;
  const split = constants.SPLIT_K!;
  const reason =
    `m = ${p.m}: tiles of ${kernel.tileLabel(constants)} share decoded weights between rows of x` +
    (split > 1 ? `, with k in ${split} parts to have ${threads(constants)} threads` : '');
  return { constants, reason };
}

/** The variant of some kernels that is estimated to be the fastest, and why others of them cannot. */
function chooseMatrix(
  kernels: readonly Kernel[],
  p: GemmProblem,
  caps: Caps,
): [best: (Chosen & { readonly kernel: Kernel }) | undefined, refusals: string[]] {
  const refusals: string[] = [];
  const variants = kernels.flatMap((kernel) => {
    const all = fitting(kernel, p, caps);
    if (!all.length) refusals.push(`${kernel.id} cannot: ${refused(kernel, p, caps).refused}`);
    return all
      .filter(({ SPLIT_K = 1 }) => SPLIT_K === 1 || p.k / SPLIT_K >= LEAST_MATRIX_PART)
      .map((constants) => ({ kernel, constants, time: estimateTime(kernel, constants, p) }));
  });
  if (!variants.length) return [undefined, refusals];
  const { kernel, constants } = variants.reduce((a, b) => (b.time < a.time ? b : a));
  const split = constants.SPLIT_K!;
  const reason =
    `m = ${p.m}: subgroup matrices, ${kernel.tileLabel(constants)}` +
    (split > 1
      ? `, with k in ${split} parts to have ${total(kernel.workgroups(constants, p))} workgroups`
      : '') +
    (kernel === KERNELS.gemm_subgroup_matrix_skinny
      ? ', hold all rows of x, so that weights are read once'
      : ', share decoded weights between rows of x') +
    `: the least estimated time of ${variants.length} variants`;
  return [{ kernel, constants, reason }, refusals];
}

function chooseLargestBusy(kernel: Kernel, p: GemmProblem, caps: Caps): Choice {
  // The largest tile that keeps the device busy, k in parts only where none does without; else what has most workgroups.
  const variants = fitting(kernel, p, caps);
  const busy = variants.filter((c) => total(kernel.workgroups(c, p)) >= BUSY_WORKGROUPS);
  const most = variants.reduce<KernelConstants | undefined>(
    (best, c) => (best && total(kernel.workgroups(best, p)) >= total(kernel.workgroups(c, p)) ? best : c),
    undefined,
  );
  const constants = busy.findLast((c) => (c.SPLIT_K ?? 1) === 1) ?? busy[0] ?? most;
  if (!constants) return refused(kernel, p, caps);
  const reason =
    `m = ${p.m}: tiles of ${kernel.tileLabel(constants)}, ` +
    (busy.length ? `the largest that give ${BUSY_WORKGROUPS} workgroups` : 'which give the most workgroups') +
    ((constants.SPLIT_K ?? 1) > 1 ? `, with k in ${constants.SPLIT_K} parts` : '');
  return { constants, reason };
}

/**
 * Workgroups of a kernel for n rows of weights, folded into the grid's limits.
 * @throws UnsupportedError where m is too large for the grid
 */
export function spreadGrid(
  kernel: Kernel,
  c: KernelConstants,
  p: GemmProblem,
  max: number,
): [number, number, number] {
  let { x, y, z } = kernel.workgroups(c, p);
  if (x > max && kernel.foldsX) {
    [x, y] = foldGrid(x, max);
  }
  if (x > max || y > max || z > max) {
    throw new UnsupportedError(
      'plan',
      `${p.m} × ${p.n} needs ${x} × ${y} × ${z} workgroups, above maxComputeWorkgroupsPerDimension = ${max}; split x along m`,
    );
  }
  return [x, y, z];
}
