import { floatCodes, MODULES, X_MODULES, xRows } from '../shaders.js';
import type { Kernel, KernelConstants } from './kernel.js';

const variant = (
  X_ROWS: number,
  THREADS: number,
  ROWS: number,
  SLAB: number,
  DEPTH: number,
): KernelConstants => ({ THREADS, ROWS, X_ROWS, SLAB, DEPTH, SPLIT_K: 1 });

/** Rows of x, threads, rows of w a thread, chunks of x in workgroup memory, chunks of w on their way. */
const VARIANTS: readonly KernelConstants[] = [
  variant(1, 256, 2, 64, 1),
  variant(1, 256, 2, 128, 1),
  variant(1, 256, 2, 128, 4),
  variant(1, 256, 4, 64, 1),
  variant(2, 256, 2, 32, 1),
  variant(2, 256, 4, 32, 1),
  variant(4, 128, 2, 16, 1),
  variant(4, 128, 4, 16, 1),
  variant(4, 256, 4, 32, 1),
];

/** Bytes of workgroup memory where a chunk of `rows` rows of x takes `xChunk` vec4s; sums of four rows lie where x was. */
const shared =
  (xChunk: (rows: number) => number): Kernel['sharedBytes'] =>
  (c) => {
    const slab = c.SLAB! * xChunk(c.X_ROWS!) * 16;
    const sums = c.THREADS! * c.ROWS! * c.X_ROWS! * 4;
    return c.X_ROWS === 4 ? Math.max(slab, sums) : slab + sums;
  };

export const gemv: Kernel = {
  id: 'gemv',
  tiers: ['base'],
  activations: ['float'],
  precision: 'f32',
  variants: () => VARIANTS,
  tileLabel: (c) => `${c.X_ROWS}x${8 * c.ROWS!}x${c.THREADS}x${c.SLAB}x${c.DEPTH}`,
  threads: (c) => c.THREADS!,
  // The last vec4 is empty; see shaders/x_rows_*.wgsl.
  sharedBytes: shared((rows) => 8 * rows + 1),
  workgroups: (c, p) => ({
    x: Math.ceil(p.n / 32) * (4 / c.ROWS!),
    y: 1,
    z: Math.ceil(p.m / c.X_ROWS!) * (c.SPLIT_K ?? 1),
  }),
  foldsX: true,
  operand: () => ({ kind: 'rows' }),
  modules: (c, p, { f16Subnormals }) => [
    ...floatCodes(f16Subnormals),
    X_MODULES[p.x],
    MODULES.scaleWords,
    MODULES.rows,
    ...xRows('f32', c.X_ROWS!),
    MODULES.gemv,
  ],
  repeats: (c) => ({ OWN_SUMS: c.X_ROWS! < 4 ? 1 : 0, SLAB_SUMS: c.X_ROWS === 4 ? 1 : 0 }),
  constantK: true,
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

/** As above; half a chunk of x of a row is what a thread brings at a time. */
const F16_VARIANTS: readonly KernelConstants[] = [
  variant(1, 256, 2, 128, 2),
  variant(1, 256, 2, 128, 4),
  variant(1, 128, 4, 64, 2),
  variant(2, 256, 2, 64, 2),
  variant(4, 256, 2, 32, 1),
  variant(4, 128, 4, 16, 1),
];

/** gemv with products of halves. */
export const gemvF16: Kernel = {
  ...gemv,
  id: 'gemv_f16',
  tiers: ['f16-products'],
  enables: ['f16'],
  precision: 'f16',
  variants: () => F16_VARIANTS,
  // See shaders/x_halves.wgsl.
  sharedBytes: shared((rows) => (4 * rows + Math.ceil(rows / 2)) | 1),
  modules: (c, p) => [
    MODULES.e2m1Pairs,
    X_MODULES[p.x],
    MODULES.scaleWords,
    MODULES.rows,
    ...xRows('f16', c.X_ROWS!),
    MODULES.gemv,
  ],
  errors: (c, p) => ({
    ...gemv.errors(c, p),
    // x to f16, then eight multiply-adds in a row, of which WGSL may round both steps, in any direction.
    relative: 17 * 2 ** -10,
    // Products are multiples of 2^-24 where the largest of x are 2^14 and the smallest codes 2^-15, with two roundings.
    xStep: 2 ** -22,
  }),
};
