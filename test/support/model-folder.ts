/** A small model as a folder, written by the means of checkpoint-files.ts, with one tensor of each kind that there is. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { bf16, type FileTensors, f32, safetensorsFile, u8 } from './checkpoint-files.js';
import { gptOss, randomLogical } from './checkpoint-producers.js';
import { roundToBf16 } from './exact.js';
import { gaussian } from './random-data.js';

/** Values as a file stores them. */
export interface ModelMatrix {
  readonly experts?: number;
  readonly rows: number;
  readonly cols: number;
  readonly values: Float32Array;
}

const draw = (seed: number, count: number): Float32Array => {
  const normal = gaussian(seed);
  return Float32Array.from({ length: count }, () => roundToBf16(normal() * 2 ** ((seed % 9) - 4)));
};

export interface ModelFolder {
  /** What is to be quantized by default. */
  readonly matrices: Readonly<Record<string, ModelMatrix>>;
  /** Everything else, which stays as it is. */
  readonly others: FileTensors;
  readonly config: string;
}

export const CONFIG =
  '{\n  "model_type": "llama",\n  "hidden_size": 96,\n  "rms_norm_eps": 1e-05,\n  "rope_theta": 10000.0\n}\n';

export function smallModel(): ModelFolder {
  const matrix = (seed: number, rows: number, cols: number, experts?: number): ModelMatrix => {
    const values = draw(seed, (experts ?? 1) * rows * cols);
    return experts === undefined ? { rows, cols, values } : { experts, rows, cols, values };
  };
  const floats = (seed: number, shape: number[]) =>
    bf16(shape, [
      ...draw(
        seed,
        shape.reduce((product, size) => product * size, 1),
      ),
    ]);
  return {
    matrices: {
      'model.layers.0.self_attn.q_proj.weight': matrix(1, 70, 96),
      'model.layers.0.mlp.down_proj.weight': matrix(2, 96, 160),
      'model.layers.1.mlp.experts.gate_up_proj': matrix(3, 40, 96, 3),
      'model.layers.1.mlp.experts.down_proj': matrix(4, 96, 32, 3),
    },
    others: {
      'model.embed_tokens.weight': floats(10, [64, 96]),
      'model.layers.0.self_attn.k_proj.weight': floats(11, [8, 100]),
      'model.layers.0.input_layernorm.weight': floats(12, [96]),
      'model.layers.1.mlp.gate.weight': floats(13, [3, 96]),
      'model.layers.1.mlp.experts.gate_up_proj_bias': floats(14, [3, 64]),
      'model.rotary.inv_freq': f32([16], [...draw(15, 16)]),
      'model.ids': u8([3], [7, 0, 255]),
      'lm_head.weight': floats(16, [64, 96]),
      ...gptOss([randomLogical('mxfp4', 6, 96, 1), randomLogical('mxfp4', 6, 96, 2)]).tensors,
    },
    config: CONFIG,
  };
}

/** Writes the model, its tensors spread over so many files. */
export async function writeModel(
  folder: string,
  { matrices, others, config }: ModelFolder,
  files = 1,
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const tensors: FileTensors = {
    ...others,
    ...Object.fromEntries(
      Object.entries(matrices).map(([name, { experts, rows, cols, values }]) => {
        const shape = experts === undefined ? [rows, cols] : [experts, rows, cols];
        return [name, bf16(shape, [...values])];
      }),
    ),
  };
  const entries = Object.entries(tensors);
  const weightMap: Record<string, string> = {};
  for (let i = 0; i < files; i++) {
    const part = entries.filter((_, at) => at % files === i);
    const name = files === 1 ? 'model.safetensors' : `model-0000${i + 1}-of-0000${files}.safetensors`;
    for (const [tensor] of part) weightMap[tensor] = name;
    await writeFile(join(folder, name), safetensorsFile(Object.fromEntries(part), { format: 'pt' }));
  }
  if (files > 1) {
    const index = JSON.stringify({ metadata: {}, weight_map: weightMap });
    await writeFile(join(folder, 'model.safetensors.index.json'), index);
  }
  await writeFile(join(folder, 'config.json'), config);
  await writeFile(join(folder, 'tokenizer.json'), '{"tokens": ["a"]}');
}

/** The values of one expert, or of the matrix. */
export function expertValues({ rows, cols, values }: ModelMatrix, expert = 0): Float32Array {
  return values.slice(expert * rows * cols, (expert + 1) * rows * cols);
}
