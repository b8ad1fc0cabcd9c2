import { expect, test } from 'vitest';
import { create, globals } from 'webgpu';
import { createGemm, quantize, uploadWeights } from '../../src/index.js';
import { openGpu } from '../support/gpu.js';

// Set by scripts/test.mjs, which starts this file once on each adapter that the machine has.
const expected = process.env.FP4_ADAPTER;

test.skipIf(!expected)(`Dawn runs on the adapter asked for: ${expected}`, async () => {
  Object.assign(globalThis, globals);
  const gpu = create(['enable-dawn-features=allow_unsafe_apis']);
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  expect(adapter).not.toBeNull();
  const { vendor, architecture, device, description } = adapter!.info;
  const features = new Set<string>(adapter!.features);
  console.log(`${vendor} ${architecture}: ${device} (${description})\n${[...features].sort().join(' ')}`);

  if (expected === 'swiftshader') {
    expect(architecture).toBe('swiftshader');
    expect(features).toContain('subgroups');
    // Its lack of f16 is why this adapter is tested: it stands for the baseline devices.
    expect(features).not.toContain('shader-f16');
  } else if (expected === 'lavapipe') {
    expect(device).toContain('llvmpipe');
    for (const feature of ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix']) {
      expect(features).toContain(feature);
    }
  } else {
    expect(adapter!.info.isFallbackAdapter).toBe(false);
  }

  const deviceObject = await adapter!.requestDevice();
  deviceObject.destroy();
});

test.skipIf(expected !== 'swiftshader')('y in f16 is refused where the device lacks it', async () => {
  const gpu = await openGpu();
  const values = Float32Array.from({ length: 32 }, (_, i) => i);
  using weights = await uploadWeights(gpu, quantize(values, { rows: 1, cols: 32, format: 'mxfp4' }));
  await expect(createGemm(gpu, { m: 1, weights, y: 'f16' })).rejects.toThrow(/lacks f16/);
  await expect(createGemm(gpu, { m: 1, weights, x: 'f16', y: 'f16' })).rejects.toThrow(/lacks f16/);
  gpu.destroy();
});
