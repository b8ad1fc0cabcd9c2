/** A model before it is on a GPU: its configuration, and its tensors by name, read when they are asked for. */
import { type Dtype, toFloat32 } from '../../src/checkpoint/dtype.js';
import {
  blobSource,
  type Checkpoint,
  CheckpointError,
  type FloatMatrix,
  InvalidArgumentError,
  openCheckpoint,
  type QuantizedMatrix,
  UnsupportedError,
} from '../../src/index.js';
import { type LlamaConfig, parseConfig } from './config.js';

export type StoredMatrix = FloatMatrix | QuantizedMatrix;

export interface LlamaSource {
  readonly name: string;
  readonly config: LlamaConfig;
  /** Type of the weights where most are floats, 'BF16' say, or their FP4 format. */
  readonly storedAs: string;
  /** A matrix by the name of its weight; FP4 with the codes and scales of the file. */
  matrix(name: string, rows: number, cols: number): Promise<StoredMatrix>;
  vector(name: string, length: number): Promise<Float32Array>;
  /** The text of another file of the model: tokenizer.json. @throws CheckpointError where there is none */
  text(file: string): Promise<string>;
}

export interface SourceFiles {
  readonly name: string;
  readonly checkpoint: Checkpoint;
  /** The text of a file beside the weights. */
  text(file: string): Promise<string>;
}

export const isQuantized = (matrix: StoredMatrix): matrix is QuantizedMatrix => 'codes' in matrix;

/** The seven linear layers of a block, and the sizes of their weights as [n, k]. */
export function blockMatrices(c: LlamaConfig): Readonly<Record<string, readonly [n: number, k: number]>> {
  const [query, keyValue] = [c.heads * c.headDim, c.kvHeads * c.headDim];
  return {
    'self_attn.q_proj': [query, c.hidden],
    'self_attn.k_proj': [keyValue, c.hidden],
    'self_attn.v_proj': [keyValue, c.hidden],
    'self_attn.o_proj': [c.hidden, query],
    'mlp.gate_proj': [c.intermediate, c.hidden],
    'mlp.up_proj': [c.intermediate, c.hidden],
    'mlp.down_proj': [c.hidden, c.intermediate],
  };
}

/**
 * What may stand beside a Llama's tensors and changes nothing here: frequencies of older files, which are computed anew, and
 * scales that quantized checkpoints have for activations and caches, which are quantized here by what they are.
 */
const IGNORED = /rotary_emb\.inv_freq$|\.(input_(global_)?scale|weight_shape|[kv]_scale)$/;

/** Tensors that a Llama has, as its configuration says. */
function expectedNames(c: LlamaConfig): string[] {
  const blocks = Array.from({ length: c.layers }, (_, i) =>
    [...Object.keys(blockMatrices(c)), 'input_layernorm', 'post_attention_layernorm'].map(
      (part) => `model.layers.${i}.${part}.weight`,
    ),
  );
  const head = c.tiedHead ? [] : ['lm_head.weight'];
  return ['model.embed_tokens.weight', ...blocks.flat(), 'model.norm.weight', ...head];
}

/**
 * Reads config.json and looks at all headers.
 * @throws CheckpointError for a tensor that is missing or has another shape; UnsupportedError for a tensor that no Llama
 * has, as its result would be left out, and for matrices that cannot be loaded
 */
export async function openLlama({ name, checkpoint, text }: SourceFiles): Promise<LlamaSource> {
  let json: unknown;
  try {
    json = JSON.parse(await text('config.json'));
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new CheckpointError('lm', `${name}: config.json is no JSON`, { cause });
  }
  const config = parseConfig(json);
  for (const { error } of checkpoint.refused) throw error;
  const tensors = new Map(checkpoint.tensors.map((tensor) => [tensor.name, tensor]));
  // compressed-tensors calls a matrix as it calls its layer.
  const infos = new Map(checkpoint.matrices.map((info) => [info.name.replace(/\.weight$/, ''), info]));
  const names = expectedNames(config);
  const known = new Set(names);
  const missing = names.filter((key) => !tensors.has(key) && !infos.has(key.replace(/\.weight$/, '')));
  if (missing.length) {
    const more = missing.length > 1 ? ` and ${missing.length - 1} more` : '';
    throw new CheckpointError(
      'lm',
      `${name}: tensor ${missing[0]}${more} is missing, which config.json implies`,
    );
  }
  const used = new Set([...infos].flatMap(([key, info]) => (known.has(`${key}.weight`) ? info.tensors : [])));
  // A tied head may be stored once more.
  if (config.tiedHead) used.add('lm_head.weight');
  const strange = [...tensors.keys()].find((key) => !known.has(key) && !used.has(key) && !IGNORED.test(key));
  if (strange) throw new UnsupportedError('lm', `${name}: tensor ${strange} is none of a Llama's`);

  const source: LlamaSource = {
    name,
    config,
    storedAs: infos.get('model.layers.0.self_attn.q_proj')!.format,
    async matrix(key, rows, cols) {
      const info = infos.get(key.replace(/\.weight$/, ''));
      if (!info) throw new InvalidArgumentError('lm', `${name}: no matrix ${key}`);
      checkShape(key, info.shape, [rows, cols]);
      return checkpoint.matrix(info.name);
    },
    async vector(key, length) {
      const tensor = tensors.get(key);
      if (!tensor) throw new InvalidArgumentError('lm', `${name}: no tensor ${key}`);
      checkShape(key, tensor.shape, [length]);
      return toFloat32(await checkpoint.read(tensor), tensor.dtype as Dtype);
    },
    text,
  };
  const checkShape = (key: string, shape: readonly number[], wanted: readonly number[]) => {
    if (shape.length !== wanted.length || shape.some((size, i) => size !== wanted[i])) {
      const sizes = `[${shape.join(', ')}]; config.json makes it [${wanted.join(', ')}]`;
      throw new CheckpointError('lm', `${name}: tensor ${key} is ${sizes}`);
    }
  };
  for (let i = 0; i < config.layers; i++) {
    for (const [part, shape] of Object.entries(blockMatrices(config))) {
      const key = `model.layers.${i}.${part}`;
      checkShape(`${key}.weight`, infos.get(key)!.shape, shape);
    }
  }
  return source;
}

/** The same source, which keeps what it has read: for a model that is made in several formats. */
export function keepingMatrices(source: LlamaSource): LlamaSource {
  const kept = new Map<string, Promise<StoredMatrix>>();
  return {
    ...source,
    matrix(name, rows, cols) {
      let matrix = kept.get(name);
      if (!matrix) {
        matrix = source.matrix(name, rows, cols);
        kept.set(name, matrix);
        matrix.catch(() => kept.delete(name));
      }
      return matrix;
    },
  };
}

const INDEX = 'model.safetensors.index.json';

/**
 * A model from the files of its folder, as a page gets them dropped or chosen.
 * @throws CheckpointError where there is no checkpoint among them, or several; as `openLlama` besides
 */
export async function openLlamaFiles(files: readonly File[]): Promise<LlamaSource> {
  const byName = new Map(files.map((file) => [file.name, file]));
  const weights = files.filter(({ name }) => name.endsWith('.safetensors'));
  const first = byName.get(INDEX) ?? (weights.length === 1 ? weights[0] : undefined);
  if (!first) {
    throw new CheckpointError(
      'lm',
      `${weights.length} safetensors files and no ${INDEX}; choose all files of the model's folder`,
    );
  }
  const find = (name: string): File => {
    const file = byName.get(name);
    if (!file)
      throw new CheckpointError('lm', `${name} is not among the files; choose all of the model's folder`);
    return file;
  };
  const checkpoint = await openCheckpoint(first, { open: async (name) => blobSource(find(name)) });
  return openLlama({ name: first.name, checkpoint, text: (name) => find(name).text() });
}

/**
 * A model from a folder behind HTTP.
 * @param folder ends in a slash; has an index, or model.safetensors
 * @throws CheckpointError for a file that cannot be had; as `openLlama` besides
 */
export async function openLlamaUrl(folder: URL): Promise<LlamaSource> {
  const fetchText = async (file: string) => {
    const response = await fetch(new URL(file, folder));
    if (!response.ok) throw new CheckpointError('lm', `${file}: the server answers ${response.status}`);
    return response.text();
  };
  const sharded = await fetchText(INDEX).then(
    () => true,
    () => false,
  );
  const checkpoint = await openCheckpoint(new URL(sharded ? INDEX : 'model.safetensors', folder));
  return openLlama({ name: folder.pathname, checkpoint, text: fetchText });
}
