/** Every tier with features masked off one by one: answers stay right, and the plan says what is missing. */
import { describe, expect, test } from 'vitest';
import { problemReference, worstError } from '../../src/gemm/reference.js';
import {
  type Caps,
  KERNELS,
  matmul,
  planGemm,
  planWith,
  problemOf,
  quantize,
  uploadWeights,
} from '../../src/index.js';
import { adapterId, useGpu } from '../support/gpu.js';
import { Random } from '../support/random.js';
import { withCaps } from '../support/with-caps.js';

const context = useGpu({ leftTo: 'lavapipe', what: 'plans without some features' });
const random = new Random(6);
const thorough = adapterId() !== 'swiftshader';

const without =
  (...lost: string[]) =>
  (caps: Caps): Caps => ({ ...caps, tiers: caps.tiers.filter((tier) => !lost.includes(tier)) });
const limited =
  (limits: Partial<Caps['limits']>) =>
  (caps: Caps): Caps => ({ ...caps, limits: { ...caps.limits, ...limits } });

const MASKS: Readonly<Record<string, (caps: Caps) => Caps>> = {
  nothing: (caps) => caps,
  'matrix-f16': without('matrix-f16'),
  'matrix-i8': without('matrix-i8'),
  f16: without('f16', 'f16-products', 'matrix-f16'),
  'f16-products': without('f16-products', 'matrix-f16'),
  subgroups: without('subgroups', 'matrix-f16', 'matrix-i8'),
  dp4a: without('dp4a'),
  'all but the base': without('subgroups', 'dp4a', 'f16', 'f16-products', 'matrix-f16', 'matrix-i8'),
  'larger bindings': limited({ maxStorageBufferBindingSize: 2 ** 27, maxBufferSize: 2 ** 28 }),
  'more workgroup memory': limited({ maxComputeWorkgroupStorageSize: 16384 }),
  'more invocations': limited({
    maxComputeInvocationsPerWorkgroup: 256,
    maxComputeWorkgroupSizeX: 256,
    maxComputeWorkgroupSizeY: 256,
  }),
};

describe.each(Object.entries(MASKS))('without %s', (name, mask) => {
  test.each([
    ['float', 1],
    ['float', 6],
    ['float', 70],
    ['float', 300],
    ['int8', 40],
    ['mxfp4', 2],
    ['mxfp4', 40],
    ['nvfp4', 9],
  ] as const)('%s activations, m = %i', async (activations, m) => {
    const gpu = withCaps(context.gpu, mask);
    const [n, k] = [thorough ? 70 : 20, 96];
    const q = quantize(random.normals(n * k), { rows: n, cols: k, format: 'mxfp4', macroScale: 'static' });
    const x = random.normals(m * k);
    using weights = await uploadWeights(gpu, q);
    const problem = problemOf(weights, { m, activations });
    const caps = await gpu.usableCaps();
    // What a layer of a model would get: small problems like this one are left to gemv.
    const { kernel, constants } = planGemm({ ...problem, n: 4096, k: 4096 }, caps);
    const plan = planWith(kernel, constants, problem, caps);
    for (const tier of KERNELS[plan.kernel].tiers) expect(caps.tiers).toContain(tier);
    expect(KERNELS[plan.kernel].threads(plan.constants)).toBeLessThanOrEqual(
      caps.limits.maxComputeInvocationsPerWorkgroup,
    );
    const y = await matmul(gpu, x, weights, { m, activations, plan });
    const reference = problemReference(x, q, problem);
    const errors = KERNELS[plan.kernel].errors(plan.constants, problem);
    expect(worstError(y, reference, errors), plan.label).toBeLessThanOrEqual(1);
  });

  test('the plan names what would have been better', async () => {
    const full = await context.gpu.usableCaps();
    const problem = { m: 70, n: 4096, k: 4096, format: 'mxfp4' } as const;
    const [before, after] = [planGemm(problem, full), planGemm(problem, mask(full))];
    if (before.kernel !== after.kernel && full.tiers.some((tier) => !mask(full).tiers.includes(tier))) {
      expect(after.reason).toContain(`${before.kernel} cannot: the device lacks`);
    }
    expect(name).toBeTruthy();
  });
});
