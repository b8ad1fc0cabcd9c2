import { halfScales, MODULES } from '../shaders.js';
import { bestConfigs, gemmSubgroupMatrix, refuseSubgroups } from './gemm-subgroup-matrix.js';
import type { Kernel, KernelConstants } from './kernel.js';

/** Subgroups of a tile (m × n), fragments of a subgroup (m × n). */
const SHAPES: readonly KernelConstants[] = [
  { SUBGROUPS_M: 2, SUBGROUPS_N: 2, FRAGMENTS_M: 2, FRAGMENTS_N: 2 },
  { SUBGROUPS_M: 4, SUBGROUPS_N: 2, FRAGMENTS_M: 2, FRAGMENTS_N: 4 },
];
/** Parts of k that workgroups sum over, where one a tile would leave a large GPU idle. */
const SPLITS = [1, 2, 4];

const tileM = (c: KernelConstants) => c.SUBGROUPS_M! * c.FRAGMENTS_M! * c.MMA_M!;
const tileN = (c: KernelConstants) => c.SUBGROUPS_N! * c.FRAGMENTS_N! * c.MMA_N!;
const tileK = (c: KernelConstants) => 4 * c.MMA_K!;
const subgroups = (c: KernelConstants) => c.SUBGROUPS_M! * c.SUBGROUPS_N!;

export const gemmSubgroupMatrixDirect: Kernel = {
  id: 'gemm_subgroup_matrix_direct',
  tiers: ['subgroups', 'matrix-f16'],
  enables: ['f16', 'subgroups', 'chromium_experimental_subgroup_matrix'],
  quietDiagnostics: ['chromium.subgroup_matrix_uniformity'],
  activations: ['float'],
  precision: 'f16',
  variants: (caps) =>
    bestConfigs(caps, 'f16', 'f32').flatMap(({ M, N, K }) =>
      SHAPES.flatMap((shape) =>
        SPLITS.map((SPLIT_K) => ({
          ...shape,
          SPLIT_K,
          MMA_M: M,
          MMA_N: N,
          MMA_K: K,
          SUBGROUP_SIZE: caps.subgroupMaxSize ?? 0,
        })),
      ),
    ),
  refuse: (c, _p, caps) => refuseSubgroups(c, caps),
  tileLabel: (c) => `${tileM(c)}x${tileN(c)}x${tileK(c)}x${subgroups(c)}`,
  threads: (c) => subgroups(c) * c.SUBGROUP_SIZE!,
  sharedBytes: (c) =>
    Math.max(tileN(c) * (tileK(c) + 8) * 2, subgroups(c) * c.MMA_M! * (c.MMA_N! / 2 + 1) * 16),
  workgroups: (c, p) => ({
    x: Math.ceil(p.m / tileM(c)),
    y: Math.ceil(p.n / tileN(c)),
    z: c.SPLIT_K ?? 1,
  }),
  foldsX: false,
  operand: (c) => ({
    kind: 'half-fragments',
    fragmentM: c.MMA_M!,
    fragmentK: c.MMA_K!,
    tileM: tileM(c),
    tileK: tileK(c),
  }),
  bindings: ['x_scales', 'w_row_max'],
  modules: (_c, p) => [MODULES.rowMax, MODULES.e2m1Halves, halfScales(p), MODULES.gemmSubgroupMatrixDirect],
  errors: gemmSubgroupMatrix.errors,
};
