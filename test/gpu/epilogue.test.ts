/** Types of x and y, bias, adding to y, parts of k: the same for every kernel that the device can run. */
import { describe, expect, test } from 'vitest';
import { referenceProduct, worstError } from '../../src/gemm/reference.js';
import { createStorageBuffer, readBuffer } from '../../src/gpu/buffers.js';
import {
  candidatePlans,
  createGemm,
  type GemmOptions,
  type GemmPlan,
  type GpuWeights,
  KERNELS,
  type KernelConstants,
  type KernelId,
  planWith,
  problemOf,
  type QuantizedMatrix,
  quantize,
  uploadWeights,
} from '../../src/index.js';
import { isSweep, useGpu } from '../support/gpu.js';
import { halfToFloat, toHalf } from '../support/half.js';
import { multiplyOn } from '../support/multiply.js';
import { Random } from '../support/random.js';
import { smallTile } from '../support/small-tile.js';

const context = useGpu({ leftTo: 'lavapipe', what: 'types of x and y, bias and y +=' });
const random = new Random(3);

interface Case {
  q: QuantizedMatrix;
  x: Float32Array;
  m: number;
  xType?: 'f32' | 'f16';
  yType?: 'f32' | 'f16';
  bias?: Float32Array;
  before?: Float32Array;
  activations?: 'int8' | undefined;
}

const optionsOf = ({ m, xType = 'f32', yType = 'f32', bias, before, activations }: Case) =>
  ({
    m,
    x: xType,
    y: yType,
    bias: bias !== undefined,
    accumulate: before !== undefined,
    activations,
  }) satisfies Omit<GemmOptions, 'weights'>;

/** y of a plan. */
async function product(weights: GpuWeights, plan: GemmPlan, c: Case): Promise<Float32Array> {
  const { gpu } = context;
  using gemm = await createGemm(gpu, { ...optionsOf(c), weights, plan });
  return multiplyOn(gpu, gemm, { x: c.x, bias: c.bias, y: c.before });
}

/** The largest error of a plan in parts of the bound. */
async function worstOf(weights: GpuWeights, plan: GemmPlan, c: Case): Promise<number> {
  const { q, x, m, yType = 'f32', bias, before } = c;
  const y = await product(weights, plan, c);
  const reference = referenceProduct(x, q, m, bias);
  for (let i = 0; before && i < y.length; i++) {
    reference.y[i]! += before[i]!;
    reference.magnitude[i]! += Math.abs(before[i]!);
  }
  const errors = KERNELS[plan.kernel].errors(plan.constants, problemOf(weights, optionsOf(c)));
  return worstError(y, reference, errors, yType);
}

/** One plan of each kernel with float activations, or all of them. */
function plans(weights: GpuWeights, c: Case, all = false): GemmPlan[] {
  const problem = problemOf(weights, optionsOf(c));
  const { caps } = context.gpu;
  const found = candidatePlans(problem, caps);
  if (all) return found;
  const firsts = found.filter((plan, i) => found.findIndex((p) => p.kernel === plan.kernel) === i);
  return firsts.map(({ kernel, constants }) => planWith(kernel, smallTile(kernel, constants), problem, caps));
}

const halves = (values: Float32Array) => halfToFloat(toHalf(values));

interface Types {
  xType?: 'f16';
  yType?: 'f16';
  bias?: boolean;
  before?: boolean;
}

const EACH: readonly (readonly [string, Types])[] = [
  ['x f16', { xType: 'f16' }],
  ['y f16', { yType: 'f16' }],
  ['bias and y +=', { bias: true, before: true }],
];
// x f32 with y f16 is below, where columns are stored by fours.
describe.each([
  ...(isSweep ? EACH : []),
  ['x f16, bias and y +=', { xType: 'f16', bias: true, before: true }],
  ['x and y f16, bias and y +=', { xType: 'f16', yType: 'f16', bias: true, before: true }],
] as const)('%s', (_, o: Types) => {
  /** Constants of each kernel; the same for every shape, as it takes a software adapter seconds to compile others. */
  const constantsOf = new Map<KernelId, KernelConstants>();

  test.each([
    [1, 33],
    [37, 70],
  ])('m %i, n %i', async (m, n) => {
    const { caps } = context.gpu;
    // That it is refused then, the tests of the adapter say.
    if (o.yType === 'f16' && !caps.tiers.includes('f16')) return;
    const k = 160;
    const q = quantize(random.normals(n * k), { rows: n, cols: k, format: 'mxfp4', macroScale: 'static' });
    const x = random.normals(m * k);
    const start = random.normals(m * n);
    const c: Case = {
      q,
      m,
      x: o.xType ? halves(x) : x,
      ...o,
      bias: o.bias ? random.normals(n) : undefined,
      before: o.before ? (o.yType ? halves(start) : start) : undefined,
    } as Case;
    using weights = await uploadWeights(context.gpu, q);
    const problem = problemOf(weights, optionsOf(c));
    const tried = plans(weights, c);
    expect(tried.length).toBeGreaterThanOrEqual(2);
    for (const { kernel, constants } of tried) {
      const known = (!isSweep && constantsOf.get(kernel)) || constants;
      constantsOf.set(kernel, known);
      const plan = planWith(kernel, known, problem, caps);
      expect(await worstOf(weights, plan, c), plan.label).toBeLessThanOrEqual(1);
    }
  });
});

test('f16 x of rotated weights is rotated first, also for kernels that would take it as it is', async () => {
  const [m, n, k] = [37, 33, 160];
  const q = quantize(random.normals(n * k), { rows: n, cols: k, format: 'nvfp4', hadamard: true });
  const c: Case = { q, m, x: halves(random.normals(m * k)), xType: 'f16' };
  using weights = await uploadWeights(context.gpu, q);
  for (const plan of plans(weights, c)) {
    expect(await worstOf(weights, plan, c), plan.label).toBeLessThanOrEqual(1);
  }
});

test('k in parts gives the same sums, in the same order every time', async () => {
  const [m, n, k] = [6, 40, 2080];
  const q = quantize(random.normals(n * k), { rows: n, cols: k, format: 'nvfp4' });
  const c: Case = { q, m, x: random.normals(m * k), bias: random.normals(n), before: random.normals(m * n) };
  using weights = await uploadWeights(context.gpu, q);
  // One of each kernel that plans split, as each is compiled for itself, and gemv, which can do it, too.
  const split = plans(weights, c, true).filter(({ constants }) => (constants.SPLIT_K ?? 1) > 1);
  const firsts = split.filter((plan, i) => split.findIndex((p) => p.kernel === plan.kernel) === i);
  const withParts = ({ kernel, constants }: GemmPlan, SPLIT_K = constants.SPLIT_K!) =>
    planWith(
      kernel,
      { ...smallTile(kernel, constants), SPLIT_K },
      problemOf(weights, optionsOf(c)),
      context.gpu.caps,
    );
  const gemv = plans(weights, c).find(({ kernel }) => kernel === 'gemv')!;
  const gemvs = [2, 3].map((parts) => withParts(gemv, parts));
  for (const plan of [...gemvs, ...firsts.map((first) => withParts(first))]) {
    const worst = await worstOf(weights, plan, c);
    expect(worst, plan.label).toBeLessThanOrEqual(1);
    expect(await worstOf(weights, plan, c), plan.label).toBe(worst);
  }
});

describe('kernels that store four columns at a time', () => {
  const storing = Object.values(KERNELS).filter((kernel) => kernel.storesQuads);
  test('are these', () => {
    expect(storing.map(({ id }) => id).sort()).toEqual([
      'gemm_dp4a_rows',
      'gemm_subgroup_matrix',
      'gemm_subgroup_matrix_direct',
      'gemm_subgroup_matrix_i8',
      'gemm_subgroup_matrix_skinny',
    ]);
  });

  test.each(
    storing.flatMap(({ id }) =>
      // Rows of y that are whole vec4s, and others; the last column a tile's first, and inside a tile.
      [33, 38, 40].map((n) => [id, n] as const),
    ),
  )('%s, n = %i', async (id, n) => {
    const { caps } = context.gpu;
    const [m, k] = [id.includes('skinny') ? 7 : 35, 160];
    const q = quantize(random.normals(n * k), { rows: n, cols: k, format: 'nvfp4' });
    using weights = await uploadWeights(context.gpu, q);
    const start = random.normals(m * n);
    for (const yType of caps.tiers.includes('f16') ? (['f32', 'f16'] as const) : (['f32'] as const)) {
      const c: Case = {
        q,
        m,
        x: random.normals(m * k),
        yType,
        bias: random.normals(n),
        before: yType === 'f16' ? halves(start) : start,
        activations: KERNELS[id].activations.includes('int8') ? 'int8' : undefined,
      };
      const problem = problemOf(weights, optionsOf(c));
      const constants = candidatePlans(problem, caps).find(({ kernel }) => kernel === id)?.constants;
      if (!constants) {
        expect(KERNELS[id].tiers.every((tier) => caps.tiers.includes(tier))).toBe(false);
        return;
      }
      // Parts of k are added up in f32 whatever y is, and another step stores them. Whole vec4s of f32 without parts are in
      // every other test.
      const parts = yType === 'f16' ? [1] : n % 4 === 0 ? [3] : [1, 3];
      for (const SPLIT_K of isSweep ? [1, 3] : parts) {
        const plan = planWith(id, { ...smallTile(id, constants), SPLIT_K }, problem, caps);
        expect(await worstOf(weights, plan, c), `${plan.label} ${yType}`).toBeLessThanOrEqual(1);
      }
    }
  });
});

describe('rounding of operands to f16', () => {
  /** Plans of the kernels that round. */
  const rounding = (weights: GpuWeights, c: Case) =>
    plans(weights, c).filter((plan) => KERNELS[plan.kernel].precision === 'f16');

  test('a problem that asks for f32 gets it', async () => {
    const q = quantize(random.normals(64 * 64), { rows: 64, cols: 64, format: 'mxfp4' });
    using weights = await uploadWeights(context.gpu, q);
    const problem = problemOf(weights, { m: 64, precision: 'f32' });
    for (const plan of candidatePlans(problem, context.gpu.caps)) {
      expect(KERNELS[plan.kernel].precision, plan.label).toBe('f32');
    }
  });

  test('rows of x far outside the range of f16', async () => {
    const [m, n, k] = [12, 20, 64];
    const q = quantize(random.normals(n * k), { rows: n, cols: k, format: 'mxfp4' });
    // 2^-110 … 2^110, row by row.
    const x = random.normals(m * k).map((value, i) => value * 2 ** (20 * (Math.floor(i / k) - 5.5)));
    const c: Case = { q, x, m };
    using weights = await uploadWeights(context.gpu, q);
    for (const plan of rounding(weights, c)) {
      expect(await worstOf(weights, plan, c), plan.label).toBeLessThanOrEqual(1);
    }
  });

  test('blocks of very different sizes in a row of w: matrices are exact down to 2^-23 of the largest, and have zeros from 2^-30 on; gemv is exact', async () => {
    const [m, k] = [1, 64];
    // Row r: a block of ones at scale 1, then one at 2^-r.
    const rows = 32;
    const q: QuantizedMatrix = {
      format: 'mxfp4',
      rows,
      cols: k,
      blockSize: 32,
      codes: new Uint8Array((rows * k) / 2).fill(0x22),
      scales: Uint8Array.from({ length: rows * 2 }, (_, i) => (i % 2 ? 127 - (i >> 1) : 127)),
      globalScale: 1,
      hadamard: false,
    };
    using weights = await uploadWeights(context.gpu, q);
    // Only the small block meets values of x that are not zero.
    const x = new Float32Array(k).fill(1, 32);
    const c: Case = { q, x, m };
    for (const plan of rounding(weights, c)) {
      const y = await product(weights, plan, c);
      for (let r = 0; r < rows; r++) {
        const exact = 32 * 2 ** -r;
        if (r <= 23 || plan.kernel === 'gemv_f16') expect(y[r], `${plan.label} 2^-${r}`).toBe(exact);
        else if (r >= 30) expect(y[r], `${plan.label} 2^-${r}`).toBe(0);
        else expect(Math.abs(y[r]! - exact)).toBeLessThanOrEqual(32 * 2 ** -24);
      }
    }
  });

  test('gemv keeps small values of x beside large ones, sixteen by sixteen', async () => {
    const [n, k] = [3, 64];
    const q = quantize(random.normals(n * k), { rows: n, cols: k, format: 'mxfp4' });
    // The first sixteen of each row meet no weight.
    for (let row = 0; row < n; row++) q.codes.fill(0, (row * k) / 2, (row * k) / 2 + 8);
    using weights = await uploadWeights(context.gpu, q);
    for (const m of [1, 2, 3]) {
      const x = random.normals(m * k).map((value, i) => (i % k < 16 ? value * 2 ** 100 : value));
      const small = x.map((value, i) => (i % k < 16 ? 0 : value));
      const { y } = referenceProduct(small, q, m);
      for (const plan of plans(weights, { q, x, m }).filter(({ kernel }) => kernel === 'gemv_f16')) {
        const got = await product(weights, plan, { q, x, m });
        // Eighteen roundings to eleven bits of sums that are a few times larger than the result.
        for (let i = 0; i < y.length; i++) expect(Math.abs(got[i]! - y[i]!), plan.label).toBeLessThan(0.1);
      }
    }
  });

  test('NaN and Inf in x reach y', async () => {
    const [m, n, k] = [3, 4, 32];
    const q = quantize(random.normals(n * k), { rows: n, cols: k, format: 'mxfp4' });
    using weights = await uploadWeights(context.gpu, q);
    const x = random.normals(m * k);
    x[5] = Number.NaN;
    x[k + 7] = Number.POSITIVE_INFINITY;
    for (const plan of plans(weights, { q, x, m })) {
      using gemm = await createGemm(context.gpu, { m, weights, plan });
      const buffers = {
        x: createStorageBuffer(context.gpu.device, 'x', x),
        y: createStorageBuffer(context.gpu.device, 'y', m * n * 4),
      };
      const encoder = context.gpu.device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      gemm.encode(pass, buffers);
      pass.end();
      context.gpu.device.queue.submit([encoder.finish()]);
      const y = [...new Float32Array(await readBuffer(context.gpu.device, buffers.y, m * n * 4))];
      expect(y.slice(0, 2 * n).filter(Number.isFinite), plan.label).toEqual([]);
      expect(y.slice(2 * n).every(Number.isFinite), plan.label).toBe(true);
      for (const buffer of Object.values(buffers)) buffer.destroy();
    }
  });
});
