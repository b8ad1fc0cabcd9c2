import { MODULES } from '../shaders.js';
import { type CoreTime, constantsOf, coreTime, type TimedShape } from './core-time.js';
import { halfTileErrors, halfTileOperand, halfTiles } from './half-tiles.js';
import type { Kernel, KernelConstants } from './kernel.js';
import { splitShapes } from './matrix-variants.js';

const shape = (
  [TILE_M, TILE_N, TILE_K]: readonly [m: number, n: number, k: number],
  THREAD_M: number,
  time: CoreTime,
): TimedShape => ({ constants: { TILE_M, TILE_N, TILE_K, THREAD_M }, time });

/**
 * Not timed yet: twice what tiles of f32 of such sizes take, so that plans keep to those; `tuneGemm` measures what is
 * estimated to take up to three times as long as the best.
 */
const SHAPES: readonly TimedShape[] = [
  shape([32, 64, 32], 8, [8, 3.69, 92.4, 216]),
  shape([64, 64, 32], 8, [6, 5.39, 97, 282]),
  shape([64, 128, 32], 8, [2, 3.75, 112, 202.8]),
  shape([128, 128, 32], 16, [2, 3.77, 368, 378]),
];

/** Columns of a thread. */
const THREAD_N = 8;

const threads = (c: KernelConstants) => (c.TILE_M! / c.THREAD_M!) * (c.TILE_N! / THREAD_N);
/** Pieces of x and chunks of w that a thread brings each step. */
const xLoads = (c: KernelConstants) => (c.TILE_M! * c.TILE_K!) / 8 / threads(c);
const wLoads = (c: KernelConstants) => (c.TILE_N! * c.TILE_K!) / 32 / threads(c);

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
  tileLabel: (c) => `${c.TILE_M}x${c.TILE_N}x${c.TILE_K}.${c.THREAD_M}x${THREAD_N}`,
  threads,
  sharedBytes: (c) => (c.TILE_M! + c.TILE_N!) * (2 * c.TILE_K! + 16),
  workgroups: (c, p) => ({ x: Math.ceil(p.m / c.TILE_M!), y: Math.ceil(p.n / c.TILE_N!), z: c.SPLIT_K! }),
  foldsX: false,
  operand: (c, p) => halfTileOperand(p, c.TILE_M!, c.TILE_K!),
  bindings: ['x_scales', 'w_row_max'],
  modules: (_c, p) => [...halfTiles(p), MODULES.gemmTiledF16],
  repeats: (c) => ({ X_LOADS: xLoads(c), W_LOADS: wLoads(c) }),
  constantK: true,
  errors: halfTileErrors,
};
