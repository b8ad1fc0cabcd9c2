/** What kernels on subgroup matrices have in common: which fragments they take, and tiles made of them. */
import type { Caps, SubgroupMatrixConfig } from '../../gpu/caps.js';
import type { GemmProblem } from '../problem.js';
import type { Grid, KernelConstants } from './kernel.js';

/** Shapes of tiles with k in one part and in several, where one a tile would leave a large GPU idle. */
export const splitShapes = (
  shapes: readonly KernelConstants[],
  splits: readonly number[] = [1, 2, 4],
): KernelConstants[] => shapes.flatMap((shape) => splits.map((SPLIT_K) => ({ ...shape, SPLIT_K })));

/** Likewise, and the first shape, the smallest tile, in eight parts too: where large ones would need as many, small ones are faster. */
export const tileShapes = (shapes: readonly KernelConstants[]): KernelConstants[] => [
  ...splitShapes(shapes.slice(0, 1), [1, 2, 4, 8]),
  ...splitShapes(shapes.slice(1)),
];

/**
 * Shapes with each of the device's fragments that are worth using: those with the most products an instruction. A shape that
 * names its MMA_N has fragments of that width, and none where the device has no such.
 */
export function matrixVariants(
  caps: Caps,
  component: 'f16' | 'i8',
  shapes: readonly KernelConstants[],
): KernelConstants[] {
  const result = component === 'f16' ? 'f32' : 'i32';
  const configs = caps.subgroupMatrixConfigs.filter(
    (c) => c.componentType === component && c.resultComponentType === result,
  );
  const products = (c: SubgroupMatrixConfig) => c.M * c.N * c.K;
  return shapes.flatMap((shape) => {
    const fitting = configs.filter(({ N }) => N === (shape.MMA_N ?? N));
    const most = Math.max(...fitting.map(products));
    return fitting
      .filter((c) => products(c) === most)
      .map(({ M, N, K }) => ({
        ...shape,
        MMA_M: M,
        MMA_N: N,
        MMA_K: K,
        SUBGROUP_SIZE: caps.subgroupMaxSize ?? 0,
      }));
  });
}

/** Why subgroups of a variant are not the device's. */
export function refuseSubgroups(c: KernelConstants, caps: Caps): string | undefined {
  return caps.subgroupMinSize === caps.subgroupMaxSize && c.SUBGROUP_SIZE === caps.subgroupMaxSize
    ? undefined
    : `its subgroups are of ${c.SUBGROUP_SIZE}, and the device's are of ${caps.subgroupMinSize} to ${caps.subgroupMaxSize}`;
}

/** Tiles of SUBGROUPS_M × SUBGROUPS_N subgroups, of FRAGMENTS_M × FRAGMENTS_N fragments each. */
export const tileM = (c: KernelConstants) => c.SUBGROUPS_M! * c.FRAGMENTS_M! * c.MMA_M!;
export const tileN = (c: KernelConstants) => c.SUBGROUPS_N! * c.FRAGMENTS_N! * c.MMA_N!;
export const subgroups = (c: KernelConstants) => c.SUBGROUPS_M! * c.SUBGROUPS_N!;
export const threads = (c: KernelConstants) => subgroups(c) * c.SUBGROUP_SIZE!;

/** Tiles of m, tiles of n, parts of k. */
export const tileGrid = (c: KernelConstants, p: GemmProblem): Grid => ({
  x: Math.ceil(p.m / tileM(c)),
  y: Math.ceil(p.n / tileN(c)),
  z: c.SPLIT_K ?? 1,
});
