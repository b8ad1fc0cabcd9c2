import type { KernelConstants, KernelId } from '../../src/index.js';

/**
 * Constants for tests that are not about variants. Of `gemm_dp4a_rows` a tile smaller than any that plans take: its products
 * are written out, and a software adapter takes more than ten seconds to compile four times as many.
 */
export function smallTile(id: KernelId, constants: KernelConstants): KernelConstants {
  if (id !== 'gemm_dp4a_rows') return constants;
  return { ...constants, TILE_M: 16, TILE_N: 64, TILE_K: 64, THREAD_M: 4, THREAD_N: 4, LANES_N: 8 };
}
