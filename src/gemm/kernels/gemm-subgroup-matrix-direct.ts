import { largestExponent } from '../operands/half-fragments.js';
import { halfChunks, MODULES } from '../shaders.js';
import { coreTime, type TimedShape } from './core-time.js';
import { halfTileErrors } from './half-tiles.js';
import type { Kernel, KernelConstants } from './kernel.js';
import {
  matrixVariants,
  refuseSubgroups,
  splitShapes,
  subgroups,
  threads,
  tileGrid,
  tileM,
  tileN,
} from './matrix-variants.js';

/** Subgroups of a tile (m × n), fragments of a subgroup (m × n), and its time. */
const SHAPE: TimedShape = {
  constants: { SUBGROUPS_M: 4, SUBGROUPS_N: 2, FRAGMENTS_M: 2, FRAGMENTS_N: 4 },
  time: [2, 2.91, 19.45, 26.93],
};

const tileK = (c: KernelConstants) => 4 * c.MMA_K!;

export const gemmSubgroupMatrixDirect: Kernel = {
  id: 'gemm_subgroup_matrix_direct',
  tiers: ['subgroups', 'matrix-f16'],
  enables: ['f16', 'subgroups', 'chromium_experimental_subgroup_matrix'],
  quietDiagnostics: ['chromium.subgroup_matrix_uniformity'],
  activations: ['float'],
  precision: 'f16',
  manner: 'subgroup matrices of f16, in tiles of weights alone that share them between rows of x',
  variants: (caps) => matrixVariants(caps, 'f16', splitShapes([SHAPE.constants])),
  refuse: (c, _p, caps) => refuseSubgroups(c, caps),
  tileLabel: (c) => `${tileM(c)}x${tileN(c)}x${tileK(c)}x${subgroups(c)}`,
  threads,
  sharedBytes: (c) =>
    Math.max(tileN(c) * (tileK(c) + 8) * 2, subgroups(c) * c.MMA_M! * (c.MMA_N! / 2 + 1) * 16) +
    tileM(c) * 4 +
    tileN(c),
  coreTime: (c) => coreTime([SHAPE], c),
  workgroups: tileGrid,
  foldsX: false,
  operand: (c, p) => ({
    kind: 'half-fragments',
    fragmentM: c.MMA_M!,
    fragmentK: c.MMA_K!,
    tileM: tileM(c),
    tileK: tileK(c),
    exponent: largestExponent(p),
  }),
  bindings: ['x_scales', 'w_row_max'],
  modules: (_c, p) => [...halfChunks(p), MODULES.gemmSubgroupMatrixDirect],
  repeats: (c) => ({
    PAIRS: c.FRAGMENTS_N! / 2,
    STEP_FRAGMENTS: 4,
    LOADS: (tileN(c) * tileK(c)) / 32 / threads(c),
  }),
  storesQuads: true,
  errors: halfTileErrors,
};
