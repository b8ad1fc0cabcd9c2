import { halfChunks, MODULES } from '../shaders.js';
import { gemmSubgroupMatrix } from './gemm-subgroup-matrix.js';
import type { Kernel, KernelConstants } from './kernel.js';
import { matrixVariants, refuseSubgroups } from './matrix-variants.js';

/**
 * Fragments of a workgroup along m, subgroups that share k, chunks on their way, times that as many rounds are written out
 * at most.
 */
const SHAPES: readonly KernelConstants[] = [
  ...[1, 2].flatMap((FRAGMENTS_M) =>
    [
      { SUBGROUPS: 16, SPLIT_K: 1 },
      { SUBGROUPS: 8, SPLIT_K: 1 },
      { SUBGROUPS: 4, SPLIT_K: 1 },
      { SUBGROUPS: 8, SPLIT_K: 2 },
    ].map((shape) => ({ FRAGMENTS_M, ...shape, AHEAD: 2, MOST_WRITTEN: 16 })),
  ),
  { FRAGMENTS_M: 3, SUBGROUPS: 16, SPLIT_K: 1, AHEAD: 2, MOST_WRITTEN: 16 },
  { FRAGMENTS_M: 3, SUBGROUPS: 8, SPLIT_K: 1, AHEAD: 2, MOST_WRITTEN: 16 },
  { FRAGMENTS_M: 4, SUBGROUPS: 16, SPLIT_K: 1, AHEAD: 1, MOST_WRITTEN: 16 },
];

/** Small fragments make the text of a round four times as long, and some drivers take minutes to compile many. */
const FEW_ROUNDS = { AHEAD: 2, MOST_WRITTEN: 1 };

const rows = (c: KernelConstants) => c.FRAGMENTS_M! * c.MMA_M!;
const columns = (c: KernelConstants) => 2 * c.MMA_N!;

export const gemmSubgroupMatrixSkinny: Kernel = {
  ...gemmSubgroupMatrix,
  id: 'gemm_subgroup_matrix_skinny',
  variants: (caps) =>
    matrixVariants(caps, 'f16', SHAPES).map((c) => (c.MMA_K! < 16 ? { ...c, ...FEW_ROUNDS } : c)),
  refuse: (c, p, caps) =>
    p.m > rows(c) ? `it takes up to ${rows(c)} rows of x, and there are ${p.m}` : refuseSubgroups(c, caps),
  tileLabel: (c) => `${rows(c)}x${columns(c)}x${c.SUBGROUPS}x${c.AHEAD}`,
  threads: (c) => c.SUBGROUPS! * c.SUBGROUP_SIZE!,
  sharedBytes: (c) => c.SUBGROUPS! * columns(c) * Math.max(80, c.MMA_M! * 4),
  workgroups: (c, p) => ({ x: Math.ceil(p.n / columns(c)), y: 1, z: c.SPLIT_K ?? 1 }),
  foldsX: true,
  repeats: (c, p) => {
    const rounds = Math.ceil(Math.ceil(p.k / 32) / (c.SUBGROUPS! * (c.SPLIT_K ?? 1)));
    return {
      LANE_ROWS: columns(c) / c.SUBGROUP_SIZE!,
      CHUNK_FRAGMENTS: 32 / c.MMA_K!,
      WRITTEN: Math.min(c.MOST_WRITTEN!, Math.ceil(rounds / c.AHEAD!)),
    };
  },
  operand: (c) => ({
    kind: 'half-fragments',
    fragmentM: c.MMA_M!,
    fragmentK: c.MMA_K!,
    tileM: rows(c),
    tileK: 32,
  }),
  modules: (_c, p) => [...halfChunks(p), MODULES.gemmSubgroupMatrixSkinny],
};
