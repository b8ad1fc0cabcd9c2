/** What kernels with tiles of halves in workgroup memory have in common. */
import type { ShaderModuleText } from '../../gpu/shader.js';
import type { OperandSpec } from '../operands/operand.js';
import type { GemmProblem } from '../problem.js';
import { halfChunks, TILE_MODULES } from '../shaders.js';
import type { ErrorModel, KernelConstants } from './kernel.js';

/** Whether f16 kernels take x as it lies in its buffer. */
export const takesHalfRows = ({ x, activations: { kind } }: GemmProblem) =>
  x === 'f16' && (kind === 'float' || kind === 'int8');

/** x in halves, as it is or tile by tile. */
export const halfTileOperand = (p: GemmProblem, tileM: number, tileK: number): OperandSpec =>
  takesHalfRows(p)
    ? { kind: 'rows' }
    : { kind: 'half-fragments', fragmentM: tileM, fragmentK: tileK, tileM, tileK };

/** How tiles of x and w are brought and decoded, into memory that a kernel or a module of its own declares. */
export const halfTiles = (p: GemmProblem, ...memory: ShaderModuleText[]): readonly ShaderModuleText[] => [
  ...halfChunks(p),
  takesHalfRows(p) ? TILE_MODULES.xTilesRows : TILE_MODULES.xTiles,
  ...memory,
  TILE_MODULES.f16,
  TILE_MODULES.fill,
];

export const halfTileErrors = (_c: KernelConstants, p: GemmProblem): ErrorModel => ({
  roundings: p.k + 8,
  // x to f16, and with macro factors w as well (shaders/formats/mxfp4_halves_mbs.wgsl).
  relative: p.macroSize ? 2 ** -10 + 2 ** -9 : 2 ** -10,
  // Halves below the normal ones: of x 2^-28 below the row's largest, of w 2^-15 below.
  xStep: 2 ** -28,
  wStep: p.format === 'mxfp4' ? 2 ** -24 : 0,
});
