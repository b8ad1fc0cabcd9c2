import type { Gpu } from '../../gpu/gpu.js';
import { acquireScratch } from '../../gpu/scratch.js';
import type { GemmProblem } from '../problem.js';
import { INT8_ROWS, X_MODULES } from '../shaders.js';
import type { Operand } from './operand.js';
import { compileStage, roundUp, rowThreads, StagedOperand } from './stage.js';

/** x as int8 with a scale for each row, in tiles; see shaders/operands/int8_rows.wgsl. */
export interface Int8RowsSpec {
  readonly kind: 'int8-rows';
  /** Rows and columns of a tile; m and k are filled up to whole ones. */
  readonly tileM: number;
  readonly tileK: number;
}

export async function createInt8Rows(
  gpu: Gpu,
  { tileM, tileK }: Int8RowsSpec,
  { m, k, x }: GemmProblem,
): Promise<Operand> {
  const { device } = gpu;
  const cols = roundUp(k, tileK);
  const pipeline = await compileStage(gpu, {
    label: `int8_rows.${x}.${tileM}x${tileK}`,
    enables: ['subgroups'],
    constants: { ...rowThreads(gpu, cols), TILE_M: tileM, TILE_K: tileK },
    modules: [X_MODULES[x], ...INT8_ROWS],
  });
  const words = acquireScratch(device, 'int8 rows of x', roundUp(m, tileM) * cols);
  const scales = acquireScratch(device, 'int8 row scales of x', m * 4);
  return new StagedOperand(gpu, pipeline, words, scales, {
    label: 'int8 rows',
    uniform: [m, k, cols],
    // A workgroup takes a row.
    workgroups: m,
  });
}
