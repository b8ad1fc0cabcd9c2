/**
 * A Llama on a GPU: weights in the formats chosen for its layers. What it computes is in forward.ts, for a number of
 * sequences and tokens at a time.
 */
import { createStorageBuffer } from '../../src/gpu/buffers.js';
import { dequantize, type Gpu } from '../../src/index.js';
import type { LlamaConfig } from './config.js';
import { chooseFormats, type LayerOptions } from './layers.js';
import { createLinear, type Linear, plainLinear } from './linear.js';
import { PlainWeights } from './plain.js';
import { blockMatrices, isQuantized, type LlamaSource } from './source.js';

/** A block: attention, then the MLP, each behind its norm. */
export interface Block {
  readonly inputNorm: GPUBuffer;
  readonly q: Linear;
  readonly k: Linear;
  readonly v: Linear;
  readonly o: Linear;
  readonly mlpNorm: GPUBuffer;
  readonly gate: Linear;
  readonly up: Linear;
  readonly down: Linear;
}

/** What a model in one format shares with the same model in another: embedding, norms. */
export interface SharedWeights {
  readonly embedding: PlainWeights;
  readonly norms: ReadonlyMap<string, GPUBuffer>;
  /** Bytes of the embedding and the norms as they are stored. */
  readonly storedBytes: number;
  destroy(): void;
}

const INPUT_NORM = (i: number) => `model.layers.${i}.input_layernorm.weight`;
const MLP_NORM = (i: number) => `model.layers.${i}.post_attention_layernorm.weight`;
const FINAL_NORM = 'model.norm.weight';
const EMBEDDING = 'model.embed_tokens.weight';
/** What patterns call the head, tied or not. */
export const HEAD = 'lm_head.weight';

export async function uploadShared(gpu: Gpu, source: LlamaSource): Promise<SharedWeights> {
  const { vocabulary, hidden, layers } = source.config;
  const norms = new Map<string, GPUBuffer>();
  const matrix = await source.matrix(EMBEDDING, vocabulary, hidden);
  const values = isQuantized(matrix) ? dequantize(matrix) : matrix.values;
  const embedding = PlainWeights.upload(gpu, EMBEDDING, { rows: vocabulary, cols: hidden, values });
  const shared: SharedWeights = {
    embedding,
    norms,
    storedBytes: embedding.byteLength + (2 * layers + 1) * hidden * 4,
    destroy() {
      embedding.destroy();
      for (const norm of norms.values()) norm.destroy();
    },
  };
  try {
    const blocks = Array.from({ length: layers }, (_, i) => [INPUT_NORM(i), MLP_NORM(i)]);
    for (const name of [...blocks.flat(), FINAL_NORM]) {
      norms.set(name, createStorageBuffer(gpu.device, name, await source.vector(name, hidden)));
    }
  } catch (error) {
    shared.destroy();
    throw error;
  }
  return shared;
}

export interface LlamaOptions extends LayerOptions {
  /** See {@link Llama.inputType}; 'f32' by default. */
  readonly inputType?: InputType | undefined;
  /** Of the same source on the same GPU; the caller destroys them after the models that share them. */
  readonly shared?: SharedWeights | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called as linear layers are on the GPU. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/** 'f32': as they are. 'bf16': rounded, as in runtimes that keep activations in BF16. */
export type InputType = 'f32' | 'bf16';

export class Llama {
  readonly gpu: Gpu;
  readonly config: LlamaConfig;
  readonly embedding: PlainWeights;
  readonly blocks: readonly Block[];
  readonly finalNorm: GPUBuffer;
  readonly head: Linear;
  /** What inputs of linear layers in blocks are rounded to, before they are quantized or multiplied. */
  readonly inputType: InputType;
  /** All of blocks in the order of their use, and the head, by the names of their weights. */
  readonly linears: ReadonlyMap<string, Linear>;
  /** Bytes of all weights as they are stored, and bits a weight of the linear layers in blocks. */
  readonly storedBytes: number;
  readonly bitsPerWeight: number;
  readonly #owned: readonly { destroy(): void }[];

  /** Use {@link createLlama}. */
  constructor(
    gpu: Gpu,
    config: LlamaConfig,
    shared: SharedWeights,
    linears: ReadonlyMap<string, Linear>,
    inputType: InputType,
    ownsShared: boolean,
  ) {
    const norm = (name: string) => shared.norms.get(name)!;
    this.gpu = gpu;
    this.config = config;
    this.embedding = shared.embedding;
    this.inputType = inputType;
    this.linears = linears;
    this.finalNorm = norm(FINAL_NORM);
    this.head = linears.get(HEAD)!;
    this.blocks = Array.from({ length: config.layers }, (_, i) => {
      const linear = (part: string) => linears.get(`model.layers.${i}.${part}.weight`)!;
      return {
        inputNorm: norm(INPUT_NORM(i)),
        q: linear('self_attn.q_proj'),
        k: linear('self_attn.k_proj'),
        v: linear('self_attn.v_proj'),
        o: linear('self_attn.o_proj'),
        mlpNorm: norm(MLP_NORM(i)),
        gate: linear('mlp.gate_proj'),
        up: linear('mlp.up_proj'),
        down: linear('mlp.down_proj'),
      };
    });
    const inBlocks = [...linears.values()].filter((linear) => linear !== this.head);
    const bytes = inBlocks.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
    this.storedBytes = bytes + shared.storedBytes + this.head.storedBytes;
    this.bitsPerWeight = (8 * bytes) / inBlocks.reduce((sum, { n, k }) => sum + n * k, 0);
    this.#owned = [...linears.values(), ...(ownsShared ? [shared] : [])];
  }

  destroy(): void {
    for (const owned of this.#owned) owned.destroy();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }
}

/**
 * Brings a model to the GPU, its linear layers one by one in their formats.
 * @throws InvalidArgumentError for a pattern that matches no layer, and options that do not go together; UnsupportedError
 * where the device's limits or memory are exceeded; the signal's reason where it aborts
 */
export async function createLlama(
  gpu: Gpu,
  source: LlamaSource,
  { shared: given, signal, onProgress, inputType = 'f32', ...layerOptions }: LlamaOptions = {},
): Promise<Llama> {
  const { config } = source;
  const shapes = new Map<string, readonly [n: number, k: number]>(
    Array.from({ length: config.layers }, (_, i) =>
      Object.entries(blockMatrices(config)).map(
        ([part, shape]) => [`model.layers.${i}.${part}.weight`, shape] as const,
      ),
    ).flat(),
  );
  const formats = chooseFormats([...shapes.keys()], HEAD, layerOptions);
  shapes.set(HEAD, [config.vocabulary, config.hidden]);
  const linears = new Map<string, Linear>();
  const shared = given ?? (await uploadShared(gpu, source));
  try {
    for (const [name, [n, k]] of shapes) {
      signal?.throwIfAborted();
      const format = formats.get(name)!;
      if (name === HEAD && config.tiedHead && format.weights === 'float') {
        linears.set(name, plainLinear(gpu, shared.embedding, true));
      } else {
        const matrix = await source.matrix(name === HEAD && config.tiedHead ? EMBEDDING : name, n, k);
        linears.set(name, await createLinear(gpu, name, matrix, format));
      }
      onProgress?.(linears.size, shapes.size);
    }
  } catch (error) {
    for (const linear of linears.values()) linear.destroy();
    if (!given) shared.destroy();
    throw error;
  }
  return new Llama(gpu, config, shared, linears, inputType, !given);
}
