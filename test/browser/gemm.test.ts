/** The library in a page: the same kernels, in the browser's own WebGPU. */
import { expect, test } from 'vitest';
import { describeReport, selfTest } from '../../src/gemm/selftest.js';
import { createGemm, gpuFromDevice, quantize, uploadWeights } from '../../src/index.js';
import { useGpu } from '../support/gpu.js';

const context = useGpu();

test('every kernel agrees with f64 on random problems', async () => {
  const report = await selfTest(context.gpu, { cases: 4, maxSize: 120, variants: 'first' });
  console.log(describeReport(report));
  expect(report.failures).toEqual([]);
  // gemv, gemm_tiled and gemm_dp4a, and gemm_dp4a_rows on the half whose x is not exact.
  expect(report.products).toBe(14);
}, 300_000);

test("the README's example runs on a device that the page owns", async () => {
  const adapter = await navigator.gpu.requestAdapter();
  const device = await adapter!.requestDevice();
  const [n, k] = [64, 128];
  const weights = new Float32Array(n * k).map((_, i) => Math.sin(i));
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
  const x = device.createBuffer({ size: 4 * k, usage });
  const y = device.createBuffer({ size: 4 * n, usage });
  device.queue.writeBuffer(x, 0, new Float32Array(k).fill(1));

  const gpu = gpuFromDevice(device);
  const q = quantize(weights, { rows: n, cols: k, format: 'mxfp4', macroScale: 'dynamic' });
  const w = await uploadWeights(gpu, q);
  const gemm = await createGemm(gpu, { m: 1, weights: w });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  gemm.encode(pass, { x, y });
  pass.end();
  device.queue.submit([encoder.finish()]);

  const staging = device.createBuffer({
    size: 4 * n,
    usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
  });
  const copy = device.createCommandEncoder();
  copy.copyBufferToBuffer(y, 0, staging, 0, 4 * n);
  device.queue.submit([copy.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  const result = new Float32Array(staging.getMappedRange());
  // Rows of a sine cancel to sums below 2; quantization noise of 128 terms is about 0.1 · sqrt(128 / 2).
  for (let row = 0; row < n; row++) {
    let sum = 0;
    for (let i = 0; i < k; i++) sum += weights[row * k + i]!;
    expect(Math.abs(result[row]! - sum)).toBeLessThan(3);
  }
  gemm.destroy();
  w.destroy();
  device.destroy();
});
