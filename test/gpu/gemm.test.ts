/** The public way to multiply: uploads, compute passes of the caller, slices of buffers, errors. */
import { describe, expect, test } from 'vitest';
import { worstError } from '../../src/gemm/reference.js';
import { createStorageBuffer, readBuffer } from '../../src/gpu/buffers.js';
import { BufferUsage } from '../../src/gpu/constants.js';
import {
  candidatePlans,
  createGemm,
  type Gemm,
  type GemmPlan,
  type GpuWeights,
  gpuFromDevice,
  InvalidArgumentError,
  KERNELS,
  matmul,
  planGemm,
  planWith,
  problemOf,
  type QuantizedMatrix,
  quantize,
  referenceProduct,
  uploadWeights,
} from '../../src/index.js';
import { isSweep, useGpu } from '../support/gpu.js';
import { Random } from '../support/random.js';
import { submitPass } from '../support/submit-pass.js';

const context = useGpu({ leftTo: 'lavapipe', what: 'the public way to multiply', narrow: true });
const random = new Random(2);

function matrix(
  rows: number,
  cols: number,
  options: Partial<Parameters<typeof quantize>[1]> = {},
): QuantizedMatrix {
  return quantize(random.normals(rows * cols), { rows, cols, format: 'mxfp4', ...options });
}

/** One plan for each form that x may be turned into. */
async function oneOfEachOperand(weights: GpuWeights, options: Parameters<typeof problemOf>[1]) {
  const plans = candidatePlans(problemOf(weights, options), await context.gpu.usableCaps());
  return plans.filter(
    ({ operand }, i) => plans.findIndex((other) => other.operand.kind === operand.kind) === i,
  );
}

/** A pass that tells of each dispatch. */
function countDispatches(pass: GPUComputePassEncoder, count: () => void): GPUComputePassEncoder {
  return new Proxy(pass, {
    get: (target, key) => {
      if (key === 'dispatchWorkgroups') count();
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** Largest error of y against f64 in parts of the bound of the kernel that the plan takes. */
function worstErrorOf(
  weights: GpuWeights,
  y: Float32Array,
  x: Float32Array,
  q: QuantizedMatrix,
  m: number,
  bias?: Float32Array,
) {
  const problem = problemOf(weights, { m, bias: bias !== undefined });
  const plan = planGemm(problem, context.gpu.caps);
  const errors = KERNELS[plan.kernel].errors(plan.constants, problem);
  return worstError(y, referenceProduct(x, q, m, bias), errors);
}

describe('matmul', () => {
  test.each([
    // m, n, k and options; gpt-oss has k = 2880, not a multiple of the macro block of 128.
    [1, 48, 2880, { macroScale: 'static' }],
    [9, 33, 2880, { macroScale: 'dynamic', macroSize: 64 }],
    [3, 17, 96, { format: 'nvfp4' }],
    [7, 5, 48, { blockSize: 16 }],
    [70, 65, 128, { tile: '2d', format: 'nvfp4' }],
  ] as const)('m %i, n %i, k %i, %o', async (m, n, k, options) => {
    const q = matrix(n, k, options);
    const x = random.normals(m * k);
    using weights = await uploadWeights(context.gpu, q);
    expect(worstErrorOf(weights, await matmul(context.gpu, x, weights, { m }), x, q, m)).toBeLessThanOrEqual(
      1,
    );
    const bias = random.normals(n);
    expect(
      worstErrorOf(weights, await matmul(context.gpu, x, weights, { m, bias }), x, q, m, bias),
    ).toBeLessThanOrEqual(1);
  });

  test('rows of x of which each thread holds more than eight values on their way to f16', async ({
    skip,
  }) => {
    const { gpu } = context;
    const m = 3;
    const k = 8 * gpu.device.limits.maxComputeInvocationsPerWorkgroup + 160;
    const q = matrix(10, k);
    using weights = await uploadWeights(gpu, q);
    const problem = problemOf(weights, { m });
    const plan = candidatePlans(problem, await gpu.usableCaps()).find(
      ({ operand }) => operand.kind === 'half-fragments',
    );
    if (!plan) skip('the adapter has no kernel on matrices of f16');
    // Rows of different sizes, whose largest value is the last.
    const x = random.normals(m * k).map((value, i) => value * 2 ** -(30 * Math.floor(i / k)));
    for (let row = 0; row < m; row++) x[(row + 1) * k - 1] = 200 * 2 ** -(30 * row);
    using gemm = await createGemm(gpu, { m, weights, plan: plan! });
    const buffers = {
      x: createStorageBuffer(gpu.device, 'x', x),
      y: createStorageBuffer(gpu.device, 'y', m * 10 * 4),
    };
    submitPass(gpu.device, (pass) => gemm.encode(pass, buffers));
    const y = new Float32Array(await readBuffer(gpu.device, buffers.y)).subarray(0, m * 10);
    const errors = KERNELS[plan!.kernel].errors(plan!.constants, problem);
    const error = worstError(y, referenceProduct(x, q, m), errors);
    expect(error).toBeLessThanOrEqual(1);
    expect(error).toBeGreaterThan(0);
    for (const buffer of Object.values(buffers)) buffer.destroy();
  });

  test('rotates x for weights that were rotated, so that the product is that of the originals', async () => {
    const [m, n, k] = [5, 20, 160];
    const values = random.normals(n * k);
    const x = random.normals(m * k);
    const y: Float32Array[] = [];
    for (const hadamard of [false, true]) {
      const q = quantize(values, { rows: n, cols: k, format: 'nvfp4', hadamard });
      using weights = await uploadWeights(context.gpu, q);
      y.push(await matmul(context.gpu, x, weights, { m }));
      expect(worstErrorOf(weights, y.at(-1)!, x, q, m)).toBeLessThanOrEqual(1);
    }
    // Both approximate x · wᵀ: they differ by quantization noise, about a tenth of the values' size, not more.
    const norm = (v: Float32Array) => Math.hypot(...v);
    const difference = y[0]!.map((value, i) => value - y[1]![i]!);
    expect(norm(difference) / norm(y[0]!)).toBeLessThan(0.25);
  });

  test('scales of the smallest and largest size', async () => {
    // Bytes 1 and 250 are 2^-126 and 2^123; rows of x of 2^100 and 2^-100 bring one product each back into range.
    const k = 64;
    const q: QuantizedMatrix = {
      format: 'mxfp4',
      rows: 2,
      cols: k,
      blockSize: 32,
      codes: new Uint8Array(k).fill(0x22),
      scales: Uint8Array.of(1, 1, 250, 250),
      globalScale: 1,
      hadamard: false,
    };
    using weights = await uploadWeights(context.gpu, q);
    const x = new Float32Array(2 * k).fill(2 ** 100, 0, k).fill(2 ** -100, k);
    const y = await matmul(context.gpu, x, weights, { m: 2 });
    expect([y[0], y[3]]).toEqual([k * 2 ** -26, k * 2 ** 23]);
  });

  test('nvfp4 scales in the subnormal range of E4M3', async () => {
    const q: QuantizedMatrix = {
      format: 'nvfp4',
      rows: 1,
      cols: 128,
      blockSize: 16,
      codes: new Uint8Array(64).fill(0x22),
      scales: Uint8Array.of(0, 1, 2, 7, 8, 9, 15, 0x7e),
      globalScale: 2 ** 9,
      hadamard: false,
    };
    using weights = await uploadWeights(context.gpu, q);
    const y = await matmul(context.gpu, new Float32Array(128).fill(1), weights, { m: 1 });
    // Multiples of 2^-9: 0, 1, 2, 7 | 8, 9, 15 | 448 · 512, sixteen times each.
    expect([...y]).toEqual([16 * (0 + 1 + 2 + 7 + 8 + 9 + 15 + 448 * 512)]);
  });
});

test('NaN in a row of x stays in that row, also where k ends inside a step along it', async () => {
  const { gpu } = context;
  const [m, n, k] = [3, 5, 48];
  const q = matrix(n, k, { blockSize: 16 });
  using weights = await uploadWeights(gpu, q);
  const x = random.normals(m * k).fill(Number.NaN, k, 2 * k);
  const candidates = candidatePlans(problemOf(weights, { m }), gpu.caps);
  // How k ends depends on the step along it alone, and each tile takes a software adapter seconds to compile.
  const all = candidates.filter(({ kernel }) => kernel === 'gemm_tiled');
  const step = ({ constants }: GemmPlan) => constants.TILE_K;
  const tiled = isSweep ? all : all.filter((plan, i) => all.findIndex((p) => step(p) === step(plan)) === i);
  // One of them takes steps of 32.
  expect(tiled.some(({ constants }) => k % constants.TILE_K! !== 0)).toBe(true);
  for (const plan of tiled) {
    const y = await matmul(gpu, x, weights, { m, plan });
    const nan = [...y].map((value) => Number.isNaN(value));
    expect(nan, plan.label).toEqual(Array.from(y, (_, i) => Math.floor(i / n) === 1));
  }
});

describe('encode', () => {
  test('works on slices of larger buffers and leaves the rest untouched', async () => {
    const { gpu } = context;
    for (const [m, n, k] of [
      [1, 13, 64],
      [6, 13, 64],
    ] as const) {
      const q = matrix(n, k);
      const x = random.normals(m * k);
      using weights = await uploadWeights(gpu, q);
      using gemm = await createGemm(gpu, { m, weights });
      const xs = new Float32Array(64 + m * k).fill(Number.NaN);
      xs.set(x, 64);
      const sentinel = -999;
      const xBuffer = createStorageBuffer(gpu.device, 'x', xs);
      const yBuffer = createStorageBuffer(gpu.device, 'y', new Float32Array(64 + m * n + 64).fill(sentinel));
      const encoder = gpu.device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      for (let i = 0; i < 2; i++) {
        gemm.encode(pass, {
          x: { buffer: xBuffer, offset: 256 },
          y: { buffer: yBuffer, offset: 256, size: m * n * 4 },
        });
      }
      pass.end();
      gpu.device.queue.submit([encoder.finish()]);
      const y = new Float32Array(await readBuffer(gpu.device, yBuffer));
      expect(worstErrorOf(weights, y.slice(64, 64 + m * n), x, q, m)).toBeLessThanOrEqual(1);
      expect([...y.slice(0, 64), ...y.slice(64 + m * n, 64 + m * n + 64)]).toEqual(Array(128).fill(sentinel));
      xBuffer.destroy();
      yBuffer.destroy();
    }
  });

  test('sees a slice that its caller has moved', async () => {
    const { gpu } = context;
    const q = matrix(8, 64);
    const xs = random.normals(2 * 64);
    using weights = await uploadWeights(gpu, q);
    using gemm = await createGemm(gpu, { m: 1, weights });
    const xBuffer = createStorageBuffer(gpu.device, 'x', xs);
    const yBuffer = createStorageBuffer(gpu.device, 'y', 8 * 4);
    const x = { buffer: xBuffer, offset: 0 };
    for (const offset of [0, 256]) {
      x.offset = offset;
      const encoder = gpu.device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      gemm.encode(pass, { x, y: yBuffer });
      pass.end();
      gpu.device.queue.submit([encoder.finish()]);
      const y = new Float32Array(await readBuffer(gpu.device, yBuffer, 8 * 4));
      expect(worstErrorOf(weights, y, xs.slice(offset / 4, offset / 4 + 64), q, 1)).toBeLessThanOrEqual(1);
    }
    xBuffer.destroy();
    yBuffer.destroy();
  });

  test.each(['float', 'int8', 'mxfp4', 'nvfp4'] as const)(
    'x that is unchanged is not converted again where that still stands: %s activations',
    async (activations) => {
      const { gpu } = context;
      const { device } = gpu;
      const [m, k] = [3, 64];
      using a = await uploadWeights(gpu, matrix(13, k));
      using b = await uploadWeights(gpu, matrix(21, k));
      // Its x is longer, but has as many scales, which may lie in the same memory.
      using wide = await uploadWeights(gpu, matrix(5, 2 * k));
      const options = { m, activations };
      for (const { kernel, constants, label, operand } of await oneOfEachOperand(a, options)) {
        const create = (weights: GpuWeights) => {
          const plan = planWith(kernel, constants, problemOf(weights, options), gpu.caps);
          return createGemm(gpu, { ...options, weights, plan });
        };
        using productA = await create(a);
        using productB = await create(b);
        using productWide = await create(wide);
        const offset = 2048;
        const x = createStorageBuffer(device, 'x', random.normals(2 * (offset / 4)));
        const steps: [Gemm, number, boolean][] = [
          [productA, 0, false],
          [productB, 0, true],
          [productB, 0, false],
          // Another slice of the same buffer, that one again, and another product's x in between.
          [productA, offset, true],
          [productB, 0, true],
          [productWide, 0, false],
          [productB, 0, true],
        ];
        const ys = steps.map(([{ problem }]) => createStorageBuffer(device, 'y', m * problem.n * 4));
        const dispatches = steps.map(() => 0);
        submitPass(device, (pass) => {
          steps.forEach(([gemm, start, xUnchanged], i) => {
            const counting = countDispatches(pass, () => void dispatches[i]!++);
            gemm.encode(counting, { x: { buffer: x, offset: start }, y: ys[i]!, xUnchanged });
          });
        });
        const results = await Promise.all(
          ys.map(async (y) => [...new Float32Array(await readBuffer(device, y))]),
        );
        expect(results[1], label).toEqual(results[2]);
        expect(results[4], label).toEqual(results[2]);
        expect(results[6], label).toEqual(results[2]);
        const converts = operand.kind !== 'rows' || activations === 'mxfp4' || activations === 'nvfp4';
        const [, reused, whole, , moved, , pushedOut] = dispatches;
        if (converts) expect(reused, label).toBeLessThan(whole!);
        else expect(reused, label).toBe(whole);
        expect(moved, label).toBe(whole);
        // There a scale a row shares its buffer, whatever k is.
        if (['half-fragments', 'int8-rows'].includes(operand.kind)) expect(pushedOut, label).toBe(whole);
        for (const buffer of [x, ...ys]) buffer.destroy();
      }
    },
  );

  test.each(['float', 'int8', 'mxfp4'] as const)(
    'any order of products of any kind, with x that changes or not, is as if each converted its own: %s activations',
    async (activations) => {
      const { gpu } = context;
      const { device } = gpu;
      const [m, k, offset] = [3, 64, 1024];
      using plain = await uploadWeights(gpu, matrix(13, k));
      using rotated = await uploadWeights(gpu, matrix(9, k, { hadamard: true }));
      const gemms: Gemm[] = [];
      for (const weights of [plain, rotated]) {
        for (const plan of await oneOfEachOperand(weights, { m, activations }))
          gemms.push(await createGemm(gpu, { m, activations, weights, plan }));
      }
      const xs = [0, 1].map(() => createStorageBuffer(device, 'x', 2 * offset));
      const y = createStorageBuffer(device, 'y', m * 13 * 4);
      const multiply = async (gemm: Gemm, x: GPUBuffer, at: number, xUnchanged: boolean) => {
        submitPass(device, (pass) => gemm.encode(pass, { x: { buffer: x, offset: at }, y, xUnchanged }));
        return [...new Float32Array(await readBuffer(device, y)).subarray(0, m * gemm.problem.n)];
      };
      // Which slice of each buffer a product had last, since when it has not changed.
      const last = new Map<GPUBuffer, number>();
      const results: { gemm: Gemm; values: Float32Array<ArrayBuffer>; y: number[] }[] = [];
      const held = new Map<string, Float32Array<ArrayBuffer>>();
      for (let step = 0; step < 60; step++) {
        const i = random.integer(0, 1);
        const [x, at] = [xs[i]!, random.integer(0, 3) === 0 ? offset : 0];
        const slice = `${i} ${at}`;
        if (!held.has(slice) || random.integer(0, 2) === 0) {
          const values = new Float32Array(random.normals(m * k));
          device.queue.writeBuffer(x, at, values);
          held.set(slice, values);
          if (last.get(x) === at) last.delete(x);
        }
        const gemm = random.pick(gemms);
        results.push({ gemm, values: held.get(slice)!, y: await multiply(gemm, x, at, last.get(x) === at) });
        last.set(x, at);
      }
      for (const { gemm, values, y } of results) {
        device.queue.writeBuffer(xs[0]!, 0, values);
        expect(y, gemm.plan.label).toEqual(await multiply(gemm, xs[0]!, 0, false));
      }
      for (const gemm of gemms) gemm.destroy();
      for (const buffer of [...xs, y]) buffer.destroy();
    },
  );

  test('refuses buffers that are missing, too small, misaligned, aliased or of the wrong usage', async () => {
    const { gpu } = context;
    using weights = await uploadWeights(gpu, matrix(8, 32));
    using gemm = await createGemm(gpu, { m: 2, weights, bias: true });
    const x = createStorageBuffer(gpu.device, 'x', 2 * 32 * 4);
    const y = createStorageBuffer(gpu.device, 'y', 2 * 8 * 4);
    const bias = createStorageBuffer(gpu.device, 'bias', 8 * 4);
    const uniform = gpu.device.createBuffer({ size: 1024, usage: BufferUsage.UNIFORM });
    const encode = (buffers: Parameters<typeof gemm.encode>[1]) => () => {
      const encoder = gpu.device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      try {
        gemm.encode(pass, buffers);
      } finally {
        pass.end();
      }
    };
    expect(encode({ x, y, bias })).not.toThrow();
    expect(encode({ x, y })).toThrow(/bias is missing; it is f32\[8\]/);
    expect(encode({ x: y, y, bias })).toThrow(/x has 64 bytes; f32\[2, 32\] needs 256/);
    expect(encode({ x: { buffer: x, offset: 256 }, y, bias })).toThrow(/x has 0 bytes/);
    const offset = gpu.device.limits.minStorageBufferOffsetAlignment / 2;
    const misaligned = new RegExp(`x starts at byte ${offset}; .* multiples of ${2 * offset}`);
    expect(encode({ x: { buffer: uniform, offset }, y, bias })).toThrow(misaligned);
    expect(encode({ x, y: x, bias })).toThrow(/y shares its buffer with x/);
    expect(encode({ x: uniform, y, bias })).toThrow(/without GPUBufferUsage.STORAGE/);
    using plain = await createGemm(gpu, { m: 2, weights });
    const pass = gpu.device.createCommandEncoder().beginComputePass();
    expect(() => plain.encode(pass, { x, y, bias })).toThrow(InvalidArgumentError);
    for (const buffer of [x, y, bias, uniform]) buffer.destroy();
  });
});

describe('typed errors', () => {
  test('matmul refuses wrong lengths', async () => {
    using weights = await uploadWeights(context.gpu, matrix(4, 32));
    const run = (x: number, m: number, bias?: number) =>
      matmul(context.gpu, new Float32Array(x), weights, { m, ...(bias && { bias: new Float32Array(bias) }) });
    await expect(run(31, 1)).rejects.toThrow(/x has 31 values; \[1, 32\] needs 32/);
    await expect(run(32, 1, 5)).rejects.toThrow(/bias has 5 values; \[4\] needs 4/);
    await expect(run(0, 0)).rejects.toThrow(InvalidArgumentError);
  });

  test('uploadWeights refuses a matrix that is not what it says', async () => {
    const q = matrix(4, 64);
    await expect(uploadWeights(context.gpu, { ...q, codes: q.codes.subarray(1) })).rejects.toThrow(
      /codes has 127 bytes/,
    );
    await expect(uploadWeights(context.gpu, { ...q, scales: q.scales.map(() => 255) })).rejects.toThrow(
      /scale byte 255/,
    );
  });
});

test('a borrowed device is used and left alive', async () => {
  const borrowed = gpuFromDevice(context.gpu.device);
  const q = matrix(4, 32);
  const x = random.normals(32);
  const weights: GpuWeights = await uploadWeights(borrowed, q);
  borrowed.destroy();
  expect(worstErrorOf(weights, await matmul(borrowed, x, weights, { m: 1 }), x, q, 1)).toBeLessThanOrEqual(1);
  weights.destroy();
  weights.destroy();
  expect(() => gpuFromDevice({} as GPUDevice)).toThrow(InvalidArgumentError);
});
