import { MODULES, ROWS_MODULES, X_MODULES, X_ROWS_MODULES } from '../shaders.js';
import type { Kernel, KernelConstants } from './kernel.js';

const variant = (X_ROWS: number, THREADS: number, ROWS: number, SLAB: number): KernelConstants => ({
  THREADS,
  ROWS,
  X_ROWS,
  SLAB,
  SPLIT_K: 1,
});

/** Rows of x, threads, rows of w a thread, chunks of x in workgroup memory. */
const VARIANTS: readonly KernelConstants[] = [
  variant(1, 256, 2, 64),
  variant(1, 256, 2, 128),
  variant(1, 256, 4, 64),
  variant(2, 256, 2, 32),
  variant(2, 256, 4, 32),
  variant(4, 128, 2, 16),
  variant(4, 128, 4, 16),
  variant(4, 256, 4, 32),
];

/** vec4s of workgroup memory for a chunk of x, the last one empty; see shaders/x_rows_*.wgsl. */
const xChunk = (c: KernelConstants) => 8 * c.X_ROWS! + 1;

export const gemv: Kernel = {
  id: 'gemv',
  tiers: ['base'],
  activations: ['float'],
  precision: 'f32',
  variants: () => VARIANTS,
  tileLabel: (c) => `${c.X_ROWS}x${8 * c.ROWS!}x${c.THREADS}x${c.SLAB}`,
  threads: (c) => c.THREADS!,
  sharedBytes: (c) => c.SLAB! * xChunk(c) * 16 + c.THREADS! * c.ROWS! * c.X_ROWS! * 4,
  workgroups: (c, p) => ({
    x: Math.ceil(p.n / 32) * (4 / c.ROWS!),
    y: 1,
    z: Math.ceil(p.m / c.X_ROWS!) * (c.SPLIT_K ?? 1),
  }),
  foldsX: true,
  operand: () => ({ kind: 'rows' }),
  modules: (c, p, { f16Subnormals }) => [
    f16Subnormals ? MODULES.e2m1Half : MODULES.e2m1HalfSafe,
    X_MODULES[p.x],
    MODULES.scaleWords,
    ROWS_MODULES[c.ROWS!]!,
    X_ROWS_MODULES[c.X_ROWS!]!,
    MODULES.gemv,
  ],
  constantK: true,
  // The modules for rows declare them.
  ownConstants: ['ROWS', 'X_ROWS'],
  // One a product, two a block of the column's, one a column; the rest for scales and bias.
  errors: (c, p) => ({
    roundings:
      p.blockSize +
      2 * (Math.ceil(p.k / 32 / (c.THREADS! / 8)) * (32 / p.blockSize) + 1) +
      c.THREADS! / 8 +
      8 +
      (c.SPLIT_K ?? 1),
  }),
};
