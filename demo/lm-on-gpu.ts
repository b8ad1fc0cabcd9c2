/** The page's model on one device: in one format at a time, which stays until another is asked for. */
import { type Gpu, UnsupportedError } from '../src/index.js';
import { nextTask } from './dom.js';
import { type Configuration, configurationName } from './lm/format-names.js';
import { createLlama, type Llama, type SharedWeights, uploadShared } from './lm/llama.js';
import { keepingMatrices, type LlamaSource } from './lm/source.js';
import { Refusals } from './refusals.js';

export type Precision = 'f32' | 'f16';

export interface GetOptions {
  readonly precision: Precision;
  readonly signal: AbortSignal;
  readonly onProgress: (done: number, total: number) => void;
}

/** A source that reads each matrix once, and lets the page live between two of them. */
export function pageSource(source: LlamaSource): LlamaSource {
  const kept = keepingMatrices(source);
  return {
    ...kept,
    async matrix(name, rows, cols) {
      await nextTask();
      try {
        return await kept.matrix(name, rows, cols);
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        throw new UnsupportedError(
          'demo',
          `${name} of ${rows} × ${cols} values does not fit into this tab's memory (${error}); take a smaller model`,
        );
      }
    },
  };
}

export class ModelOnGpu {
  readonly gpu: Gpu;
  readonly source: LlamaSource;
  #shared: SharedWeights | undefined;
  #current: { readonly key: string; readonly llama: Llama } | undefined;
  #last: Promise<unknown> = Promise.resolve();
  readonly #refusals: Refusals;

  constructor(gpu: Gpu, source: LlamaSource) {
    this.gpu = gpu;
    this.source = source;
    this.#refusals = new Refusals(gpu.device);
  }

  /** Works one after another: one that was cancelled still has what it uses until it has seen that. */
  use<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => undefined);
    return result;
  }

  async shared(): Promise<SharedWeights> {
    this.#shared ??= await this.#checked(() => uploadShared(this.gpu, this.source));
    return this.#shared;
  }

  /**
   * The model in a format; the one before is destroyed unless it is the same. Call it within `use`.
   * @throws as `createLlama`; UnsupportedError where the device's memory does not hold it
   */
  async get(configuration: Configuration, options: GetOptions): Promise<Llama> {
    const key = `${configurationName(configuration)} ${options.precision}`;
    if (this.#current?.key === key) return this.#current.llama;
    this.#current?.llama.destroy();
    this.#current = undefined;
    const llama = await this.create(configuration, options);
    this.#current = { key, llama };
    return llama;
  }

  /** Another one, which is the caller's. */
  async create(configuration: Configuration, options: GetOptions): Promise<Llama> {
    const shared = await this.shared();
    return this.#checked(() => createLlama(this.gpu, this.source, { ...configuration, ...options, shared }));
  }

  /** After what is at work has ended. */
  destroy(): void {
    void this.use(async () => {
      this.#current?.llama.destroy();
      this.#shared?.destroy();
      this.#current = undefined;
      this.#shared = undefined;
      this.#refusals.destroy();
    });
  }

  /**
   * WebGPU tells of memory that is not there, and of what it refuses, only to whoever listens; results are wrong then.
   * @throws UnsupportedError where it has told something since the last time
   */
  async check(): Promise<void> {
    await this.gpu.device.queue.onSubmittedWorkDone();
    await nextTask();
    this.#refusals.throwIfAny();
  }

  async #checked<T extends { destroy(): void }>(create: () => Promise<T>): Promise<T> {
    const made = await create();
    try {
      await this.check();
    } catch (error) {
      made.destroy();
      throw error;
    }
    return made;
  }
}
