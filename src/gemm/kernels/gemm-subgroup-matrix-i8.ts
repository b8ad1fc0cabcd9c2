import { INT8_WHOLE_K, int8Stretches } from '../int8-weights.js';
import { INT8_MATRIX_MODULES } from '../shaders.js';
import { bestConfigs, gemmSubgroupMatrix, tileM, tileN } from './gemm-subgroup-matrix.js';
import type { Kernel, KernelConstants } from './kernel.js';

/** Subgroups of a tile (m × n), fragments of a subgroup (m × n), values along k that share a scale. */
const SHAPES: readonly KernelConstants[] = [
  { SUBGROUPS_M: 2, SUBGROUPS_N: 2, FRAGMENTS_M: 2, FRAGMENTS_N: 2, CHUNK_K: INT8_WHOLE_K },
  { SUBGROUPS_M: 2, SUBGROUPS_N: 2, FRAGMENTS_M: 2, FRAGMENTS_N: 4, CHUNK_K: INT8_WHOLE_K },
  { SUBGROUPS_M: 2, SUBGROUPS_N: 2, FRAGMENTS_M: 4, FRAGMENTS_N: 4, CHUNK_K: INT8_WHOLE_K },
  { SUBGROUPS_M: 4, SUBGROUPS_N: 2, FRAGMENTS_M: 2, FRAGMENTS_N: 4, CHUNK_K: INT8_WHOLE_K },
  { SUBGROUPS_M: 2, SUBGROUPS_N: 2, FRAGMENTS_M: 4, FRAGMENTS_N: 4, CHUNK_K: 1024 },
  { SUBGROUPS_M: 4, SUBGROUPS_N: 2, FRAGMENTS_M: 2, FRAGMENTS_N: 4, CHUNK_K: 1024 },
];

/** Least signal to noise in dB that weights may have as int8. */
const LEAST_SNR = 30;

const tileK = (c: KernelConstants) => (c.MMA_K! >= 32 ? 2 : 4) * c.MMA_K!;
const subgroups = (c: KernelConstants) => c.SUBGROUPS_M! * c.SUBGROUPS_N!;
const threads = (c: KernelConstants) => subgroups(c) * c.SUBGROUP_SIZE!;

export const gemmSubgroupMatrixI8: Kernel = {
  id: 'gemm_subgroup_matrix_i8',
  tiers: ['subgroups', 'matrix-i8'],
  enables: ['subgroups', 'chromium_experimental_subgroup_matrix'],
  quietDiagnostics: ['chromium.subgroup_matrix_uniformity'],
  activations: ['int8'],
  precision: 'f32',
  variants: (caps) =>
    bestConfigs(caps, 'i8', 'i32').flatMap(({ M, N, K }) =>
      SHAPES.map((shape) => ({
        ...shape,
        MMA_M: M,
        MMA_N: N,
        MMA_K: K,
        SUBGROUP_SIZE: caps.subgroupMaxSize ?? 0,
      })),
    ),
  refuse: (c, p, caps) => {
    // Vectors of x and chunks of w that a thread loads each step.
    const loads = [(tileM(c) * tileK(c)) / 16, (tileN(c) * tileK(c)) / 32].map((count) => count / threads(c));
    if (!loads.every((count) => [1, 2, 4].includes(count))) {
      return `its ${threads(c)} threads cannot share the loads of a tile evenly`;
    }
    if ((c.FRAGMENTS_N! * c.MMA_N!) % c.SUBGROUP_SIZE!) {
      return `${c.FRAGMENTS_N! * c.MMA_N!} columns are not whole subgroups of ${c.SUBGROUP_SIZE}`;
    }
    if (p.int8Snr !== undefined && p.int8Snr < LEAST_SNR) {
      return (
        `the scales of these weights spread so far that as int8 they have a signal to noise of ${p.int8Snr.toFixed(1)} dB, ` +
        `below ${LEAST_SNR} dB`
      );
    }
    return gemmSubgroupMatrix.refuse!(c, p, caps);
  },
  tileLabel: (c) => {
    const chunk = c.CHUNK_K === INT8_WHOLE_K ? '' : `.c${c.CHUNK_K}`;
    return `${tileM(c)}x${tileN(c)}x${tileK(c)}x${subgroups(c)}${chunk}`;
  },
  threads,
  sharedBytes: (c) =>
    Math.max(
      (tileM(c) + tileN(c)) * (tileK(c) + 16),
      subgroups(c) * c.MMA_M! * (c.FRAGMENTS_N! * c.MMA_N! * 4 + 16),
    ),
  workgroups: (c, p) => ({
    x: Math.ceil(p.m / tileM(c)),
    y: Math.ceil(p.n / tileN(c)),
    z: c.SPLIT_K ?? 1,
  }),
  foldsX: false,
  operand: (c) => ({ kind: 'int8-chunks', chunkK: c.CHUNK_K!, tileK: tileK(c) }),
  bindings: ['x_scales'],
  int8Weights: (c) => c.CHUNK_K!,
  sumsBytes: (c, p) => (int8Stretches(p.k, c.CHUNK_K!) > 1 ? (c.SPLIT_K ?? 1) * p.m * p.n * 4 : 0),
  modules: (c, p) => [
    INT8_MATRIX_MODULES.decode,
    c.MMA_K! < 16 ? INT8_MATRIX_MODULES.tileVec2 : INT8_MATRIX_MODULES.tileVec4,
    int8Stretches(p.k, c.CHUNK_K!) > 1 ? INT8_MATRIX_MODULES.sumsParts : INT8_MATRIX_MODULES.sumsWhole,
    INT8_MATRIX_MODULES.kernel,
  ],
  errors: (c, p) => ({
    // One a stretch for its sum; the rest for scales, parts of k and bias.
    roundings: int8Stretches(p.k, c.CHUNK_K!) + 24,
    // Half a step of the integers, and f32 roundings of it. A stretch's largest value is at most its row's.
    xStep: 0.501 / 127,
    // See shaders/int8_weights.wgsl.
    wStep: p.format === 'mxfp4' && !p.macroSize ? 0.501 / 96 : 0.525 / 127,
  }),
};
