/** The registry: every kernel, its variants, and what each needs from a device. */
import type { Caps, Tier } from '../gpu/caps.js';
import type { Probe } from '../gpu/probe.js';
import type { ShaderDescription } from '../gpu/shader.js';
import { formatLabel, type GemmProblem } from './problem.js';
import { ALGORITHMS, commonModules, ROWS_MODULES } from './shaders.js';

export type KernelId = keyof typeof ALGORITHMS;

/** Constants of a kernel's shader; the names are those of its head. */
export type KernelConstants = Readonly<Record<string, number>>;

export interface Kernel {
  readonly id: KernelId;
  readonly tiers: readonly Tier[];
  /** WGSL extensions. */
  readonly enables?: readonly string[];
  /** Least subgroup size that the variant is right with. */
  minSubgroupSize?(c: KernelConstants): number;
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
    { LANES: 32, GROUPS: 8, ROWS: 2, X_ROWS: 1, SLAB: 2048 },
    { LANES: 32, GROUPS: 8, ROWS: 4, X_ROWS: 1, SLAB: 2048 },
    { LANES: 32, GROUPS: 16, ROWS: 2, X_ROWS: 1, SLAB: 2048 },
    { LANES: 16, GROUPS: 16, ROWS: 2, X_ROWS: 2, SLAB: 1024 },
    { LANES: 16, GROUPS: 16, ROWS: 4, X_ROWS: 4, SLAB: 512 },
    { LANES: 8, GROUPS: 32, ROWS: 4, X_ROWS: 8, SLAB: 256 },
  ],
  tileLabel: (c) => `${c.LANES}x${c.GROUPS}x${c.ROWS}x${c.X_ROWS}`,
  threads: (c) => c.LANES! * c.GROUPS!,
  sharedBytes: (c) => c.X_ROWS! * c.SLAB! * 4.5 + c.LANES! * c.GROUPS! * 16,
  workgroups: (c, p) => ({ x: Math.ceil(p.n / (c.GROUPS! * c.ROWS!)), y: 1, z: Math.ceil(p.m / c.X_ROWS!) }),
  foldsX: true,
  // One a product, one a block of the lane's, one a halving; the rest for scales and bias.
  roundings: (c, p) => p.blockSize + Math.ceil(p.k / p.blockSize / c.LANES!) + 1 + Math.log2(c.LANES!) + 7,
};

const gemvSubgroup: Kernel = {
  ...gemv,
  id: 'gemv_subgroup',
  tiers: ['subgroups'],
  enables: ['subgroups'],
  sharedBytes: (c) => c.X_ROWS! * c.SLAB! * 4.5,
  minSubgroupSize: (c) => c.LANES!,
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

export const KERNELS: Readonly<Record<KernelId, Kernel>> = {
  gemv,
  gemv_subgroup: gemvSubgroup,
  gemm_tiled: gemmTiled,
};

/** `gemm_tiled.mxfp4.f32.64x64x16`: kernel, weight format, type of x, tile. */
export function kernelLabel(kernel: Kernel, c: KernelConstants, p: GemmProblem): string {
  return `${kernel.id}.${formatLabel(p)}.${p.x}.${kernel.tileLabel(c)}${p.bias ? '.bias' : ''}`;
}

export function describeShader(
  kernel: Kernel,
  c: KernelConstants,
  p: GemmProblem,
  probe: Probe,
): ShaderDescription {
  // The rows modules declare ROWS themselves.
  const { ROWS: _, ...withoutRows } = c;
  return {
    label: kernelLabel(kernel, c, p),
    ...(kernel.enables && { enables: kernel.enables }),
    constants: {
      BLOCK_SIZE: p.blockSize,
      ...(p.macroSize && { MACRO_SIZE: p.macroSize }),
      ...withoutRows,
    },
    modules: [
      ...commonModules(p, probe),
      ...(c.ROWS ? [ROWS_MODULES[c.ROWS]!] : []),
      ...ALGORITHMS[kernel.id],
    ],
  };
}

/** Why a kernel's variant cannot run on a device, or undefined where it can. */
export function refusal(kernel: Kernel, c: KernelConstants, caps: Caps): string | undefined {
  const missing = kernel.tiers.filter((tier) => !caps.tiers.includes(tier));
  if (missing.length) return `the device lacks ${missing.join(', ')}`;
  const lanes = kernel.minSubgroupSize?.(c) ?? 0;
  if (lanes > (caps.subgroupMinSize ?? 0)) {
    return `it needs subgroups of ${lanes}, and the device's may have ${caps.subgroupMinSize ?? 'any size'}`;
  }
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
