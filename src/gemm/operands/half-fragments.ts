import type { Gpu } from '../../gpu/gpu.js';
import { acquireScratch } from '../../gpu/scratch.js';
import type { GemmProblem } from '../problem.js';
import { HALF_FRAGMENTS, X_MODULES } from '../shaders.js';
import type { Operand } from './operand.js';
import { compileStage, roundUp, rowThreads, StagedOperand } from './stage.js';

/** x as f16 fragments of a subgroup matrix, or of a tile; see shaders/operands/half_fragments.wgsl. */
export interface HalfFragmentsSpec {
  readonly kind: 'half-fragments';
  /** Rows and columns of a fragment. */
  readonly fragmentM: number;
  readonly fragmentK: number;
  /** What m and k are filled up to with zeros. */
  readonly tileM: number;
  readonly tileK: number;
  /** Rows are scaled so that their largest are in [2^exponent, 2^(exponent + 1)); undefined where they stay as they are. */
  readonly exponent: number | undefined;
}

/** What leaves most room below, for sums in f32. f16 x is left as it is. */
export const largestExponent = ({ x }: GemmProblem): number | undefined => (x === 'f32' ? 14 : undefined);

export async function createHalfFragments(
  gpu: Gpu,
  spec: HalfFragmentsSpec,
  { m, k, x }: GemmProblem,
): Promise<Operand> {
  const { device } = gpu;
  const { exponent } = spec;
  const rows = roundUp(m, spec.tileM);
  const cols = roundUp(k, spec.tileK);
  const scaled = exponent === undefined ? '' : `.e${exponent}`;
  const pipeline = await compileStage(gpu, {
    label: `half_fragments.${x}.${spec.fragmentM}x${spec.fragmentK}${scaled}`,
    enables: ['subgroups'],
    constants: {
      ...rowThreads(gpu, cols),
      FRAGMENT_M: spec.fragmentM,
      FRAGMENT_K: spec.fragmentK,
      SCALED: exponent !== undefined,
      EXPONENT: exponent ?? 0,
    },
    modules: [X_MODULES[x], ...HALF_FRAGMENTS],
  });
  const halves = acquireScratch(device, 'x fragments', rows * cols * 2);
  const scales = acquireScratch(device, 'x scales', rows * 4);
  return new StagedOperand(gpu, pipeline, halves, scales, {
    label: 'half fragments',
    uniform: [m, k, rows, cols],
    // A workgroup takes a row.
    workgroups: rows,
  });
}
