import { expect, test } from 'vitest';

const expected = import.meta.env.FP4_ADAPTER;

test(`the browser's WebGPU is the one asked for: ${expected}`, async () => {
  const adapter = await navigator.gpu?.requestAdapter({ powerPreference: 'high-performance' });
  expect(adapter).toBeTruthy();
  const { vendor, architecture, isFallbackAdapter } = adapter!.info;
  const features = [...adapter!.features].sort();
  console.log(`${vendor} ${architecture}\n${features.join(' ')}\n${navigator.userAgent}`);
  if (expected === 'swiftshader') {
    expect(`${vendor} ${architecture}`).toBe('google swiftshader');
  } else {
    expect(isFallbackAdapter).toBe(false);
  }
  const device = await adapter!.requestDevice();
  device.destroy();
});
