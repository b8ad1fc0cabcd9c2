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

/** Part of k that is worth a workgroup of its own. */
const LEAST_PART = 128;

/**
 * Chooses a kernel for a problem on a device. Pure: the same problem and caps give the same plan.
 * @throws InvalidArgumentError, UnsupportedError where the problem is malformed or no kernel can run it
 */
export function planGemm(problem: GemmProblemOptions, caps: Caps): GemmPlan {
  const p = resolveProblem(problem);
  const refusals: string[] = [];
  const variants = Object.values(KERNELS).flatMap((kernel) => {
    const able = fitting(kernel, p, caps);
    if (!able.length && isFor(kernel, p, caps)) {
      refusals.push(`${kernel.id} cannot: ${refused(kernel, p, caps)}`);
    }
    return able
      .filter(({ SPLIT_K = 1 }) => SPLIT_K === 1 || p.k / SPLIT_K >= LEAST_PART)
      .map((constants) => ({ kernel, constants, time: estimateTime(kernel, constants, p, caps.cores) }));
  });
  if (!variants.length) {
    throw new UnsupportedError(
      'plan',
      `no kernel can compute ${p.m}x${p.n}x${p.k} ${problemLabel(p)} here: ${refusals.join('; ')}`,
    );
  }
  const spreads = variants.filter(({ kernel, constants }) => foldedGrid(kernel, constants, p, caps));
  // Where none does, planWith says so.
  const { kernel, constants } = (spreads.length ? spreads : variants).reduce((a, b) =>
    b.time < a.time ? b : a,
  );
  const parts = constants.SPLIT_K ?? 1;
  const reason =
    `m = ${p.m}: ${kernel.manner}` +
    (parts > 1
      ? `, with k in ${parts} parts to have ${total(kernel.workgroups(constants, p))} workgroups`
      : '') +
    `; the least estimated time of ${variants.length} variants`;
  return planWith(kernel.id, constants, p, caps, [reason, ...refusals].join('; '));
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
    workgroups: spreadGrid(kernel, constants, p, caps),
    label,
    reason: preparation ? `${reason}; ${preparation}` : reason,
  };
}

/**
 * A plan that was made before, by `tuneGemm` say, maybe for other sizes or types, made for this problem.
 * @throws InvalidArgumentError, UnsupportedError where its kernel cannot compute the problem
 */
export function replan({ kernel, constants, reason }: GemmPlan, p: GemmProblem, caps: Caps): GemmPlan {
  return { ...planWith(kernel, constants, p, caps), reason };
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

/** Whether a kernel is meant for a problem: for its activations, as all kernels for floats are, and for as many rows of x. */
const isFor = (kernel: Kernel, p: GemmProblem, caps: Caps) =>
  (kernel.activations.includes('float') || kernel.activations.includes(p.activations.kind)) &&
  (!kernel.mostRows || kernel.variants(caps).some((c) => p.m <= kernel.mostRows!(c)));

/** Why no variant of a kernel can run, in the words of the smallest. */
function refused(kernel: Kernel, p: GemmProblem, caps: Caps): string {
  const [smallest] = kernel.variants(caps);
  if (smallest) return refusal(kernel, smallest, p, caps)!;
  const missing = kernel.tiers.filter((tier) => !caps.tiers.includes(tier));
  return `the device lacks ${missing.join(', ') || 'a matrix shape that it is written for'}`;
}

const total = ({ x, y, z }: ReturnType<Kernel['workgroups']>) => x * y * z;

/**
 * Workgroups of a kernel, folded into the grid's limits.
 * @throws UnsupportedError where m is too large for them
 */
export function spreadGrid(
  kernel: Kernel,
  c: KernelConstants,
  p: GemmProblem,
  caps: Caps,
): [number, number, number] {
  const grid = foldedGrid(kernel, c, p, caps);
  if (grid) return grid;
  const { x, y, z } = kernel.workgroups(c, p);
  throw new UnsupportedError(
    'plan',
    `${p.m} × ${p.n} needs ${x} × ${y} × ${z} workgroups, above maxComputeWorkgroupsPerDimension = ${caps.limits.maxComputeWorkgroupsPerDimension}; split x along m`,
  );
}

function foldedGrid(
  kernel: Kernel,
  c: KernelConstants,
  p: GemmProblem,
  { limits: { maxComputeWorkgroupsPerDimension: max } }: Caps,
): [number, number, number] | undefined {
  let { x, y, z } = kernel.workgroups(c, p);
  if (x > max && kernel.foldsX) [x, y] = foldGrid(x, max);
  return x > max || y > max || z > max ? undefined : [x, y, z];
}
