/** The language model of demo/lm against a forward pass in f64 on the CPU. */

import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Forward, KvCache } from '../../demo/lm/forward.js';
import { generate } from '../../demo/lm/generate.js';
import type { LayerOptions, WeightOptions } from '../../demo/lm/layers.js';
import { createLlama, type LlamaOptions } from '../../demo/lm/llama.js';
import { openLlamaFolder } from '../../demo/lm/node.js';
import { perplexity } from '../../demo/lm/perplexity.js';
import type { ActivationOptions } from '../../src/index.js';
import { useGpu } from '../support/gpu.js';
import { HEAD, type LlamaF64, loadLlamaF64, product, quantizedLinear } from '../support/llama-f64.js';
import { randomTokens, TINY, type TinyLlama, writeTinyLlama } from '../support/tiny-llama.js';

const suite = useGpu();
const dictionary = resolve(import.meta.dirname, '../../../shared/models/dictionary-lm');

let root = '';
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'fp4-webgpu-lm-'));
});
afterAll(() => rm(root, { recursive: true }));

/** Mean loss of each sequence in f64. */
function lossesF64(model: LlamaF64, tokens: ArrayLike<number>, length: number, options = {}): number[] {
  const sequences = Array.from({ length: tokens.length / length }, (_, i) =>
    Array.from(tokens).slice(i * length, (i + 1) * length),
  );
  return model.nlls(sequences, options).map((nll) => nll.reduce((sum, value) => sum + value, 0) / nll.length);
}

type Linear = NonNullable<Parameters<LlamaF64['nlls']>[1]>['linear'];

/**
 * How far losses move when each value that a linear layer gives is off by as much as f32 sums of its k products may be, one
 * way or the other by chance: what f32 arithmetic can do to a model, by the model itself.
 */
function f32Noise(model: LlamaF64, linear?: Linear): NonNullable<Linear> {
  let sign = 1;
  return (name, x, m) => {
    const y = linear?.(name, x, m) ?? product(x, model.weight(name), m);
    const k = x.length / m;
    const magnitudes = product(x.map(Math.abs), model.weight(name).map(Math.abs), m);
    for (let i = 0; i < y.length; i++) {
      sign = Math.imul(sign, 0x343fd) + 0x269ec3;
      y[i]! += (sign & 0x10000 ? 1 : -1) * k * 2 ** -24 * magnitudes[i]!;
    }
    return y;
  };
}

describe.each<[string, TinyLlama]>([
  ['grouped queries, tied head', TINY],
  [
    'one head each, own head, heads wider than hidden / heads',
    { ...TINY, heads: 3, kvHeads: 3, headDim: 36, tied: false },
  ],
  [
    'five heads on one, heads of 40',
    { ...TINY, hidden: 80, heads: 5, kvHeads: 1, headDim: 40, vocabulary: 257 },
  ],
  [
    'heads of 128, f32 weights, one block',
    { ...TINY, heads: 2, kvHeads: 1, headDim: 128, layers: 1, dtype: 'f32' },
  ],
  [
    'llama3 positions',
    {
      ...TINY,
      config: {
        rope_parameters: {
          rope_type: 'llama3',
          rope_theta: 500,
          factor: 8,
          low_freq_factor: 1,
          high_freq_factor: 4,
          original_max_position_embeddings: 32,
        },
      },
    },
  ],
])('a Llama with %s', (name, tiny) => {
  const length = 50;
  const tokens = randomTokens(tiny.vocabulary, 3 * length);
  const folder = () => join(root, name.replaceAll(/\W/g, '-'));
  beforeAll(() => writeTinyLlama(folder(), tiny, { files: 2 }));

  test('has the losses and logits of f64', async () => {
    const reference = await loadLlamaF64(folder());
    await using source = await openLlamaFolder(folder());
    using llama = await createLlama(suite.gpu, source, { precision: 'f32' });
    const wanted = lossesF64(reference, tokens, length);
    const noisy = lossesF64(reference, tokens, length, { linear: f32Noise(reference) });
    const bound = Math.max(...wanted.map((loss, i) => Math.abs(loss - noisy[i]!)));
    const { lossPerSequence, loss, ...rest } = await perplexity(llama, tokens, {
      sequenceLength: length,
      batch: 2,
    });
    expect(rest.tokens).toBe(3 * (length - 1));
    expect(rest.perplexity).toBeCloseTo(Math.exp(loss), 12);
    lossPerSequence.forEach((value, i) => void expect(Math.abs(value - wanted[i]!)).toBeLessThan(bound));
    // A bound that a wrong model is far outside of.
    expect(bound).toBeLessThan(1e-3);

    using cache = new KvCache(llama, 3, length);
    using forward = await Forward.create(llama, { cache, length, output: 'logits' });
    forward.writeTokens(tokens);
    forward.submit();
    const logits = await forward.readLogits();
    for (let i = 0; i < 3; i++) {
      const all = reference.logits(tokens.subarray(i * length, (i + 1) * length));
      const last = all.subarray((length - 1) * tiny.vocabulary);
      last.forEach(
        (value, j) => void expect(Math.abs(value - logits[i * tiny.vocabulary + j]!)).toBeLessThan(0.01),
      );
    }
  });

  test('gives the same token by token as all at once', async () => {
    await using source = await openLlamaFolder(folder());
    using llama = await createLlama(suite.gpu, source, { precision: 'f32' });
    const sequences = 2;
    const run = async (lengths: readonly number[]) => {
      using cache = new KvCache(llama, sequences, 40);
      let logits = new Float32Array();
      for (const count of lengths) {
        using forward = await Forward.create(llama, { cache, length: count, output: 'logits' });
        const at = (i: number) => i * length + cache.past;
        forward.writeTokens([
          ...tokens.subarray(at(0), at(0) + count),
          ...tokens.subarray(at(1), at(1) + count),
        ]);
        forward.submit();
        logits = await forward.readLogits();
      }
      return logits;
    };
    const whole = await run([39]);
    const largest = whole.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    for (const lengths of [
      [1, 35, 1, 1, 1],
      [33, 6],
    ]) {
      const parts = await run(lengths);
      // Sums in another order, each within k roundings, go through the same layers.
      parts.forEach((value, i) => void expect(Math.abs(value - whole[i]!)).toBeLessThan(1e-4 * largest));
    }
  });
});
