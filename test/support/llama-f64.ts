/**
 * A Llama forward pass on the CPU in f64: the reference that GPU passes and accuracy work are compared with. Nothing of
 * the library computes here; it only reads files, and quantizes where `quantizedLinear` is asked for.
 *
 * A block of `model.layers.i`, x being f64[tokens, hidden] and H[h] the columns of head h:
 *
 *     a = rmsNorm(x, input_layernorm)          q, k, v = a · {q,k,v}_projᵀ;   q, k = rope(q), rope(k)
 *     p = softmax(q[h] · k[g]ᵀ / √headDim) over positions up to the row's own;   g = h / (heads / kvHeads)
 *     x = x + concat over h of (p · v[g]) · o_projᵀ
 *     b = rmsNorm(x, post_attention_layernorm)
 *     x = x + (silu(b · gate_projᵀ) ∘ (b · up_projᵀ)) · down_projᵀ
 *
 * and the logits are rmsNorm(x, model.norm) · lm_headᵀ, where a tied lm_head is model.embed_tokens.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { toFloat32 } from '../../src/checkpoint/dtype.js';
import { openCheckpointFile } from '../../src/node.js';
import type { QuantizeOptions } from '../../src/quantize/options.js';
import { dequantize, quantize } from '../../src/quantize/quantize.js';

/** What is used of an HF config.json. */
export interface LlamaConfig {
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads?: number;
  readonly head_dim?: number;
  readonly vocab_size: number;
  readonly rms_norm_eps: number;
  readonly rope_theta?: number;
  readonly rope_parameters?: RopeParameters;
  readonly rope_scaling?: RopeParameters | null;
  readonly tie_word_embeddings?: boolean;
}

export interface RopeParameters {
  readonly rope_theta?: number;
  readonly rope_type?: string;
  readonly factor?: number;
  readonly low_freq_factor?: number;
  readonly high_freq_factor?: number;
  readonly original_max_position_embeddings?: number;
}

export type Values = Float32Array | Float64Array;

/** Tensors by name, row-major: matrices are [out, in]. */
export type Weights = ReadonlyMap<string, Values>;

export interface ForwardOptions {
  /**
   * Computes the product of a linear layer instead: x f64[m, in] → f64[m, out], or undefined for the model's own. The
   * head is `lm_head.weight`, tied or not.
   */
  readonly linear?: ((name: string, x: Float64Array, m: number) => Float64Array | undefined) | undefined;
  /** Sees the input of each linear layer, the head's included, before its product. */
  readonly onLinearInput?: ((name: string, x: Float64Array, m: number) => void) | undefined;
}

export const HEAD = 'lm_head.weight';
const EMBEDDING = 'model.embed_tokens.weight';

export class LlamaF64 {
  readonly config: Required<Omit<LlamaConfig, 'rope_theta' | 'rope_parameters' | 'rope_scaling'>>;
  /** Names of the linear layers of all blocks in the order in which they are used; the head is not one. */
  readonly linearNames: readonly string[];
  readonly #weights: Weights;
  /** Weights that have been multiplied with, as f64. */
  readonly #wide = new Map<string, Float64Array>();
  /** Angle per position of each pair of a head, f64[headDim / 2]. */
  readonly #frequencies: Float64Array;

  /** @throws Error where a tensor is missing, has another length, or is one that this pass would leave out */
  constructor(config: LlamaConfig, weights: Weights) {
    this.config = {
      num_key_value_heads: config.num_attention_heads,
      head_dim: config.hidden_size / config.num_attention_heads,
      tie_word_embeddings: false,
      ...config,
    };
    const { hidden_size: hidden, intermediate_size: inner, num_hidden_layers: blocks } = this.config;
    const { num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim: headDim } = this.config;
    const linear = (block: number): [string, number][] => [
      [`model.layers.${block}.self_attn.q_proj.weight`, heads * headDim * hidden],
      [`model.layers.${block}.self_attn.k_proj.weight`, kvHeads * headDim * hidden],
      [`model.layers.${block}.self_attn.v_proj.weight`, kvHeads * headDim * hidden],
      [`model.layers.${block}.self_attn.o_proj.weight`, hidden * heads * headDim],
      [`model.layers.${block}.mlp.gate_proj.weight`, inner * hidden],
      [`model.layers.${block}.mlp.up_proj.weight`, inner * hidden],
      [`model.layers.${block}.mlp.down_proj.weight`, hidden * inner],
    ];
    const numbers = Array.from({ length: blocks }, (_, block) => block);
    const linears = numbers.flatMap(linear);
    const lengths = new Map<string, number>([
      ...linears,
      ...numbers.flatMap((block): [string, number][] => [
        [`model.layers.${block}.input_layernorm.weight`, hidden],
        [`model.layers.${block}.post_attention_layernorm.weight`, hidden],
      ]),
      [EMBEDDING, this.config.vocab_size * hidden],
      ['model.norm.weight', hidden],
      ...(this.config.tie_word_embeddings ? [] : [[HEAD, this.config.vocab_size * hidden] as const]),
    ]);
    for (const [name, length] of lengths) {
      const found = weights.get(name)?.length;
      if (found !== length) throw new Error(`llama-f64: ${name} has ${found} values, not ${length}`);
    }
    for (const name of weights.keys()) {
      if (!lengths.has(name)) throw new Error(`llama-f64: ${name} is no tensor of a Llama as computed here`);
    }
    this.#weights = weights;
    this.#frequencies = ropeFrequencies(config, headDim);
    this.linearNames = linears.map(([name]) => name);
  }

  /** A weight as the model has it; the head's also where it is tied. */
  weight(name: string): Values {
    const stored = name === HEAD && this.config.tie_word_embeddings ? EMBEDDING : name;
    const values = this.#weights.get(stored);
    if (!values) throw new Error(`llama-f64: no weight ${name}`);
    return values;
  }

  /** Logits f64[tokens, vocab] of one sequence. */
  logits(tokens: ArrayLike<number>, options: ForwardOptions = {}): Float64Array {
    const x = this.hidden([tokens], options);
    return this.#linear(HEAD, x, tokens.length, options);
  }

  /** Negative log likelihood, natural, of tokens 1 to the last, each after those before it: f64[tokens - 1]. */
  nll(tokens: ArrayLike<number>, options: ForwardOptions = {}): Float64Array {
    return this.nlls([tokens], options)[0]!;
  }

  /**
   * The same of several sequences. They pass through the blocks together, as rows of one x, so that what is made from
   * all of it (the tensor scale of NVFP4) is made from all of them; none sees another.
   */
  nlls(sequences: readonly ArrayLike<number>[], options: ForwardOptions = {}): Float64Array[] {
    const x = this.hidden(sequences, options);
    const { hidden_size: hidden, vocab_size: vocab } = this.config;
    let row = 0;
    return sequences.map((tokens) => {
      const own = x.subarray(row * hidden, (row + tokens.length) * hidden);
      row += tokens.length;
      const logits = this.#linear(HEAD, own, tokens.length, options);
      return Float64Array.from({ length: tokens.length - 1 }, (_, i) => {
        const at = logits.subarray(i * vocab, (i + 1) * vocab);
        return logSumExp(at) - at[tokens[i + 1]!]!;
      });
    });
  }

  /** What the head multiplies: the last norm's f64[tokens of all sequences, hidden]. */
  hidden(sequences: readonly ArrayLike<number>[], options: ForwardOptions = {}): Float64Array {
    const { num_hidden_layers: blocks, rms_norm_eps: eps } = this.config;
    const m = sequences.reduce((sum, { length }) => sum + length, 0);
    const x = this.#embed(sequences, m);
    for (let block = 0; block < blocks; block++) {
      const name = `model.layers.${block}`;
      const a = rmsNorm(x, this.weight(`${name}.input_layernorm.weight`), eps);
      const [q, k, v] = ['q', 'k', 'v'].map((part) =>
        this.#linear(`${name}.self_attn.${part}_proj.weight`, a, m, options),
      ) as [Float64Array, Float64Array, Float64Array];
      const mixed = this.#attention(q, k, v, sequences);
      add(x, this.#linear(`${name}.self_attn.o_proj.weight`, mixed, m, options));
      const b = rmsNorm(x, this.weight(`${name}.post_attention_layernorm.weight`), eps);
      const gate = this.#linear(`${name}.mlp.gate_proj.weight`, b, m, options);
      const up = this.#linear(`${name}.mlp.up_proj.weight`, b, m, options);
      for (let i = 0; i < gate.length; i++) gate[i] = (gate[i]! / (1 + Math.exp(-gate[i]!))) * up[i]!;
      add(x, this.#linear(`${name}.mlp.down_proj.weight`, gate, m, options));
    }
    return rmsNorm(x, this.weight('model.norm.weight'), eps);
  }

  #embed(sequences: readonly ArrayLike<number>[], m: number): Float64Array {
    const { hidden_size: hidden, vocab_size: vocab } = this.config;
    const embedding = this.weight(EMBEDDING);
    const x = new Float64Array(m * hidden);
    let row = 0;
    for (const tokens of sequences) {
      for (let i = 0; i < tokens.length; i++) {
        const token = tokens[i]!;
        if (!(Number.isInteger(token) && token >= 0 && token < vocab))
          throw new Error(`llama-f64: token ${token} at ${i} is not one of ${vocab}`);
        x.set(embedding.subarray(token * hidden, (token + 1) * hidden), row++ * hidden);
      }
    }
    return x;
  }

  #linear(name: string, x: Float64Array, m: number, { linear, onLinearInput }: ForwardOptions): Float64Array {
    onLinearInput?.(name, x, m);
    return linear?.(name, x, m) ?? product(x, this.#wideWeight(name), m);
  }

  #wideWeight(name: string): Float64Array {
    let wide = this.#wide.get(name);
    if (!wide) {
      wide = new Float64Array(this.weight(name));
      this.#wide.set(name, wide);
    }
    return wide;
  }

  /** Causal attention with grouped queries, sequence by sequence; rotates q and k in place. */
  #attention(
    q: Float64Array,
    k: Float64Array,
    v: Float64Array,
    sequences: readonly ArrayLike<number>[],
  ): Float64Array {
    const { num_attention_heads: heads, num_key_value_heads: kvHeads, head_dim: headDim } = this.config;
    const out = new Float64Array(q.length);
    let first = 0;
    for (const { length } of sequences) {
      rotateHalves(q, first, length, heads, this.#frequencies);
      rotateHalves(k, first, length, kvHeads, this.#frequencies);
      const scores = new Float64Array(length);
      for (let head = 0; head < heads; head++) {
        const kvHead = Math.floor(head / (heads / kvHeads));
        for (let row = 0; row < length; row++) {
          const own = ((first + row) * heads + head) * headDim;
          for (let other = 0; other <= row; other++) {
            const at = ((first + other) * kvHeads + kvHead) * headDim;
            let dot = 0;
            for (let i = 0; i < headDim; i++) dot += q[own + i]! * k[at + i]!;
            scores[other] = dot / Math.sqrt(headDim);
          }
          const seen = scores.subarray(0, row + 1);
          const norm = logSumExp(seen);
          for (let other = 0; other <= row; other++) {
            const weight = Math.exp(seen[other]! - norm);
            const at = ((first + other) * kvHeads + kvHead) * headDim;
            for (let i = 0; i < headDim; i++) out[own + i]! += weight * v[at + i]!;
          }
        }
      }
      first += length;
    }
    return out;
  }
}

/** Reads config.json and the tensors of an HF directory. */
export async function loadLlamaF64(directory: string): Promise<LlamaF64> {
  const config = JSON.parse(await readFile(join(directory, 'config.json'), 'utf8')) as LlamaConfig;
  await using checkpoint = await openCheckpointFile(directory);
  const weights = new Map<string, Values>();
  for (const tensor of checkpoint.tensors) {
    weights.set(tensor.name, toFloat32(await checkpoint.read(tensor), tensor.dtype as 'F32'));
  }
  return new LlamaF64(config, weights);
}

/** x f64[m, k] · wᵀ, w being [n, k] with n from its length: f64[m, n], summed along k in order. */
export function product(x: Float64Array, weights: Values, m: number): Float64Array {
  const k = x.length / m;
  const n = weights.length / k;
  if (!Number.isInteger(n)) throw new Error(`llama-f64: ${weights.length} weights are no rows of ${k}`);
  const w = weights instanceof Float64Array ? weights : new Float64Array(weights);
  const y = new Float64Array(m * n);
  // Pairs of rows of x by fours of w, as many sums as there are registers; what is left over one by one.
  const [pairs, fours] = [m - (m % 2), n - (n % 4)];
  for (let col = 0; col < fours; col += 4) {
    for (let row = 0; row < pairs; row += 2) dots2x4(x, row, w, col, y, k, n);
    if (pairs < m) for (let c = col; c < col + 4; c++) y[pairs * n + c] = dot(x, pairs, w, c, k);
  }
  for (let col = fours; col < n; col++)
    for (let row = 0; row < m; row++) y[row * n + col] = dot(x, row, w, col, k);
  return y;
}

function dot(x: Float64Array, row: number, w: Float64Array, col: number, k: number): number {
  let sum = 0;
  for (let i = 0, a = row * k, b = col * k; i < k; i++) sum += x[a + i]! * w[b + i]!;
  return sum;
}

/** y[row to row + 1, col to col + 3] */
function dots2x4(
  x: Float64Array,
  row: number,
  w: Float64Array,
  col: number,
  y: Float64Array,
  k: number,
  n: number,
): void {
  const x0 = row * k;
  const x1 = x0 + k;
  const w0 = col * k;
  const w1 = w0 + k;
  const w2 = w1 + k;
  const w3 = w2 + k;
  let s00 = 0;
  let s01 = 0;
  let s02 = 0;
  let s03 = 0;
  let s10 = 0;
  let s11 = 0;
  let s12 = 0;
  let s13 = 0;
  for (let i = 0; i < k; i++) {
    const a = x[x0 + i]!;
    const b = x[x1 + i]!;
    const c0 = w[w0 + i]!;
    const c1 = w[w1 + i]!;
    const c2 = w[w2 + i]!;
    const c3 = w[w3 + i]!;
    s00 += a * c0;
    s01 += a * c1;
    s02 += a * c2;
    s03 += a * c3;
    s10 += b * c0;
    s11 += b * c1;
    s12 += b * c2;
    s13 += b * c3;
  }
  const at = row * n + col;
  y[at] = s00;
  y[at + 1] = s01;
  y[at + 2] = s02;
  y[at + 3] = s03;
  y[at + n] = s10;
  y[at + n + 1] = s11;
  y[at + n + 2] = s12;
  y[at + n + 3] = s13;
}

function add(x: Float64Array, y: Float64Array): void {
  for (let i = 0; i < x.length; i++) x[i]! += y[i]!;
}

function rmsNorm(x: Float64Array, weight: Values, eps: number): Float64Array {
  const k = weight.length;
  const out = new Float64Array(x.length);
  for (let start = 0; start < x.length; start += k) {
    let squares = 0;
    for (let i = start; i < start + k; i++) squares += x[i]! * x[i]!;
    const scale = 1 / Math.sqrt(squares / k + eps);
    for (let i = 0; i < k; i++) out[start + i] = x[start + i]! * scale * weight[i]!;
  }
  return out;
}

function logSumExp(values: Float64Array): number {
  let largest = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < values.length; i++) largest = Math.max(largest, values[i]!);
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += Math.exp(values[i]! - largest);
  return largest + Math.log(sum);
}

/** Rotates pairs (i, i + headDim / 2) of each head by position · frequency[i], positions from 0 at row `first`. */
function rotateHalves(
  x: Float64Array,
  first: number,
  length: number,
  heads: number,
  frequencies: Float64Array,
): void {
  const half = frequencies.length;
  for (let position = 0; position < length; position++) {
    for (let i = 0; i < half; i++) {
      const [cos, sin] = [Math.cos(position * frequencies[i]!), Math.sin(position * frequencies[i]!)];
      for (let head = 0; head < heads; head++) {
        const at = ((first + position) * heads + head) * 2 * half + i;
        const [a, b] = [x[at]!, x[at + half]!];
        x[at] = a * cos - b * sin;
        x[at + half] = b * cos + a * sin;
      }
    }
  }
}

/** theta^(-2i / headDim), stretched as `llama3` says where the configuration does. @throws Error for another type */
function ropeFrequencies(config: LlamaConfig, headDim: number): Float64Array {
  const rope = config.rope_parameters ?? config.rope_scaling ?? {};
  const theta = rope.rope_theta ?? config.rope_theta ?? 10000;
  const type = rope.rope_type ?? 'default';
  if (type !== 'default' && type !== 'llama3')
    throw new Error(`llama-f64: rope_type ${type} is not computed`);
  return Float64Array.from({ length: headDim / 2 }, (_, i) => {
    const frequency = theta ** ((-2 * i) / headDim);
    if (type === 'default') return frequency;
    // Waves that are short beside the original context stay, long ones are stretched, those between are mixed.
    const turns = (rope.original_max_position_embeddings! * frequency) / (2 * Math.PI);
    const [low, high] = [rope.low_freq_factor!, rope.high_freq_factor!];
    const kept = Math.min(1, Math.max(0, (turns - low) / (high - low)));
    return kept * frequency + (1 - kept) * (frequency / rope.factor!);
  });
}

/** Options of `quantize` but for sizes. */
export type Rules = Omit<QuantizeOptions, 'rows' | 'cols'>;

export interface QuantizedLinearOptions {
  readonly weights: Rules;
  /** W4A4: x is quantized too, as f32 and all rows at once; without, it stays f64. */
  readonly activations?: Rules | undefined;
  /** Layers that stay as they are. */
  readonly keep?: ((name: string) => boolean) | undefined;
}

/**
 * A `linear` for {@link ForwardOptions} that multiplies with what the library's `quantize` and `dequantize` make of
 * weights and x, in f64. The head stays. Weights are quantized once; a layer's x once for all that multiply with it.
 */
export function quantizedLinear(
  model: LlamaF64,
  { weights, activations, keep = () => false }: QuantizedLinearOptions,
): NonNullable<ForwardOptions['linear']> {
  const quantized = new Map<string, Float64Array>();
  let last: { readonly x: Float64Array; readonly result: Float64Array } | undefined;
  return (name, x, m) => {
    if (name === HEAD || keep(name)) return undefined;
    const cols = x.length / m;
    let w = quantized.get(name);
    if (!w) {
      const values = model.weight(name);
      w = quantizeDequantize(values, { ...weights, rows: values.length / cols, cols });
      quantized.set(name, w);
    }
    if (!activations) return product(x, w, m);
    if (last?.x !== x) last = { x, result: quantizeDequantize(x, { ...activations, rows: m, cols }) };
    return product(last.result, w, m);
  };
}

/** What the library makes of values, rounded to f32 first where they are not. */
export function quantizeDequantize(values: Values, options: QuantizeOptions): Float64Array {
  const f32 = values instanceof Float32Array ? values : new Float32Array(values);
  return new Float64Array(dequantize(quantize(f32, options)));
}

/** exp of the mean of all: the perplexity of the sequences that they come from. */
export function perplexity(nlls: readonly Float64Array[]): number {
  const count = nlls.reduce((sum, { length }) => sum + length, 0);
  return Math.exp(nlls.reduce((sum, values) => sum + values.reduce((a, b) => a + b, 0), 0) / count);
}
