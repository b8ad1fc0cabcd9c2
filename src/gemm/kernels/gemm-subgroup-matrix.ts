import type { Caps, SubgroupMatrixConfig } from '../../gpu/caps.js';
import { halfScales, MODULES } from '../shaders.js';
import type { Kernel, KernelConstants } from './kernel.js';

/** Subgroups of a tile (m × n), fragments of a subgroup (m × n); the best at large m comes last. */
const SHAPES: readonly KernelConstants[] = [
  { SUBGROUPS_M: 2, SUBGROUPS_N: 2, FRAGMENTS_M: 2, FRAGMENTS_N: 2 },
  { SUBGROUPS_M: 4, SUBGROUPS_N: 1, FRAGMENTS_M: 2, FRAGMENTS_N: 4 },
  { SUBGROUPS_M: 2, SUBGROUPS_N: 2, FRAGMENTS_M: 4, FRAGMENTS_N: 4 },
  { SUBGROUPS_M: 4, SUBGROUPS_N: 2, FRAGMENTS_M: 2, FRAGMENTS_N: 4 },
];
/** Parts of k that workgroups sum over, where one a tile would leave a large GPU idle. */
const SPLITS = [1, 2, 4];

/** Fragment sizes worth using: those with the most products an instruction. */
export function bestConfigs(caps: Caps, component: string, result: string): readonly SubgroupMatrixConfig[] {
  const configs = caps.subgroupMatrixConfigs.filter(
    (c) => c.componentType === component && c.resultComponentType === result,
  );
  const products = (c: SubgroupMatrixConfig) => c.M * c.N * c.K;
  const most = Math.max(...configs.map(products));
  return configs.filter((c) => products(c) === most);
}

export const tileM = (c: KernelConstants) => c.SUBGROUPS_M! * c.FRAGMENTS_M! * c.MMA_M!;
export const tileN = (c: KernelConstants) => c.SUBGROUPS_N! * c.FRAGMENTS_N! * c.MMA_N!;
const tileK = (c: KernelConstants) => 4 * c.MMA_K!;
const subgroups = (c: KernelConstants) => c.SUBGROUPS_M! * c.SUBGROUPS_N!;

export const gemmSubgroupMatrix: Kernel = {
  id: 'gemm_subgroup_matrix',
  tiers: ['subgroups', 'matrix-f16'],
  enables: ['f16', 'subgroups', 'chromium_experimental_subgroup_matrix'],
  quietDiagnostics: ['chromium.subgroup_matrix_uniformity'],
  activations: ['float'],
  precision: 'f16',
  variants: (caps) =>
    bestConfigs(caps, 'f16', 'f32').flatMap(({ M, N, K }) =>
      SHAPES.flatMap((shape) =>
        SPLITS.map((SPLIT_K) => ({
          ...shape,
          SPLIT_K,
          MMA_M: M,
          MMA_N: N,
          MMA_K: K,
          SUBGROUP_SIZE: caps.subgroupMaxSize ?? 0,
        })),
      ),
    ),
  refuse: (c, _p, caps) =>
    caps.subgroupMinSize === caps.subgroupMaxSize && c.SUBGROUP_SIZE === caps.subgroupMaxSize
      ? undefined
      : `its subgroups are of ${c.SUBGROUP_SIZE}, and the device's are of ${caps.subgroupMinSize} to ${caps.subgroupMaxSize}`,
  tileLabel: (c) => `${tileM(c)}x${tileN(c)}x${tileK(c)}x${subgroups(c)}`,
  threads: (c) => subgroups(c) * c.SUBGROUP_SIZE!,
  sharedBytes: (c) =>
    Math.max(tileN(c) * (tileK(c) + 8) * 2, subgroups(c) * c.MMA_M! * (c.MMA_N! / 2 + 1) * 16),
  workgroups: (c, p) => ({
    x: Math.ceil(p.m / tileM(c)),
    y: Math.ceil(p.n / tileN(c)),
    z: c.SPLIT_K ?? 1,
  }),
  foldsX: false,
  operand: (c) => ({
    kind: 'half-fragments',
    fragmentM: c.MMA_M!,
    fragmentK: c.MMA_K!,
    tileM: tileM(c),
    tileK: tileK(c),
  }),
  bindings: ['x_scales', 'w_row_max'],
  modules: (_c, p) => [MODULES.rowMax, MODULES.e2m1Halves, halfScales(p), MODULES.gemmSubgroupMatrix],
  errors: (_c, p) => ({
    roundings: p.k + 8,
    // x to f16, and with macro factors w as well (shaders/formats/mxfp4_halves_mbs.wgsl).
    relative: p.macroSize ? 2 ** -10 + 2 ** -9 : 2 ** -10,
    // Halves below the normal ones: of x 2^-28 below the row's largest, of w 2^-15 below.
    xStep: 2 ** -28,
    wStep: p.format === 'mxfp4' ? 2 ** -24 : 0,
  }),
};
