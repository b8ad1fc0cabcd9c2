/** The registry: every kernel, its variants, and what each needs from a device. */
import type { Caps, Tier } from '../gpu/caps.js';
import type { ShaderDescription } from '../gpu/shader.js';
import { formatLabel, type GemmProblem } from './problem.js';
import { ALGORITHMS, commonModules } from './shaders.js';

export type KernelId = keyof typeof ALGORITHMS;

/** Constants of a kernel's shader; the names are those of its head. */
export type KernelConstants = Readonly<Record<string, number>>;

export interface Kernel {
  readonly id: KernelId;
  readonly tiers: readonly Tier[];
  /** Sets of constants worth choosing between. */
  readonly variants: readonly KernelConstants[];
  /** Constants as they appear in labels, e.g. `64x64x16`. */
  tileLabel(c: KernelConstants): string;
  /** Threads of a workgroup. */
  threads(c: KernelConstants): number;
  /** Bytes of workgroup memory. */
  sharedBytes(c: KernelConstants): number;
  /** Workgroups needed, before they are spread over the grid's dimensions. */
  workgroups(
    c: KernelConstants,
    p: GemmProblem,
  ): { readonly x: number; readonly y: number; readonly z: number };
  /** True where the grid's x may be folded into y. */
  readonly foldsX: boolean;
  /** f32 roundings on the longest path from an input to a sum: the error bound's factor. */
  roundings(c: KernelConstants, p: GemmProblem): number;
}

const gemv: Kernel = {
  id: 'gemv',
  tiers: ['base'],
  variants: [
    { LANES: 32, GROUPS: 4, ROWS: 1 },
    { LANES: 64, GROUPS: 4, ROWS: 2 },
    { LANES: 128, GROUPS: 1, ROWS: 4 },
  ],
  tileLabel: (c) => `${c.LANES}x${c.GROUPS}x${c.ROWS}`,
  threads: (c) => c.LANES! * c.GROUPS!,
  sharedBytes: (c) => c.LANES! * c.GROUPS! * c.ROWS! * 4,
  workgroups: (c, p) => ({ x: Math.ceil(p.n / (c.GROUPS! * c.ROWS!)), y: 1, z: p.m }),
  foldsX: true,
  // Eight in a chunk's products, two to scale them, one a step, one a halving, and four for scale, tensor scale, bias.
  roundings: (c, p) => Math.ceil(p.k / 16 / c.LANES!) + Math.log2(c.LANES!) + 14,
};

const gemmTiled: Kernel = {
  id: 'gemm_tiled',
  tiers: ['base'],
  variants: [
    { TILE_M: 32, TILE_N: 32, TILE_K: 32, THREAD_M: 4, THREAD_N: 4 },
    { TILE_M: 64, TILE_N: 64, TILE_K: 16, THREAD_M: 8, THREAD_N: 4 },
    { TILE_M: 128, TILE_N: 128, TILE_K: 16, THREAD_M: 8, THREAD_N: 8 },
  ],
  tileLabel: (c) => `${c.TILE_M}x${c.TILE_N}x${c.TILE_K}`,
  threads: (c) => (c.TILE_M! / c.THREAD_M!) * (c.TILE_N! / c.THREAD_N!),
  sharedBytes: (c) => (c.TILE_M! + c.TILE_N!) * c.TILE_K! * 4,
  workgroups: (c, p) => ({ x: Math.ceil(p.n / c.TILE_N!), y: Math.ceil(p.m / c.TILE_M!), z: 1 }),
  foldsX: false,
  roundings: (_, p) => p.k + 5,
};

export const KERNELS: Readonly<Record<KernelId, Kernel>> = { gemv, gemm_tiled: gemmTiled };

/** `gemm_tiled.mxfp4.f32.64x64x16`: kernel, weight format, type of x, tile. */
export function kernelLabel(kernel: Kernel, c: KernelConstants, p: GemmProblem): string {
  return `${kernel.id}.${formatLabel(p)}.${p.x}.${kernel.tileLabel(c)}${p.bias ? '.bias' : ''}`;
}

export function describeShader(kernel: Kernel, c: KernelConstants, p: GemmProblem): ShaderDescription {
  return {
    label: kernelLabel(kernel, c, p),
    constants: {
      BLOCK_SIZE: p.blockSize,
      ...(p.macroSize && { MACRO_SIZE: p.macroSize }),
      ...c,
    },
    modules: [...commonModules(p), ALGORITHMS[kernel.id]],
  };
}

/** Why a kernel's variant cannot run on a device, or undefined where it can. */
export function refusal(kernel: Kernel, c: KernelConstants, caps: Caps): string | undefined {
  const missing = kernel.tiers.filter((tier) => !caps.tiers.includes(tier));
  if (missing.length) return `the device lacks ${missing.join(', ')}`;
  const threads = kernel.threads(c);
  if (threads > caps.limits.maxComputeInvocationsPerWorkgroup) {
    return `${threads} threads exceed maxComputeInvocationsPerWorkgroup = ${caps.limits.maxComputeInvocationsPerWorkgroup}`;
  }
  const shared = kernel.sharedBytes(c);
  if (shared > caps.limits.maxComputeWorkgroupStorageSize) {
    return `${shared} bytes of workgroup memory exceed maxComputeWorkgroupStorageSize = ${caps.limits.maxComputeWorkgroupStorageSize}`;
  }
  return undefined;
}
