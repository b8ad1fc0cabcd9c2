import { MODULES } from '../shaders.js';
import type { Kernel, KernelConstants } from './kernel.js';

const tile = (m: number, n: number, k: number, threadM: number, threadN: number, stages: number) => ({
  TILE_M: m,
  TILE_N: n,
  TILE_K: k,
  THREAD_M: threadM,
  THREAD_N: threadN,
  STAGES: stages,
});

/** The best at large m comes last; see the shader's head. */
const VARIANTS: readonly KernelConstants[] = [
  tile(32, 32, 32, 4, 4, 1),
  tile(64, 64, 64, 8, 4, 2),
  tile(64, 128, 64, 8, 4, 2),
  tile(128, 128, 64, 8, 4, 2),
  tile(128, 64, 64, 16, 4, 1),
];

/** Half a step between the integers that x is rounded to, and f32 roundings of that, relative to the row's largest. */
const INT8_STEP = 0.501 / 127;

export const gemmDp4a: Kernel = {
  id: 'gemm_dp4a',
  tiers: ['dp4a'],
  activations: ['int8', 'mxfp4', 'nvfp4'],
  precision: 'f32',
  variants: () => VARIANTS,
  tileLabel: (c) => `${c.TILE_M}x${c.TILE_N}x${c.TILE_K}.${c.THREAD_M}x${c.THREAD_N}.s${c.STAGES}`,
  threads: (c) => (c.TILE_M! / c.THREAD_M!) * (c.TILE_N! / c.THREAD_N!),
  // With blocks of 16, which have the most scales.
  sharedBytes: (c) => c.STAGES! * ((c.TILE_M! + c.TILE_N!) * c.TILE_K! * 1.25 + 128),
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
