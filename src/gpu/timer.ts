import { BufferUsage, MAP_READ } from './constants.js';
import type { Gpu } from './gpu.js';
import { whileAlive } from './loss.js';

export interface Timing {
  /** Seconds per repetition: median, 20th and 80th percentile over the samples. */
  readonly median: number;
  readonly p20: number;
  readonly p80: number;
  readonly samples: number;
  /** Repetitions inside each sample. */
  readonly repetitions: number;
  /** 'timestamp': GPU timestamps around one pass; 'wall': submit to completion, on devices without them. */
  readonly clock: 'timestamp' | 'wall';
}

export interface TimerOptions {
  /** Samples taken; 15 by default. */
  samples?: number;
  /** Each sample repeats the work until it lasts this long; 20 ms by default. */
  sampleSeconds?: number;
  /** Work done before anything is timed, so that an idle GPU has raised its clock; 300 ms by default. */
  warmUpSeconds?: number;
}

/**
 * Times GPU work. `encode` puts one repetition into the pass; repetitions run one after another inside one pass,
 * which hides timestamp quantization and submission cost.
 * @throws DeviceLostError where the device is lost meanwhile
 */
export async function time(
  gpu: Gpu,
  encode: (pass: GPUComputePassEncoder, repetition: number) => void,
  { samples = 15, sampleSeconds = 0.02, warmUpSeconds = 0.3 }: TimerOptions = {},
): Promise<Timing> {
  const stopwatch = createStopwatch(gpu);
  try {
    // Find a repetition count that fills a sample, growing towards it; this is the warm-up as well.
    let repetitions = 1;
    let perRepetition = 0;
    const start = performance.now();
    for (;;) {
      const elapsed = await stopwatch.run(encode, repetitions);
      perRepetition = elapsed / repetitions;
      const warm = performance.now() - start >= warmUpSeconds * 1000;
      if (warm && elapsed >= sampleSeconds / 2) break;
      const wanted = elapsed > 0 ? sampleSeconds / perRepetition : repetitions * 8;
      repetitions = Math.max(1, Math.min(Math.ceil(wanted), repetitions * 8, 20000));
      if (warm && repetitions === 20000) break;
    }
    repetitions = Math.max(1, Math.min(Math.ceil(sampleSeconds / (perRepetition || 1e-9)), 20000));
    const times: number[] = [];
    for (let i = 0; i < samples; i++) times.push((await stopwatch.run(encode, repetitions)) / repetitions);
    times.sort((a, b) => a - b);
    const at = (quantile: number) => times[Math.round(quantile * (times.length - 1))]!;
    return { median: at(0.5), p20: at(0.2), p80: at(0.8), samples, repetitions, clock: stopwatch.clock };
  } finally {
    stopwatch.destroy();
  }
}

type Encode = (pass: GPUComputePassEncoder, repetition: number) => void;

/** What {@link time} measures a sample with. */
export interface Stopwatch {
  readonly clock: Timing['clock'];
  /**
   * Seconds that all repetitions take, one after another inside one pass; 0 where the clock cannot tell.
   * @throws DeviceLostError where the device is lost meanwhile
   */
  run(encode: Encode, repetitions: number): Promise<number>;
  destroy(): void;
}

/** GPU timestamps where the device has them, else the time from submitting to completion. */
export function createStopwatch(gpu: Gpu): Stopwatch {
  return gpu.caps.timestampQuery ? new TimestampStopwatch(gpu.device) : new WallStopwatch(gpu.device);
}

class WallStopwatch implements Stopwatch {
  readonly clock = 'wall';
  readonly #alive: GPUBuffer;

  constructor(readonly device: GPUDevice) {
    this.#alive = device.createBuffer({ size: 4, usage: BufferUsage.MAP_READ | BufferUsage.COPY_DST });
  }

  async run(encode: Encode, repetitions: number): Promise<number> {
    const encoder = this.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (let i = 0; i < repetitions; i++) encode(pass, i);
    pass.end();
    const commands = encoder.finish();
    await this.#done();
    const start = performance.now();
    this.device.queue.submit([commands]);
    await this.#done();
    const seconds = (performance.now() - start) / 1000;
    // A lost device has done its work, too, and in no time. What it cannot do is map a buffer.
    await whileAlive(this.device, 'measuring', this.#alive.mapAsync(MAP_READ));
    this.#alive.unmap();
    return seconds;
  }

  #done(): Promise<undefined> {
    return whileAlive(this.device, 'measuring', this.device.queue.onSubmittedWorkDone());
  }

  destroy(): void {
    this.#alive.destroy();
  }
}

class TimestampStopwatch implements Stopwatch {
  readonly clock = 'timestamp';
  readonly #queries: GPUQuerySet;
  readonly #resolve: GPUBuffer;
  readonly #staging: GPUBuffer;

  constructor(readonly device: GPUDevice) {
    this.#queries = device.createQuerySet({ label: 'fp4 timer', type: 'timestamp', count: 2 });
    this.#resolve = device.createBuffer({
      size: 16,
      usage: BufferUsage.QUERY_RESOLVE | BufferUsage.COPY_SRC,
    });
    this.#staging = device.createBuffer({
      size: 16,
      usage: BufferUsage.MAP_READ | BufferUsage.COPY_DST,
    });
  }

  async run(encode: Encode, repetitions: number): Promise<number> {
    const encoder = this.device.createCommandEncoder();
    const pass = encoder.beginComputePass({
      timestampWrites: { querySet: this.#queries, beginningOfPassWriteIndex: 0, endOfPassWriteIndex: 1 },
    });
    for (let i = 0; i < repetitions; i++) encode(pass, i);
    pass.end();
    encoder.resolveQuerySet(this.#queries, 0, 2, this.#resolve, 0);
    encoder.copyBufferToBuffer(this.#resolve, 0, this.#staging, 0, 16);
    this.device.queue.submit([encoder.finish()]);
    await whileAlive(this.device, 'measuring', this.#staging.mapAsync(MAP_READ));
    const [begin, end] = new BigUint64Array(this.#staging.getMappedRange());
    const seconds = Number(end! - begin!) * 1e-9;
    this.#staging.unmap();
    // Clocks that are reset between the two stamps give a negative span; call it unmeasured.
    return Math.max(0, seconds);
  }

  destroy(): void {
    this.#queries.destroy();
    this.#resolve.destroy();
    this.#staging.destroy();
  }
}
