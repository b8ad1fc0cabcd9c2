/** What the registry knows of a kernel. */
import type { Caps, Tier } from '../../gpu/caps.js';
import type { Probe } from '../../gpu/probe.js';
import type { ShaderModuleText } from '../../gpu/shader.js';
import type { Activations } from '../activations.js';
import type { OperandSpec } from '../operands/operand.js';
import type { GemmProblem } from '../problem.js';
import type { CoreTime } from './core-time.js';

/** Binding numbers, the same in every shader. */
export const BINDINGS = {
  problem: 0,
  x: 1,
  w_codes: 2,
  w_scales: 3,
  w_macro: 4,
  y: 5,
  bias: 6,
  x_scales: 7,
  w_row_max: 8,
} as const;
export type BindingName = keyof typeof BINDINGS;

export type KernelId =
  | 'gemv'
  | 'gemv_f16'
  | 'gemm_tiled'
  | 'gemm_tiled_f16'
  | 'gemm_subgroup_matrix'
  | 'gemm_subgroup_matrix_direct'
  | 'gemm_subgroup_matrix_skinny'
  | 'gemm_subgroup_matrix_i8'
  | 'gemm_dp4a'
  | 'gemm_dp4a_rows';

/** Constants of a kernel's shader; the names are those of its head. */
export type KernelConstants = Readonly<Record<string, number>>;

export interface Grid {
  readonly x: number;
  readonly y: number;
  readonly z: number;
}

/**
 * How far a kernel may be from the exact product of its operands. With |x| and |w| standing for sums over k:
 * error ≤ (roundings · 2^-23 + relative) · Σ|x·w| + xStep · max|x| · Σ|w| + wStep · max|w| · Σ|x|,
 * where max|x| is that of the row of x, and max|w| six times the largest block scale of the row of w.
 */
export interface ErrorModel {
  /** f32 roundings on the longest path from an input to a sum. */
  readonly roundings: number;
  readonly relative?: number;
  readonly xStep?: number;
  readonly wStep?: number;
}

export interface Kernel {
  /** Registry key and prefix of labels; most are the stem of the shader's file. */
  readonly id: KernelId;
  readonly tiers: readonly Tier[];
  /** Kinds of activations it multiplies. */
  readonly activations: readonly Activations['kind'][];
  /** What float activations are rounded to; a problem may ask for more. */
  readonly precision: 'f32' | 'f16';
  /** How it goes about weights, for people who ask why it was chosen. */
  readonly manner: string;
  /** WGSL extensions, and diagnostics to be turned off. */
  readonly enables?: readonly string[];
  /** Further extensions that it uses where a device has them. */
  moreEnables?(probe: Probe): readonly string[];
  readonly quietDiagnostics?: readonly string[];
  /** Sets of constants worth choosing between on a device. */
  variants(caps: Caps): readonly KernelConstants[];
  /** Rows of x that it takes at most; any number where absent. */
  mostRows?(c: KernelConstants): number;
  /** Why it cannot compute a problem, apart from what the other fields say. */
  refuse?(c: KernelConstants, p: GemmProblem, caps: Caps): string | undefined;
  /** Constants as they appear in labels, e.g. `64x64x16`. */
  tileLabel(c: KernelConstants): string;
  threads(c: KernelConstants): number;
  /** Bytes of workgroup memory. */
  sharedBytes(c: KernelConstants): number;
  /** How long cores take for its workgroups, which plans go by. */
  coreTime(c: KernelConstants, p: GemmProblem): CoreTime;
  /** Workgroups for n rows of weights, before they are spread over the grid's dimensions. */
  workgroups(c: KernelConstants, p: GemmProblem): Grid;
  /** True where the grid's x may be folded into y. */
  readonly foldsX: boolean;
  /** How x has to lie. */
  operand(c: KernelConstants, p: GemmProblem): OperandSpec;
  /** Modules besides the problem, the epilogue and the weight format's scales. */
  modules(c: KernelConstants, p: GemmProblem, probe: Probe): readonly ShaderModuleText[];
  /** What it binds besides x, the weights and the epilogue's. */
  readonly bindings?: readonly ('x_scales' | 'w_row_max')[];
  /** Whether it hands sums of four neighbouring columns over at a time. */
  readonly storesQuads?: boolean;
  /** Whether its shader is compiled for one k, the constant K. */
  readonly constantK?: boolean;
  /** Counts of lines that its shader repeats, besides its constants; see src/gpu/shader.ts. */
  repeats?(c: KernelConstants, p: GemmProblem): Readonly<Record<string, number>>;
  errors(c: KernelConstants, p: GemmProblem): ErrorModel;
}
