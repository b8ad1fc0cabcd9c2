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
} from './kernels.js';
import { checkProblem, type GemmProblem } from './problem.js';

/** Which kernel computes a problem, with which constants, over which grid, and why. Plain JSON. */
export interface GemmPlan {
  readonly kernel: KernelId;
  readonly constants: KernelConstants;
  readonly workgroups: readonly [x: number, y: number, z: number];
  readonly label: string;
  readonly reason: string;
}

/** Up to this many rows of x, decoding weights again for every few rows beats filling tiles. */
const GEMV_MAX_M = 256;

/**
 * Chooses a kernel for a problem on a device. Pure: the same problem and caps give the same plan.
 * @throws InvalidArgumentError, UnsupportedError where the problem is malformed or no kernel can run it
 */
export function planGemm(problem: GemmProblem, caps: Caps): GemmPlan {
  checkProblem(problem);
  return problem.m <= GEMV_MAX_M ? planGemv(problem, caps) : planTiled(problem, caps);
}

/** Plan with a given kernel and constants, for tuners, tests and measurements. */
export function planWith(
  id: KernelId,
  constants: KernelConstants,
  problem: GemmProblem,
  caps: Caps,
  reason = 'asked for by the caller',
): GemmPlan {
  checkProblem(problem);
  const kernel = KERNELS[id];
  if (!kernel) throw new InvalidArgumentError('plan', `unknown kernel ${JSON.stringify(id)}`);
  const label = kernelLabel(kernel, constants, problem);
  const why = refusal(kernel, constants, caps);
  if (why) throw new UnsupportedError('plan', `${label} cannot run: ${why}`);
  return { kernel: id, constants, workgroups: spreadGrid(kernel, constants, problem, caps), label, reason };
}

function planGemv(p: GemmProblem, caps: Caps): GemmPlan {
  // Rows of x that share a decoded weight: more amortize its decoding, but take registers and shorten the groups of
  // lanes. Where n leaves few groups, each takes fewer rows of w.
  const wanted =
    p.m <= 2
      ? p.n >= 8192
        ? { X_ROWS: 1, ROWS: 4 }
        : { X_ROWS: 1, ROWS: 2, GROUPS: 16 }
      : { X_ROWS: p.m <= 4 ? 2 : p.m <= 32 ? 4 : 8 };
  const matches = (c: KernelConstants) => Object.entries(wanted).every(([name, value]) => c[name] === value);
  for (const kernel of [KERNELS.gemv_subgroup, KERNELS.gemv]) {
    const fitting = kernel.variants.filter((c) => !refusal(kernel, c, caps));
    const constants = fitting.find(matches) ?? fitting.findLast((c) => c.X_ROWS! <= wanted.X_ROWS);
    if (!constants) continue;
    const reason =
      `m = ${p.m} ≤ ${GEMV_MAX_M}: weights are decoded where they are used, once for ${constants.X_ROWS} rows of x; ` +
      `${constants.LANES} lanes share a row of w, summed ${kernel.id === 'gemv' ? 'in workgroup memory' : 'by subgroup shuffles'}`;
    return planWith(kernel.id, constants, p, caps, reason);
  }
  throw new UnsupportedError('plan', "no variant of gemv fits the device's limits");
}

function planTiled(p: GemmProblem, caps: Caps): GemmPlan {
  const kernel = KERNELS.gemm_tiled;
  // The largest tile that still gives every part of a large GPU something to do, else the smallest.
  const wanted = 256;
  const fitting = kernel.variants.filter((c) => !refusal(kernel, c, caps));
  const tiles = (c: KernelConstants) => Math.ceil(p.m / c.TILE_M!) * Math.ceil(p.n / c.TILE_N!);
  const constants = fitting.findLast((c) => tiles(c) >= wanted) ?? fitting[0];
  if (!constants) throw new UnsupportedError('plan', `no tile of gemm_tiled fits the device's limits`);
  const reason =
    `m = ${p.m} > ${GEMV_MAX_M}: tiles share decoded weights between rows of x; ${constants.TILE_M} × ` +
    `${constants.TILE_N} is the ${tiles(constants) >= wanted ? `largest that gives ${wanted} workgroups` : 'smallest'}`;
  return planWith('gemm_tiled', constants, p, caps, reason);
}

function spreadGrid(
  kernel: Kernel,
  c: KernelConstants,
  p: GemmProblem,
  caps: Caps,
): [number, number, number] {
  const max = caps.limits.maxComputeWorkgroupsPerDimension;
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
