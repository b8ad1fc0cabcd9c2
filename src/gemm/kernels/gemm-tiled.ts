import { floatCodes, MODULES, X_MODULES } from '../shaders.js';
import { constantsOf, coreTime, type TimedShape } from './core-time.js';
import type { Kernel, KernelConstants } from './kernel.js';
import { splitShapes } from './matrix-variants.js';

/** The best at large m comes last; see the shader's head. */
const SHAPES: readonly TimedShape[] = [
  { constants: { TILE_M: 32, TILE_N: 64, TILE_K: 16, THREAD_M: 8 }, time: [8, 3.69, 46.2, 108] },
  { constants: { TILE_M: 64, TILE_N: 64, TILE_K: 16, THREAD_M: 8 }, time: [6, 5.39, 48.5, 141] },
  { constants: { TILE_M: 128, TILE_N: 64, TILE_K: 32, THREAD_M: 8 }, time: [2, 3.75, 56, 101.4] },
  { constants: { TILE_M: 128, TILE_N: 128, TILE_K: 16, THREAD_M: 16 }, time: [2, 3.77, 184, 189] },
];

/** Columns of a thread. */
const THREAD_N = 8;

const threads = (c: KernelConstants) => (c.TILE_M! / c.THREAD_M!) * (c.TILE_N! / THREAD_N);

export const gemmTiled: Kernel = {
  id: 'gemm_tiled',
  tiers: ['base'],
  activations: ['float'],
  precision: 'f32',
  manner: 'tiles share decoded weights between rows of x',
  variants: () => splitShapes(constantsOf(SHAPES), [1, 2, 4, 8]),
  refuse: (c) => {
    const groups = [c.TILE_M! / c.THREAD_M! / 4, c.TILE_N! / THREAD_N / 8, c.TILE_K! / 16, c.THREAD_M! / 8];
    if (!groups.every(Number.isInteger)) return 'its tile is not whole groups of threads';
    const patches = [c.TILE_M!, c.TILE_N!].map((rows) => (rows * c.TILE_K!) / 16 / threads(c));
    return patches.every((count) => count === 1 || count === 2)
      ? undefined
      : `its ${threads(c)} threads cannot share the patches of a tile evenly`;
  },
  coreTime: (c) => coreTime(SHAPES, c),
  tileLabel: (c) => `${c.TILE_M}x${c.TILE_N}x${c.TILE_K}.${c.THREAD_M}x${THREAD_N}`,
  threads,
  sharedBytes: (c) => (c.TILE_M! + c.TILE_N!) * c.TILE_K! * 4,
  workgroups: (c, p) => ({ x: Math.ceil(p.m / c.TILE_M!), y: Math.ceil(p.n / c.TILE_N!), z: c.SPLIT_K! }),
  foldsX: false,
  operand: () => ({ kind: 'rows' }),
  modules: (_c, p, { f16Subnormals }) => [...floatCodes(f16Subnormals), X_MODULES[p.x], MODULES.gemmTiled],
  errors: (_, p) => ({ roundings: p.k + 5 }),
};
