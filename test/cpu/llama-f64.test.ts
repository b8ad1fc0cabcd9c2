/** The reference forward pass: what has to hold for any model, and a real one's numbers as computed in another language. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import {
  HEAD,
  type LlamaConfig,
  LlamaF64,
  loadLlamaF64,
  perplexity,
  product,
  quantizedLinear,
} from '../support/llama-f64.js';
import { fill, gaussian } from '../support/random-data.js';

const CONFIG: LlamaConfig = {
  hidden_size: 32,
  intermediate_size: 64,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  vocab_size: 19,
  rms_norm_eps: 1e-5,
};

function tinyWeights(seed = 1): Map<string, Float32Array> {
  const draw = gaussian(seed);
  const matrix = (length: number) => fill(length, () => draw() / 4);
  const norm = () => fill(32, () => 1 + draw() / 8);
  const weights = new Map([
    ['model.embed_tokens.weight', matrix(19 * 32)],
    ['model.norm.weight', norm()],
    [HEAD, matrix(19 * 32)],
  ]);
  for (const block of [0, 1]) {
    const name = `model.layers.${block}`;
    weights.set(`${name}.input_layernorm.weight`, norm());
    weights.set(`${name}.post_attention_layernorm.weight`, norm());
    for (const [part, rows, cols] of [
      ['self_attn.q_proj', 32, 32],
      ['self_attn.k_proj', 16, 32],
      ['self_attn.v_proj', 16, 32],
      ['self_attn.o_proj', 32, 32],
      ['mlp.gate_proj', 64, 32],
      ['mlp.up_proj', 64, 32],
      ['mlp.down_proj', 32, 64],
    ] as const) {
      weights.set(`${name}.${part}.weight`, matrix(rows * cols));
    }
  }
  return weights;
}

const tiny = new LlamaF64(CONFIG, tinyWeights());
const TOKENS = [3, 18, 0, 7, 7, 2, 11, 5, 3];

test('a product, by definition', () => {
  const draw = gaussian(4);
  for (const [m, n, k] of [
    [1, 1, 1],
    [3, 7, 5],
    [4, 8, 3],
    [5, 4, 9],
  ] as const) {
    const x = Float64Array.from(fill(m * k, draw));
    const w = fill(n * k, draw);
    const y = product(x, w, m);
    for (let i = 0; i < m * n; i++) {
      let sum = 0;
      for (let j = 0; j < k; j++) sum += x[Math.floor(i / n) * k + j]! * w[(i % n) * k + j]!;
      expect(y[i]).toBe(sum);
    }
  }
});

test('no token sees later ones, and sequences do not see each other', () => {
  const all = tiny.logits(TOKENS);
  expect([...tiny.logits(TOKENS.slice(0, 4))]).toEqual([...all.subarray(0, 4 * 19)]);
  const others = [4, 4, 1];
  expect(tiny.nlls([others, TOKENS])).toEqual([tiny.nll(others), tiny.nll(TOKENS)]);
  // The past does matter, and where it was.
  const swapped = [18, 3, ...TOKENS.slice(2)];
  expect(tiny.nll(swapped).at(-1)).not.toBeCloseTo(tiny.nll(TOKENS).at(-1)!, 6);
});

test('likelihoods are of the logits', () => {
  const logits = tiny.logits(TOKENS);
  tiny.nll(TOKENS).forEach((nll, i) => {
    const row = [...logits.subarray(i * 19, (i + 1) * 19)];
    const sum = row.reduce((all, logit) => all + Math.exp(logit), 0);
    expect(nll).toBeCloseTo(-Math.log(Math.exp(row[TOKENS[i + 1]!]!) / sum), 12);
  });
});

test('layers are named in the order of their use, and may be replaced', () => {
  const seen: string[] = [];
  const logits = tiny.logits(TOKENS, {
    linear: (name, x, m) => (name.includes('q_proj') ? product(x, tiny.weight(name), m) : undefined),
    onLinearInput: (name, x, m) => {
      seen.push(name);
      expect(x.length).toBe(m * (name.includes('down_proj') ? 64 : 32));
    },
  });
  expect(logits).toEqual(tiny.logits(TOKENS));
  expect(seen).toEqual([...tiny.linearNames, HEAD]);
  expect(tiny.linearNames.length).toBe(14);
});

test('a tied head is the embedding', () => {
  const weights = tinyWeights();
  weights.set(HEAD, weights.get('model.embed_tokens.weight')!);
  const untied = new LlamaF64(CONFIG, weights).logits(TOKENS);
  weights.delete(HEAD);
  expect(new LlamaF64({ ...CONFIG, tie_word_embeddings: true }, weights).logits(TOKENS)).toEqual(untied);
});

test('one head for one: groups are heads with the same keys and values', () => {
  const weights = tinyWeights();
  for (const [name, values] of weights) {
    if (!/[kv]_proj/.test(name)) continue;
    // Heads of 8 rows, 32 wide, each twice.
    const heads = [0, 0, 1, 1].map((head) => values.subarray(head * 256, (head + 1) * 256));
    weights.set(name, Float32Array.from(heads.flatMap((head) => [...head])));
  }
  const { num_key_value_heads: _, ...config } = CONFIG;
  expect(new LlamaF64(config, weights).logits(TOKENS)).toEqual(tiny.logits(TOKENS));
});

test('refuses what it would compute wrongly', () => {
  const weights = tinyWeights();
  expect(() => new LlamaF64({ ...CONFIG, tie_word_embeddings: true }, weights)).toThrow(HEAD);
  weights.set('model.layers.0.self_attn.q_norm.weight', new Float32Array(8));
  expect(() => new LlamaF64(CONFIG, weights)).toThrow('q_norm.weight is no tensor');
  const yarn = { ...CONFIG, rope_scaling: { rope_type: 'yarn' } };
  expect(() => new LlamaF64(yarn, tinyWeights())).toThrow('yarn');
  expect(() => tiny.logits([19])).toThrow('token 19 at 0');
});

test('quantized layers: the head stays, and so do those that are kept', () => {
  const rules = { weights: { format: 'mxfp4' }, activations: { format: 'mxfp4' } } as const;
  const quantized = tiny.logits(TOKENS, { linear: quantizedLinear(tiny, rules) });
  expect(quantized).not.toEqual(tiny.logits(TOKENS));
  const kept = quantizedLinear(tiny, { ...rules, keep: () => true });
  expect(tiny.logits(TOKENS, { linear: kept })).toEqual(tiny.logits(TOKENS));
  expect(quantizedLinear(tiny, rules)(HEAD, new Float64Array(32), 1)).toBeUndefined();
});

const MODEL = fileURLToPath(new URL('../../../shared/models/dictionary-lm/', import.meta.url));

test('a trained model: likelihoods as NumPy computes them', { timeout: 60_000 }, async (context) => {
  if (!existsSync(MODEL)) context.skip(`${MODEL} is not there`);
  const model = await loadLlamaF64(MODEL);
  const bytes = await readFile(`${MODEL}eval_tokens.u16`);
  const tokens = Array.from({ length: 96 }, (_, i) => bytes.readUInt16LE(2 * i));
  const nll = model.nll(tokens);
  // A pass of its own in f64 with BLAS; both differ by the order of sums.
  expect(Math.log(perplexity([nll.subarray(0, 63)]))).toBeCloseTo(1.751081314497727, 9);
  expect(Math.log(perplexity([nll]))).toBeCloseTo(2.1205849866781445, 9);
});
