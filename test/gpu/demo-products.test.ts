/** The products of the demo page, also where there is f16, which browsers here have not. */
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { Layer } from '../../demo/products.js';
import { RECIPES } from '../../demo/recipes.js';
import { UnsupportedError } from '../../src/index.js';
import { useGpu } from '../support/gpu.js';
import { rejection } from '../support/rejection.js';

const context = useGpu();
const recipe = (id: string) => RECIPES.find((one) => one.id === id)!;
const [M, N, K] = [4, 36, 64];
const options = { m: M, x: 'float', epilogue: true } as const;

let layer: Layer | undefined;
beforeAll(async () => {
  layer = await Layer.create(context.gpu, [M, M], N, K);
});
afterAll(() => layer?.destroy());

test('MXFP4 is right, with bias and y += as well; one that adds to something else is found', async () => {
  const product = await layer!.prepare(recipe('mxfp4'), options);
  const { errorOfBound, values } = await product.check();
  expect(errorOfBound).toBeLessThanOrEqual(1);
  expect(values).toBe(2 * M * N);
  // What y holds before is lost on its way.
  const lost = vi.spyOn(context.gpu.device.queue, 'writeBuffer').mockImplementation(() => undefined);
  expect((await product.check()).errorOfBound).toBeGreaterThan(1);
  expect(lost).toHaveBeenCalledTimes(M);
  lost.mockRestore();
  product.destroy();
});

test.each(['f16', 'f32'] as const)(
  'plain %s is right, or refused where the device lacks it',
  async (type) => {
    const work = layer!.prepare(recipe(type), options);
    if (type === 'f16' && !context.gpu.caps.tiers.includes('f16')) {
      const error = await rejection(work);
      expect(error).toBeInstanceOf(UnsupportedError);
      expect(error.message).toContain('lacks f16');
      return;
    }
    const product = await work;
    expect((await product.check()).errorOfBound).toBeLessThanOrEqual(1);
    expect(product.withEpilogue).toBeUndefined();
    expect(product.bytes).toBe((N + M) * K * (type === 'f16' ? 2 : 4) + M * N * 4);
    product.destroy();
  },
);
