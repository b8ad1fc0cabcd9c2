/** A Llama's config.json, as Hugging Face's Transformers writes it, read and checked. */
import { UnsupportedError } from '../../src/errors.js';
import { CheckpointError } from '../../src/index.js';

export interface LlamaConfig {
  readonly hidden: number;
  readonly intermediate: number;
  readonly layers: number;
  readonly heads: number;
  /** Heads of keys and values; each serves heads / kvHeads of the queries. */
  readonly kvHeads: number;
  /** Values of a head: hidden / heads, or something else. */
  readonly headDim: number;
  readonly vocabulary: number;
  /** Tokens of a sequence, at most. */
  readonly maxPositions: number;
  readonly epsilon: number;
  /** Whether the embedding is the head too. */
  readonly tiedHead: boolean;
  readonly rope: Rope;
  /** Tokens that end a text; may be none. */
  readonly endTokens: readonly number[];
}

/** How positions turn q and k. */
export type Rope =
  | { readonly type: 'default'; readonly theta: number }
  | { readonly type: 'linear'; readonly theta: number; readonly factor: number }
  | {
      readonly type: 'llama3';
      readonly theta: number;
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalPositions: number;
    };

type Json = Readonly<Record<string, unknown>>;

/**
 * @param json of config.json
 * @throws CheckpointError for a value that is missing or contradicts another; UnsupportedError for what this forward pass
 * does not do
 */
export function parseConfig(json: unknown): LlamaConfig {
  const c = object(json, 'config.json');
  if (c.model_type !== 'llama') refuse(`model_type ${JSON.stringify(c.model_type)} is not "llama"`);
  if (c.hidden_act !== undefined && c.hidden_act !== 'silu')
    refuse(`hidden_act ${JSON.stringify(c.hidden_act)} is not "silu"`);
  for (const key of ['attention_bias', 'mlp_bias']) if (c[key] === true) refuse(`${key} is not done`);
  if (c.partial_rotary_factor !== undefined && c.partial_rotary_factor !== 1)
    refuse('partial_rotary_factor is not done');
  const hidden = count(c, 'hidden_size');
  const heads = count(c, 'num_attention_heads');
  const kvHeads = isNone(c.num_key_value_heads) ? heads : count(c, 'num_key_value_heads');
  if (heads % kvHeads) fail(`num_attention_heads ${heads} is no multiple of num_key_value_heads ${kvHeads}`);
  if (isNone(c.head_dim) && hidden % heads)
    fail(`hidden_size ${hidden} is no multiple of num_attention_heads ${heads}`);
  const config: LlamaConfig = {
    hidden,
    intermediate: count(c, 'intermediate_size'),
    layers: count(c, 'num_hidden_layers'),
    heads,
    kvHeads,
    headDim: isNone(c.head_dim) ? hidden / heads : count(c, 'head_dim'),
    vocabulary: count(c, 'vocab_size'),
    maxPositions: count(c, 'max_position_embeddings'),
    epsilon: number(c, 'rms_norm_eps'),
    tiedHead: c.tie_word_embeddings === true,
    rope: parseRope(c),
    endTokens: [c.eos_token_id].flat().filter((token) => typeof token === 'number'),
  };
  // Kernels read vec4s; 512 values are the most that decoding has threads for.
  for (const [name, size] of Object.entries({
    hidden_size: hidden,
    intermediate_size: config.intermediate,
    head_dim: config.headDim,
  })) {
    if (size % 4) refuse(`${name} ${size} is no multiple of 4`);
  }
  if (config.headDim > 512) refuse(`head_dim ${config.headDim} is above 512`);
  return config;
}

function parseRope(c: Json): Rope {
  // Transformers 5 has one object; before, theta stood alone and the scaling in an object that could be null.
  const rope = object(c.rope_parameters ?? c.rope_scaling ?? {}, 'rope_parameters');
  const theta = number({ rope_theta: rope.rope_theta ?? c.rope_theta ?? 10000 }, 'rope_theta');
  const type = (rope.rope_type ?? rope.type ?? 'default') as string;
  switch (type) {
    case 'default':
      return { type, theta };
    case 'linear':
      return { type, theta, factor: number(rope, 'factor') };
    case 'llama3':
      return {
        type,
        theta,
        factor: number(rope, 'factor'),
        lowFreqFactor: number(rope, 'low_freq_factor'),
        highFreqFactor: number(rope, 'high_freq_factor'),
        originalPositions: count(rope, 'original_max_position_embeddings'),
      };
    default:
      return refuse(`rope_type ${JSON.stringify(type)} is not one of default, linear, llama3`);
  }
}

/** Radians that each pair of a head's values turns by from one position to the next. */
export function ropeFrequencies(rope: Rope, headDim: number): Float64Array {
  return Float64Array.from({ length: headDim / 2 }, (_, i) => {
    const frequency = rope.theta ** ((-2 * i) / headDim);
    switch (rope.type) {
      case 'default':
        return frequency;
      case 'linear':
        return frequency / rope.factor;
      case 'llama3': {
        // Long wavelengths are stretched by the factor, short ones stay, those between are blended.
        const turns = (rope.originalPositions * frequency) / (2 * Math.PI);
        const { lowFreqFactor: low, highFreqFactor: high } = rope;
        const share = Math.min(1, Math.max(0, (turns - low) / (high - low)));
        return frequency * (share + (1 - share) / rope.factor);
      }
    }
    return frequency;
  });
}

/** f32[positions, headDim / 2, 2]: cosine and sine, computed in f64. */
export function ropeTable({ rope, headDim }: LlamaConfig, positions: number): Float32Array {
  const frequencies = ropeFrequencies(rope, headDim);
  const table = new Float32Array(positions * headDim);
  for (let position = 0, at = 0; position < positions; position++) {
    for (const frequency of frequencies) {
      table[at++] = Math.cos(position * frequency);
      table[at++] = Math.sin(position * frequency);
    }
  }
  return table;
}

const isNone = (value: unknown) => value === undefined || value === null;

function object(value: unknown, name: string): Json {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) fail(`${name} is no JSON object`);
  return value as Json;
}

function count(c: Json, key: string): number {
  const value = c[key];
  if (!(Number.isSafeInteger(value) && (value as number) > 0))
    fail(`${key} = ${JSON.stringify(value)} is no positive integer`);
  return value as number;
}

function number(c: Json, key: string): number {
  const value = c[key];
  if (!(typeof value === 'number' && Number.isFinite(value) && value > 0))
    fail(`${key} = ${JSON.stringify(value)} is no positive number`);
  return value as number;
}

function fail(problem: string): never {
  throw new CheckpointError('lm', `config.json: ${problem}`);
}

function refuse(problem: string): never {
  throw new UnsupportedError('lm', `config.json: ${problem}`);
}
