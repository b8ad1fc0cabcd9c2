import { halfChunks, MODULES } from '../shaders.js';
import { gemmSubgroupMatrix } from './gemm-subgroup-matrix.js';
import type { Kernel, KernelConstants } from './kernel.js';
import { matrixVariants, refuseSubgroups } from './matrix-variants.js';

/**
 * Fragments of a workgroup along m, subgroups that share k, rounds written out (WRITTEN · AHEAD) with AHEAD chunks on their
 * way, parts of workgroup memory that a subgroup decodes to in turn.
 */
const SHAPES: readonly KernelConstants[] = [
  { FRAGMENTS_M: 1, SUBGROUPS: 16, SPLIT_K: 1, WRITTEN: 4, AHEAD: 2, BUFFERS: 1 },
  { FRAGMENTS_M: 1, SUBGROUPS: 8, SPLIT_K: 2, WRITTEN: 4, AHEAD: 2, BUFFERS: 1 },
  { FRAGMENTS_M: 2, SUBGROUPS: 16, SPLIT_K: 1, WRITTEN: 4, AHEAD: 2, BUFFERS: 1 },
  { FRAGMENTS_M: 2, SUBGROUPS: 8, SPLIT_K: 2, WRITTEN: 4, AHEAD: 2, BUFFERS: 1 },
  { FRAGMENTS_M: 4, SUBGROUPS: 8, SPLIT_K: 1, WRITTEN: 1, AHEAD: 16, BUFFERS: 2 },
  { FRAGMENTS_M: 4, SUBGROUPS: 8, SPLIT_K: 2, WRITTEN: 4, AHEAD: 2, BUFFERS: 1 },
];

/** Small fragments make the text of a round four times as long, and some drivers take minutes to compile many. */
const FEW_ROUNDS = { WRITTEN: 1, AHEAD: 2 };

const rows = (c: KernelConstants) => c.FRAGMENTS_M! * c.MMA_M!;
const columns = (c: KernelConstants) => 2 * c.MMA_N!;

export const gemmSubgroupMatrixSkinny: Kernel = {
  ...gemmSubgroupMatrix,
  id: 'gemm_subgroup_matrix_skinny',
  variants: (caps) =>
    matrixVariants(caps, 'f16', SHAPES).map((c) => (c.MMA_K! < 16 ? { ...c, ...FEW_ROUNDS } : c)),
  refuse: (c, p, caps) =>
    p.m > rows(c) ? `it takes up to ${rows(c)} rows of x, and there are ${p.m}` : refuseSubgroups(c, caps),
  tileLabel: (c) => `${rows(c)}x${columns(c)}x${c.SUBGROUPS}x${c.WRITTEN! * c.AHEAD!}`,
  threads: (c) => c.SUBGROUPS! * c.SUBGROUP_SIZE!,
  sharedBytes: (c) => c.BUFFERS! * c.SUBGROUPS! * columns(c) * Math.max(80, c.MMA_M! * 4),
  workgroups: (c, p) => ({ x: Math.ceil(p.n / columns(c)), y: 1, z: c.SPLIT_K ?? 1 }),
  foldsX: true,
  repeats: (c) => ({ LANE_ROWS: columns(c) / c.SUBGROUP_SIZE!, CHUNK_FRAGMENTS: 32 / c.MMA_K! }),
  operand: (c) => ({
    kind: 'half-fragments',
    fragmentM: c.MMA_M!,
    fragmentK: c.MMA_K!,
    tileM: rows(c),
    tileK: 32,
  }),
  modules: (_c, p) => [...halfChunks(p), MODULES.gemmSubgroupMatrixSkinny],
};
