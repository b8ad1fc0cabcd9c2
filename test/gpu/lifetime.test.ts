/** What happens when a device goes away, and that nothing is left behind when it stays. */
import { afterAll, describe, expect, test } from 'vitest';
import { createStorageBuffer, readBuffer } from '../../src/gpu/buffers.js';
import { getPipeline } from '../../src/gpu/pipeline.js';
import { composeShader } from '../../src/gpu/shader.js';
import { time } from '../../src/gpu/timer.js';
import {
  createGemm,
  DeviceLostError,
  type Gpu,
  matmul,
  planWith,
  problemOf,
  quantize,
  quantizeOnGpu,
  uploadWeights,
  weightsFromQuantized,
} from '../../src/index.js';
import { openGpu, useGpu } from '../support/gpu.js';
import { Random } from '../support/random.js';
import { watchBuffers } from '../support/stand-in.js';

const context = useGpu({ leftTo: 'lavapipe', what: 'what is left behind', narrow: true });
const random = new Random(12);
const q = quantize(random.normals(64 * 96), { rows: 64, cols: 96, format: 'nvfp4' });
const shader = (label: string) =>
  composeShader({
    label,
    constants: { UNIQUE: Math.floor(random.normals(1)[0]! ** 2 * 1e6) },
    modules: [
      {
        name: 'test.wgsl',
        source:
          '@group(0) @binding(0) var<storage, read_write> out: array<u32>;\n' +
          '@compute @workgroup_size(1) fn main() { out[0] = UNIQUE; }\n',
      },
    ],
  });

const withoutTimestamps = (gpu: Gpu) =>
  Object.create(gpu, { caps: { value: { ...gpu.caps, timestampQuery: false } } }) as Gpu;

describe('a device that is lost', () => {
  const opened: Gpu[] = [];
  /** A device of the test's own. */
  const open = async () => {
    opened.push(await openGpu());
    return opened.at(-1)!;
  };
  afterAll(() => {
    for (const gpu of opened) gpu.destroy();
  });

  test.each([
    ['uploading, packed on the CPU', (gpu: Gpu) => uploadWeights(gpu, q, { packOn: 'cpu' })],
    ['uploading, packed on the GPU', (gpu: Gpu) => uploadWeights(gpu, q, { packOn: 'gpu' })],
    ['reading a buffer', (gpu: Gpu) => readBuffer(gpu.device, createStorageBuffer(gpu.device, 'x', 256))],
    ['measuring', (gpu: Gpu) => time(gpu, () => {}, { warmUpSeconds: 60 })],
    [
      'measuring by the wall clock',
      (gpu: Gpu) => time(withoutTimestamps(gpu), () => {}, { warmUpSeconds: 60 }),
    ],
    ['compiling', (gpu: Gpu) => getPipeline(gpu.device, shader('unused'))],
    [
      'multiplying',
      async (gpu: Gpu) => {
        const weights = await uploadWeights(gpu, q);
        const pending = matmul(gpu, new Float32Array(96), weights, { m: 1 });
        gpu.device.destroy();
        return pending;
      },
    ],
    [
      'taking over a quantized matrix',
      async (gpu: Gpu) => {
        const quantized = await quantizeOnGpu(gpu, new Float32Array(32 * 32).fill(1), {
          rows: 32,
          cols: 32,
          format: 'mxfp4',
        });
        const pending = weightsFromQuantized(gpu, quantized);
        gpu.device.destroy();
        return pending;
      },
    ],
  ] as const)('while %s: a typed error that says what to do', async (_, work) => {
    const gpu = await open();
    const pending = work(gpu);
    if (!/^(multiplying|taking)/.test(_)) gpu.device.destroy();
    const error: unknown = await pending.then(
      () => undefined,
      (cause: unknown) => cause,
    );
    expect(error).toBeInstanceOf(DeviceLostError);
    expect(String(error)).toMatch(/device was lost.*request a new device and rebuild.*QuantizedMatrix/);
  });

  test('everything comes back on a new one', async () => {
    const x = random.normals(3 * 96);
    const results: Float32Array[] = [];
    for (let i = 0; i < 2; i++) {
      const gpu = await open();
      const weights = await uploadWeights(gpu, q);
      results.push(await matmul(gpu, x, weights, { m: 3 }));
      gpu.device.destroy();
      await gpu.device.lost;
      await expect(matmul(gpu, x, weights, { m: 3 })).rejects.toThrow(DeviceLostError);
      weights.destroy();
    }
    expect(results[0]!.some((value) => value !== 0)).toBe(true);
    expect(results[1]).toEqual(results[0]);
  });
});

test('ten thousand Gemms leave nothing behind', async () => {
  const { gpu } = context;
  const live = new Set<GPUBuffer>();
  let created = 0;
  const counted = watchBuffers(gpu, (buffer) => {
    const destroy = buffer.destroy.bind(buffer);
    buffer.destroy = () => {
      live.delete(buffer);
      return destroy();
    };
    live.add(buffer);
    created++;
  });
  const { device } = counted;
  const rotated = quantize(random.normals(8 * 2080), {
    rows: 8,
    cols: 2080,
    format: 'mxfp4',
    hadamard: true,
  });
  const weights = await uploadWeights(counted, rotated);
  const constants = { THREADS: 256, ROWS: 2, X_ROWS: 2, SLAB: 32, DEPTH: 1, SPLIT_K: 2 };
  const plan = planWith('gemv', constants, problemOf(weights, { m: 2 }), gpu.caps);
  const x = createStorageBuffer(device, 'x', random.normals(2 * 2080));
  const y = createStorageBuffer(device, 'y', 2 * 8 * 4);
  // The first one finds out what the device's arithmetic does.
  (await createGemm(counted, { m: 2, weights, plan })).destroy();
  const before = live.size;
  const first = created;

  for (let i = 0; i < 10_000; i++) {
    const gemm = await createGemm(counted, { m: 2, weights, plan });
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    gemm.encode(pass, { x, y });
    pass.end();
    const commands = encoder.finish();
    // Running a part of them is enough to see that buffers in use are given back, too.
    if (i % 100 === 0) {
      device.queue.submit([commands]);
      await device.queue.onSubmittedWorkDone();
    }
    gemm.destroy();
    gemm.destroy();
  }
  // Rotated x and parts of k each, and without immediates two uniforms: no one else held the scratch buffers, so none of
  // them was shared.
  expect(created - first).toBe((await gpu.uniformSource()) === 'immediates' ? 20_000 : 40_000);
  expect(live.size).toBe(before);
  weights.destroy();
  for (const buffer of [x, y]) buffer.destroy();
  expect([...live].map(({ label }) => label)).toEqual([]);
});
