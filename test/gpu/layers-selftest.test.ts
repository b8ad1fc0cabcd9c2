/** The check of models' layers, scaled down. */
import { expect, test } from 'vitest';
import { layerShapes, MODEL_LAYERS } from '../../src/cli/model-layers.js';
import { describeLayerReport, LAYER_FORMATS, layersSelfTest } from '../../src/gemm/layers-selftest.js';
import { type Gpu, UnsupportedError } from '../../src/index.js';
import { adapterId, useGpu } from '../support/gpu.js';
import { tampered } from '../support/stand-in.js';

const context = useGpu({ leftTo: 'lavapipe', what: 'the check of layers' });
// Software adapters compile each kernel for seconds, once for each format and k.
const software = ['swiftshader', 'lavapipe'].includes(adapterId() ?? '');
const nvfp4 = ['nvfp4'];
const small = [{ name: 'small', n: 44, k: 96 }];

test('kernels agree with f64 on the layers of models', async () => {
  const every = layerShapes(software ? ['gpt-oss-20b'] : Object.keys(MODEL_LAYERS), 32).filter(
    ({ n, k }) => n < 2000 && k < 2000,
  );
  const layers = adapterId() === 'lavapipe' ? every.slice(0, 1) : every;
  const formats = software ? nvfp4 : LAYER_FORMATS;
  const report = await layersSelfTest(context.gpu, { layers, formats, m: [3, 40], plans: 'first' });
  expect(report.complete).toBe(true);
  expect(report.layers.length).toBe(layers.length * formats.length);
  for (const layer of report.layers) {
    const what = describeLayerReport(layer);
    expect(layer.failures, what).toEqual([]);
    // gemv, gemm_tiled and, with three kinds of activations, gemm_dp4a, each for both m.
    expect(layer.products, what).toBeGreaterThanOrEqual(2 * 5);
    expect(layer.worst, what).toBeGreaterThan(0.005);
    expect(layer.worst, what).toBeLessThanOrEqual(1);
  }
});

test('leaves other kernels and plans out when asked to', async () => {
  const options = { layers: small, formats: nvfp4, m: [3], plans: 'planned' } as const;
  const planned = await layersSelfTest(context.gpu, options);
  expect(planned.products).toBeGreaterThanOrEqual(1);
  const gemv = await layersSelfTest(context.gpu, { ...options, plans: 'first', kernels: ['gemv'] });
  expect(gemv.layers[0]).toMatchObject({ products: 1, kernels: 1, failures: [] });
  expect(gemv.layers[0]!.worstPlan).toMatch(/^m 3: gemv\.nvfp4/);
});

test('finds a product that is wrong in one element', async () => {
  const report = await layersSelfTest(tampered(context.gpu), {
    layers: small,
    formats: nvfp4,
    m: [3],
    plans: 'first',
  });
  const [layer] = report.layers;
  expect(layer!.products).toBeGreaterThan(0);
  // A bound for int8 may let such an error pass.
  const float = layer!.failures.filter((failure) => !failure.includes('.xint8.'));
  expect(float.length).toBeGreaterThanOrEqual(4);
  expect(layer!.worst).toBeGreaterThan(1);
  expect(describeLayerReport(layer!)).toMatch(/44 × 96 nvfp4 \(small\).* wrong\n {2}m 3: gemv\.nvfp4/);
});

test('a kernel that does not run is a failure', async () => {
  const broken = Object.create(context.gpu, {
    uniformSource: { value: () => Promise.reject(new UnsupportedError('gpu', 'out of order')) },
  }) as Gpu;
  const { layers } = await layersSelfTest(broken, { layers: small, formats: nvfp4, m: [1], plans: 'first' });
  expect(layers[0]).toMatchObject({ products: 0, kernels: 0 });
  expect(layers[0]!.failures.length).toBeGreaterThanOrEqual(5);
  expect(layers[0]!.failures[0]).toContain('out of order');
});

test('stops when its time is up, and says so', async () => {
  const report = await layersSelfTest(context.gpu, { layers: small, seconds: 0 });
  expect(report).toEqual({ layers: [], products: 0, failures: 0, complete: false });
});
