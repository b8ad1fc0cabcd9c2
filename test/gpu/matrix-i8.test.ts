/** Products by int8 matrices: weights as int8, and y = x · wᵀ of both operands rounded to int8. */
import { beforeEach, describe, expect, test } from 'vitest';
import {
  INT8_WHOLE_K,
  int8BlockScales,
  int8Multiplier,
  int8Parts,
  int8Reference,
  int8Snr,
  int8Value,
} from '../../src/gemm/int8-weights.js';
import { refusal } from '../../src/gemm/kernels/index.js';
import { problemReference, worstError } from '../../src/gemm/reference.js';
import { createStorageBuffer, readBuffer } from '../../src/gpu/buffers.js';
import {
  createGemm,
  KERNELS,
  type KernelConstants,
  planWith,
  problemOf,
  type QuantizedMatrix,
  type QuantizeOptions,
  quantize,
  resolveProblem,
  uploadWeights,
} from '../../src/index.js';
import { useGpu } from '../support/gpu.js';
import { Random } from '../support/random.js';

const context = useGpu();
const kernel = KERNELS.gemm_subgroup_matrix_i8;

beforeEach(({ skip }) => {
  if (!context.gpu.caps.tiers.includes('matrix-i8')) skip('the adapter has no i8 × i8 → i32 matrices');
});

function variants(): readonly KernelConstants[] {
  const { caps } = context.gpu;
  const problem = resolveProblem({ m: 1, n: 1, k: 64, format: 'mxfp4', activations: 'int8' });
  return kernel.variants(caps).filter((constants) => !refusal(kernel, constants, problem, caps));
}

const FORMATS: readonly Partial<QuantizeOptions>[] = [
  {},
  { blockSize: 16 },
  { format: 'nvfp4' },
  ...([128, 64, 32] as const).map((macroSize) => ({ macroScale: 'static' as const, macroSize })),
  { blockSize: 16, macroScale: 'dynamic', macroSize: 32 },
];

function weightsOf(random: Random, rows: number, cols: number, options: Partial<QuantizeOptions>) {
  // Columns of different sizes, so that scales spread.
  const values = random.normals(rows * cols).map((v, i) => v * 2 ** -((((i % cols) / 48) | 0) % 5));
  return quantize(values, { rows, cols, format: 'mxfp4', ...options });
}

describe('weights as int8', () => {
  test.each(FORMATS.map((options) => [JSON.stringify(options), options] as const))(
    '%s',
    async (_, options) => {
      const { gpu } = context;
      const [rows, cols] = [9, 480];
      const q = weightsOf(new Random(1), rows, cols, options);
      using weights = await uploadWeights(gpu, q);
      const scales = int8BlockScales(q);
      const blocks = cols / q.blockSize;
      const words = Math.ceil((Math.ceil(cols / 32) * (32 / q.blockSize)) / 2);
      for (const chunkK of [INT8_WHOLE_K, 128]) {
        const [part] = await int8Parts(gpu, weights, chunkK);
        expect((await int8Parts(gpu, weights, chunkK))[0]).toBe(part);
        const multipliers = new Uint16Array(
          await readBuffer(gpu.device, part!.multipliers, rows * words * 4),
        );
        const stretches = Math.ceil(cols / chunkK);
        const references = new Float32Array(
          await readBuffer(gpu.device, part!.references, rows * stretches * 4),
        );
        for (let row = 0; row < rows; row++) {
          for (let block = 0; block < blocks; block++) {
            const stretch = Math.floor((block * q.blockSize) / chunkK);
            const first = stretch * (chunkK / q.blockSize);
            const end = Math.min(first + chunkK / q.blockSize, blocks);
            const largest = Math.max(...scales.subarray(row * blocks + first, row * blocks + end));
            const scale = scales[row * blocks + block]!;
            const actual = multipliers[row * words * 2 + block]!;
            // The GPU's division may fall on the other side of a half.
            const exact = q.format === 'mxfp4' && !q.macroSize;
            expect(Math.abs(actual - int8Multiplier(scale, largest, q))).toBeLessThanOrEqual(exact ? 0 : 1);
            expect(int8Value(12, actual)).toBeLessThanOrEqual(127);
            const reference = references[stretch * rows + row]!;
            expect(Math.abs(reference / int8Reference(largest, q) - 1)).toBeLessThanOrEqual(exact ? 0 : 1e-6);
          }
        }
      }
    },
  );

  test('signal to noise', () => {
    const random = new Random(2);
    const normal = quantize(random.normals(64 * 512), { rows: 64, cols: 512, format: 'mxfp4' });
    expect(int8Snr(normal)).toBeGreaterThan(45);
    // One block in eight is 2^10 times as large.
    const values = random.normals(64 * 512).map((v, i) => (i % 256 < 32 ? v * 1024 : v));
    const spread = quantize(values, { rows: 64, cols: 512, format: 'mxfp4' });
    expect(int8Snr(spread)).toBeGreaterThan(40);
    const tiny: QuantizedMatrix = {
      ...normal,
      // The largest block is empty, the others have one bit left.
      codes: normal.codes.map((code, i) => (i % 256 < 16 ? 0 : code)),
      scales: normal.scales.map((_, i) => (i % 16 === 0 ? 140 : 130)),
    };
    expect(int8Snr(tiny)).toBeLessThan(20);
    expect(int8Snr({ ...normal, scales: normal.scales.map((_, i) => 120 + (i % 4)) })).toBe(Infinity);
  });
});

interface Case {
  x: Float32Array;
  q: QuantizedMatrix;
  m: number;
  bias?: Float32Array | undefined;
  /** What y holds before; added to the product. */
  y?: Float32Array | undefined;
  type?: 'f16';
}

async function multiply({ x, q, m, bias, y, type }: Case, constants: KernelConstants) {
  const { gpu } = context;
  using weights = await uploadWeights(gpu, q);
  const options = {
    m,
    activations: 'int8',
    bias: bias !== undefined,
    accumulate: y !== undefined,
    x: type ?? 'f32',
  } as const;
  const problem = problemOf(weights, options);
  const plan = planWith('gemm_subgroup_matrix_i8', constants, problem, gpu.caps);
  using gemm = await createGemm(gpu, { ...options, weights, plan });
  const size = m * q.rows;
  const buffers = {
    x: createStorageBuffer(gpu.device, 'x', type ? halves(x) : x),
    y: createStorageBuffer(gpu.device, 'y', y ?? new Float32Array(size).fill(Number.NaN)),
    ...(bias && { bias: createStorageBuffer(gpu.device, 'bias', bias) }),
  };
  const encoder = gpu.device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  gemm.encode(pass, buffers);
  pass.end();
  gpu.device.queue.submit([encoder.finish()]);
  const result = new Float32Array(await readBuffer(gpu.device, buffers.y, size * 4));
  for (const buffer of Object.values(buffers)) buffer.destroy();
  return { result, problem };
}

/** Integers up to 2048 to f16. */
function halves(values: Float32Array): Uint16Array {
  return Uint16Array.from(values, (value) => {
    const size = Math.abs(value);
    if (size === 0) return 0;
    const exponent = Math.floor(Math.log2(size));
    return (value < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | ((size / 2 ** exponent - 1) * 1024);
  });
}

async function worst(c: Case, constants: KernelConstants): Promise<number> {
  const { result, problem } = await multiply(c, constants);
  return worstError(result, problemReference(c.x, c.q, problem, c.bias), kernel.errors(constants, problem));
}

// Software adapters take seconds to compile a kernel, so formats take the ways through k by turns.
describe.each(
  FORMATS.map((options, i) => {
    const more = [{ CHUNK_K: 128 }, { CHUNK_K: INT8_WHOLE_K }, { CHUNK_K: 128, SPLIT_K: 2 }][i % 3]!;
    return [JSON.stringify(options), options, more] as const;
  }),
)('%s', (_, options, more) => {
  test.each([
    [5, 7, 48],
    [33, 20, 96],
    [18, 37, 480],
  ])('m %i, n %i, k %i', async (m, n, k) => {
    const random = new Random(m + n + k);
    const cols = options.format === 'nvfp4' || options.blockSize === 16 ? k : Math.ceil(k / 32) * 32;
    const q = weightsOf(random, n, cols, options);
    const x = random.normals(m * cols);
    const bias = random.normals(n);
    const error = await worst({ x, q, m, bias }, { ...variants()[0]!, ...more });
    expect(error).toBeLessThanOrEqual(1);
    expect(error).toBeGreaterThan(0.001);
  });
});

/** Integers with 127 in each 128 values, and weights whose scales are within three octaves. */
function exactCase(m: number, n: number, k: number): Case {
  const random = new Random(m * n);
  const x = random.integers(m * k, -127, 127);
  for (let i = 0; i < x.length; i += 128) x[i] = 127;
  for (let row = 0; row < m; row++) x[row * k] = -127;
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
  return { x, q, m };
}

test('integers and weights within three octaves give exact sums, in every variant', async () => {
  const [m, n, k] = [35, 41, 384];
  const c = exactCase(m, n, k);
  const random = new Random(4);
  const bias = random.integers(n, -64, 64);
  const y = random.integers(m * n, -64, 64);
  const reference = problemReference(c.x, c.q, { m, k, activations: { kind: 'int8' } }, bias);
  const expected = [...reference.y].map((value, i) => value + y[i]!);
  for (const [i, constants] of variants().entries()) {
    const ways = [{ CHUNK_K: 128 }, { SPLIT_K: 3 }, {}];
    const all = { ...constants, ...ways[i % 3] };
    const { result } = await multiply({ ...c, bias, y }, all);
    expect([...result], JSON.stringify(all)).toEqual(expected);
  }
});

test('x in f16', async () => {
  const c = exactCase(6, 10, 256);
  const { result, problem } = await multiply({ ...c, type: 'f16' }, variants()[0]!);
  expect([...result]).toEqual([...problemReference(c.x, c.q, problem).y]);
});

describe('values that are not usual', () => {
  const k = 256;
  const { q } = exactCase(1, 3, k);
  const ones: QuantizedMatrix = { ...q, codes: q.codes.map(() => 0x22), scales: q.scales.map(() => 127) };
  const cases = [{ CHUNK_K: INT8_WHOLE_K }, { CHUNK_K: 128 }];

  test('NaN and Inf reach the output as NaN', async () => {
    const x = new Float32Array(4 * k).fill(1);
    x[3] = Number.NaN;
    x[2 * k + 200] = Number.POSITIVE_INFINITY;
    x[3 * k + 100] = Number.NEGATIVE_INFINITY;
    for (const more of cases) {
      const { result } = await multiply({ x, q: ones, m: 4 }, { ...variants()[0]!, ...more });
      for (const [i, value] of result.entries()) {
        if (Math.floor(i / 3) === 1) expect(value).toBeCloseTo(k, 3);
        else expect(value).toBeNaN();
      }
    }
  });

  test('rows of zeros, of the largest and of the smallest values', async () => {
    const x = new Float32Array(4 * k);
    x.fill(3e38, k, k + 1);
    x.fill(2 ** -100, 2 * k, 3 * k);
    x.fill(2 ** -149, 3 * k, 4 * k);
    for (const more of cases) {
      const { result } = await multiply({ x, q: ones, m: 4 }, { ...variants()[0]!, ...more });
      expect([...result.subarray(0, 3)]).toEqual([0, 0, 0]);
      for (const value of result.subarray(3, 6)) expect(value / 3e38).toBeCloseTo(1, 5);
      for (const value of result.subarray(6, 9)) expect(value / 2 ** -92).toBeCloseTo(1, 5);
      expect([...result.subarray(9)]).toEqual([0, 0, 0]);
    }
  });
});

test('weights that lose too much as int8 are refused, unless nothing is known of them', () => {
  const { caps } = context.gpu;
  const shape = { m: 8, n: 8, k: 64, format: 'mxfp4', activations: 'int8' } as const;
  const constants = variants()[0]!;
  expect(refusal(kernel, constants, resolveProblem({ ...shape, int8Snr: 29 }), caps)).toContain('29.0 dB');
  expect(refusal(kernel, constants, resolveProblem({ ...shape, int8Snr: 31 }), caps)).toBeUndefined();
  expect(refusal(kernel, constants, resolveProblem(shape), caps)).toBeUndefined();
});
