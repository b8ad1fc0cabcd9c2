import { expect, test } from 'vitest';
import { create, globals } from 'webgpu';

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
