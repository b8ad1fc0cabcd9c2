/**
 * How long kernels take, by what the cores of a GPU do: plans take the variant with the least of it.
 *
 * Numbers are µs on an H200, near the least squares of the times of 11 000 products, with 1 to 2048 rows of x and the layers
 * of five models, of most of which they are within 7 %. What plans then take is within 10 % of the fastest variant on each of
 * them (bench/results/nvidia-h200-node-*plans.json). Other GPUs have other numbers, but much the same ratios; `tuneGemm`
 * measures.
 */
import type { GemmProblem } from '../problem.js';
import type { Kernel, KernelConstants } from './kernel.js';

/**
 * A core's time for workgroups of a variant: how many it holds, what a round of these takes whatever its k, and what a
 * thousand of k takes of one that is alone on its core and of as many as it holds.
 */
export type CoreTime = readonly [holds: number, start: number, alone: number, together: number];

/**
 * Constants of a variant, and its time. Where it is made of fragments of matrices and does not name their size, that is of
 * 16 × 16 ones.
 */
export interface TimedShape {
  readonly constants: KernelConstants;
  readonly time: CoreTime;
}

export const constantsOf = (shapes: readonly TimedShape[]): KernelConstants[] =>
  shapes.map(({ constants }) => constants);

/** The time of a variant that was made of one of `shapes`; `factor` is what a thousand of k takes more than theirs. */
export function coreTime(shapes: readonly TimedShape[], c: KernelConstants, factor = 1): CoreTime {
  const { constants, time } = shapes.find((shape) =>
    Object.entries(shape.constants).every(([name, value]) => c[name] === value),
  )!;
  const [holds, start, alone, together] = time;
  const { MMA_M = 16, MMA_N = 16 } = c;
  const size = (factor * MMA_M * MMA_N) / (16 * (constants.MMA_N ?? 16));
  return [holds, start, alone * size, together * size];
}

/** Those of an H200. */
const CORES = 132;
/** A dispatch that brings x into another type or order, and what a million values of it take. */
const CONVERSION = 1.26;
const CONVERTED_VALUES = 1.04;
/** A dispatch that adds up parts of k, and what a million of their sums take to be written and read. */
const REDUCTION = 3.44;
const PART_SUMS = 1.32;

/** µs of a product on so many cores like those of an H200, without what all variants have in common. */
export function estimateTime(kernel: Kernel, c: KernelConstants, p: GemmProblem, cores = CORES): number {
  const [holds, start, alone, together] = kernel.coreTime(c, p);
  const { x, y, z } = kernel.workgroups(c, p);
  const workgroups = x * y * z;
  const full = Math.floor(workgroups / (holds * cores));
  // How many a core has in the last round.
  const rest = Math.ceil((workgroups - full * holds * cores) / cores);
  const last = rest > 1 ? alone + ((together - alone) * (rest - 1)) / (holds - 1) : rest * alone;
  const parts = c.SPLIT_K ?? 1;
  let time = (full + Math.min(rest, 1)) * start + ((full * together + last) * p.k) / parts / 1000;
  if (kernel.operand(c, p).kind !== 'rows') time += CONVERSION + (CONVERTED_VALUES * p.m * p.k) / 1e6;
  if (parts > 1) time += REDUCTION + (PART_SUMS * p.m * p.n * parts) / 1e6;
  return time;
}
