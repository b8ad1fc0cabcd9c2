/** What is compiled ahead is what products need. */
import { beforeEach, expect, test } from 'vitest';
import {
  createGemm,
  type GemmProblemOptions,
  type Gpu,
  type GpuWeights,
  InvalidArgumentError,
  planWith,
  problemOf,
  quantize,
  ShaderError,
  uploadWeights,
  warmUp,
} from '../../src/index.js';
import { useGpu } from '../support/gpu.js';
import { Random } from '../support/random.js';
import { watchShaders, withDevice } from '../support/stand-in.js';

const context = useGpu({ leftTo: 'lavapipe', what: 'compiling ahead' });
const random = new Random(77);
const [rows, cols] = [24, 64];
const values = random.normals(rows * cols);

let gpu: Gpu;
let shaders: string[];
beforeEach(() => {
  ({ gpu, shaders } = watchShaders(context.gpu));
});

/** How many shaders a product compiles. */
async function compiledFor(weights: GpuWeights, options: Omit<Parameters<typeof createGemm>[1], 'weights'>) {
  const before = shaders.length;
  (await createGemm(gpu, { ...options, weights })).destroy();
  return shaders.length - before;
}

test('createGemm finds all that a product needs: the kernel, what adds up parts of k, what becomes of x', async () => {
  using weights = await uploadWeights(gpu, quantize(values, { rows, cols, format: 'mxfp4', hadamard: true }));
  const options = [
    { m: 1 },
    { m: 40, activations: 'int8', bias: true },
    { m: 3, activations: 'nvfp4', accumulate: true },
  ] as const;
  const done: string[] = [];
  const problems = options.map((o) => problemOf(weights, o));
  // Rotations are the weights' and not the problem's: what they take is compiled here, and not ahead.
  for (const { m } of options) await compiledFor(weights, { m });
  const before = shaders.length;
  await warmUp(gpu, problems, { onProgress: (n, total) => void done.push(`${n} of ${total}`) });
  expect(done).toEqual(['1 of 3', '2 of 3', '3 of 3']);
  expect(shaders.length).toBeGreaterThanOrEqual(before + 2);
  for (const o of options) expect(await compiledFor(weights, o), JSON.stringify(o)).toBe(0);
});

test('a kernel of several problems is compiled once', async () => {
  const problem: GemmProblemOptions = { m: 1, n: rows, k: cols, format: 'nvfp4' };
  await warmUp(gpu, [problem]);
  const once = shaders.length;
  expect(once).toBeGreaterThanOrEqual(1);
  await warmUp(gpu, [problem, { ...problem, n: 3 * rows }, problem]);
  expect(shaders.length).toBe(once);
});

test('a plan that is given with its problem is compiled in place of the one that planGemm makes', async () => {
  using weights = await uploadWeights(gpu, quantize(values, { rows, cols, format: 'nvfp4' }));
  const problem = problemOf(weights, { m: 2 });
  const constants = { THREADS: 256, ROWS: 2, X_ROWS: 2, SLAB: 32, DEPTH: 1, SPLIT_K: 2 };
  const plan = planWith('gemv', constants, problem, gpu.caps);
  // As it comes from a file.
  const stored = JSON.parse(JSON.stringify({ ...problem, plan })) as GemmProblemOptions;
  await warmUp(gpu, [stored]);
  expect(shaders).toContain(plan.label);
  expect(await compiledFor(weights, { m: 2, plan })).toBe(0);
  expect(await compiledFor(weights, { m: 2 })).toBeGreaterThan(0);
});

test('refuses a problem that no kernel can compute before it compiles anything', async () => {
  const good: GemmProblemOptions = { m: 1, n: rows, k: cols, format: 'mxfp4' };
  const pending = warmUp(gpu, [good, { ...good, k: cols + 1 }]);
  await expect(pending).rejects.toThrow(InvalidArgumentError);
  expect(shaders).toEqual([]);
});

test('names the kernel that does not compile', async () => {
  const { device } = context.gpu;
  const broken = withDevice(context.gpu, {
    createShaderModule: ({ code, ...rest }) => device.createShaderModule({ ...rest, code: `${code}\nfn` }),
  });
  const pending = warmUp(broken, [{ m: 1, n: rows, k: cols, format: 'mxfp4' }]);
  await expect(pending).rejects.toThrow(ShaderError);
  await expect(pending).rejects.toThrow(/^shader: gemv\S*\.mxfp4\.f32\.\S+ does not compile/);
});
