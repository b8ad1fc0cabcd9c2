/** Products in int8: of x rounded to int8, and of x quantized to FP4, which are exact inside a block. */
import { describe, expect, test } from 'vitest';
import type { ActivationOptions } from '../../src/gemm/activations.js';
import { refusal } from '../../src/gemm/kernels/index.js';
import { problemReference, worstError } from '../../src/gemm/reference.js';
import {
  createGemm,
  encodeE2M1,
  type GemmOptions,
  KERNELS,
  type KernelConstants,
  packE2M1,
  planWith,
  problemOf,
  type QuantizedMatrix,
  type QuantizeOptions,
  quantize,
  resolveProblem,
  uploadWeights,
} from '../../src/index.js';
import { adapterId, isSweep, useGpu } from '../support/gpu.js';
import { multiplyOn } from '../support/multiply.js';
import { Random } from '../support/random.js';

const context = useGpu({ leftTo: 'lavapipe', what: 'variants of gemm_dp4a', narrow: true });
const kernel = KERNELS.gemm_dp4a;

/** Variants that the device can run. SwiftShader takes long to compile large tiles, so there the smallest has to do. */
function variantsToTest(): readonly KernelConstants[] {
  const { caps } = context.gpu;
  const problem = resolveProblem({ m: 1, n: 1, k: 64, format: 'mxfp4', activations: 'int8' });
  const fitting = kernel.variants(caps).filter((constants) => !refusal(kernel, constants, problem, caps));
  return adapterId() === 'swiftshader' ? fitting.slice(0, 1) : fitting;
}

interface Case {
  x: Float32Array;
  q: QuantizedMatrix;
  m: number;
  bias?: Float32Array | undefined;
  /** What y holds before; added to the product. */
  y?: Float32Array | undefined;
  options: Pick<GemmOptions, 'activations' | 'x'>;
}

/** Computes a product by a variant of the kernel; also gives the problem, for its reference and bounds. */
async function multiply({ x, q, m, bias, y, options }: Case, constants: KernelConstants) {
  const { gpu } = context;
  using weights = await uploadWeights(gpu, q);
  const all = { ...options, m, bias: bias !== undefined, accumulate: y !== undefined };
  const problem = problemOf(weights, all);
  using gemm = await createGemm(gpu, {
    ...all,
    weights,
    plan: planWith('gemm_dp4a', constants, problem, gpu.caps),
  });
  return { result: await multiplyOn(gpu, gemm, { x, bias, y }), problem };
}

/** Largest error in parts of the bound. */
async function worst(c: Case, constants: KernelConstants): Promise<number> {
  const { result, problem } = await multiply(c, constants);
  return worstError(result, problemReference(c.x, c.q, problem, c.bias), kernel.errors(constants, problem));
}

function weightsOf(random: Random, rows: number, cols: number, options: Partial<QuantizeOptions>) {
  return quantize(random.normals(rows * cols), { rows, cols, format: 'mxfp4', ...options });
}

test('all codes at all places are multiplied exactly', async () => {
  // Row r of x picks place r of 32 (or of the sixteen after them), and column c of w has code c + place everywhere.
  const k = 48;
  const n = 16;
  const codes = Uint8Array.from({ length: n * k }, (_, i) => (Math.floor(i / k) + (i % k)) & 15);
  const q: QuantizedMatrix = {
    format: 'mxfp4',
    rows: n,
    cols: k,
    blockSize: 16,
    codes: packE2M1(codes),
    scales: new Uint8Array((n * k) / 16).fill(127),
    globalScale: 1,
    hadamard: false,
  };
  const values = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6];
  for (const activations of ['int8', 'mxfp4', 'nvfp4'] as const) {
    // How codes are decoded does not depend on what x was.
    for (const constants of activations === 'mxfp4' ? variantsToTest() : variantsToTest().slice(0, 1)) {
      const x = new Float32Array(k * k);
      for (let row = 0; row < k; row++) x[row * k + row] = row % 2 ? -6 : 6;
      const options = activations === 'mxfp4' ? ({ kind: 'mxfp4', blockSize: 16 } as const) : activations;
      const { result } = await multiply({ x, q, m: k, options: { activations: options } }, constants);
      const expected = Float32Array.from({ length: k * n }, (_, i) => {
        const place = Math.floor(i / n);
        return (place % 2 ? -6 : 6) * values[codes[(i % n) * k + place]!]!;
      });
      // 6 · 127 / 127 and the scales of nvfp4 are rounded; codes that differ are further apart.
      const tolerance = activations === 'mxfp4' ? 0 : 2 ** -20;
      for (const [i, value] of result.entries()) {
        expect(Math.abs(value - expected[i]!), `${activations} ${i}`).toBeLessThanOrEqual(
          Math.abs(expected[i]!) * tolerance,
        );
      }
    }
  }
});

test('all codes of x at all places are multiplied exactly', async () => {
  const k = 64;
  const values = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6];
  // Blocks of 16 have every value once, in the order of their row, so their scale is 1.
  const m = 16;
  const x = Float32Array.from({ length: m * k }, (_, i) => values[(Math.floor(i / k) + i * 5) & 15]!);
  const w = new Uint8Array(k * k);
  for (let row = 0; row < k; row++) w[row * k + row] = encodeE2M1(1);
  const q: QuantizedMatrix = {
    format: 'mxfp4',
    rows: k,
    cols: k,
    blockSize: 32,
    codes: packE2M1(w),
    scales: new Uint8Array(k * 2).fill(127),
    globalScale: 1,
    hadamard: false,
  };
  for (const blockSize of [16, 32] as const) {
    for (const constants of variantsToTest()) {
      const options = { activations: { kind: 'mxfp4', blockSize } } as const;
      const { result } = await multiply({ x, q, m, options }, constants);
      expect([...result].map((value) => value + 0)).toEqual([...x].map((value) => value + 0));
    }
  }
});

const ACTIVATIONS: readonly ActivationOptions[] = [
  'int8',
  { kind: 'nvfp4', scaleRule: 'four-over-six' },
  { kind: 'mxfp4', blockSize: 16 },
  { kind: 'mxfp4', blockSize: 16, macroScale: 'static', macroSize: 32 },
  { kind: 'mxfp4', blockSize: 16, macroScale: 'dynamic', macroSize: 64, scaleRule: 'mse' },
];

let turn = 0;
describe.each([
  // m, n, k, weights
  [33, 70, 48, { format: 'nvfp4' }],
  [9, 12, 160, { format: 'nvfp4', hadamard: true }],
  [3, 20, 2880, {}],
  [70, 37, 48, { blockSize: 16, macroScale: 'static' }],
  [40, 33, 320, { macroScale: 'static', macroSize: 64 }],
  [17, 65, 96, { macroScale: 'dynamic', macroSize: 32 }],
] as const)('m %i, n %i, k %i, %o', (m, n, k, weights) => {
  test.each(ACTIVATIONS.map((activations) => [JSON.stringify(activations), activations] as const))(
    'by %s',
    async (_, activations) => {
      const random = new Random(m * n + k);
      const q = weightsOf(random, n, k, weights);
      const x = random.normals(m * k);
      const bias = random.normals(n);
      // By turns the smallest variant, whole and in parts of k, and the others.
      const [first, ...others] = variantsToTest();
      const turns = [first!, { ...first!, SPLIT_K: 3 }, ...others];
      const now = isSweep ? turns : [turns[turn++ % turns.length]!];
      for (const constants of now) {
        expect(await worst({ x, q, m, bias, options: { activations } }, constants)).toBeLessThanOrEqual(1);
      }
    },
  );
});

test.each([['int8'], [{ kind: 'mxfp4', macroScale: 'static' }], ['nvfp4']] as const)(
  'x in f16, activations %o',
  async (activations) => {
    const random = new Random(8);
    const [m, n, k] = [6, 10, 96];
    const q = weightsOf(random, n, k, {});
    const x = Float32Array.from(random.normals(m * k), (value) => Math.round(value * 256) / 256);
    const constants = variantsToTest()[0]!;
    expect(await worst({ x, q, m, options: { activations, x: 'f16' } }, constants)).toBeLessThanOrEqual(1);
  },
);

test('small integers in FP4 give exact sums, in parts of k and added to y as well', async () => {
  const random = new Random(3);
  const [m, n, k] = [35, 41, 224];
  const q: QuantizedMatrix = {
    format: 'mxfp4',
    rows: n,
    cols: k,
    blockSize: 32,
    codes: Uint8Array.from({ length: (n * k) / 2 }, () => random.integer(0, 255)),
    scales: Uint8Array.from({ length: (n * k) / 32 }, () => random.integer(126, 129)),
    globalScale: 1,
    hadamard: false,
  };
  const x = random.integers(m * k, -4, 4);
  const bias = random.integers(n, -64, 64);
  const y = random.integers(m * n, -64, 64);
  const options = { activations: 'mxfp4' } as const;
  const [first, ...others] = variantsToTest();
  for (const constants of [first!, { ...first!, SPLIT_K: 3 }, ...others]) {
    const { result, problem } = await multiply({ x, q, m, bias, y, options }, constants);
    const reference = problemReference(x, q, problem, bias);
    expect([...result]).toEqual([...reference.y].map((value, i) => value + y[i]!));
  }
});

describe('values that are not usual', () => {
  const k = 64;
  const q: QuantizedMatrix = {
    format: 'mxfp4',
    rows: 3,
    cols: k,
    blockSize: 32,
    codes: new Uint8Array((3 * k) / 2).fill(0x22),
    scales: new Uint8Array(6).fill(127),
    globalScale: 1,
    hadamard: false,
  };
  const rows = (...values: number[]) => {
    const x = new Float32Array(values.length * k);
    values.forEach((value, row) => {
      x.fill(1, row * k, (row + 1) * k);
      x[row * k + 40] = value;
    });
    return x;
  };

  test.each(['int8', 'mxfp4', 'nvfp4'] as const)(
    'NaN and Inf reach the output as NaN: %s',
    async (activations) => {
      const x = rows(Number.NaN, 1, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY);
      const { result } = await multiply({ x, q, m: 4, options: { activations } }, variantsToTest()[0]!);
      for (const [i, value] of result.entries()) {
        if (Math.floor(i / 3) === 1) expect(value).toBeCloseTo(k, 3);
        else expect(value).toBeNaN();
      }
    },
  );

  test('rows of zeros, of the largest and of the smallest values', async () => {
    const x = new Float32Array(4 * k);
    x.fill(3e38, k, k + 1);
    x.fill(2 ** -100, 2 * k, 3 * k);
    x.fill(2 ** -149, 3 * k, 4 * k);
    const { result } = await multiply({ x, q, m: 4, options: { activations: 'int8' } }, variantsToTest()[0]!);
    expect([...result.subarray(0, 3)]).toEqual([0, 0, 0]);
    for (const value of result.subarray(3, 6)) expect(value / 3e38).toBeCloseTo(1, 5);
    for (const value of result.subarray(6, 9)) expect(value / 2 ** -94).toBeCloseTo(1, 5);
    expect([...result.subarray(9)]).toEqual([0, 0, 0]);
  });
});
