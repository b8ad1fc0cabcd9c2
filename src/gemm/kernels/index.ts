/** The registry: every kernel, its variants, and what each needs from a device. */
import type { Caps } from '../../gpu/caps.js';
import type { Probe } from '../../gpu/probe.js';
import type { ShaderDescription } from '../../gpu/shader.js';
import type { UniformSource } from '../../gpu/uniform-data.js';
import { activationBlock } from '../operands/int8.js';
import { type GemmProblem, problemLabel } from '../problem.js';
import { commonModules, epilogueModules, PROBLEM_MODULES, reduceSplitsModules } from '../shaders.js';
import { gemmDp4a } from './gemm-dp4a.js';
import { gemmDp4aRows } from './gemm-dp4a-rows.js';
import { gemmSubgroupMatrix, gemmSubgroupMatrixI8 } from './gemm-subgroup-matrix.js';
import { gemmSubgroupMatrixDirect } from './gemm-subgroup-matrix-direct.js';
import { gemmSubgroupMatrixSkinny } from './gemm-subgroup-matrix-skinny.js';
import { gemmTiled } from './gemm-tiled.js';
import { gemmTiledF16 } from './gemm-tiled-f16.js';
import { gemv, gemvF16 } from './gemv.js';
import type { Kernel, KernelConstants, KernelId } from './kernel.js';

export type { ErrorModel, Grid, Kernel, KernelConstants, KernelId } from './kernel.js';

export const KERNELS: Readonly<Record<KernelId, Kernel>> = {
  gemv,
  gemv_f16: gemvF16,
  gemm_tiled: gemmTiled,
  gemm_tiled_f16: gemmTiledF16,
  gemm_dp4a: gemmDp4a,
  gemm_dp4a_rows: gemmDp4aRows,
  gemm_subgroup_matrix: gemmSubgroupMatrix,
  gemm_subgroup_matrix_direct: gemmSubgroupMatrixDirect,
  gemm_subgroup_matrix_skinny: gemmSubgroupMatrixSkinny,
  gemm_subgroup_matrix_i8: gemmSubgroupMatrixI8,
};

/** `gemm_tiled.mxfp4.f32.64x64x16`: kernel, weight format, types and epilogue, tile, parts of k. */
export function kernelLabel(kernel: Kernel, c: KernelConstants, p: GemmProblem): string {
  const split = (c.SPLIT_K ?? 1) > 1 ? `.k${c.SPLIT_K}` : '';
  return `${kernel.id}.${problemLabel(p)}.${kernel.tileLabel(c)}${split}`;
}

const formatConstants = (kernel: Kernel, p: GemmProblem) => ({
  BLOCK_SIZE: p.blockSize,
  ...(kernel.constantK && { K: p.k }),
  ...(p.macroSize && { MACRO_SIZE: p.macroSize }),
  ...(!kernel.activations.includes('float') && { X_BLOCK: activationBlock(p.activations) }),
});

export function describeShader(
  kernel: Kernel,
  c: KernelConstants,
  p: GemmProblem,
  probe: Probe,
  source: UniformSource,
): ShaderDescription {
  const columns = !kernel.storesQuads ? 'one' : p.n % 4 ? 'four' : 'four-aligned';
  const epilogue = epilogueModules(p, checksRows(p), c.SPLIT_K, columns);
  return {
    label: kernelLabel(kernel, c, p),
    enables: [
      ...new Set([...(kernel.enables ?? []), ...(kernel.moreEnables?.(probe) ?? []), ...epilogue.enables]),
    ],
    ...(kernel.quietDiagnostics && { quietDiagnostics: kernel.quietDiagnostics }),
    constants: { ...formatConstants(kernel, p), SPLIT_K: 1, ...c, ...epilogue.constants },
    ...(kernel.repeats && { repeats: kernel.repeats(c, p) }),
    aliases: epilogue.aliases,
    // Kernels may read the rows' largest scales as well.
    modules: [
      ...new Set([
        ...commonModules(p, source, kernel.constantK),
        ...epilogue.modules,
        ...kernel.modules(c, p, probe),
      ]),
    ],
  };
}

/** Whether the last step of a product looks for rows of w that are NaN. */
export const checksRows = (p: GemmProblem) => p.nanScales === true;

/** Threads of a workgroup that adds up parts of k, four columns each. */
export const REDUCE_WORKGROUP = 128;

/** The shader that adds up the SPLIT_K parts of a product. */
export function describeReduction(splits: number, p: GemmProblem, source: UniformSource): ShaderDescription {
  const aligned = p.n % 4 === 0;
  const epilogue = epilogueModules(p, checksRows(p), 1, aligned ? 'four-aligned' : 'four');
  return {
    label: `reduce_splits.${problemLabel(p)}.k${splits}`,
    enables: epilogue.enables,
    constants: {
      BLOCK_SIZE: p.blockSize,
      SPLIT_K: splits,
      WORKGROUP: REDUCE_WORKGROUP,
      ...epilogue.constants,
    },
    aliases: epilogue.aliases,
    modules: [...PROBLEM_MODULES[source], ...epilogue.modules, ...reduceSplitsModules(aligned)],
  };
}

/** Why a kernel's variant cannot compute a problem on a device, or undefined where it can. */
export function refusal(kernel: Kernel, c: KernelConstants, p: GemmProblem, caps: Caps): string | undefined {
  const missing = kernel.tiers.filter((tier) => !caps.tiers.includes(tier));
  if (p.y === 'f16' && !caps.tiers.includes('f16') && !missing.includes('f16')) missing.push('f16');
  if (missing.length) return `the device lacks ${missing.join(', ')}`;
  // Kernels for floats take any activations: int8 is an allowance, and FP4 can be made floats again.
  if (!kernel.activations.includes('float') && !kernel.activations.includes(p.activations.kind)) {
    return `it multiplies ${kernel.activations.join(', ')} activations, not ${p.activations.kind}`;
  }
  if (p.precision === 'f32' && kernel.precision === 'f16') {
    return "it rounds x to f16, and the problem's precision is f32";
  }
  const rows = kernel.mostRows?.(c) ?? p.m;
  if (p.m > rows) return `it takes up to ${rows} rows of x, and there are ${p.m}`;
  const threads = kernel.threads(c);
  if (threads > caps.limits.maxComputeInvocationsPerWorkgroup) {
    return `${threads} threads exceed maxComputeInvocationsPerWorkgroup = ${caps.limits.maxComputeInvocationsPerWorkgroup}`;
  }
  const shared = kernel.sharedBytes(c);
  if (shared > caps.limits.maxComputeWorkgroupStorageSize) {
    return `${shared} bytes of workgroup memory exceed maxComputeWorkgroupStorageSize = ${caps.limits.maxComputeWorkgroupStorageSize}`;
  }
  return kernel.refuse?.(c, p, caps);
}
