/** Text generation: the prompt at once, then token by token, each chosen on the GPU and fed to the next pass there. */
import { createStorageBuffer, readBuffer } from '../../src/gpu/buffers.js';
import { BufferUsage } from '../../src/gpu/constants.js';
import { InvalidArgumentError } from '../../src/index.js';
import { Forward, KvCache } from './forward.js';
import type { Llama } from './llama.js';
import sampleSource from './shaders/sample.wgsl?raw';
import { createStep } from './step.js';

export interface GenerateOptions {
  /** New tokens, at most; by default as many as the model has positions for after the prompt. */
  readonly maxTokens?: number | undefined;
  /** 0 (default) takes the likeliest token; 1 draws with the model's probabilities. */
  readonly temperature?: number | undefined;
  /** Draws among so many of the likeliest tokens only; 0 (default) among all. */
  readonly topK?: number | undefined;
  /** Of the draws: an integer from 0 to 2^32 - 1; 0 by default. */
  readonly seed?: number | undefined;
  /** Tokens that end the text and are not given; the model's own by default. */
  readonly endTokens?: readonly number[] | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Passes that are on their way while a token comes back: none waits for the CPU, and few are for nothing at the end. */
const AHEAD = 3;

/**
 * Tokens that follow a prompt, as they come. The same prompt, options and device give the same tokens.
 * @throws InvalidArgumentError for an empty prompt, one that is too long, or options out of range; the signal's reason
 * where it aborts
 */
export async function* generate(
  llama: Llama,
  prompt: ArrayLike<number>,
  options: GenerateOptions = {},
): AsyncGenerator<number, void, undefined> {
  const { gpu, config } = llama;
  const { device } = gpu;
  const { temperature = 0, topK = 0, seed = 0, signal, endTokens = config.endTokens } = options;
  const room = config.maxPositions - prompt.length;
  const maxTokens = options.maxTokens ?? room;
  if (prompt.length === 0) fail('the prompt is empty; give one token at least');
  check('maxTokens', maxTokens, 1, 2 ** 32 - 1);
  check('topK', topK, 0, config.vocabulary);
  check('seed', seed, 0, 2 ** 32 - 1);
  if (!(Number.isFinite(temperature) && temperature >= 0))
    fail(`temperature = ${temperature} is negative or no number`);
  if (maxTokens > room) {
    fail(
      `${prompt.length} + ${maxTokens} tokens are more than the model's max_position_embeddings of ${config.maxPositions}`,
    );
  }

  const owned: { destroy(): void }[] = [];
  const own = <T extends { destroy(): void }>(object: T): T => {
    owned.push(object);
    return object;
  };
  try {
    const cache = own(new KvCache(llama, 1, prompt.length + maxTokens));
    const prefill = own(await Forward.create(llama, { cache, length: prompt.length, output: 'logits' }));
    const decode = own(await Forward.create(llama, { cache, length: 1, output: 'logits' }));
    const draw = own(
      device.createBuffer({ label: 'lm draw', size: 16, usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST }),
    );
    const history = own(createStorageBuffer(device, 'lm history', maxTokens * 4));
    const [first, next] = await Promise.all(
      [prefill, decode].map(({ logits }) =>
        createStep(gpu, {
          label: 'lm sample',
          sources: [sampleSource],
          constants: { VOCABULARY: config.vocabulary },
          buffers: [draw, logits!, decode.tokens, history],
          workgroups: 1,
        }),
      ),
    );
    const submit = (step: number): Promise<ArrayBuffer> => {
      const words = Uint32Array.of(step, seed, 0, topK);
      new Float32Array(words.buffer)[2] = temperature > 0 ? 1 / temperature : 0;
      device.queue.writeBuffer(draw, 0, words);
      const [forward, sample] = step === 0 ? [prefill, first!] : [decode, next!];
      forward.submit((pass) => sample.encode(pass));
      const token = readBuffer(device, { buffer: history, offset: step * 4, size: 4 });
      // Whoever stops early does not wait for it.
      token.catch(() => undefined);
      return token;
    };
    prefill.writeTokens(prompt);
    const coming: Promise<ArrayBuffer>[] = [];
    for (let step = 0, given = 0; given < maxTokens; given++) {
      signal?.throwIfAborted();
      while (step < maxTokens && coming.length <= AHEAD) coming.push(submit(step++));
      const token = new Uint32Array(await coming.shift()!)[0]!;
      if (endTokens.includes(token)) return;
      yield token;
    }
  } finally {
    for (const object of owned) object.destroy();
  }
}

function check(name: string, value: number, least: number, most: number): void {
  if (!(Number.isSafeInteger(value) && value >= least && value <= most)) {
    fail(`${name} = ${value} is no integer from ${least} to ${most}`);
  }
}

function fail(problem: string): never {
  throw new InvalidArgumentError('lm', problem);
}
