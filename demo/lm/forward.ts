/**
 * The forward pass, compiled for a number of sequences and of new tokens in each. Everything stays on the GPU: tokens go
 * in, and losses or the last logits come out. It is a list of dispatches, encoded into the caller's pass.
 */
import { checkBufferSize, createStorageBuffer, readBuffer } from '../../src/gpu/buffers.js';
import { BufferUsage } from '../../src/gpu/constants.js';
import { type BufferSlice, InvalidArgumentError } from '../../src/index.js';
import { ropeTable } from './config.js';
import type { Linear, Product } from './linear.js';
import type { Llama } from './llama.js';
import { PLAIN_SOURCES } from './plain.js';
import attentionSource from './shaders/attention.wgsl?raw';
import attentionDecodeSource from './shaders/attention_decode.wgsl?raw';
import crossEntropySource from './shaders/cross_entropy.wgsl?raw';
import embedSource from './shaders/embed.wgsl?raw';
import lastRowsSource from './shaders/last_rows.wgsl?raw';
import rmsNormSource from './shaders/rms_norm.wgsl?raw';
import ropeSource from './shaders/rope.wgsl?raw';
import roundBf16Source from './shaders/round_bf16.wgsl?raw';
import shapeSource from './shaders/shape.wgsl?raw';
import swigluSource from './shaders/swiglu.wgsl?raw';
import { createStep, type Step, type StepDescription } from './step.js';

/** Queries that a workgroup of attention.wgsl takes, and threads of rope.wgsl, round_bf16.wgsl and swiglu.wgsl. */
const ATTENTION_TILE = 32;
const THREADS = 64;
/** Logits that are in memory at a time, by default. */
const LOGITS_BYTES = 2 ** 27;

/** Keys and values of sequences, after the rotation: f32[sequences, kvHeads, capacity, headDim] for each block. */
export class KvCache {
  readonly sequences: number;
  readonly capacity: number;
  readonly keys: readonly GPUBuffer[];
  readonly values: readonly GPUBuffer[];
  /** Of `ropeTable`, for as many positions. */
  readonly ropeTable: GPUBuffer;
  /** Tokens of each sequence that it holds. */
  past = 0;

  /**
   * @param capacity tokens of a sequence, at most
   * @param forgetful one buffer for all blocks: enough where nothing is read again after its block
   * @throws InvalidArgumentError above the model's positions; UnsupportedError above the device's limits
   */
  constructor({ gpu, config }: Llama, sequences: number, capacity: number, forgetful = false) {
    const { maxPositions, layers, kvHeads, headDim } = config;
    if (capacity > maxPositions) {
      throw new InvalidArgumentError(
        'lm',
        `${capacity} tokens are more than the model's max_position_embeddings of ${maxPositions}; take shorter sequences`,
      );
    }
    this.sequences = sequences;
    this.capacity = capacity;
    const bytes = sequences * kvHeads * capacity * headDim * 4;
    const create = (name: string) => {
      const buffers = Array.from({ length: forgetful ? 1 : layers }, () =>
        createStorageBuffer(gpu.device, name, bytes),
      );
      return Array.from({ length: layers }, (_, i) => buffers[forgetful ? 0 : i]!);
    };
    checkBufferSize(gpu.device.limits, 'lm keys', bytes);
    this.keys = create('lm keys');
    this.values = create('lm values');
    this.ropeTable = createStorageBuffer(gpu.device, 'lm rope', ropeTable(config, capacity));
  }

  destroy(): void {
    for (const buffer of [...this.keys, ...this.values, this.ropeTable]) buffer.destroy();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }
}

export interface ForwardOptions {
  readonly cache: KvCache;
  /** New tokens of each sequence. */
  readonly length: number;
  /** 'losses' of each next token, or 'logits' that follow the last token of each sequence. */
  readonly output: 'losses' | 'logits';
  /** With 'losses': bytes of logits that are in memory at a time, but 64 rows at least; 128 MiB by default. */
  readonly logitsBytes?: number | undefined;
}

/** The most rows (tokens of all sequences) that a pass can take on the model's device. */
export function mostRows({ gpu, config }: Llama): number {
  const { maxBufferSize, maxStorageBufferBindingSize } = gpu.device.limits;
  const widest = Math.max(config.hidden, config.intermediate, config.heads * config.headDim);
  return Math.floor(Math.min(maxBufferSize, maxStorageBufferBindingSize) / (4 * widest));
}

export class Forward {
  readonly sequences: number;
  readonly length: number;
  /** u32[sequences, length] */
  readonly tokens: GPUBuffer;
  /** f32[sequences, length] with 'losses', 0 for the last token of a sequence */
  readonly losses: GPUBuffer | undefined;
  /** f32[sequences, vocabulary] with 'logits' */
  readonly logits: GPUBuffer | undefined;
  /** Dispatches of the forward pass alone, conversions inside products counted as one with them. */
  readonly stepCount: number;
  /** Labels of the kernels that the products are computed with. */
  readonly kernels: readonly string[];
  readonly #llama: Llama;
  readonly #cache: KvCache;
  readonly #shape: GPUBuffer;
  readonly #steps: readonly Step[];
  readonly #owned: readonly { destroy(): void }[];

  private constructor(
    llama: Llama,
    { cache, length }: ForwardOptions,
    buffers: Pick<Forward, 'tokens' | 'losses' | 'logits'> & { shape: GPUBuffer },
    steps: readonly Step[],
    kernels: readonly string[],
    owned: readonly { destroy(): void }[],
  ) {
    this.sequences = cache.sequences;
    this.length = length;
    this.tokens = buffers.tokens;
    this.losses = buffers.losses;
    this.logits = buffers.logits;
    this.stepCount = steps.length;
    this.kernels = kernels;
    this.#llama = llama;
    this.#cache = cache;
    this.#shape = buffers.shape;
    this.#steps = steps;
    this.#owned = owned;
  }

  /** @throws InvalidArgumentError, UnsupportedError where the tokens are too many; ShaderError */
  static async create(llama: Llama, options: ForwardOptions): Promise<Forward> {
    const builder = new Builder(llama, options);
    try {
      const { buffers, steps } = await builder.build();
      return new Forward(llama, options, buffers, steps, [...builder.kernels].sort(), builder.owned);
    } catch (error) {
      for (const owned of builder.owned) owned.destroy();
      throw error;
    }
  }

  /** Replaces the tokens of the next pass, sequence after sequence. @throws InvalidArgumentError for a wrong number, or one out of range */
  writeTokens(tokens: ArrayLike<number>): void {
    if (tokens.length !== this.sequences * this.length) {
      throw new InvalidArgumentError(
        'lm',
        `${tokens.length} tokens were given; ${this.sequences} × ${this.length} are taken`,
      );
    }
    checkTokens(tokens, this.#llama.config.vocabulary);
    this.#llama.gpu.device.queue.writeBuffer(this.tokens, 0, Uint32Array.from(tokens));
  }

  /**
   * Submits the pass over what `tokens` holds; its keys and values follow those in the cache.
   * @param then encodes what comes after, into the same pass
   * @throws InvalidArgumentError where the cache has no room
   */
  submit(then?: (pass: GPUComputePassEncoder) => void): void {
    const { device } = this.#llama.gpu;
    const { sequences, past, capacity } = this.#cache;
    if (past + this.length > capacity) {
      throw new InvalidArgumentError(
        'lm',
        `${past} + ${this.length} tokens are more than the cache's ${capacity}`,
      );
    }
    device.queue.writeBuffer(this.#shape, 0, Uint32Array.of(sequences, this.length, past, capacity));
    const encoder = device.createCommandEncoder({ label: 'lm forward' });
    const pass = encoder.beginComputePass({ label: 'lm forward' });
    for (const step of this.#steps) step.encode(pass);
    then?.(pass);
    pass.end();
    device.queue.submit([encoder.finish()]);
    this.#cache.past += this.length;
  }

  /** Logits f32[sequences, vocabulary] of the last pass. */
  async readLogits(): Promise<Float32Array> {
    if (!this.logits) throw new InvalidArgumentError('lm', "the pass was created without output: 'logits'");
    return new Float32Array(await readBuffer(this.#llama.gpu.device, this.logits));
  }

  destroy(): void {
    for (const owned of this.#owned) owned.destroy();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }
}

/** @throws InvalidArgumentError naming the first token that the model does not have */
export function checkTokens(tokens: ArrayLike<number>, vocabulary: number): void {
  for (let i = 0; i < tokens.length; i++) {
    const token = tokens[i]!;
    if (!(Number.isInteger(token) && token >= 0 && token < vocabulary)) {
      throw new InvalidArgumentError('lm', `token ${i} is ${token}; the vocabulary has 0..${vocabulary - 1}`);
    }
  }
}

/** Makes the buffers and steps of a pass, and remembers what has to be destroyed. */
class Builder {
  readonly owned: { destroy(): void }[] = [];
  readonly kernels = new Set<string>();
  readonly #llama: Llama;
  readonly #options: ForwardOptions;
  /** Rows of activations: tokens of all sequences. */
  readonly #rows: number;

  constructor(llama: Llama, options: ForwardOptions) {
    this.#llama = llama;
    this.#options = options;
    this.#rows = options.cache.sequences * options.length;
    const most = mostRows(llama);
    if (this.#rows > most) {
      throw new InvalidArgumentError(
        'lm',
        `${options.cache.sequences} sequences of ${options.length} tokens are ${this.#rows} rows, and this device's bindings hold ${most}; take fewer at a time`,
      );
    }
  }

  async build() {
    const { config, blocks, finalNorm, gpu } = this.#llama;
    const { cache, output } = this.#options;
    const { hidden, heads, kvHeads, headDim, intermediate, vocabulary } = config;
    const rows = this.#rows;
    const shape = this.#own(
      gpu.device.createBuffer({
        label: 'lm shape',
        size: 16,
        usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST,
      }),
    );
    const tokens = this.#buffer('tokens', rows);
    const x = this.#buffer('x', rows * hidden);
    const normed = this.#buffer('normed x', rows * hidden);
    const q = this.#buffer('q', rows * heads * headDim);
    const k = this.#buffer('k', rows * kvHeads * headDim);
    const v = this.#buffer('v', rows * kvHeads * headDim);
    const attended = this.#buffer('attended values', rows * heads * headDim);
    const gate = this.#buffer('gate', rows * intermediate);
    const up = this.#buffer('up', rows * intermediate);

    // All at once, as each may have a kernel to compile.
    const steps: Promise<Step | Step[]>[] = [this.#embed(tokens, x)];
    for (const [i, block] of blocks.entries()) {
      const keys = cache.keys[i]!;
      const values = cache.values[i]!;
      steps.push(
        this.#norm(x, block.inputNorm, normed),
        this.#asInput(normed, hidden),
        this.#product(block.q, normed, q),
        this.#product(block.k, normed, k, { xUnchanged: true }),
        this.#product(block.v, normed, v, { xUnchanged: true }),
        this.#rope(shape, q, k, v, keys, values),
        this.#attention(shape, q, keys, values, attended),
        this.#asInput(attended, heads * headDim),
        this.#product(block.o, attended, x, { accumulate: true }),
        this.#norm(x, block.mlpNorm, normed),
        this.#asInput(normed, hidden),
        this.#product(block.gate, normed, gate),
        this.#product(block.up, normed, up, { xUnchanged: true }),
        this.#swiglu(gate, up),
        this.#asInput(gate, intermediate),
        this.#product(block.down, gate, x, { accumulate: true }),
      );
    }
    let losses: GPUBuffer | undefined;
    let logits: GPUBuffer | undefined;
    if (output === 'losses') {
      losses = this.#buffer('losses', rows);
      steps.push(this.#norm(x, finalNorm, normed), this.#losses(normed, tokens, losses));
    } else {
      logits = this.#buffer('logits', cache.sequences * vocabulary);
      steps.push(this.#lastLogits(x, logits));
    }
    return { buffers: { tokens, losses, logits, shape }, steps: (await allOf(steps)).flat() };
  }

  #own<T extends { destroy(): void }>(object: T): T {
    this.owned.push(object);
    return object;
  }

  /** @param count of 32-bit values */
  #buffer(name: string, count: number): GPUBuffer {
    return this.#own(createStorageBuffer(this.#llama.gpu.device, `lm ${name}`, count * 4));
  }

  #step(description: StepDescription): Promise<Step> {
    return createStep(this.#llama.gpu, description);
  }

  async #product(
    linear: Linear,
    x: BufferSlice,
    y: BufferSlice,
    { accumulate, xUnchanged }: { accumulate?: boolean; xUnchanged?: boolean } = {},
  ): Promise<Step> {
    return (await this.#createProduct(linear, this.#rows, accumulate)).bind(x, y, xUnchanged);
  }

  async #createProduct(linear: Linear, m: number, accumulate = false): Promise<Product> {
    const product = this.#own(await linear.createProduct({ m, accumulate }));
    this.kernels.add(product.label);
    return product;
  }

  #embed(tokens: GPUBuffer, x: GPUBuffer): Promise<Step[]> {
    const { embedding, config } = this.#llama;
    return Promise.all(
      embedding.parts.map(({ buffer, firstRow, rows }) =>
        this.#step({
          label: 'lm embed',
          sources: [PLAIN_SOURCES[embedding.type], embedSource],
          constants: { COLS4: config.hidden / 4, FIRST_TOKEN: firstRow, TOKENS: rows },
          buffers: [slice(tokens, this.#rows * 4), buffer, x],
          workgroups: this.#rows,
        }),
      ),
    );
  }

  #norm(x: GPUBuffer, weight: GPUBuffer, y: GPUBuffer, rows = this.#rows): Promise<Step> {
    const { hidden, epsilon } = this.#llama.config;
    const [bits] = new Uint32Array(Float32Array.of(epsilon).buffer);
    return this.#step({
      label: 'lm norm',
      sources: [rmsNormSource],
      constants: { COLS4: hidden / 4, EPS_BITS: bits! },
      buffers: [x, weight, y],
      workgroups: rows,
    });
  }

  /** Rounds rows of `columns` values to the type that inputs of linear layers have. */
  async #asInput(x: GPUBuffer, columns: number): Promise<Step[]> {
    if (this.#llama.inputType === 'f32') return [];
    const step = await this.#step({
      label: 'lm round to bf16',
      sources: [roundBf16Source],
      buffers: [x],
      workgroups: Math.ceil((this.#rows * columns) / 4 / THREADS),
    });
    return [step];
  }

  #heads(): Record<string, number> {
    const { heads, kvHeads, headDim } = this.#llama.config;
    return { HEADS: heads, KV_HEADS: kvHeads, HEAD_DIM: headDim };
  }

  #rope(
    shape: GPUBuffer,
    q: GPUBuffer,
    k: GPUBuffer,
    v: GPUBuffer,
    keys: GPUBuffer,
    values: GPUBuffer,
  ): Promise<Step> {
    const { heads, kvHeads, headDim } = this.#llama.config;
    const pairs = (this.#rows * (heads + 2 * kvHeads) * headDim) / 2;
    return this.#step({
      label: 'lm rope',
      sources: [shapeSource, ropeSource],
      constants: this.#heads(),
      buffers: [shape, this.#options.cache.ropeTable, q, k, v, keys, values],
      workgroups: Math.ceil(pairs / THREADS),
    });
  }

  #attention(
    shape: GPUBuffer,
    q: GPUBuffer,
    keys: GPUBuffer,
    values: GPUBuffer,
    y: GPUBuffer,
  ): Promise<Step> {
    const { heads, headDim } = this.#llama.config;
    const { cache, length } = this.#options;
    const buffers = [shape, q, keys, values, y];
    if (length === 1) {
      return this.#step({
        label: 'lm attention (decode)',
        sources: [shapeSource, attentionDecodeSource],
        constants: this.#heads(),
        buffers,
        workgroups: [1, heads, cache.sequences],
      });
    }
    const groups = Math.floor(256 / (headDim / 4));
    return this.#step({
      label: 'lm attention',
      sources: [shapeSource, attentionSource],
      constants: {
        ...this.#heads(),
        CHUNKS: Math.ceil(headDim / 32),
        GROUPS: groups,
        ROWS: Math.ceil(ATTENTION_TILE / groups),
      },
      buffers,
      workgroups: [Math.ceil(length / ATTENTION_TILE), heads, cache.sequences],
    });
  }

  #swiglu(gate: GPUBuffer, up: GPUBuffer): Promise<Step> {
    return this.#step({
      label: 'lm swiglu',
      sources: [swigluSource],
      buffers: [gate, up],
      workgroups: Math.ceil((this.#rows * this.#llama.config.intermediate) / 4 / THREADS),
    });
  }

  /** The head and the losses, so many rows at a time that logits stay within bounds. */
  async #losses(normed: GPUBuffer, tokens: GPUBuffer, losses: GPUBuffer): Promise<Step[]> {
    const { gpu, head, config } = this.#llama;
    const { hidden, vocabulary } = config;
    const { maxBufferSize, maxStorageBufferBindingSize } = gpu.device.limits;
    const most =
      Math.min(this.#options.logitsBytes ?? LOGITS_BYTES, maxBufferSize, maxStorageBufferBindingSize) /
      (4 * vocabulary);
    // Slices of x begin at multiples of 256 bytes: 64 values.
    const chunk = Math.min(this.#rows, Math.max(64, Math.floor(most / 64) * 64));
    const logits = this.#buffer('logits', chunk * vocabulary);
    const products = new Map<number, Product>();
    const steps: Step[] = [];
    for (let first = 0; first < this.#rows; first += chunk) {
      const m = Math.min(chunk, this.#rows - first);
      let product = products.get(m);
      if (!product) {
        product = await this.#createProduct(head, m);
        products.set(m, product);
      }
      const rows = this.#own(
        gpu.device.createBuffer({
          label: 'lm rows',
          size: 16,
          usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST,
        }),
      );
      gpu.device.queue.writeBuffer(rows, 0, Uint32Array.of(m, first, this.#options.length, 0));
      const x = { buffer: normed, offset: first * hidden * 4, size: m * hidden * 4 };
      steps.push(
        product.bind(x, logits),
        await this.#step({
          label: 'lm cross entropy',
          sources: [crossEntropySource],
          constants: { VOCABULARY: vocabulary },
          buffers: [rows, logits, tokens, losses],
          workgroups: m,
        }),
      );
    }
    return steps;
  }

  /** The head on the last token of each sequence. */
  async #lastLogits(x: GPUBuffer, logits: GPUBuffer): Promise<Step[]> {
    const { head, config, finalNorm } = this.#llama;
    const { hidden } = config;
    const { cache, length } = this.#options;
    const last = this.#buffer('last rows', cache.sequences * hidden);
    const normed = this.#buffer('normed last rows', cache.sequences * hidden);
    const product = await this.#createProduct(head, cache.sequences);
    return [
      await this.#step({
        label: 'lm last rows',
        sources: [lastRowsSource],
        constants: { COLS4: hidden / 4, LENGTH: length },
        buffers: [x, last],
        workgroups: cache.sequences,
      }),
      await this.#norm(last, finalNorm, normed, cache.sequences),
      product.bind(normed, logits),
    ];
  }
}

/** Waits for all of them also where one fails, so that whatever they make can be destroyed. */
async function allOf<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(promises);
  return Promise.all(promises);
}

/** Exactly so many bytes, as shaders take the number of rows from the length of an array. */
function slice(buffer: GPUBuffer, size: number): GPUBufferBinding {
  return { buffer, offset: 0, size };
}
