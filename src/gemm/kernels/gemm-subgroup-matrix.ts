import type { GemmProblem } from '../problem.js';
import { int8Chunks, MODULES, TILE_MODULES } from '../shaders.js';
import { type CoreTime, constantsOf, coreTime, type TimedShape } from './core-time.js';
import { halfTileErrors, halfTileOperand, halfTiles } from './half-tiles.js';
import { INT8_ROWS_ERRORS, refuseInt8Rows } from './int8-rows.js';
import type { Kernel, KernelConstants } from './kernel.js';
import {
  matrixVariants,
  refuseSubgroups,
  subgroups,
  threads,
  tileGrid,
  tileM,
  tileN,
  tileShapes,
} from './matrix-variants.js';

/** Subgroups of a tile (m × n), fragments of a subgroup (m × n), fragments of a step along k; its time; width of fragments. */
const shape = (
  [SUBGROUPS_M, SUBGROUPS_N]: readonly [m: number, n: number],
  [FRAGMENTS_M, FRAGMENTS_N]: readonly [m: number, n: number],
  STEP_FRAGMENTS: number,
  time: CoreTime,
  MMA_N?: number,
): TimedShape => ({
  constants: { SUBGROUPS_M, SUBGROUPS_N, FRAGMENTS_M, FRAGMENTS_N, STEP_FRAGMENTS, ...(MMA_N && { MMA_N }) },
  time,
});

const F16_SHAPES = [
  shape([2, 2], [2, 2], 4, [2, 1.7, 8.27, 10.4]),
  shape([2, 2], [4, 4], 4, [1, 4.46, 13.75, 13.75]),
];
const I8_SHAPES = [
  shape([2, 2], [2, 2], 4, [2, 1.96, 4.91, 6.2]),
  shape([4, 2], [2, 4], 4, [1, 3.52, 8.7, 8.7]),
  shape([2, 2], [4, 4], 2, [2, 4.95, 10.92, 15.9]),
  shape([2, 2], [4, 8], 2, [2, 5.07, 13, 14.94], 8),
];

const tileK = (c: KernelConstants) => c.STEP_FRAGMENTS! * c.MMA_K!;

/** What f16 and int8 elements have in common; see shaders/gemm_subgroup_matrix.wgsl. */
function matrixKernel(elementBytes: 1 | 2, shapes: readonly TimedShape[]) {
  const rowBytes = (c: KernelConstants) => tileK(c) * elementBytes + 16;
  /** Pieces of x and chunks of w that a thread takes each step. */
  const xLoads = (c: KernelConstants) => (tileM(c) * tileK(c) * elementBytes) / 16 / threads(c);
  const wLoads = (c: KernelConstants) => (tileN(c) * tileK(c)) / 32 / threads(c);
  const partRows = (c: KernelConstants) => Math.min(c.FRAGMENTS_M! * c.MMA_M!, c.FRAGMENTS_N! * c.MMA_N!);
  return {
    tiers: ['subgroups', elementBytes === 2 ? 'matrix-f16' : 'matrix-i8'],
    manner: `subgroup matrices of ${elementBytes === 2 ? 'f16' : 'int8'}, in tiles that share decoded weights between rows of x`,
    quietDiagnostics: ['chromium.subgroup_matrix_uniformity'],
    variants: (caps) =>
      matrixVariants(caps, elementBytes === 2 ? 'f16' : 'i8', tileShapes(constantsOf(shapes))),
    refuse: (c, _p, caps) => {
      if (tileK(c) % 32) return `steps of ${tileK(c)} along k are not whole chunks of 32`;
      if (!(Number.isInteger(xLoads(c)) && Number.isInteger(wLoads(c)))) {
        return `its ${threads(c)} threads cannot share the loads of a tile evenly`;
      }
      if (threads(c) % tileK(c)) return `its ${threads(c)} threads are not whole rows of ${tileK(c)}`;
      return refuseSubgroups(c, caps);
    },
    // Fragments that are narrower than high are not the only ones that a device has.
    tileLabel: (c) =>
      `${tileM(c)}x${tileN(c)}x${tileK(c)}x${subgroups(c)}${c.MMA_N! < c.MMA_M! ? `.n${c.MMA_N}` : ''}`,
    threads,
    sharedBytes: (c) => {
      const parts = Math.max((tileM(c) + tileN(c)) / partRows(c), subgroups(c));
      const sums = c.MMA_M! * (c.FRAGMENTS_N! * c.MMA_N! * 4 + 16);
      return parts * Math.max(partRows(c) * rowBytes(c), sums) + tileM(c) * 4 + tileN(c);
    },
    coreTime: (c) => coreTime(shapes, c),
    workgroups: tileGrid,
    foldsX: false,
    bindings: ['x_scales', 'w_row_max'],
    repeats: (c) => ({ X_LOADS: xLoads(c), W_LOADS: wLoads(c) }),
    storesQuads: true,
    constantK: true,
  } satisfies Partial<Kernel>;
}

const f16 = matrixKernel(2, F16_SHAPES);
const f16Operand = (c: KernelConstants, p: GemmProblem) => halfTileOperand(p, tileM(c), tileK(c));

export const gemmSubgroupMatrix: Kernel = {
  ...f16,
  id: 'gemm_subgroup_matrix',
  enables: ['f16', 'subgroups', 'chromium_experimental_subgroup_matrix'],
  activations: ['float'],
  precision: 'f16',
  operand: f16Operand,
  modules: (c, p) => [...halfTiles(p, f16Operand(c, p), TILE_MODULES.tileVec4), MODULES.gemmSubgroupMatrix],
  errors: halfTileErrors,
};

const i8 = matrixKernel(1, I8_SHAPES);

export const gemmSubgroupMatrixI8: Kernel = {
  ...i8,
  id: 'gemm_subgroup_matrix_i8',
  enables: ['subgroups', 'chromium_experimental_subgroup_matrix'],
  moreEnables: ({ f16SubnormalProducts }) => (f16SubnormalProducts ? ['f16'] : []),
  activations: ['int8'],
  precision: 'f32',
  refuse: (c, p, caps) => refuseInt8Rows(p) ?? i8.refuse(c, p, caps),
  operand: (c) => ({ kind: 'int8-rows', tileM: tileM(c), tileK: tileK(c) }),
  modules: (c, p, probe) => [
    ...int8Chunks(p, probe),
    TILE_MODULES.xTiles,
    c.MMA_K! < 16 ? TILE_MODULES.tileVec2 : TILE_MODULES.tileVec4,
    TILE_MODULES.i8,
    TILE_MODULES.fill,
    MODULES.gemmSubgroupMatrix,
  ],
  errors: () => INT8_ROWS_ERRORS,
};
