/** Small random Llamas as folders, for tests of forward passes. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bf16, type FileTensors, f32, safetensorsFile } from './checkpoint-files.js';
import { roundToBf16 } from './exact.js';
import { gaussian } from './random-data.js';

export interface TinyLlama {
  readonly hidden: number;
  readonly intermediate: number;
  readonly layers: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabulary: number;
  readonly positions: number;
  readonly tied: boolean;
  /** Further members of config.json, in place of those of the same name. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Type of the matrices; bf16 by default. Norms are f32. */
  readonly dtype?: 'bf16' | 'f32';
}

export const TINY: TinyLlama = {
  hidden: 64,
  intermediate: 96,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headDim: 16,
  vocabulary: 101,
  positions: 64,
  tied: true,
};

export function tinyConfig(t: TinyLlama): Record<string, unknown> {
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_act: 'silu',
    hidden_size: t.hidden,
    intermediate_size: t.intermediate,
    num_hidden_layers: t.layers,
    num_attention_heads: t.heads,
    num_key_value_heads: t.kvHeads,
    head_dim: t.headDim,
    vocab_size: t.vocabulary,
    max_position_embeddings: t.positions,
    rms_norm_eps: 1e-5,
    rope_parameters: { rope_theta: 10000, rope_type: 'default' },
    tie_word_embeddings: t.tied,
    eos_token_id: 0,
    ...t.config,
  };
}

/** Weights that keep activations about as large as they come, so that every part of the model counts. */
export function tinyTensors(t: TinyLlama, seed = 1): FileTensors {
  const normal = gaussian(seed);
  const matrix = (rows: number, cols: number, scale: number) => {
    const values = Array.from({ length: rows * cols }, () => roundToBf16(normal() * scale));
    // F32 has bits that BF16 has not.
    return t.dtype === 'f32'
      ? f32(
          [rows, cols],
          values.map((value) => Math.fround(value * 1.0001)),
        )
      : bf16([rows, cols], values);
  };
  const norm = () =>
    f32(
      [t.hidden],
      Array.from({ length: t.hidden }, () => Math.fround(1 + 0.2 * normal())),
    );
  const [query, keyValue] = [t.heads * t.headDim, t.kvHeads * t.headDim];
  const linear = (rows: number, cols: number) => matrix(rows, cols, 1.5 / Math.sqrt(cols));
  return {
    'model.embed_tokens.weight': matrix(t.vocabulary, t.hidden, 1),
    ...Object.assign(
      {},
      ...Array.from({ length: t.layers }, (_, i): FileTensors => {
        const block = `model.layers.${i}`;
        return {
          [`${block}.input_layernorm.weight`]: norm(),
          [`${block}.self_attn.q_proj.weight`]: linear(query, t.hidden),
          [`${block}.self_attn.k_proj.weight`]: linear(keyValue, t.hidden),
          [`${block}.self_attn.v_proj.weight`]: linear(keyValue, t.hidden),
          [`${block}.self_attn.o_proj.weight`]: linear(t.hidden, query),
          [`${block}.post_attention_layernorm.weight`]: norm(),
          [`${block}.mlp.gate_proj.weight`]: linear(t.intermediate, t.hidden),
          [`${block}.mlp.up_proj.weight`]: linear(t.intermediate, t.hidden),
          [`${block}.mlp.down_proj.weight`]: linear(t.hidden, t.intermediate),
        };
      }),
    ),
    'model.norm.weight': norm(),
    ...(!t.tied && { 'lm_head.weight': matrix(t.vocabulary, t.hidden, 1 / Math.sqrt(t.hidden)) }),
  };
}

/** Writes the folder. @param files over which the tensors are spread */
export async function writeTinyLlama(
  folder: string,
  t: TinyLlama,
  { tensors = tinyTensors(t), files = 1 }: { tensors?: FileTensors; files?: number } = {},
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const entries = Object.entries(tensors);
  const name = (i: number) => (files === 1 ? 'model.safetensors' : `model-${i + 1}-of-${files}.safetensors`);
  for (let i = 0; i < files; i++) {
    const part = entries.filter((_, at) => at % files === i);
    await writeFile(join(folder, name(i)), safetensorsFile(Object.fromEntries(part), { format: 'pt' }));
  }
  if (files > 1) {
    const weight_map = Object.fromEntries(entries.map(([tensor], at) => [tensor, name(at % files)]));
    await writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map }));
  }
  await writeFile(join(folder, 'config.json'), JSON.stringify(tinyConfig(t)));
}

/** Seeded tokens of a vocabulary. */
export function randomTokens(vocabulary: number, count: number, seed = 1): Uint32Array {
  const normal = gaussian(seed);
  return Uint32Array.from({ length: count }, () => Math.floor(Math.abs(normal()) * 1e6) % vocabulary);
}
