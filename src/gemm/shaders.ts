/** The WGSL modules, inlined at build time. */
import epilogueBias from '../../shaders/epilogue_bias.wgsl?raw';
import epiloguePlain from '../../shaders/epilogue_plain.wgsl?raw';
import e2m1 from '../../shaders/formats/e2m1.wgsl?raw';
import macroMbs from '../../shaders/formats/macro_mbs.wgsl?raw';
import macroNone from '../../shaders/formats/macro_none.wgsl?raw';
import mxfp4 from '../../shaders/formats/mxfp4.wgsl?raw';
import nvfp4 from '../../shaders/formats/nvfp4.wgsl?raw';
import gemmTiled from '../../shaders/gemm_tiled.wgsl?raw';
import gemv from '../../shaders/gemv.wgsl?raw';
import hadamard from '../../shaders/hadamard.wgsl?raw';
import problem from '../../shaders/problem.wgsl?raw';
import type { ShaderModuleText } from '../gpu/shader.js';
import type { GemmProblem } from './problem.js';

const module = (name: string, source: string): ShaderModuleText => ({ name: `${name}.wgsl`, source });

export const ALGORITHMS = {
  gemv: module('gemv', gemv),
  gemm_tiled: module('gemm_tiled', gemmTiled),
} as const;

export const HADAMARD = module('hadamard', hadamard);

/** What every GEMM kernel is composed with: the problem, the weight format's decoders, the epilogue. */
export function commonModules(p: Pick<GemmProblem, 'format' | 'macroSize' | 'bias'>): ShaderModuleText[] {
  return [
    module('problem', problem),
    module('formats/e2m1', e2m1),
    p.format === 'mxfp4' ? module('formats/mxfp4', mxfp4) : module('formats/nvfp4', nvfp4),
    p.macroSize ? module('formats/macro_mbs', macroMbs) : module('formats/macro_none', macroNone),
    p.bias ? module('epilogue_bias', epilogueBias) : module('epilogue_plain', epiloguePlain),
  ];
}
