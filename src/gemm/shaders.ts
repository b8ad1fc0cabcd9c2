/** The WGSL modules, inlined at build time. */
import epilogueBias from '../../shaders/epilogue_bias.wgsl?raw';
import epiloguePlain from '../../shaders/epilogue_plain.wgsl?raw';
import e2m1Half from '../../shaders/formats/e2m1_half.wgsl?raw';
import e2m1HalfSafe from '../../shaders/formats/e2m1_half_safe.wgsl?raw';
import macroMbs from '../../shaders/formats/macro_mbs.wgsl?raw';
import macroNone from '../../shaders/formats/macro_none.wgsl?raw';
import mxfp4 from '../../shaders/formats/mxfp4.wgsl?raw';
import nvfp4 from '../../shaders/formats/nvfp4.wgsl?raw';
import gemmTiled from '../../shaders/gemm_tiled.wgsl?raw';
import gemv from '../../shaders/gemv.wgsl?raw';
import hadamard from '../../shaders/hadamard.wgsl?raw';
import problem from '../../shaders/problem.wgsl?raw';
import reduceSubgroup from '../../shaders/reduce_subgroup.wgsl?raw';
import reduceWorkgroup from '../../shaders/reduce_workgroup.wgsl?raw';
import rows2 from '../../shaders/rows_2.wgsl?raw';
import rows4 from '../../shaders/rows_4.wgsl?raw';
import type { Probe } from '../gpu/probe.js';
import type { ShaderModuleText } from '../gpu/shader.js';
import type { GemmProblem } from './problem.js';

const module = (name: string, source: string): ShaderModuleText => ({ name: `${name}.wgsl`, source });

/** The algorithm of each kernel and what it is composed with besides the format and the epilogue. */
export const ALGORITHMS = {
  gemv: [module('gemv', gemv), module('reduce_workgroup', reduceWorkgroup)],
  gemv_subgroup: [module('gemv', gemv), module('reduce_subgroup', reduceSubgroup)],
  gemm_tiled: [module('gemm_tiled', gemmTiled)],
} as const;

/** Handling of as many rows of w at a time as the constant ROWS says. */
export const ROWS_MODULES: Readonly<Record<number, ShaderModuleText>> = {
  2: module('rows_2', rows2),
  4: module('rows_4', rows4),
};

export const HADAMARD = module('hadamard', hadamard);

/** What every GEMM kernel is composed with: the problem, the weight format's decoders, the epilogue. */
export function commonModules(
  p: Pick<GemmProblem, 'format' | 'macroSize' | 'bias'>,
  { f16Subnormals }: Probe,
): ShaderModuleText[] {
  return [
    module('problem', problem),
    f16Subnormals ? module('formats/e2m1_half', e2m1Half) : module('formats/e2m1_half_safe', e2m1HalfSafe),
    p.format === 'mxfp4' ? module('formats/mxfp4', mxfp4) : module('formats/nvfp4', nvfp4),
    p.macroSize ? module('formats/macro_mbs', macroMbs) : module('formats/macro_none', macroNone),
    p.bias ? module('epilogue_bias', epilogueBias) : module('epilogue_plain', epiloguePlain),
  ];
}
