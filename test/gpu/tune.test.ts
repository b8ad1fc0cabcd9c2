import { expect, test } from 'vitest';
import { problemLabel, resolveProblem } from '../../src/gemm/problem.js';
import {
  createGemm,
  type GemmProblemOptions,
  KERNELS,
  problemOf,
  quantize,
  tuneGemm,
  tuneKey,
  UnsupportedError,
  uploadWeights,
} from '../../src/index.js';
import { adapterId, useGpu } from '../support/gpu.js';
import { watchShaders } from '../support/stand-in.js';

const context = useGpu({ leftTo: 'lavapipe', what: 'tuning', narrow: true });
// Kernels on f16 matrices take a software adapter minutes to compile in all variants; precision leaves them out there.
const precision = adapterId() === 'lavapipe' ? 'f32' : 'f16';
const problem: GemmProblemOptions = {
  m: 2,
  n: 40,
  k: 96,
  format: 'mxfp4',
  blockSize: 32,
  macroSize: 64,
  x: 'f32',
  y: 'f32',
  bias: true,
  precision,
};
const timer = { samples: 3, sampleSeconds: 0.001, warmUpSeconds: 0 };

test('returns the fastest of the candidates it measured, with the reason', async () => {
  const seen: [string, number | undefined][] = [];
  const plan = await tuneGemm(context.gpu, problem, {
    timer,
    onProgress: ({ label }, seconds) => void seen.push([label, seconds]),
  });
  expect(seen.length).toBeGreaterThan(2);
  for (const [label, seconds] of seen) expect(seconds, label).toBeGreaterThan(0);
  const best = seen.toSorted((a, b) => a[1]! - b[1]!)[0]!;
  expect(plan.label).toBe(best[0]);
  expect(plan.reason).toMatch(/^measured: .* µs, the fastest of \d+, [\d.]+ times as fast as /);
  expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
});

test('keeps measurements one by one, and goes on where it was interrupted', async () => {
  const storage = new Map<string, string>();
  const abort = new AbortController();
  let measured = 0;
  const first = tuneGemm(context.gpu, problem, {
    storage,
    timer,
    signal: abort.signal,
    onProgress: () => {
      if (++measured === 2) abort.abort(new Error('enough for today'));
    },
  });
  await expect(first).rejects.toThrow('enough for today');
  const kept = JSON.parse(storage.get(tuneKey(context.gpu, problem))!);
  expect(Object.keys(kept).length).toBe(2);

  const plan = await tuneGemm(context.gpu, problem, { storage, timer });
  const all = JSON.parse(storage.get(tuneKey(context.gpu, problem))!);
  expect(all).toMatchObject(kept);
  expect(all[plan.label]).toBe(Math.min(...(Object.values(all) as number[])));

  // Everything is known now: nothing is measured again, and what was stored decides.
  const [other] = Object.keys(all).filter((label) => label !== plan.label);
  storage.set(tuneKey(context.gpu, problem), JSON.stringify({ ...all, [other!]: 1e-12 }));
  const started = performance.now();
  expect((await tuneGemm(context.gpu, problem, { storage, timer })).label).toBe(other);
  expect(performance.now() - started).toBeLessThan(50);
});

test('measures again where the storage holds something else', async () => {
  const storage = new Map([[tuneKey(context.gpu, problem), '{"gemv": "fast"']]);
  await tuneGemm(context.gpu, problem, { storage, timer });
  expect(Object.values(JSON.parse(storage.get(tuneKey(context.gpu, problem))!)).every(Number.isFinite)).toBe(
    true,
  );
});

test('leaves out a kernel that is wrong, and says so where none is left', async () => {
  // Every kernel's result is compared with f64 first; a bound that nothing meets makes them all wrong.
  const originals = Object.values(KERNELS).map((kernel) => kernel.errors);
  const kernels = Object.values(KERNELS) as { errors: (typeof originals)[number] }[];
  for (const kernel of kernels) kernel.errors = () => ({ roundings: -3 });
  try {
    await expect(tuneGemm(context.gpu, problem, { timer })).rejects.toThrow(UnsupportedError);
  } finally {
    kernels.forEach((kernel, i) => {
      kernel.errors = originals[i]!;
    });
  }
});

test('measures products in the types of the problem', async () => {
  const { gpu } = context;
  const y = gpu.caps.tiers.includes('f16') ? 'f16' : 'f32';
  const { gpu: watched, shaders } = watchShaders(gpu);
  const types = { x: 'f16', y, bias: true, accumulate: true, precision } as const;
  const own: GemmProblemOptions = { m: 2, n: 41, k: 64, format: 'nvfp4', ...types };
  const seen: [string, number | undefined][] = [];
  const plan = await tuneGemm(watched, own, {
    timer,
    onProgress: ({ label }, seconds) => void seen.push([label, seconds]),
  });
  expect(seen.length).toBeGreaterThan(2);
  for (const [label, seconds] of seen) {
    expect(seconds, label).toBeGreaterThan(0);
    // Parts of k end in scratch memory, and the reduction has the type of y.
    expect(shaders).toContain(label);
  }
  expect(plan.label).toContain(`.${problemLabel(resolveProblem(own))}.`);
});

test('its plan is what createGemm takes', async () => {
  const { gpu } = context;
  const [rows, cols] = [40, 96];
  const values = Float32Array.from({ length: rows * cols }, (_, i) => Math.sin(i));
  using weights = await uploadWeights(gpu, quantize(values, { rows, cols, format: 'nvfp4' }));
  const plan = await tuneGemm(gpu, problemOf(weights, { m: 3, precision }), { timer });
  using gemm = await createGemm(gpu, { m: 3, weights, plan });
  expect(gemm.plan).toEqual(plan);
});
