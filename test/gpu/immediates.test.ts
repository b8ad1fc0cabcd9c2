/** What dispatches are given beside their buffers, in immediates and in uniform buffers: the same products. */
import { describe, expect, test } from 'vitest';
import { createStorageBuffer, readBuffer } from '../../src/gpu/buffers.js';
import { probeDevice } from '../../src/gpu/probe.js';
import {
  createGemm,
  type Gpu,
  type MatmulOptions,
  matmul,
  planWith,
  problemOf,
  type QuantizeOptions,
  quantize,
  quantizeOnGpu,
  uploadWeights,
  weightsFromQuantized,
} from '../../src/index.js';
import { adapterId, isLeftTo, isSweep, useGpu } from '../support/gpu.js';
import { Random } from '../support/random.js';
import { standIn, watchBuffers } from '../support/stand-in.js';

const context = useGpu();
const isLeft = isLeftTo('lavapipe', 'products with and without immediates');
const random = new Random(41);

/** The same device, counting the buffers made on it that are uniform. */
function counting(gpu: Gpu, immediates: boolean): { gpu: Gpu; uniforms: () => number } {
  let uniforms = 0;
  const watched = watchBuffers(gpu, ({ usage }) => {
    if (usage & 0x40) uniforms++;
  });
  const probe = async () => ({ ...(await gpu.probe()), immediates });
  const stand = Object.create(watched, { probe: { value: probe } }) as Gpu;
  return { gpu: stand, uniforms: () => uniforms };
}

const CASES: readonly (readonly [
  what: string,
  matrix: Partial<QuantizeOptions> & Pick<QuantizeOptions, 'format'>,
  options: MatmulOptions,
])[] = [
  ['x as it is', { format: 'mxfp4', macroScale: 'static' }, { m: 3 }],
  ['a rotation', { format: 'nvfp4', hadamard: true }, { m: 2, bias: random.normals(40) }],
  ['int8', { format: 'mxfp4' }, { m: 70, activations: 'int8' }],
  ['FP4 activations for an integer kernel', { format: 'nvfp4' }, { m: 70, activations: 'nvfp4' }],
  ['FP4 activations for a float kernel', { format: 'mxfp4' }, { m: 3, activations: 'mxfp4' }],
  ['f16, where the device multiplies it', { format: 'nvfp4' }, { m: 70 }],
];

describe.skipIf(isLeft)('gives the same product, and makes no uniform buffer', () => {
  // On software adapters, which compile both ways of the larger kernels for a minute, the self test of every kernel with problems
  // in uniform buffers has to do for those.
  const cases = adapterId() === 'system' || isSweep ? CASES : CASES.filter(([, , { m }]) => m < 70);
  test.each(cases)('%s', async (_, matrix, { m, ...options }) => {
    const values = random.normals(40 * 160);
    const x = random.normals(m * 160);
    const q = quantize(values, { rows: 40, cols: 160, ...matrix });
    using weights = await uploadWeights(context.gpu, q);
    const results: Float32Array[] = [];
    for (const immediates of [false, true]) {
      const { gpu, uniforms } = counting(context.gpu, immediates);
      results.push(await matmul(gpu, x, weights, { m, ...options }));
      // The quantizer of FP4 activations has buffers of its own.
      const own = options.activations?.toString().endsWith('fp4') ? 1 : 0;
      if (immediates) expect(uniforms()).toBe(own);
      else expect(uniforms()).toBeGreaterThan(own);
    }
    expect(results[0]!.some((value) => value !== 0)).toBe(true);
    expect(results[1]).toEqual(results[0]);
  });

  test('parts of k, added up', async () => {
    using weights = await uploadWeights(
      context.gpu,
      quantize(random.normals(40 * 2080), { rows: 40, cols: 2080, format: 'mxfp4' }),
    );
    const constants = { THREADS: 256, ROWS: 2, X_ROWS: 2, SLAB: 32, DEPTH: 1, SPLIT_K: 2 };
    const plan = planWith('gemv', constants, problemOf(weights, { m: 2 }), context.gpu.caps);
    const x = random.normals(2 * 2080);
    const results: Float32Array[] = [];
    for (const immediates of [false, true]) {
      const { gpu, uniforms } = counting(context.gpu, immediates);
      results.push(await matmul(gpu, x, weights, { m: 2, plan }));
      expect(uniforms()).toBe(immediates ? 0 : 1);
    }
    expect(results[0]!.some((value) => value !== 0)).toBe(true);
    expect(results[1]).toEqual(results[0]);
  });
});

test.skipIf(isLeft)('a tensor scale that only the GPU knows stays in a uniform buffer', async () => {
  const values = random.normals(16 * 64).map((value) => value * 100);
  const x = random.normals(2 * 64);
  const options = { rows: 16, cols: 64, format: 'nvfp4' } as const;
  const { gpu, uniforms } = counting(context.gpu, true);
  using quantized = await quantizeOnGpu(gpu, values, options);
  using there = await weightsFromQuantized(gpu, quantized);
  using here = await uploadWeights(gpu, quantize(values, options));
  const before = uniforms();
  const y = await matmul(gpu, x, there, { m: 2 });
  expect(uniforms()).toBe(before + 1);
  expect(y).toEqual(await matmul(gpu, x, here, { m: 2 }));
  expect(uniforms()).toBe(before + 1);
});

test.skipIf(isLeft)('products of different shapes take turns in a pass', async () => {
  const { gpu } = context;
  const shapes = [
    [3, 8],
    [1, 24],
    [3, 16],
  ] as const;
  const cases = await Promise.all(
    shapes.map(async ([m, n]) => {
      const q = quantize(random.normals(n * 64), { rows: n, cols: 64, format: 'nvfp4' });
      const x = random.normals(m * 64);
      const weights = await uploadWeights(gpu, q);
      return { m, n, x, weights, alone: await matmul(gpu, x, weights, { m }) };
    }),
  );
  const encoder = gpu.device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  const outputs: GPUBuffer[] = [];
  for (const { m, n, x, weights } of cases) {
    const gemm = await createGemm(gpu, { m, weights });
    const y = createStorageBuffer(gpu.device, 'y', 4 * m * n);
    gemm.encode(pass, { x: createStorageBuffer(gpu.device, 'x', x), y });
    outputs.push(y);
  }
  pass.end();
  gpu.device.queue.submit([encoder.finish()]);
  for (const [i, { alone, weights }] of cases.entries()) {
    expect(new Float32Array(await readBuffer(gpu.device, outputs[i]!))).toEqual(alone);
    weights.destroy();
  }
});

describe('the probe', () => {
  /** The device with some of its properties, and of its compute passes, replaced. */
  function replaced(device: object, pass: object): GPUDevice {
    const { device: original } = context.gpu;
    return standIn(original, {
      createCommandEncoder: (descriptor: GPUCommandEncoderDescriptor) => {
        const encoder = original.createCommandEncoder(descriptor);
        return standIn(encoder, {
          beginComputePass: (d: GPUComputePassDescriptor) => standIn(encoder.beginComputePass(d), pass),
        });
      },
      ...device,
    });
  }

  test('finds them on every software adapter', async () => {
    if (adapterId() !== 'system') expect((await context.gpu.probe()).immediates).toBe(true);
  });

  test.each([
    ['the limit is missing', { limits: {} }, {}],
    ['the limit is 0', { limits: { maxImmediateSize: 0 } }, {}],
    ['passes cannot set them', {}, { setImmediates: undefined }],
    ['they do not arrive', {}, { setImmediates: () => {} }],
  ] as const)('finds none where %s', async (_, device, pass) => {
    const { immediates } = await probeDevice(replaced(device, pass));
    expect(immediates).toBe(false);
  });
});
