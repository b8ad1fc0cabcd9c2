/** What is read back of a product that is tried out. */
import { expect, test } from 'vitest';
import { toF16 } from '../../src/formats/f16.js';
import { readSample } from '../../src/gemm/trial.js';
import { createStorageBuffer } from '../../src/gpu/buffers.js';
import { useGpu } from '../support/gpu.js';

const context = useGpu();

test.each(['f32', 'f16'] as const)('rows of an odd number of %s', async (type) => {
  const { device } = context.gpu;
  const n = 5;
  const values = Float32Array.from({ length: 3 * n }, (_, i) => i);
  const y = createStorageBuffer(device, 'y', type === 'f16' ? toF16(values) : values);
  const sample = await readSample(device, y, { n, y: type }, [1, 2], [0, 3, 4]);
  expect([...sample]).toEqual([5, 8, 9, 10, 13, 14]);
  y.destroy();
});
