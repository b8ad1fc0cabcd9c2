import { InvalidArgumentError, UnsupportedError } from '../errors.js';
import type { Caps } from '../gpu/caps.js';
import { foldGrid } from '../gpu/grid.js';
import {
  KERNELS,
  type Kernel,
  type KernelConstants,
  type KernelId,
  kernelLabel,
  refusal,
} from './kernels/index.js';
import { tileM, tileN } from './kernels/matrix-variants.js';
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
type Choice = { readonly constants: KernelConstants; readonly reason: string } | { readonly refused: string };

/** A kernel that is good at a problem, and how its variant is chosen. */
interface Preference {
  readonly kernel: Kernel;
  choose(kernel: Kernel, p: GemmProblem, caps: Caps): Choice;
}

/** Workgroups that give every part of a large GPU something to do, and threads that keep its units busy. */
const BUSY_WORKGROUPS = 256;
const BUSY_THREADS = 32768;
/** Part of k that is worth a workgroup of its own. */
const LEAST_PART = 256;
const LEAST_MATRIX_PART = 128;
/** Cores of a large GPU, each of which one workgroup of a large tile fills, or two of a small one. */
const CORES = 128;
const SMALL_TILE = 64 * 64;
/** How long two workgroups of gemm_subgroup_matrix_direct take on a core, in parts of one of gemm_subgroup_matrix. */
const DIRECT_PAIR = 1.84;
/**
 * How long a core takes for the sixteen subgroups of gemm_subgroup_matrix_skinny that it holds, by how many of them are a
 * workgroup, in parts of the time for one workgroup of all.
 */
const SKINNY_ROUND: Readonly<Record<number, number>> = { 16: 1, 8: 1.65, 4: 2.9 };
/** Columns of x up to which its workgroups for 64 rows beat tiles. */
const MOST_SKINNY_K = 8192;
/** How long small tiles take, two on a core, in parts of the time for a large one. */
const SMALL_TILE_TIME = 0.77;
/** What cutting k in two costs, in parts of a product. */
const SPLIT_COST = 0.2;
/** Without matrices: up to this many rows of x, decoding weights again for every few rows beats filling tiles. */
const GEMV_MAX_M = 24;
/** Likewise where x is made integers for DP4A, with a scale a row or a block. */
const GEMV_DP4A_ROWS_MAX_M = 16;
const GEMV_DP4A_MAX_M = 48;
/** Up to this many rows of x, reading weights row by row beats matrices. */
const GEMV_MATRIX_MAX_M = 4;
/** Up to this many, a workgroup for all of them beats tiles on int8 matrices. */
const SKINNY_INT8_MAX_M = 48;

const GEMV: Preference = { kernel: KERNELS.gemv, choose: chooseGemv };
const GEMV_F16: Preference = { kernel: KERNELS.gemv_f16, choose: chooseGemv };
const TILED: Preference = { kernel: KERNELS.gemm_tiled, choose: chooseTiles };
const SKINNY: Preference = { kernel: KERNELS.gemm_subgroup_matrix_skinny, choose: chooseSkinny };
const DIRECT: Preference = { kernel: KERNELS.gemm_subgroup_matrix_direct, choose: chooseMatrix };
const MATRIX: Preference = { kernel: KERNELS.gemm_subgroup_matrix, choose: chooseMatrix };
const DP4A: Preference = { kernel: KERNELS.gemm_dp4a, choose: chooseLargestBusy };
const DP4A_ROWS: Preference = { kernel: KERNELS.gemm_dp4a_rows, choose: chooseTiles };
const MATRIX_I8: Preference = { kernel: KERNELS.gemm_subgroup_matrix_i8, choose: chooseMatrix };

/** Kernels in the order in which they are preferred: the first that can compute the problem does. */
function preferences({ m, n, activations: { kind } }: GemmProblem): readonly Preference[] {
  const rows = m <= GEMV_MAX_M ? [GEMV_F16, GEMV, TILED] : [TILED, GEMV];
  if (m <= GEMV_MATRIX_MAX_M) return rows;
  const tiles = Math.ceil(m / 128) * Math.ceil(n / 128);
  const direct = m > 64 && Math.ceil(tiles / (2 * CORES)) * DIRECT_PAIR < Math.ceil(tiles / CORES);
  // FP4 activations are made f16. int8 is an allowance that is worth taking where there are many rows.
  const int8 = kind === 'int8' ? [MATRIX_I8] : [];
  const halves = direct ? [DIRECT, MATRIX] : [MATRIX, DIRECT];
  const matrices = [...(m > SKINNY_INT8_MAX_M ? [...int8, SKINNY] : [SKINNY, ...int8]), ...halves];
  const integerRows = kind === 'int8' && m > GEMV_DP4A_ROWS_MAX_M ? [DP4A_ROWS] : [];
  const integers = kind === 'float' ? [] : [DP4A];
  const others = m <= GEMV_DP4A_MAX_M ? [...rows, ...integers] : [...integers, ...rows];
  return [...matrices, ...integerRows, ...others];
}

/**
 * Chooses a kernel for a problem on a device. Pure: the same problem and caps give the same plan.
 * @throws InvalidArgumentError, UnsupportedError where the problem is malformed or no kernel can run it
 */
export function planGemm(problem: GemmProblemOptions, caps: Caps): GemmPlan {
  const p = resolveProblem(problem);
  const passedOver: string[] = [];
  for (const { kernel, choose } of preferences(p)) {
    const choice = choose(kernel, p, caps);
    if ('constants' in choice) {
      return planWith(kernel.id, choice.constants, p, caps, [choice.reason, ...passedOver].join('; '));
    }
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
function refused(kernel: Kernel, p: GemmProblem, caps: Caps): Choice {
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

function gemvConstants(p: GemmProblem): KernelConstants {
  if (p.m === 1) {
    if (p.n <= 2048) return { X_ROWS: 1, ROWS: 2, SLAB: 128, DEPTH: 4 };
    return { X_ROWS: 1, ROWS: isLarge(p) ? 4 : 2, SLAB: p.n > 4096 ? 64 : 128, DEPTH: 1 };
  }
  if (p.m === 2) return { X_ROWS: 2, ROWS: 2 };
  return { X_ROWS: 4, ROWS: 4, THREADS: p.m <= 4 ? 256 : 128 };
}

function gemvF16Constants(p: GemmProblem): KernelConstants {
  if (p.m === 1) {
    if (isLarge(p)) return { X_ROWS: 1, ROWS: 4 };
    return { X_ROWS: 1, ROWS: 2, DEPTH: p.n <= 4096 && p.k <= 4096 ? 4 : 2 };
  }
  if (p.m === 2) return { X_ROWS: 2 };
  return { X_ROWS: 4, THREADS: p.m <= 4 && p.n <= 4096 ? 256 : 128 };
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

function chooseSkinny(kernel: Kernel, p: GemmProblem, caps: Caps): Choice {
  const variants = fitting(kernel, p, caps);
  const [first] = variants;
  if (!first) return refused(kernel, p, caps);
  // Where n gives few workgroups and k is long, several share k. Where it gives many, several small ones a core do not wait
  // at each other's barriers, but take as long where the last round has few.
  const tiles = total(kernel.workgroups(first, p));
  const split = tiles < BUSY_WORKGROUPS / 4 && p.k >= 1024;
  // Each workgroup reads all of x. Tiles read it less often, but add up parts of k where n gives them few workgroups.
  const often = first.FRAGMENTS_M! > 3 && (tiles > CORES || p.k > MOST_SKINNY_K);
  if (often || (split && first.FRAGMENTS_M! > 2)) {
    return { refused: `${tiles} workgroups that each read ${p.m} rows of x take longer than tiles` };
  }
  const same = variants.filter((c) => c.FRAGMENTS_M === first.FRAGMENTS_M && c.SPLIT_K! > 1 === split);
  const time = ({ SUBGROUPS }: KernelConstants) =>
    Math.ceil(tiles / ((16 / SUBGROUPS!) * CORES)) * SKINNY_ROUND[SUBGROUPS!]!;
  const [constants = first] = same.sort((a, b) => time(a) - time(b));
  const reason =
    `m = ${p.m} ≤ ${constants.FRAGMENTS_M! * constants.MMA_M!}: subgroup matrices of f16 hold all rows of x, so that ` +
    `weights are read once, by ${constants.SUBGROUPS} subgroups a workgroup` +
    (split ? `, with k in ${constants.SPLIT_K} parts to have more of these` : '');
  return { constants, reason };
}

function chooseMatrix(kernel: Kernel, p: GemmProblem, caps: Caps): Choice {
  // The tile, and k in as many parts, that make rounds of all cores shortest. With several workgroups a core, a variant made
  // for that.
  const all = fitting(kernel, p, caps).filter(
    ({ SPLIT_K }) => SPLIT_K === 1 || p.k / SPLIT_K! >= LEAST_MATRIX_PART,
  );
  if (!all.length) return refused(kernel, p, caps);
  const workgroups = (c: KernelConstants) => total(kernel.workgroups(c, p));
  const time = (c: KernelConstants) => {
    const small = tileM(c) * tileN(c) <= SMALL_TILE;
    const rounds = Math.ceil(workgroups(c) / (small ? 2 * CORES : CORES));
    const one = (small ? SMALL_TILE_TIME : 1) * (1 + SPLIT_COST * Math.log2(c.SPLIT_K!));
    return (rounds * one) / c.SPLIT_K!;
  };
  const best = all.reduce((a, b) => (time(b) < time(a) ? b : a));
  const shapes = all.filter(
    (c) => c.SPLIT_K === best.SPLIT_K && tileM(c) === tileM(best) && tileN(c) === tileN(best),
  );
  const split = best.SPLIT_K!;
  const several = workgroups(best) >= 2 * CORES;
  const constants = several ? shapes.at(-1)! : shapes[0]!;
  const reason =
    `m = ${p.m}: subgroup matrices, tiles of ${kernel.tileLabel(constants)}` +
    (split > 1 ? `, with k in ${split} parts to have ${workgroups(best)} workgroups` : '') +
    (several ? ', several of them a core' : '');
  return { constants, reason };
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
