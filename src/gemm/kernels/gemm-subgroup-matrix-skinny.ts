import { largestExponent } from '../operands/half-fragments.js';
import type { GemmProblem } from '../problem.js';
import { halfChunks, MODULES } from '../shaders.js';
import { type CoreTime, coreTime } from './core-time.js';
import { gemmSubgroupMatrix } from './gemm-subgroup-matrix.js';
import type { Kernel, KernelConstants } from './kernel.js';
import { matrixVariants, refuseSubgroups } from './matrix-variants.js';

/** Rounds that are written out at most, times how many chunks are on their way (AHEAD). */
const MOST_WRITTEN = 16;

/** Fragments of a workgroup along m, its subgroups that share k, those that lie side by side along n; parts of k; its time. */
const shape = (
  [FRAGMENTS_M, SUBGROUPS, SUBGROUPS_N]: readonly [m: number, k: number, n: number],
  splits: readonly number[],
  time: CoreTime,
) => ({ constants: { FRAGMENTS_M, SUBGROUPS, SUBGROUPS_N }, splits, time });

const SHAPES = [
  shape([1, 16, 1], [1, 2, 4], [1, 1.42, 1.37, 1.37]),
  shape([1, 8, 1], [1, 4], [2, 1.1, 2, 2.52]),
  shape([1, 4, 1], [1], [4, 2, 3.4, 4.5]),
  shape([2, 16, 1], [1, 2, 4], [1, 2.14, 1.79, 1.79]),
  shape([2, 8, 1], [1, 4], [2, 1.8, 2.35, 3.24]),
  shape([2, 4, 1], [1], [4, 0.96, 4.5, 6.15]),
  shape([3, 16, 1], [1], [1, 3.49, 2.07, 2.07]),
  shape([3, 8, 1], [1, 4], [2, 2.43, 2.73, 3.87]),
  shape([4, 16, 1], [1], [1, 4.36, 2.49, 2.49]),
  shape([4, 8, 1], [4], [1, 2.6, 3.44, 3.44]),
  shape([4, 8, 2], [1], [1, 2.99, 5.14, 5.14]),
  shape([4, 4, 1], [1], [3, 4.56, 4.61, 5.95]),
];
const VARIANTS = SHAPES.flatMap(({ constants, splits }) =>
  splits.map((SPLIT_K): KernelConstants => {
    const AHEAD = constants.FRAGMENTS_M > 3 ? 1 : 2;
    const X_AHEAD = constants.FRAGMENTS_M > 2 ? 0 : 1;
    return { ...constants, SPLIT_K, AHEAD, X_AHEAD, MOST_WRITTEN };
  }),
);
/** What rounds take more that are not all written out, and where x would be asked for a round ahead if they were. */
const LOOPED = 1.1;
const LOOPED_AHEAD = 1.2;

/** Small fragments make the text of a round four times as long, and some drivers take minutes to compile many. */
const FEW_ROUNDS = { AHEAD: 2, MOST_WRITTEN: 1 };

const rounds = (c: KernelConstants, p: GemmProblem) =>
  Math.ceil(Math.ceil(p.k / 32) / (c.SUBGROUPS! * (c.SPLIT_K ?? 1)));
const rows = (c: KernelConstants) => c.FRAGMENTS_M! * c.MMA_M!;
/** Columns of a subgroup, and of all that lie side by side. */
const columns = (c: KernelConstants) => 2 * c.MMA_N!;
const allColumns = (c: KernelConstants) => c.SUBGROUPS_N! * columns(c);

export const gemmSubgroupMatrixSkinny: Kernel = {
  ...gemmSubgroupMatrix,
  id: 'gemm_subgroup_matrix_skinny',
  variants: (caps) =>
    matrixVariants(caps, 'f16', VARIANTS).map((c) => (c.MMA_K! < 16 ? { ...c, ...FEW_ROUNDS } : c)),
  manner: 'subgroup matrices of f16 hold all rows of x, so that weights are read once',
  mostRows: rows,
  refuse: (c, _p, caps) => refuseSubgroups(c, caps),
  tileLabel: (c) => `${rows(c)}x${allColumns(c)}x${c.SUBGROUPS}x${c.AHEAD}`,
  threads: (c) => c.SUBGROUPS! * c.SUBGROUPS_N! * c.SUBGROUP_SIZE!,
  sharedBytes: (c) => c.SUBGROUPS! * allColumns(c) * Math.max(80, c.MMA_M! * 4),
  workgroups: (c, p) => ({ x: Math.ceil(p.n / allColumns(c)), y: 1, z: c.SPLIT_K ?? 1 }),
  foldsX: true,
  coreTime: (c, p) => {
    const looped = rounds(c, p) > c.MOST_WRITTEN! * c.AHEAD!;
    return coreTime(SHAPES, c, !looped ? 1 : c.X_AHEAD ? LOOPED_AHEAD : LOOPED);
  },
  repeats: (c, p) => {
    const turns = Math.ceil(rounds(c, p) / c.AHEAD!);
    return {
      LANE_ROWS: columns(c) / c.SUBGROUP_SIZE!,
      CHUNK_FRAGMENTS: 32 / c.MMA_K!,
      WRITTEN: Math.ceil(turns / Math.ceil(turns / c.MOST_WRITTEN!)),
    };
  },
  operand: (c, p) => ({
    kind: 'half-fragments',
    fragmentM: c.MMA_M!,
    fragmentK: c.MMA_K!,
    tileM: rows(c),
    tileK: 32,
    exponent: largestExponent(p),
  }),
  modules: (_c, p) => [...halfChunks(p), MODULES.gemmSubgroupMatrixSkinny],
};
