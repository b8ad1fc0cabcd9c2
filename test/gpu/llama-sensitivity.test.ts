/** Sensitivity of a language model on the GPU: mixed models, counted inputs, and the command. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { WatchedLlama } from '../../demo/lm/input-statistics.js';
import { createLlama, HEAD, type SharedWeights, uploadShared } from '../../demo/lm/llama.js';
import { mixLlamas } from '../../demo/lm/mix.js';
import { type LlamaFolder, openLlamaFolder } from '../../demo/lm/node.js';
import { perplexity } from '../../demo/lm/perplexity.js';
import { type FormatSensitivity, sensitivityOfModel } from '../../src/cli/sensitivity.js';
import { ActivationStatistics, type SubjectKind } from '../../src/index.js';
import { adapterId, useGpu } from '../support/gpu.js';
import { type LlamaF64, loadLlamaF64, quantizedLinear } from '../support/llama-f64.js';
import { randomTokens, TINY, writeTinyLlama } from '../support/tiny-llama.js';

const suite = useGpu({ leftTo: 'lavapipe', what: 'the sensitivity of a language model', narrow: true });
/** It takes minutes to compile the kernels that models of several formats need. */
const isSlow = adapterId() === 'swiftshader';
const [LENGTH, SEQUENCES] = [24, 3];
const tokens = randomTokens(TINY.vocabulary, LENGTH * SEQUENCES, 5);
const sequences = Array.from({ length: SEQUENCES }, (_, i) => tokens.subarray(i * LENGTH, (i + 1) * LENGTH));
const how = { sequenceLength: LENGTH };

let folder: string;
let model: string;
let source: LlamaFolder;
let f64: LlamaF64;
let shared: SharedWeights;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fp4-llama-sensitivity-'));
  model = join(folder, 'model');
  await writeTinyLlama(model, TINY);
  source = await openLlamaFolder(model);
  f64 = await loadLlamaF64(model);
});
afterAll(async () => {
  shared?.destroy();
  await source[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

const shareWeights = async () => {
  shared ??= await uploadShared(suite.gpu, source);
  return shared;
};

test('inputs are counted as a pass in f64 has them, and the model computes the same', async () => {
  const shared = await shareWeights();
  using llama = await createLlama(suite.gpu, source, { shared, precision: 'f32' });
  using watched = new WatchedLlama(llama, shared);
  const plain = await perplexity(llama, tokens, how);
  // In two batches, the second one shorter: counts add up.
  const counted = await perplexity(watched.llama, tokens, { ...how, batch: 2 });
  expect(Math.abs(counted.loss - plain.loss)).toBeLessThan(1e-5);

  const expected = new Map<string, ActivationStatistics>();
  f64.nlls(sequences, {
    onLinearInput(name, x, m) {
      if (name === HEAD) return;
      const statistics = new ActivationStatistics(x.length / m);
      statistics.add(x);
      expected.set(name, statistics);
    },
  });
  const found = await watched.read();
  expect([...found.keys()]).toEqual([...expected.keys()]);
  for (const [name, statistics] of expected) {
    const [a, b] = [found.get(name)!, statistics.summary()];
    expect(a.values).toBe(b.values);
    // f32 sums of up to 96 products, a few of them one after another; bins are 2^-10 wide.
    for (const key of ['max', 'mean', 'p999'] as const) {
      expect(Math.abs(a[key] / b[key] - 1), `${name} ${key}`).toBeLessThan(key === 'max' ? 1e-4 : 2 ** -9);
    }
  }
});

test.skipIf(isSlow)('a mixed model is bit for bit the one that was made with those layers kept', async () => {
  const shared = await shareWeights();
  const format = { weights: { format: 'mxfp4' }, activations: 'mxfp4', precision: 'f32', shared } as const;
  using quantized = await createLlama(suite.gpu, source, format);
  using float = await createLlama(suite.gpu, source, { shared, precision: 'f32' });
  const kept = /layers\.0\..*(v|up)_proj|layers\.1\.self_attn/;
  const mixed = mixLlamas(quantized, float, shared, (name) => kept.test(name));
  const result = await perplexity(mixed, tokens, how);
  const patterns = ['*.0.*.v_proj', '*.0.*.up_proj', '*.1.self_attn.*'];
  using made = await createLlama(suite.gpu, source, { ...format, keep: patterns });
  expect(result.lossPerSequence).toEqual((await perplexity(made, tokens, how)).lossPerSequence);

  const linear = quantizedLinear(f64, {
    weights: { format: 'mxfp4' },
    activations: { format: 'mxfp4' },
    keep: (name) => kept.test(name),
  });
  const nlls = f64.nlls(sequences, { linear });
  const loss = nlls.reduce((sum, nll) => sum + nll.reduce((a, b) => a + b, 0) / nll.length, 0) / SEQUENCES;
  // Codes of x flip where f32 sums land on the other side of a midpoint: far less than keeping the layers does.
  const all = await perplexity(quantized, tokens, how);
  expect(Math.abs(result.loss - loss)).toBeLessThan(Math.abs(all.loss - loss) / 4);
  // What it is made of is still there.
  mixed.destroy();
  expect((await perplexity(quantized, tokens, how)).loss).toBe(all.loss);
});

test.skipIf(isSlow)('what is recommended is evaluated together', { timeout: 120_000 }, async () => {
  const file = join(folder, 'more-tokens.u16');
  const more = randomTokens(TINY.vocabulary, LENGTH * 16, 5);
  await writeFile(file, Uint16Array.from(more));
  const kinds: SubjectKind[] = ['cell'];
  const options = { tokens: file, length: LENGTH, kinds, formats: ['mxfp4:floor'], activations: 'same' };
  const { summary } = await sensitivityOfModel(model, { ...options, budget: 9 });
  const [{ recommendation, report }] = summary.formats as [FormatSensitivity];
  const { keep, loss, bitsPerWeight } = recommendation!;
  expect(bitsPerWeight).toBeLessThanOrEqual(9);
  // Nearly three standard errors.
  expect(keep).toContain('model.layers.1.mlp.up_proj.weight');
  for (const { layers, improvement, standardError } of report.cells) {
    if (keep.includes(layers[0]!)) expect(improvement).toBeGreaterThan(2 * standardError!);
  }
  const shared = await shareWeights();
  using made = await createLlama(suite.gpu, source, {
    weights: { format: 'mxfp4', scaleRule: 'floor' },
    activations: { kind: 'mxfp4', scaleRule: 'floor' },
    precision: 'f32',
    shared,
    keep,
  });
  const { perplexity: expected } = await perplexity(made, more, how);
  // Another device of the same adapter may take other kernels: far less than what FP4 costs.
  const cost = Math.log(report.baseline / report.reference!);
  expect(Math.abs(Math.log(loss! / expected))).toBeLessThan(cost / 20);
});

test.skipIf(isSlow)(
  'the command: as the parts of it, resumed after an interruption',
  { timeout: 240_000 },
  async () => {
    const file = join(folder, 'tokens.u16');
    await writeFile(file, Uint16Array.from(tokens));
    const options = {
      tokens: file,
      length: LENGTH,
      formats: ['mxfp4', 'nvfp4'],
      activations: 'same',
      kinds: ['component'] as SubjectKind[],
    };
    const { summary } = await sensitivityOfModel(model, options);
    expect(summary.formats.map(({ format }) => format)).toEqual([
      'mxfp4:oas:b32/mxfp4:oas:b32',
      'nvfp4:te/nvfp4:te',
    ]);
    const [{ bitsPerWeight, report }] = summary.formats as [FormatSensitivity];
    expect(bitsPerWeight).toBe(4.25);
    const components = report.components.map(({ component }) => component);
    expect(components).toEqual(['q', 'k', 'v', 'o', 'gate', 'up', 'down']);
    expect(summary.inputs!.map(({ layers }) => layers)).toEqual(new Array(7).fill(2));

    const shared = await shareWeights();
    const format = { weights: { format: 'mxfp4' }, activations: 'mxfp4', precision: 'f32', shared } as const;
    using made = await createLlama(suite.gpu, source, { ...format, keep: ['*.v_proj'] });
    // Another device of the same adapter may take other kernels.
    expect(
      Math.abs(report.components[2]!.value / (await perplexity(made, tokens, how)).perplexity - 1),
    ).toBeLessThan(1e-3);
    expect(report.components[2]!.standardError).toBeGreaterThan(0);

    // Ended in the middle of the first format.
    const resume = join(folder, 'resume.json');
    const stop = new AbortController();
    const seen = new Set<string>();
    const onProgress = (done: number, name: string) => {
      expect(done).toBeLessThanOrEqual(2 * 9 * SEQUENCES);
      if (seen.add(name).size === 5) stop.abort(new Error('enough'));
    };
    const interrupted = sensitivityOfModel(
      model,
      { ...options, resume },
      { signal: stop.signal, onProgress },
    );
    await expect(interrupted).rejects.toThrow('enough');
    const again: string[] = [];
    const resumed = await sensitivityOfModel(
      model,
      { ...options, resume },
      { onProgress: (done, name) => void again.push(`${done} ${name}`) },
    );
    expect(resumed.summary.formats).toEqual(summary.formats);
    expect(again[0]).toBe(`${SEQUENCES} mxfp4:oas:b32/mxfp4:oas:b32 none`);
    expect(again.at(-1)).toBe(`${2 * 9 * SEQUENCES} nvfp4:te/nvfp4:te component:down`);
  },
);
