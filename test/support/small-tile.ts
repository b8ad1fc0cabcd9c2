import type { KernelConstants, KernelId } from '../../src/index.js';

/** Tiles smaller than any that plans take: products are written out, and a software adapter compiles four times as many for long. */
const SMALL: Partial<Record<KernelId, KernelConstants>> = {
  gemm_dp4a_rows: { TILE_M: 16, TILE_N: 64, TILE_K: 64, THREAD_M: 4, THREAD_N: 4, LANES_N: 8 },
  gemm_tiled: { TILE_M: 32, TILE_N: 64, TILE_K: 16, THREAD_M: 8 },
  gemm_tiled_f16: { TILE_M: 16, TILE_N: 64, TILE_K: 32, THREAD_M: 4 },
  gemm_subgroup_matrix_direct: { SUBGROUPS_M: 2, SUBGROUPS_N: 2, FRAGMENTS_M: 2, FRAGMENTS_N: 2 },
};

/** Constants for tests that are not about variants. */
export const smallTile = (id: KernelId, constants: KernelConstants): KernelConstants => ({
  ...constants,
  ...SMALL[id],
});
