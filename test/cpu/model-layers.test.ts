import { expect, test } from 'vitest';
import { layerShapes, MODEL_LAYERS } from '../../src/cli/model-layers.js';
import { resolveProblem, WEIGHT_FORMATS } from '../../src/gemm/problem.js';

const models = Object.keys(MODEL_LAYERS);

test.each([1, 3, 16, 1000])('scaled down by %i, every layer is a problem in every format', (scale) => {
  const shapes = layerShapes(models, scale);
  for (const { n, k } of shapes) {
    for (const format of Object.values(WEIGHT_FORMATS)) resolveProblem({ m: 1, n, k, ...format });
  }
  const all = models.flatMap((model) => MODEL_LAYERS[model]!.map(({ name }) => `${model} ${name}`));
  expect(shapes.flatMap(({ name }) => name.split('; ')).sort()).toEqual(all.sort());
  expect(new Set(shapes.map(({ n, k }) => `${n}x${k}`)).size).toBe(shapes.length);
});

test('layers of the same shape are listed once, under all their names', () => {
  expect(layerShapes(['llama-3.1-8b', 'qwen3-8b'])).toContainEqual({
    name: 'llama-3.1-8b q_proj; llama-3.1-8b o_proj; qwen3-8b q_proj; qwen3-8b o_proj',
    n: 4096,
    k: 4096,
  });
  expect(layerShapes(['gpt-oss-20b'], 10)).toContainEqual({
    name: 'gpt-oss-20b experts.down_proj',
    n: 288,
    k: 288,
  });
});

test('sizes that the models are known by', () => {
  const sizes = (model: string) => MODEL_LAYERS[model]!.map(({ n, k }) => `${n}x${k}`);
  expect(sizes('llama-3.1-8b')).toContain('14336x4096');
  expect(sizes('qwen3-8b')).toContain('4096x12288');
  expect(sizes('gpt-oss-20b')).toContain('5760x2880');
  expect(sizes('nemotron-nano-8b')).toEqual(sizes('llama-3.1-8b'));
  expect(sizes('nemotron-super-49b')).toContain('8192x28672');
  expect(sizes('nemotron-ultra-253b')).toContain('53248x16384');
});

test('the parameters of a model whose number of them is published', () => {
  const weights = Object.fromEntries(
    MODEL_LAYERS['nemotron-nano-4b']!.map(({ name, n, k }) => [name, n * k]),
  );
  const { q_proj: q, 'k_proj, v_proj': kv, o_proj: o, 'gate_proj, up_proj': up, down_proj: down } = weights;
  // 32 layers; embedding and head are two matrices of one size; norms, two a layer and one at the end, are vectors.
  const parameters = 32 * (q! + 2 * kv! + o! + 2 * up! + down! + 2 * 3072) + 2 * weights.lm_head! + 3072;
  expect((parameters / 1e9).toFixed(2)).toBe('4.51');
});

test('widths of pruned MLPs', () => {
  const widths = (model: string) =>
    MODEL_LAYERS[model]!.flatMap(({ name, width }) => (name.startsWith('gate') ? width! : []));
  expect(widths('nemotron-super-49b')).toEqual([2816, 5632, 7168, 14336, 17920, 28672]);
  expect(widths('nemotron-ultra-253b')).toEqual([5376, 10752, 16128, 21504, 26624, 32000, 37376, 53248]);
});
