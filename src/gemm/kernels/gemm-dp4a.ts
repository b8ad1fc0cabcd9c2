import { MODULES } from '../shaders.js';
import { constantsOf, coreTime, type TimedShape } from './core-time.js';
import type { Kernel } from './kernel.js';

/** The best at large m comes last; see the shader's head. */
const SHAPES: readonly TimedShape[] = [
  { constants: { TILE_M: 32, TILE_N: 64, TILE_K: 64, THREAD_N: 4 }, time: [3, 4.06, 17.4, 19.5] },
  { constants: { TILE_M: 64, TILE_N: 64, TILE_K: 64, THREAD_N: 4 }, time: [5, 0.99, 23.5, 70.7] },
  { constants: { TILE_M: 128, TILE_N: 64, TILE_K: 64, THREAD_N: 8 }, time: [5, 3.79, 29.1, 126.7] },
];

/** Rows of a thread. */
const THREAD_M = 8;

/** Half a step between the integers that x is rounded to, and f32 roundings of that, relative to the row's largest. */
const INT8_STEP = 0.501 / 127;

export const gemmDp4a: Kernel = {
  id: 'gemm_dp4a',
  tiers: ['dp4a'],
  activations: ['int8', 'mxfp4', 'nvfp4'],
  precision: 'f32',
  manner: 'tiles of integers, with a scale a block, share decoded weights between rows of x',
  variants: () => constantsOf(SHAPES),
  coreTime: (c) => coreTime(SHAPES, c),
  tileLabel: (c) => `${c.TILE_M}x${c.TILE_N}x${c.TILE_K}.${THREAD_M}x${c.THREAD_N}`,
  threads: (c) => (c.TILE_M! / THREAD_M) * (c.TILE_N! / c.THREAD_N!),
  // With blocks of 16, which have the most scales.
  sharedBytes: (c) => (c.TILE_M! + c.TILE_N!) * c.TILE_K! * 1.25,
  workgroups: (c, p) => ({
    x: Math.ceil(p.m / c.TILE_M!),
    y: Math.ceil(p.n / c.TILE_N!),
    z: c.SPLIT_K ?? 1,
  }),
  foldsX: false,
  operand: (c) => ({ kind: 'int8', tileM: c.TILE_M!, tileK: c.TILE_K! }),
  bindings: ['x_scales'],
  modules: () => [MODULES.e2m1Int8, MODULES.gemmDp4a],
  errors: (_c, p) => ({
    // Three a block of at least sixteen: two products and a sum; the rest for scales, parts of k and bias.
    roundings: p.k / 16 + 24,
    // A block's largest value is at most its row's.
    xStep: p.activations.kind === 'int8' ? INT8_STEP : 0,
  }),
};
