/** Quantizes matrices that are read a stripe at a time, on the GPU or on threads; the bytes are the same. */
import { type FloatDtype, toFloat32 } from '../checkpoint/dtype.js';
import { InvalidArgumentError, UnsupportedError } from '../errors.js';
import { quantizeOnGpu, readbackQuantized } from '../gemm/gpu-quantizer.js';
import type { Gpu } from '../gpu/gpu.js';
import { type QuantizedMatrix, rowRange } from '../matrix/quantized-matrix.js';
import { addSums, type ErrorSums, NO_ERROR } from '../quantize/metrics.js';
import { type QuantizeOptions, resolveOptions } from '../quantize/options.js';
import { tileHeight } from '../quantize/quantize.js';
import { adapterName } from './gpu-options.js';
import { Slots, settled } from './parallel.js';
import {
  answerRows,
  type MatrixInputs,
  type RowsAnswer,
  type RowsResults,
  type RowsTask,
  type StoredRows,
} from './rows-task.js';
import { WorkerPool } from './worker-pool.js';

/** Values in a stripe: a few MB on each thread, and long enough that passing it on costs nothing. */
const STRIPE_VALUES = 2 ** 20;

/** A matrix to be read. */
export interface RowSource {
  /** What error messages call it. */
  readonly name: string;
  readonly dtype: FloatDtype;
  readonly options: QuantizeOptions;
  /** Bytes of rows `start` to `end`. */
  read(start: number, end: number): Promise<Uint8Array>;
}

export interface RowQuantizerOptions {
  /** Beside the CPU; borrowed. */
  readonly gpu?: Gpu | undefined;
  /** 0: this thread. */
  readonly threads: number;
  readonly signal: AbortSignal;
}

export class RowQuantizer {
  /** Where matrices are quantized, in words. */
  readonly device: string;
  /** Matrices that the GPU had no room for. */
  readonly leftToCpu = new Set<string>();
  readonly #gpu: Gpu | undefined;
  readonly #pool: WorkerPool<RowsTask, RowsAnswer> | undefined;
  readonly #signal: AbortSignal;
  /** Stripes in memory. */
  readonly #stripes: Slots;
  /** A matrix that the GPU takes in one piece is in memory, and no second one. */
  readonly #wholes = new Slots(1);

  constructor({ gpu, threads, signal }: RowQuantizerOptions) {
    this.#gpu = gpu;
    this.#signal = signal;
    this.#stripes = new Slots(threads + 1);
    this.#pool = threads ? new WorkerPool(new URL('rows-worker.js', import.meta.url), threads) : undefined;
    this.device = gpu ? adapterName(gpu) : `CPU, ${threads || 1} thread${threads > 1 ? 's' : ''}`;
  }

  /**
   * Quantizes a matrix and hands out its rows as they are ready, in any order.
   * @returns the error of all of it
   * @throws InvalidArgumentError for NaN and Inf, naming the matrix and the place
   */
  async quantize(source: RowSource, take: Take): Promise<ErrorSums> {
    const { options, name } = source;
    const stripes = stripesOf(options);
    if (!this.#gpu) return this.#onCpu(source, stripes, take);
    // What the GPU has no option for: the scale of a tensor that it does not see, and places in one.
    const inOnePiece = options.format === 'nvfp4' || options.rounding === 'stochastic';
    const pieces = inOnePiece ? [{ start: 0, end: options.rows }] : stripes;
    const largestBytes = Math.max(...pieces.map(({ start, end }) => (end - start) * options.cols * 4));
    const { maxBufferSize, maxStorageBufferBindingSize } = this.#gpu.caps.limits;
    if (largestBytes > Math.min(maxBufferSize, maxStorageBufferBindingSize)) {
      this.leftToCpu.add(name);
      return this.#onCpu(source, stripes, take);
    }
    if (!inOnePiece) {
      return this.#sum(stripes, async (stripe) => {
        const rows = await this.#rows(source, stripe);
        return (await this.#onGpu(source, rows, [stripe], take)) ?? this.#stripeOnCpu(source, rows, take);
      });
    }
    return this.#wholes.run(async () => {
      this.#signal.throwIfAborted();
      const rows = await this.#rows(source, pieces[0]!);
      return (await this.#onGpu(source, rows, stripes, take)) ?? this.#onCpu(source, stripes, take);
    });
  }

  /**
   * The error of y = x · wᵀ, w quantized, on the CPU.
   * @throws InvalidArgumentError for NaN and Inf in w, naming the matrix and the place
   */
  async outputError(source: RowSource, inputs: MatrixInputs): Promise<ErrorSums> {
    const stripes = stripesOf(source.options);
    const largest = await this.#largest(source, stripes);
    return this.#sum(stripes, async (stripe) =>
      this.#run(source, { kind: 'output', ...(await this.#rows(source, stripe)), largest, inputs }),
    );
  }

  /** Ends the threads; what they still do is lost. */
  async close(): Promise<void> {
    await this.#pool?.close();
  }

  async #onCpu(source: RowSource, stripes: readonly Stripe[], take: Take): Promise<ErrorSums> {
    const largest = await this.#largest(source, stripes);
    return this.#sum(stripes, async (stripe) =>
      this.#stripeOnCpu(source, await this.#rows(source, stripe), take, largest),
    );
  }

  /** Of all rows, where they are quantized in parts and that matters. */
  async #largest(source: RowSource, stripes: readonly Stripe[]): Promise<number | undefined> {
    if (source.options.format !== 'nvfp4' || stripes.length === 1) return undefined;
    const ofStripes = await this.#each(stripes, async (stripe) =>
      this.#run(source, { kind: 'largest', ...(await this.#rows(source, stripe)) }),
    );
    return Math.max(...ofStripes);
  }

  async #stripeOnCpu(source: RowSource, rows: StoredRows, take: Take, largest?: number): Promise<ErrorSums> {
    const { q, error } = await this.#run(source, { kind: 'quantize', ...rows, largest });
    await take(q, rows.firstRow);
    return error;
  }

  /** @returns undefined where the GPU cannot: the CPU says where a value is that FP4 does not hold, and has more room */
  async #onGpu(
    source: RowSource,
    rows: StoredRows,
    stripes: readonly Stripe[],
    take: Take,
  ): Promise<ErrorSums | undefined> {
    const result = await quantizeStored(this.#gpu!, rows);
    if (!result) {
      this.leftToCpu.add(source.name);
      return undefined;
    }
    await take(result, rows.firstRow);
    const bytesPerRow = rows.bytes.length / rows.options.rows;
    const errors = await settled(
      stripes.map(({ start, end }) => {
        const [from, to] = [start - rows.firstRow, end - rows.firstRow];
        const part: StoredRows = {
          ...rows,
          // A copy: a view would pass all that it is a view of to the thread.
          bytes: rows.bytes.slice(from * bytesPerRow, to * bytesPerRow),
          options: { ...rows.options, rows: to - from },
          firstRow: start,
        };
        return this.#run(source, { kind: 'measure', ...part, q: copyOf(rowRange(result, from, to)) });
      }),
    );
    return errors.reduce(addSums, NO_ERROR);
  }

  /** Does something with every stripe, as many at a time as may be in memory. */
  #each<Result>(stripes: readonly Stripe[], task: (stripe: Stripe) => Promise<Result>): Promise<Result[]> {
    return settled(
      stripes.map((stripe) =>
        this.#stripes.run(() => {
          this.#signal.throwIfAborted();
          return task(stripe);
        }),
      ),
    );
  }

  /** Added in the order of the rows, so that a sum does not depend on which thread was faster. */
  async #sum(stripes: readonly Stripe[], task: (stripe: Stripe) => Promise<ErrorSums>): Promise<ErrorSums> {
    return (await this.#each(stripes, task)).reduce(addSums, NO_ERROR);
  }

  async #rows(source: RowSource, { start, end }: Stripe): Promise<StoredRows> {
    const bytes = await source.read(start, end);
    return { bytes, dtype: source.dtype, options: { ...source.options, rows: end - start }, firstRow: start };
  }

  async #run<Task extends RowsTask>(source: RowSource, task: Task): Promise<RowsResults[Task['kind']]> {
    const answer = this.#pool ? await this.#pool.run(task) : answerRows(task);
    if ('refused' in answer) throw new InvalidArgumentError('quantize', `${source.name}: ${answer.refused}`);
    return answer.result as RowsResults[Task['kind']];
  }
}

interface Stripe {
  readonly start: number;
  readonly end: number;
}

/** Takes rows that are ready. */
type Take = (q: QuantizedMatrix, firstRow: number) => Promise<void>;

/** @returns undefined where a value is not finite, or the device has no room */
async function quantizeStored(
  gpu: Gpu,
  { bytes, dtype, options }: StoredRows,
): Promise<QuantizedMatrix | undefined> {
  try {
    using quantized = await quantizeOnGpu(gpu, toFloat32(bytes, dtype), options);
    return await readbackQuantized(gpu, quantized);
  } catch (error) {
    if (error instanceof InvalidArgumentError || error instanceof UnsupportedError) return undefined;
    throw error;
  }
}

/** Rows of about `STRIPE_VALUES` values, whole tiles. */
function stripesOf(options: QuantizeOptions): Stripe[] {
  const { rows, cols } = options;
  const height = tileHeight(resolveOptions(options));
  const perStripe = Math.max(1, Math.floor(STRIPE_VALUES / cols / height)) * height;
  return Array.from({ length: Math.ceil(rows / perStripe) }, (_, i) => ({
    start: i * perStripe,
    end: Math.min(rows, (i + 1) * perStripe),
  }));
}

function copyOf(q: QuantizedMatrix): QuantizedMatrix {
  return {
    ...q,
    codes: q.codes.slice(),
    scales: q.scales.slice(),
    ...(q.macroScales && { macroScales: q.macroScales.slice() }),
  };
}
