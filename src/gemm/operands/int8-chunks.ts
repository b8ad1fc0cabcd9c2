import type { Gpu } from '../../gpu/gpu.js';
import { acquireScratch } from '../../gpu/scratch.js';
import { int8Stretches } from '../int8-weights.js';
import type { GemmProblem } from '../problem.js';
import { INT8_CHUNKS, X_MODULES } from '../shaders.js';
import type { Operand } from './operand.js';
import { compileStage, roundUp, StagedOperand } from './stage.js';

/** x as int8 with a scale for each row and stretch of k; see shaders/operands/int8_chunks.wgsl. */
export interface Int8ChunksSpec {
  readonly kind: 'int8-chunks';
  /** Values that share a scale: a multiple of `tileK`. */
  readonly chunkK: number;
  /** What k is filled up to with zeros. */
  readonly tileK: number;
}

const WORKGROUP = 256;

export async function createInt8Chunks(
  gpu: Gpu,
  spec: Int8ChunksSpec,
  { m, k, x }: GemmProblem,
): Promise<Operand> {
  const { device } = gpu;
  const pipeline = await compileStage(gpu, {
    label: `int8_chunks.${x}.${spec.chunkK}`,
    enables: ['subgroups'],
    constants: { WORKGROUP, CHUNK_K: spec.chunkK },
    modules: [X_MODULES[x], INT8_CHUNKS],
  });
  const cols = roundUp(k, spec.tileK);
  const stretches = m * int8Stretches(k, spec.chunkK);
  const words = acquireScratch(device, 'int8 chunks of x', m * cols);
  const scales = acquireScratch(device, 'int8 chunk scales of x', stretches * 4);
  return new StagedOperand(gpu, pipeline, words, scales, {
    label: 'int8 chunks',
    uniform: [m, k, cols],
    // A workgroup takes a stretch.
    workgroups: stretches,
  });
}
