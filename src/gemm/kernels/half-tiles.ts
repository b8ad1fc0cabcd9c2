/** What kernels with tiles of halves in workgroup memory have in common. */
import type { ShaderModuleText } from '../../gpu/shader.js';
import { largestExponent } from '../operands/half-fragments.js';
import type { OperandSpec } from '../operands/operand.js';
import type { GemmProblem } from '../problem.js';
import { halfChunks, TILE_MODULES } from '../shaders.js';
import type { ErrorModel, KernelConstants } from './kernel.js';

/** x in halves tile by tile, its rows scaled to an exponent. */
export const scaledTiles = (tileM: number, tileK: number, exponent: number): OperandSpec => ({
  kind: 'half-fragments',
  fragmentM: tileM,
  fragmentK: tileK,
  tileM,
  tileK,
  exponent,
});

/** Likewise for sums in f32, or x as it is where it is f16. */
export const halfTileOperand = (p: GemmProblem, tileM: number, tileK: number): OperandSpec => {
  const exponent = largestExponent(p);
  return exponent === undefined ? { kind: 'rows' } : scaledTiles(tileM, tileK, exponent);
};

/** How tiles of x and w are brought and decoded, into memory that a kernel or a module of its own declares. */
export const halfTiles = (
  p: GemmProblem,
  { kind }: OperandSpec,
  ...memory: ShaderModuleText[]
): readonly ShaderModuleText[] => [
  ...halfChunks(p),
  kind === 'rows' ? TILE_MODULES.xTilesRows : TILE_MODULES.xTiles,
  ...memory,
  TILE_MODULES.f16,
  TILE_MODULES.fill,
];

/** For sums in f32, of x as `halfTileOperand` brings it. */
export const halfTileErrors = (_c: KernelConstants, p: GemmProblem): ErrorModel => ({
  roundings: p.k + 8,
  // x to f16, and with macro factors w as well (shaders/formats/mxfp4_halves_mbs.wgsl).
  relative: p.macroSize ? 2 ** -10 + 2 ** -9 : 2 ** -10,
  // Halves below the normal ones: of x 2^-28 below the row's largest, of w 2^-15 below.
  xStep: 2 ** -28,
  wStep: p.format === 'mxfp4' ? 2 ** -24 : 0,
});
