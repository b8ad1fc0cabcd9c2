import type { OperandSpec } from '../operands/operand.js';
import type { GemmProblem } from '../problem.js';
import { MODULES } from '../shaders.js';
import { type CoreTime, constantsOf, coreTime, type TimedShape } from './core-time.js';
import { halfTileErrors, halfTileOperand, halfTiles, scaledTiles } from './half-tiles.js';
import type { Kernel, KernelConstants } from './kernel.js';
import { splitShapes } from './matrix-variants.js';

/** Values along k whose products are added up as halves; one where products are f32. */
type Chain = 1 | 32;

const shape = (
  [TILE_M, TILE_N, TILE_K]: readonly [m: number, n: number, k: number],
  THREAD_M: number,
  CHAIN: Chain,
  time: CoreTime,
): TimedShape => ({ constants: { TILE_M, TILE_N, TILE_K, THREAD_M, CHAIN }, time });

const SHAPES: readonly TimedShape[] = [
  shape([32, 64, 32], 4, 32, [6, 3.36, 22.8, 54.6]),
  shape([64, 64, 32], 8, 32, [5, 6.65, 30.8, 86.6]),
  shape([64, 64, 32], 8, 1, [5, 7.86, 45.6, 133.9]),
];

/** Columns of a thread. */
const THREAD_N = 8;

const threads = (c: KernelConstants) => (c.TILE_M! / c.THREAD_M!) * (c.TILE_N! / THREAD_N);
/** Pieces of x and chunks of w that a thread brings each step. */
const xLoads = (c: KernelConstants) => (c.TILE_M! * c.TILE_K!) / 8 / threads(c);
const wLoads = (c: KernelConstants) => (c.TILE_N! * c.TILE_K!) / 32 / threads(c);

/**
 * Sixteen products are added up as halves: of x below 2^7 with weights up to 12 (MXFP4) or 21 (NVFP4), so that sums stay
 * below 2^16. f16 x may be larger, and is left as it is only where sums are f32.
 */
const operand = ({ CHAIN, TILE_M, TILE_K }: KernelConstants, p: GemmProblem): OperandSpec =>
  CHAIN === 1 ? halfTileOperand(p, TILE_M!, TILE_K!) : scaledTiles(TILE_M!, TILE_K!, 6);

export const gemmTiledF16: Kernel = {
  id: 'gemm_tiled_f16',
  tiers: ['subgroups', 'f16-products'],
  enables: ['f16'],
  activations: ['float'],
  precision: 'f16',
  manner: 'tiles of halves share decoded weights between rows of x',
  variants: () => splitShapes(constantsOf(SHAPES), [1, 2, 4, 8]),
  refuse: (c) => {
    const groups = [c.TILE_M! / c.THREAD_M! / 4, c.TILE_N! / THREAD_N / 8, c.TILE_K! / 32];
    if (!groups.every(Number.isInteger)) return 'its tile is not whole groups of threads and chunks';
    return [xLoads(c), wLoads(c), threads(c) / c.TILE_K!].every(Number.isInteger)
      ? undefined
      : `its ${threads(c)} threads cannot share the loads of a tile evenly`;
  },
  coreTime: (c) => coreTime(SHAPES, c),
  tileLabel: (c) => `${c.TILE_M}x${c.TILE_N}x${c.TILE_K}.${c.THREAD_M}x${THREAD_N}.c${c.CHAIN}`,
  threads,
  sharedBytes: (c) => (c.TILE_M! + c.TILE_N!) * (2 * c.TILE_K! + 16),
  workgroups: (c, p) => ({ x: Math.ceil(p.m / c.TILE_M!), y: Math.ceil(p.n / c.TILE_N!), z: c.SPLIT_K! }),
  foldsX: false,
  operand,
  bindings: ['x_scales', 'w_row_max'],
  modules: (c, p) => [...halfTiles(p, operand(c, p)), MODULES.gemmTiledF16],
  repeats: (c) => ({
    X_LOADS: xLoads(c),
    W_LOADS: wLoads(c),
    F32_PRODUCTS: c.CHAIN === 1 ? 1 : 0,
    F16_CHAINS: c.CHAIN === 1 ? 0 : 1,
  }),
  constantK: true,
  errors: (c, p) => {
    const sums = halfTileErrors(c, p);
    if (c.CHAIN === 1) return sums;
    return {
      ...sums,
      // Sixteen multiply-adds in a row, of which WGSL may round both steps, in any direction.
      relative: sums.relative! + 32 * 2 ** -10,
      // Products below the normal halves are multiples of 2^-24, with two roundings: 2^-12 of the weight times the row's
      // largest x, 2^6, where weights are 2^-17 or more. Of less (MXFP4 alone has such) it is 2^-16 of x times the row's largest
      // weight, 12, or x is below 2^-10 and the product less than half a step.
      xStep: 2 ** -12,
      wStep: p.format === 'mxfp4' ? 2 ** -16 : 0,
    };
  },
};
