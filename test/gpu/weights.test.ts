/** Weights: packed on either side, made from what the GPU quantized, cut where a device's limits ask for it. */
import { describe, expect, test } from 'vitest';
import { uploadCopies } from '../../src/gemm/weights.js';
import { createStorageBuffer, readBuffer } from '../../src/gpu/buffers.js';
import {
  candidatePlans,
  createGemm,
  type Gpu,
  type GpuWeights,
  gpuFromDevice,
  InvalidArgumentError,
  type KernelConstants,
  matmul,
  planWith,
  problemOf,
  type QuantizedMatrix,
  type QuantizeOptions,
  quantize,
  quantizeOnGpu,
  readbackQuantized,
  UnsupportedError,
  uploadWeights,
  weightsFromQuantized,
} from '../../src/index.js';
import { pack, sliceRows } from '../../src/matrix/pack.js';
import { useGpu } from '../support/gpu.js';
import { toHalf } from '../support/half.js';
import { Random } from '../support/random.js';
import { standIn } from '../support/stand-in.js';

const context = useGpu({ leftTo: 'lavapipe', what: 'weights in parts' });
const random = new Random(31);

type Options = Omit<QuantizeOptions, 'rows' | 'cols'>;

/** Formats, and rows and columns that leave bytes of every field ragged. */
const CASES: readonly (readonly [rows: number, cols: number, options: Options])[] = [
  [7, 96, { format: 'mxfp4' }],
  [65, 2880, { format: 'mxfp4', macroScale: 'static' }],
  [5, 160, { format: 'mxfp4', macroScale: 'dynamic', macroSize: 64 }],
  [9, 48, { format: 'mxfp4', blockSize: 16 }],
  [6, 80, { format: 'mxfp4', blockSize: 16, macroScale: 'static', macroSize: 32 }],
  [3, 112, { format: 'nvfp4' }],
  [130, 64, { format: 'nvfp4', hadamard: true }],
  [1, 16, { format: 'nvfp4' }],
];

function matrix(rows: number, cols: number, options: Options): QuantizedMatrix {
  // Rows of different sizes, so that their largest scales differ.
  const values = random.normals(rows * cols).map((value, i) => value * 2 ** (Math.floor(i / cols) % 7));
  return quantize(values, { rows, cols, ...options });
}

/** A device that claims lower limits, and whose other properties may be replaced. */
function limited(
  gpu: Gpu,
  limits: Partial<Record<keyof GPUSupportedLimits, number>>,
  replaced: Partial<GPUDevice> = {},
): Gpu {
  const { device } = gpu;
  const lowered = standIn(device.limits, limits);
  const masked = gpuFromDevice(
    standIn(device, { limits: lowered, ...replaced }),
    gpu.adapterInfo as unknown as GPUAdapterInfo,
  );
  return Object.create(masked, {
    caps: { value: { ...gpu.caps, limits: masked.caps.limits } },
  }) as Gpu;
}

const KIB = 1024;
const lowLimit = (bytes: number) => ({ maxStorageBufferBindingSize: bytes, maxBufferSize: 2 * bytes });

/** Bytes of all parts against those of `pack` for the same rows. */
async function expectPacked(gpu: Gpu, weights: GpuWeights, q: QuantizedMatrix): Promise<void> {
  let next = 0;
  for (const part of weights.parts) {
    expect(part.firstRow).toBe(next);
    next += part.rows;
    const expected = pack(sliceRows(q, part));
    for (const field of ['codes', 'scales', 'macroScales', 'rowMax'] as const) {
      const bytes = expected[field];
      expect(Boolean(part[field])).toBe(Boolean(bytes));
      if (!bytes) continue;
      const read = new Uint8Array(await readBuffer(gpu.device, part[field]!), 0, bytes.byteLength);
      const wanted = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      expect(Buffer.compare(read, wanted), `${field} of rows from ${part.firstRow}`).toBe(0);
    }
  }
  expect(next).toBe(q.rows);
}

describe('packing', () => {
  test.each(CASES)('%i × %i, %o, is the same on the GPU and the CPU', async (rows, cols, options) => {
    const { gpu } = context;
    const q = matrix(rows, cols, options);
    for (const packOn of ['gpu', 'cpu', undefined] as const) {
      using weights = await uploadWeights(gpu, q, { packOn });
      expect(weights.parts.length).toBe(1);
      await expectPacked(gpu, weights, q);
    }
  });

  test('copies for timing, which software adapters go without, are the same too', async () => {
    const { gpu } = context;
    const hardware = Object.create(gpu, {
      adapterInfo: { value: { ...gpu.adapterInfo, isFallbackAdapter: false, description: '', device: '' } },
    }) as Gpu;
    const q = matrix(65, 2880, { format: 'mxfp4', macroScale: 'static' });
    expect((await uploadCopies(gpu, q, 1)).length).toBe(1);
    const copies = await uploadCopies(hardware, q, 1);
    expect(copies.length).toBe(64);
    for (const weights of [copies[1]!, copies[63]!]) {
      expect(weights.int8Snr).toBe(copies[0]!.int8Snr);
      await expectPacked(gpu, weights, q);
    }
    for (const weights of copies) weights.destroy();
  });

  test('every code in every place, among neighbours of all ones and all zeros', async () => {
    const words: number[] = [];
    for (const rest of [0, 0xffffffff]) {
      for (let place = 0; place < 8; place++) {
        for (let code = 0; code < 16; code++) {
          words.push(((rest & ~(15 << (4 * place))) | (code << (4 * place))) >>> 0);
        }
      }
    }
    const codes = new Uint8Array(Uint32Array.from(words).buffer);
    const q: QuantizedMatrix = {
      format: 'mxfp4',
      rows: 4,
      cols: words.length * 2,
      blockSize: 32,
      codes,
      scales: Uint8Array.from({ length: words.length / 4 }, (_, i) => (i * 37) % 255),
      globalScale: 1,
      hadamard: false,
    };
    using weights = await uploadWeights(context.gpu, q, { packOn: 'gpu' });
    await expectPacked(context.gpu, weights, q);
  });
});

describe('weights of a matrix quantized on the GPU', () => {
  test.each(CASES.filter(([, cols]) => [2880, 80, 112, 64].includes(cols)))(
    '%i × %i, %o, are those of its bytes',
    async (rows, cols, options) => {
      const { gpu } = context;
      const quantized = await quantizeOnGpu(gpu, random.normals(rows * cols), { rows, cols, ...options });
      const q = await readbackQuantized(gpu, quantized);
      using weights = await weightsFromQuantized(gpu, quantized);
      quantized.destroy();
      await expectPacked(gpu, weights, q);
      expect(weights.globalScale).toBe(options.format === 'mxfp4' ? 1 : undefined);

      using uploaded = await uploadWeights(gpu, q);
      const x = random.normals(2 * cols);
      expect(await matmul(gpu, x, weights, { m: 2 })).toEqual(await matmul(gpu, x, uploaded, { m: 2 }));
      expect(weights.byteLength - uploaded.byteLength).toBe(options.format === 'mxfp4' ? 0 : 16);
    },
  );

  test('cut into parts whose bytes begin anywhere in the buffers', async () => {
    const { gpu } = context;
    for (const [cols, options] of [
      [352, { format: 'nvfp4' }],
      [336, { format: 'nvfp4' }],
      [2880, { format: 'mxfp4', macroScale: 'static' }],
    ] as const) {
      const rows = 171;
      const low = limited(gpu, lowLimit(cols < 1000 ? 8 * KIB : 64 * KIB));
      using quantized = await quantizeOnGpu(gpu, random.normals(rows * cols), { rows, cols, ...options });
      const q = await readbackQuantized(gpu, quantized);
      using weights = await weightsFromQuantized(low, quantized);
      expect(weights.parts.length).toBeGreaterThan(3);
      await expectPacked(gpu, weights, q);
    }
  });
});

describe('weights above the limits of a device', () => {
  test.each(['gpu', 'cpu'] as const)('are cut along their rows, packed on the %s', async (packOn) => {
    const { gpu } = context;
    const low = limited(gpu, lowLimit(64 * KIB));
    for (const [cols, options] of [
      [1024, { format: 'mxfp4', macroScale: 'static' }],
      [1008, { format: 'nvfp4' }],
    ] as const) {
      const q = matrix(301, cols, options);
      using weights = await uploadWeights(low, q, { packOn });
      const rows = weights.parts.map((part) => part.rows);
      expect(weights.parts.length).toBe(3);
      expect(Math.max(...rows) - Math.min(...rows)).toBeLessThanOrEqual(32);
      for (const { codes, firstRow } of weights.parts) {
        expect(codes.size).toBeLessThanOrEqual(64 * KIB);
        expect(firstRow % 32).toBe(0);
      }
      await expectPacked(gpu, weights, q);
      using whole = await uploadWeights(gpu, q);
      expect(whole.parts.length).toBe(1);
      // Buffers are filled up to words.
      const surplus = weights.byteLength - whole.byteLength;
      expect(surplus).toBeGreaterThanOrEqual(0);
      expect(surplus).toBeLessThan(64);
    }
  });

  test('give the products of uncut ones, bit for bit', async () => {
    const { gpu } = context;
    // Parts of 32 rows or fewer; x and y are on the side without limits.
    const low = limited(gpu, lowLimit(96 * KIB));
    const half = gpu.caps.tiers.includes('f16');
    const k = 4160;
    const n = 101;
    const gemv = { THREADS: 256, ROWS: 2, X_ROWS: 2, SLAB: 32, DEPTH: 1, SPLIT_K: 2 };
    const tiled = { TILE_M: 32, TILE_N: 64, TILE_K: 16, THREAD_M: 8 };
    const products: readonly {
      readonly problem: Parameters<typeof problemOf>[1];
      readonly kernel?: readonly ['gemv' | 'gemm_tiled', KernelConstants];
    }[] = [
      { problem: { m: 1, precision: 'f32' } },
      { problem: { m: 3, bias: true, precision: 'f32' } },
      { problem: { m: 5, bias: true, accumulate: true }, kernel: ['gemv', gemv] },
      { problem: { m: 2, accumulate: true }, kernel: ['gemm_tiled', tiled] },
      ...(half
        ? [{ problem: { m: 3, x: 'f16', y: 'f16', bias: true }, kernel: ['gemv', gemv] } as const]
        : []),
      ...(gpu.caps.tiers.includes('dp4a') ? [{ problem: { m: 4, activations: 'int8' } } as const] : []),
    ];
    for (const options of [
      { format: 'mxfp4', macroScale: 'static' },
      { format: 'nvfp4', hadamard: true },
    ] as const) {
      const q = matrix(n, k, options);
      using whole = await uploadWeights(gpu, q);
      using cut = await uploadWeights(low, q);
      expect(cut.parts.length).toBeGreaterThan(3);
      for (const { problem, kernel } of products) {
        const { m, ...rest } = problem;
        const x = random.normals(m * k);
        const y = random.normals(m * n);
        const bias = random.normals(n);
        const asX = (v: Float32Array) => (rest.x === 'f16' ? toHalf(v) : v);
        const asY = (v: Float32Array) => (rest.y === 'f16' ? toHalf(v) : v);
        const results: Uint8Array[] = [];
        for (const weights of [whole, cut]) {
          const plan = kernel && planWith(...kernel, problemOf(weights, problem), gpu.caps);
          using gemm = await createGemm(gpu, { ...problem, weights, plan });
          const buffers = {
            x: createStorageBuffer(gpu.device, 'x', asX(x)),
            y: createStorageBuffer(gpu.device, 'y', asY(y)),
            ...(rest.bias && { bias: createStorageBuffer(gpu.device, 'bias', bias) }),
          };
          const encoder = gpu.device.createCommandEncoder();
          const pass = encoder.beginComputePass();
          gemm.encode(pass, buffers);
          pass.end();
          gpu.device.queue.submit([encoder.finish()]);
          results.push(new Uint8Array(await readBuffer(gpu.device, buffers.y)));
          for (const buffer of Object.values(buffers)) buffer.destroy();
        }
        expect(results[0]!.some((byte) => byte !== 0)).toBe(true);
        expect(Buffer.compare(results[0]!, results[1]!), JSON.stringify([options, problem])).toBe(0);
      }
    }
  });

  test('give the products of uncut ones where four columns are stored at a time, whole and in parts of k', async () => {
    const { gpu } = context;
    const [m, n, k] = [5, 104, 1056];
    const low = limited(gpu, lowLimit(24 * KIB));
    const q = matrix(n, k, { format: 'nvfp4' });
    using whole = await uploadWeights(gpu, q);
    using cut = await uploadWeights(low, q);
    expect(cut.parts.length).toBeGreaterThan(3);
    const [x, bias] = [random.normals(m * k), random.normals(n)];
    for (const id of ['gemm_subgroup_matrix', 'gemm_subgroup_matrix_i8'] as const) {
      const activations = id.endsWith('i8') ? 'int8' : 'float';
      const problem = problemOf(whole, { m, bias: true, activations });
      const constants = candidatePlans(problem, gpu.caps).find(({ kernel }) => kernel === id)?.constants;
      if (!constants) continue;
      for (const SPLIT_K of [1, 2]) {
        const plan = planWith(id, { ...constants, SPLIT_K }, problem, gpu.caps);
        const y = await matmul(gpu, x, whole, { m, bias, activations, plan });
        expect(y.some((value) => value !== 0)).toBe(true);
        expect(await matmul(gpu, x, cut, { m, bias, activations, plan }), plan.label).toEqual(y);
      }
    }
  });

  test('are refused where 32 rows do not fit, before anything is allocated', async () => {
    const limits = { maxStorageBufferBindingSize: KIB, maxBufferSize: 512 };
    const low = limited(context.gpu, limits, { createBuffer: () => expect.unreachable() });
    const q = matrix(1, 2048, { format: 'mxfp4' });
    await expect(uploadWeights(low, q)).rejects.toThrow(
      /32 rows of 2048 values take 32768 bytes, above the device's maxBufferSize of 512/,
    );
    await expect(uploadWeights(low, q)).rejects.toThrow(UnsupportedError);
  });

  test('destroy frees every part, and twice does nothing', async () => {
    const low = limited(context.gpu, lowLimit(4 * KIB));
    const weights = await uploadWeights(low, matrix(160, 256, { format: 'mxfp4', macroScale: 'static' }));
    expect(weights.parts.length).toBe(5);
    weights.destroy();
    weights.destroy();
    context.gpu.device.pushErrorScope('validation');
    await expect(
      readBuffer(context.gpu.device, weights.parts[4]!.codes).then(() => context.gpu.device.popErrorScope()),
    ).resolves.toMatchObject({ message: expect.stringMatching(/destroyed/) });
  });
});

test('a malformed matrix is refused by either packer', async () => {
  const q = matrix(4, 64, { format: 'mxfp4' });
  for (const packOn of ['gpu', 'cpu'] as const) {
    await expect(
      uploadWeights(context.gpu, { ...q, codes: q.codes.subarray(1) }, { packOn }),
    ).rejects.toThrow(InvalidArgumentError);
  }
});
