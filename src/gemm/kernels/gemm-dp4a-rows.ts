import { int8Chunks, MODULES, TILE_MODULES } from '../shaders.js';
import { constantsOf, coreTime, type TimedShape } from './core-time.js';
import { INT8_ROWS_ERRORS, refuseInt8Rows } from './int8-rows.js';
import type { Kernel, KernelConstants } from './kernel.js';
import { splitShapes } from './matrix-variants.js';

/** The best at large m comes last; see the shader's head. k may be in eight parts: tiles of few rows have few threads. */
const SHAPES: readonly TimedShape[] = [
  {
    constants: { TILE_M: 32, TILE_N: 64, TILE_K: 64, THREAD_M: 8, THREAD_N: 8, LANES_N: 8 },
    time: [8, 3.24, 37.2, 65.9],
  },
  {
    constants: { TILE_M: 64, TILE_N: 64, TILE_K: 64, THREAD_M: 8, THREAD_N: 8, LANES_N: 8 },
    time: [5, 4.6, 26.3, 57.6],
  },
  {
    constants: { TILE_M: 128, TILE_N: 64, TILE_K: 64, THREAD_M: 16, THREAD_N: 4, LANES_N: 16 },
    time: [10, 2.52, 25.2, 208.8],
  },
];

const threads = (c: KernelConstants) => (c.TILE_M! / c.THREAD_M!) * (c.TILE_N! / c.THREAD_N!);
const vectors = (c: KernelConstants) => c.TILE_K! / 16;

export const gemmDp4aRows: Kernel = {
  id: 'gemm_dp4a_rows',
  tiers: ['subgroups', 'dp4a'],
  moreEnables: ({ f16SubnormalProducts }) => (f16SubnormalProducts ? ['f16'] : []),
  activations: ['int8'],
  precision: 'f32',
  manner: 'tiles of integers, with a scale a row, share decoded weights between rows of x',
  variants: () => splitShapes(constantsOf(SHAPES), [1, 2, 4, 8]),
  coreTime: (c) => coreTime(SHAPES, c),
  refuse: (_c, p) => refuseInt8Rows(p),
  tileLabel: (c) => `${c.TILE_M}x${c.TILE_N}x${c.TILE_K}.${c.THREAD_M}x${c.THREAD_N}`,
  threads,
  sharedBytes: (c) => (c.TILE_M! + c.TILE_N! + 8 / vectors(c)) * c.TILE_K! + c.TILE_M! * 4,
  workgroups: (c, p) => ({ x: Math.ceil(p.m / c.TILE_M!), y: Math.ceil(p.n / c.TILE_N!), z: c.SPLIT_K! }),
  foldsX: false,
  operand: (c) => ({ kind: 'int8-rows', tileM: c.TILE_M!, tileK: c.TILE_K! }),
  bindings: ['x_scales', 'w_row_max'],
  modules: (_c, p, probe) => [...int8Chunks(p, probe), TILE_MODULES.xTiles, MODULES.gemmDp4aRows],
  repeats: (c) => ({
    STEP_VECTORS: vectors(c),
    FOURS: c.THREAD_N! / 4,
    X_LOADS: (c.TILE_M! * vectors(c)) / threads(c),
    W_LOADS: (c.TILE_N! * c.TILE_K!) / 32 / threads(c),
  }),
  storesQuads: true,
  constantK: true,
  errors: () => INT8_ROWS_ERRORS,
};
