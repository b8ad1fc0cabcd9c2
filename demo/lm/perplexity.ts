/** Perplexity of a model on tokens: exp of the mean negative log likelihood of each next token in its sequence. */
import { readBuffer } from '../../src/gpu/buffers.js';
import { BufferUsage } from '../../src/gpu/constants.js';
import { whileAlive } from '../../src/gpu/loss.js';
import { InvalidArgumentError, UnsupportedError } from '../../src/index.js';
import { checkTokens, Forward, KvCache, mostRows } from './forward.js';
import type { Llama } from './llama.js';

export interface PerplexityOptions {
  /** Tokens of a sequence; the model's most positions by default. The first of each is not predicted. */
  readonly sequenceLength?: number | undefined;
  /** Sequences at a time; 32 by default, or as many as the device's bindings hold. NVFP4 activations share a scale over it. */
  readonly batch?: number | undefined;
  /** Called as sequences are done. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface Perplexity {
  readonly perplexity: number;
  /** Mean negative log likelihood of a predicted token, in nats. */
  readonly loss: number;
  /** Predicted ones. */
  readonly tokens: number;
  readonly lossPerSequence: Float64Array;
  /** Sequences that were taken at a time. */
  readonly batch: number;
  /** Labels of the kernels that the products were computed with. */
  readonly kernels: readonly string[];
  /** From the first submit until the last loss was there; compilation is not counted. */
  readonly seconds: number;
  readonly tokensPerSecond: number;
}

const DEFAULT_BATCH = 32;

/**
 * Deterministic: the same model, tokens and batch on the same device give the same bits. Losses are f32, their sums f64.
 * @param tokens sequence after sequence
 * @throws InvalidArgumentError where the tokens are no whole number of sequences, are out of the vocabulary, or a batch is
 * too large for the device; the signal's reason where it aborts; DeviceLostError
 */
export async function perplexity(
  llama: Llama,
  tokens: ArrayLike<number>,
  options: PerplexityOptions = {},
): Promise<Perplexity> {
  const { gpu, config } = llama;
  const { device } = gpu;
  const { onProgress, signal } = options;
  const length = options.sequenceLength ?? config.maxPositions;
  const total = tokens.length / length;
  if (!(Number.isSafeInteger(length) && length >= 2)) {
    throw new InvalidArgumentError('lm', `sequences of ${length} tokens predict nothing; take 2 at least`);
  }
  if (!(Number.isInteger(total) && total > 0)) {
    throw new InvalidArgumentError(
      'lm',
      `${tokens.length} tokens are no whole number of sequences of ${length}; choose another length or cut them`,
    );
  }
  checkTokens(tokens, config.vocabulary);
  const batch = Math.min(chooseBatch(llama, length, options.batch), total);
  const words = Uint32Array.from(tokens);

  const passes = new Map<number, { cache: KvCache; forward: Forward }>();
  const losses = device.createBuffer({
    label: 'lm all losses',
    size: words.byteLength,
    usage: BufferUsage.COPY_SRC | BufferUsage.COPY_DST,
  });
  try {
    for (const sequences of new Set([batch, total % batch || batch])) {
      signal?.throwIfAborted();
      const cache = new KvCache(llama, sequences, length, true);
      passes.set(sequences, { cache, forward: await create(llama, cache, length) });
    }
    await device.queue.onSubmittedWorkDone();
    const start = performance.now();
    let before = Promise.resolve();
    for (let first = 0; first < total; first += batch) {
      signal?.throwIfAborted();
      const count = Math.min(batch, total - first);
      const { cache, forward } = passes.get(count)!;
      cache.past = 0;
      forward.writeTokens(words.subarray(first * length, (first + count) * length));
      forward.submit();
      const encoder = device.createCommandEncoder({ label: 'lm losses' });
      encoder.copyBufferToBuffer(forward.losses!, 0, losses, first * length * 4, count * length * 4);
      device.queue.submit([encoder.finish()]);
      // One batch is encoded while another runs, and no more, so that progress is true and an abort is soon.
      await before;
      onProgress?.(first, total);
      before = device.queue.onSubmittedWorkDone().then(() => undefined);
    }
    await whileAlive(device, 'perplexity', before);
    const values = new Float32Array(await readBuffer(device, losses, words.byteLength));
    const seconds = (performance.now() - start) / 1000;
    onProgress?.(total, total);
    const kernels = [...new Set([...passes.values()].flatMap(({ forward }) => forward.kernels))];
    return {
      ...summarize(values, length),
      batch,
      kernels,
      seconds,
      tokensPerSecond: tokens.length / seconds,
    };
  } finally {
    for (const { cache, forward } of passes.values()) {
      forward.destroy();
      cache.destroy();
    }
    losses.destroy();
  }
}

async function create(llama: Llama, cache: KvCache, length: number): Promise<Forward> {
  try {
    return await Forward.create(llama, { cache, length, output: 'losses' });
  } catch (error) {
    cache.destroy();
    throw error;
  }
}

function chooseBatch(llama: Llama, length: number, asked: number | undefined): number {
  const most = Math.floor(mostRows(llama) / length);
  if (most < 1) {
    throw new UnsupportedError(
      'lm',
      `a sequence of ${length} tokens exceeds this device's bindings; take shorter ones`,
    );
  }
  if (asked === undefined) return Math.min(DEFAULT_BATCH, most);
  if (!(Number.isSafeInteger(asked) && asked > 0)) {
    throw new InvalidArgumentError('lm', `batch = ${asked} is not a positive integer`);
  }
  if (asked > most) {
    throw new InvalidArgumentError(
      'lm',
      `batch = ${asked} sequences of ${length} tokens are more than the ${most} that this device's bindings hold`,
    );
  }
  return asked;
}

/** @param losses f32[sequences, length], of which the last of a sequence counts for nothing */
function summarize(losses: Float32Array, length: number) {
  const sequences = losses.length / length;
  const lossPerSequence = new Float64Array(sequences);
  for (let i = 0; i < sequences; i++) {
    let sum = 0;
    for (let j = 0; j < length - 1; j++) sum += losses[i * length + j]!;
    lossPerSequence[i] = sum / (length - 1);
  }
  const loss = lossPerSequence.reduce((sum, value) => sum + value, 0) / sequences;
  return { perplexity: Math.exp(loss), loss, tokens: sequences * (length - 1), lossPerSequence };
}
