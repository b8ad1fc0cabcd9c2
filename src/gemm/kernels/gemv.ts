import type { ShaderModuleText } from '../../gpu/shader.js';
import { MODULES, ROWS_MODULES, X_MODULES } from '../shaders.js';
import type { Kernel, KernelConstants } from './kernel.js';

const VARIANTS: readonly KernelConstants[] = [
  { LANES: 32, GROUPS: 8, ROWS: 2, X_ROWS: 1, SLAB: 2048 },
  { LANES: 32, GROUPS: 8, ROWS: 4, X_ROWS: 1, SLAB: 2048 },
  { LANES: 32, GROUPS: 16, ROWS: 2, X_ROWS: 1, SLAB: 2048 },
  { LANES: 32, GROUPS: 4, ROWS: 2, X_ROWS: 1, SLAB: 2048 },
  { LANES: 32, GROUPS: 8, ROWS: 2, X_ROWS: 1, SLAB: 1024, SPLIT_K: 4 },
  { LANES: 16, GROUPS: 16, ROWS: 2, X_ROWS: 2, SLAB: 1024 },
  { LANES: 16, GROUPS: 16, ROWS: 4, X_ROWS: 4, SLAB: 512 },
  { LANES: 8, GROUPS: 32, ROWS: 4, X_ROWS: 8, SLAB: 256 },
];

const modules = (reduce: ShaderModuleText): Kernel['modules'] => {
  return (c, p, { f16Subnormals }) => [
    f16Subnormals ? MODULES.e2m1Half : MODULES.e2m1HalfSafe,
    X_MODULES[p.x],
    ROWS_MODULES[c.ROWS!]!,
    MODULES.gemv,
    reduce,
  ];
};

export const gemv: Kernel = {
  id: 'gemv',
  tiers: ['base'],
  activations: ['float'],
  precision: 'f32',
  variants: () => VARIANTS,
  tileLabel: (c) => `${c.LANES}x${c.GROUPS}x${c.ROWS}x${c.X_ROWS}`,
  threads: (c) => c.LANES! * c.GROUPS!,
  sharedBytes: (c) => c.X_ROWS! * c.SLAB! * 4.5 + c.LANES! * c.GROUPS! * 16,
  workgroups: (c, p) => ({
    x: Math.ceil(p.n / (c.GROUPS! * c.ROWS!)),
    y: 1,
    z: Math.ceil(p.m / c.X_ROWS!) * (c.SPLIT_K ?? 1),
  }),
  foldsX: true,
  operand: () => ({ kind: 'rows' }),
  modules: modules(MODULES.reduceWorkgroup),
  // The rows modules declare it.
  ownConstants: ['ROWS'],
  // One a product, one a block of the lane's, one a halving; the rest for scales and bias.
  errors: (c, p) => ({
    roundings:
      p.blockSize + Math.ceil(p.k / p.blockSize / c.LANES!) + 1 + Math.log2(c.LANES!) + 7 + (c.SPLIT_K ?? 1),
  }),
};

export const gemvSubgroup: Kernel = {
  ...gemv,
  id: 'gemv_subgroup',
  tiers: ['subgroups'],
  enables: ['subgroups'],
  sharedBytes: (c) => c.X_ROWS! * c.SLAB! * 4.5,
  minSubgroupSize: (c) => c.LANES!,
  modules: modules(MODULES.reduceSubgroup),
};
