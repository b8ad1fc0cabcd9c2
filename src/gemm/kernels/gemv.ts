import { floatCodes, MODULES, X_MODULES, xRows } from '../shaders.js';
import { type CoreTime, constantsOf, coreTime, type TimedShape } from './core-time.js';
import type { Kernel, KernelConstants } from './kernel.js';

/** Rows of x, threads, rows of w a thread, chunks of x in workgroup memory, chunks of w on their way; its time; parts of k. */
const shape = (
  [X_ROWS, THREADS, ROWS, SLAB, DEPTH]: readonly [
    xRows: number,
    threads: number,
    rows: number,
    slab: number,
    depth: number,
  ],
  time: CoreTime,
  SPLIT_K = 1,
): TimedShape => ({ constants: { THREADS, ROWS, X_ROWS, SLAB, DEPTH, SPLIT_K }, time });

/** Where n is small, a thread takes one row of w, or k is cut among more threads or workgroups. */
const SHAPES = [
  shape([1, 256, 2, 64, 1], [2, 0.3, 0.49, 0.71]),
  shape([1, 256, 2, 128, 1], [2, 0.21, 0.51, 0.82]),
  shape([1, 256, 1, 128, 2], [2, 0.44, 0.3, 0.4]),
  shape([1, 256, 1, 128, 4], [2, 0.46, 0.23, 0.41]),
  shape([1, 512, 1, 256, 2], [2, 1, 0.13, 0.5]),
  shape([1, 256, 2, 128, 4], [2, 2.3, 0.2, 0.7], 4),
  shape([1, 256, 4, 64, 1], [2, 0.6, 0.79, 1.36]),
  shape([2, 256, 2, 32, 1], [3, 0.25, 0.61, 1.62]),
  shape([2, 256, 4, 32, 1], [2, 0.36, 1.11, 2.01]),
  shape([4, 128, 2, 16, 1], [5, 0.84, 1.18, 4.11]),
  shape([4, 128, 4, 16, 1], [4, 1.04, 1.78, 5.38]),
  shape([4, 256, 4, 32, 1], [2, 0.7, 1.46, 2.84]),
];

/** Bytes of workgroup memory where a chunk of `rows` rows of x takes `xChunk` vec4s; sums of four rows lie where x was. */
const shared =
  (xChunk: (rows: number) => number): Kernel['sharedBytes'] =>
  (c) => {
    const slab = c.SLAB! * xChunk(c.X_ROWS!) * 16;
    const sums = c.THREADS! * c.ROWS! * c.X_ROWS! * 4;
    return c.X_ROWS === 4 ? Math.max(slab, sums) : slab + sums;
  };

/** Threads share the pieces of x of a slab, and columns its chunks, without a rest; see shaders/gemv.wgsl. */
const refuse =
  (pieces: (c: KernelConstants) => number) =>
  (c: KernelConstants): string | undefined => {
    const round = (c.THREADS! / 8) * c.DEPTH!;
    if (c.SLAB! % round) return `${c.SLAB} chunks of x are not whole rounds of ${round}`;
    if (pieces(c) % c.THREADS!) {
      return `its ${c.THREADS} threads cannot share ${pieces(c)} pieces of x evenly`;
    }
    return undefined;
  };

export const gemv: Kernel = {
  id: 'gemv',
  tiers: ['base'],
  activations: ['float'],
  precision: 'f32',
  manner: 'weights are decoded where they are used',
  variants: () => constantsOf(SHAPES),
  refuse: refuse((c) => 8 * c.SLAB!),
  coreTime: (c) => coreTime(SHAPES, c),
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
const F16_SHAPES = [
  shape([1, 256, 2, 128, 2], [2, 0.25, 0.36, 0.59]),
  shape([1, 256, 1, 128, 4], [4, 0.16, 0.29, 0.79]),
  shape([1, 512, 1, 256, 2], [2, 0.65, 0.19, 0.4]),
  shape([1, 512, 2, 256, 2], [4, 1, 0.2, 1.35]),
  shape([1, 256, 2, 128, 4], [2, 1.56, 0.2, 0.7], 4),
  shape([1, 128, 4, 64, 2], [4, 0.31, 0.87, 2.35]),
  shape([2, 256, 2, 64, 2], [3, 1.1, 0.5, 1.38]),
  shape([4, 256, 2, 32, 1], [2, 0.19, 0.95, 1.57]),
  shape([4, 128, 4, 16, 1], [3, 0.87, 1.86, 3.05]),
];

/** gemv with products of halves. */
export const gemvF16: Kernel = {
  ...gemv,
  id: 'gemv_f16',
  tiers: ['f16-products'],
  enables: ['f16'],
  precision: 'f16',
  manner: 'weights are decoded where they are used, and multiplied as halves',
  variants: () => constantsOf(F16_SHAPES),
  refuse: refuse((c) => 2 * c.SLAB! * c.X_ROWS!),
  coreTime: (c) => coreTime(F16_SHAPES, c),
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
