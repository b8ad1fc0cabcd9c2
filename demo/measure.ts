/** Samples of GPU work in turns, so that what changes over a run (clock, heat, other tabs) meets all alike. */

import copySource from '../bench/shaders/copy.wgsl?raw';
import { spread } from '../bench/stats.js';
import { createStorageBuffer } from '../src/gpu/buffers.js';
import { isSoftware } from '../src/gpu/caps.js';
import { getPipeline } from '../src/gpu/pipeline.js';
import { composeShader } from '../src/gpu/shader.js';
import { createStopwatch, type Stopwatch } from '../src/gpu/timer.js';
import type { Gpu } from '../src/index.js';

/** Something the GPU does again and again. */
export interface Workload {
  encode(pass: GPUComputePassEncoder, repetition: number): void;
}

/** Repetitions that one pass may have. */
const MOST_REPETITIONS = 5000;
/** Work that raises an idle GPU's clock before the first sample, in ms. */
const WARM_UP = 600;

export class Sampler {
  readonly #stopwatch: Stopwatch;
  readonly #software: boolean;
  /**
   * A sample repeats the work until it lasts this long. Browsers round timestamps to 0.1 ms, half a percent of it, and
   * submitting costs more.
   */
  readonly #sampleSeconds: number;

  constructor(gpu: Gpu) {
    this.#stopwatch = createStopwatch(gpu);
    this.#software = isSoftware(gpu.adapterInfo);
    this.#sampleSeconds = this.#software ? 0 : this.clock === 'timestamp' ? 0.02 : 0.05;
  }

  get clock(): Stopwatch['clock'] {
    return this.#stopwatch.clock;
  }

  /** Keeps the GPU busy until its clock is up. */
  async warmUp(work: Workload, signal: AbortSignal): Promise<void> {
    if (this.#software) return;
    const repetitions = await this.calibrate(work, signal);
    const start = performance.now();
    while (performance.now() - start < WARM_UP) {
      signal.throwIfAborted();
      await this.#stopwatch.run(work.encode, repetitions);
    }
  }

  /** Repetitions that fill a sample. */
  async calibrate(work: Workload, signal: AbortSignal): Promise<number> {
    for (let repetitions = 1; ; ) {
      signal.throwIfAborted();
      const elapsed = await this.#stopwatch.run(work.encode, repetitions);
      if (elapsed >= this.#sampleSeconds / 2 || repetitions === MOST_REPETITIONS) {
        const wanted = elapsed > 0 ? (this.#sampleSeconds * repetitions) / elapsed : 1;
        return Math.max(1, Math.min(Math.ceil(wanted), MOST_REPETITIONS));
      }
      const growth = elapsed > 0 ? Math.min(this.#sampleSeconds / elapsed, 8) : 8;
      repetitions = Math.min(Math.ceil(repetitions * growth), MOST_REPETITIONS);
    }
  }

  /**
   * Seconds of a repetition: for each workload, one number a round.
   * @param onRound called after each round
   */
  async rounds(
    works: readonly Workload[],
    count: number,
    signal: AbortSignal,
    onRound: (done: number) => void = () => {},
  ): Promise<number[][]> {
    const repetitions: number[] = [];
    for (const work of works) repetitions.push(await this.calibrate(work, signal));
    const seconds: number[][] = works.map(() => []);
    for (let round = 0; round < count; round++) {
      for (let turn = 0; turn < works.length; turn++) {
        signal.throwIfAborted();
        // Another one begins each round, as the first may meet a GPU that has just rested.
        const i = (turn + round) % works.length;
        const elapsed = await this.#sample(works[i]!, repetitions[i]!);
        seconds[i]!.push(elapsed / repetitions[i]!);
      }
      onRound(round + 1);
    }
    return seconds;
  }

  async #sample(work: Workload, repetitions: number): Promise<number> {
    // A clock that is reset between the two stamps gives none: once more then.
    for (let attempt = 0; attempt < 3; attempt++) {
      const elapsed = await this.#stopwatch.run(work.encode, repetitions);
      if (elapsed > 0) return elapsed;
    }
    return Number.NaN;
  }

  destroy(): void {
    this.#stopwatch.destroy();
  }
}

/** Median, 20th and 80th percentile of the samples that there are. */
export const spreadOf = (samples: readonly number[]) =>
  spread(samples.filter((value) => !Number.isNaN(value)));

/** A copy from one buffer to another: what the memory gives at most. */
export interface CopyWork extends Workload {
  /** Bytes read and written. */
  readonly bytes: number;
  destroy(): void;
}

export async function createCopy({ device, caps, adapterInfo }: Gpu): Promise<CopyWork> {
  const wanted = isSoftware(adapterInfo) ? 2 ** 20 : 2 ** 27;
  const { maxBufferSize, maxStorageBufferBindingSize, maxComputeWorkgroupsPerDimension } = caps.limits;
  // A workgroup copies four vec4s for each of its 256 threads.
  const group = 256 * 4 * 16;
  const groups = Math.min(
    Math.floor(Math.min(wanted, maxBufferSize, maxStorageBufferBindingSize) / group),
    maxComputeWorkgroupsPerDimension,
  );
  const pipeline = await getPipeline(
    device,
    composeShader({
      label: 'probe_copy',
      constants: {},
      modules: [{ name: 'probe_copy.wgsl', source: copySource }],
    }),
  );
  const buffers = ['from', 'to'].map((name) =>
    createStorageBuffer(device, `demo copy ${name}`, groups * group),
  );
  const bindGroup = device.createBindGroup({
    label: 'demo copy',
    layout: pipeline.getBindGroupLayout(0),
    entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  return {
    bytes: 2 * groups * group,
    encode(pass) {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, bindGroup);
      pass.dispatchWorkgroups(groups);
    },
    destroy: () => buffers.forEach((buffer) => void buffer.destroy()),
  };
}
