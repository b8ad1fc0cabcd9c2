import { halfScales, MODULES } from '../shaders.js';
import { gemmSubgroupMatrix } from './gemm-subgroup-matrix.js';
import type { Kernel, KernelConstants } from './kernel.js';
import { matrixVariants, refuseSubgroups } from './matrix-variants.js';

/** Fragments of a workgroup (m × n), subgroups that share k. */
const SHAPES: readonly KernelConstants[] = [1, 2, 4].flatMap((FRAGMENTS_M) => [
  { FRAGMENTS_M, FRAGMENTS_N: 2, SUBGROUPS: 16, SPLIT_K: 1 },
  { FRAGMENTS_M, FRAGMENTS_N: 2, SUBGROUPS: 8, SPLIT_K: 1 },
  { FRAGMENTS_M, FRAGMENTS_N: 2, SUBGROUPS: 8, SPLIT_K: 2 },
]);

const rows = (c: KernelConstants) => c.FRAGMENTS_M! * c.MMA_M!;
const columns = (c: KernelConstants) => c.FRAGMENTS_N! * c.MMA_N!;

export const gemmSubgroupMatrixSkinny: Kernel = {
  ...gemmSubgroupMatrix,
  id: 'gemm_subgroup_matrix_skinny',
  variants: (caps) => matrixVariants(caps, 'f16', SHAPES),
  refuse: (c, p, caps) =>
    p.m > rows(c) ? `it takes up to ${rows(c)} rows of x, and there are ${p.m}` : refuseSubgroups(c, caps),
  tileLabel: (c) => `${rows(c)}x${columns(c)}x${c.SUBGROUPS}`,
  threads: (c) => c.SUBGROUPS! * c.SUBGROUP_SIZE!,
  sharedBytes: (c) => c.SUBGROUPS! * columns(c) * Math.max(80, c.MMA_M! * 4),
  workgroups: (c, p) => ({ x: Math.ceil(p.n / columns(c)), y: 1, z: c.SPLIT_K ?? 1 }),
  foldsX: true,
  operand: (c) => ({
    kind: 'half-fragments',
    fragmentM: c.MMA_M!,
    fragmentK: c.MMA_K!,
    tileM: rows(c),
    tileK: 32,
  }),
  modules: (_c, p) => [MODULES.rowMax, MODULES.e2m1Halves, halfScales(p), MODULES.gemmSubgroupMatrixSkinny],
};
