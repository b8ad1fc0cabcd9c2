/** The measuring itself: a raised clock, samples in pairs with a baseline, and the ceilings of the run. */
import { isSoftware } from '../src/gpu/caps.js';
import type { Gpu } from '../src/gpu/gpu.js';
import { createStopwatch, type Stopwatch } from '../src/gpu/timer.js';
import { type Probe, Probes, type Workload } from './probes.js';
import { type BaselineName, type Ceilings, LOW_CLOCK, type Pairing } from './schema.js';
import { type Spread, scaled, spread } from './stats.js';

export interface SamplingOptions {
  /** Samples of a measurement; 15 by default, 3 on software adapters. */
  readonly samples?: number | undefined;
  /** Each sample repeats the work until it lasts this long; 10 ms by default, once on software adapters. */
  readonly sampleSeconds?: number | undefined;
}

/** Times of one workload, per repetition. */
export interface Timed {
  /** Seconds. */
  readonly time: Spread;
  readonly samples: number;
  readonly repetitions: number;
}

export interface PairedTime extends Timed {
  readonly pairing: Pairing;
  /** Clock of the GPU right after, as a part of the fastest seen; undefined on software adapters. */
  readonly gpuClock: number | undefined;
}

/** Work that raises an idle GPU's clock, in ms; between two cases it has not cooled down for long. */
const FIRST_SPIN = 700;
const SPIN = 40;
/** Repetitions that one pass may have. */
const MOST_REPETITIONS = 20000;

export class Instrument {
  readonly gpu: Gpu;
  readonly software: boolean;
  readonly #probes: Probes;
  readonly #stopwatch: Stopwatch;
  readonly #samples: number;
  readonly #sampleSeconds: number;
  /** Repetitions that make a sample. */
  readonly #repetitions = new WeakMap<Workload, number>();
  #fastestChain = Number.POSITIVE_INFINITY;
  /** Seconds of each baseline at its fastest: memory has a clock of its own. */
  readonly #fastestBaseline: Partial<Record<BaselineName, number>> = {};

  private constructor(gpu: Gpu, probes: Probes, options: SamplingOptions) {
    this.gpu = gpu;
    this.software = isSoftware(gpu.adapterInfo);
    this.#probes = probes;
    this.#stopwatch = createStopwatch(gpu);
    this.#samples = options.samples ?? (this.software ? 3 : 15);
    this.#sampleSeconds = options.sampleSeconds ?? (this.software ? 0 : 0.01);
  }

  static async create(gpu: Gpu, options: SamplingOptions = {}): Promise<Instrument> {
    return new Instrument(gpu, await Probes.create(gpu), options);
  }

  get clock(): Stopwatch['clock'] {
    return this.#stopwatch.clock;
  }

  /** Keeps the GPU busy until its clock is up: call it after everything is compiled and before anything is timed. */
  async spin(milliseconds = FIRST_SPIN): Promise<void> {
    if (this.software) return;
    const fma = this.#probes.get('fma');
    const repetitions = await this.#calibrateProbe(fma);
    const start = performance.now();
    while (performance.now() - start < milliseconds) await this.#stopwatch.run(fma.encode, repetitions);
  }

  /** Best of a few samples of every probe. */
  async ceilings(): Promise<Ceilings> {
    await this.spin();
    const best: Partial<Record<Probe['ceiling'], number>> = {};
    for (const probe of this.#probes.all) {
      if (probe.ceiling === 'clock') continue;
      const { time } = await this.time(probe);
      const unit = probe.ceiling === 'copy' || probe.ceiling === 'read' ? 1e9 : 1e12;
      best[probe.ceiling] = Math.max(best[probe.ceiling] ?? 0, probe.amount / time.p20 / unit);
      if (probe.ceiling === 'copy' || probe.ceiling === 'fma')
        this.#fastestBaseline[probe.ceiling] = time.p20;
    }
    await this.#chain();
    return best as Ceilings;
  }

  /** Seconds of a workload, on its own. */
  async time(work: Workload, samples = Math.ceil(this.#samples / 2)): Promise<Timed> {
    const repetitions = await this.#calibrate(work);
    const times: number[] = [];
    for (let i = 0; i < samples; i++) times.push(await this.#sample(work, repetitions));
    return { time: spread(times), samples, repetitions };
  }

  /** Seconds of several workloads that take turns, so that none of them has the better moments. */
  async timeInTurns(works: readonly Workload[], samples = this.#samples): Promise<Timed[]> {
    const repetitions: number[] = [];
    for (const work of works) repetitions.push(await this.#calibrate(work));
    const times = works.map((): number[] => []);
    for (let i = 0; i < samples; i++) {
      for (const [j, work] of works.entries()) times[j]!.push(await this.#sample(work, repetitions[j]!));
    }
    return times.map((all, j) => ({ time: spread(all), samples, repetitions: repetitions[j]! }));
  }

  /**
   * Seconds of a workload in turn with a baseline's. Where the GPU's clock turns out to have been low, it is raised again
   * and all is done once more.
   */
  async timePaired(work: Workload, baseline: BaselineName): Promise<PairedTime> {
    await this.spin(SPIN);
    const first = await this.#timePaired(work, baseline);
    if (first.gpuClock === undefined || first.gpuClock >= LOW_CLOCK) return first;
    await this.spin();
    return this.#timePaired(work, baseline);
  }

  async #timePaired(work: Workload, name: BaselineName): Promise<PairedTime> {
    const baseline = this.#probes.get(name);
    const baselineRepetitions = await this.#calibrateProbe(baseline);
    const repetitions = await this.#calibrate(work);
    const times: number[] = [];
    const baselineTimes: number[] = [];
    for (let i = 0; i < this.#samples; i++) {
      baselineTimes.push(await this.#sample(baseline, baselineRepetitions));
      times.push(await this.#sample(work, repetitions));
    }
    const baselineTime = spread(baselineTimes);
    const gpuClock = await this.#relativeClock(name, baselineTime.median);
    return {
      time: spread(times),
      samples: times.length,
      repetitions,
      gpuClock,
      pairing: {
        baseline: name,
        time: scaled(baselineTime, 1e6),
        ratio: spread(times.map((time, i) => time / baselineTimes[i]!)),
      },
    };
  }

  /** Repetitions that fill a sample. */
  async #calibrate(work: Workload): Promise<number> {
    const repetitions = this.#repetitions.get(work) ?? (await this.#countRepetitions(work));
    this.#repetitions.set(work, repetitions);
    return repetitions;
  }

  async #countRepetitions(work: Workload): Promise<number> {
    let repetitions = 1;
    for (;;) {
      const elapsed = await this.#stopwatch.run(work.encode, repetitions);
      if (elapsed >= this.#sampleSeconds / 2 || repetitions === MOST_REPETITIONS) {
        const wanted = elapsed > 0 ? (this.#sampleSeconds * repetitions) / elapsed : 1;
        return Math.max(1, Math.min(Math.ceil(wanted), MOST_REPETITIONS));
      }
      const growth = elapsed > 0 ? this.#sampleSeconds / elapsed : 8;
      repetitions = Math.min(Math.ceil(repetitions * Math.min(growth, 8)), MOST_REPETITIONS);
    }
  }

  async #calibrateProbe(probe: Probe): Promise<number> {
    const known = this.#repetitions.get(probe);
    if (known) return known;
    // Half a sample is enough of it: its kernels are long, and each case waits for it.
    const repetitions = Math.ceil((await this.#countRepetitions(probe)) / 2);
    this.#repetitions.set(probe, repetitions);
    return repetitions;
  }

  async #sample(work: Workload, repetitions: number): Promise<number> {
    // A clock that is reset between the two stamps gives none: once more then.
    for (let attempt = 0; attempt < 3; attempt++) {
      const elapsed = await this.#stopwatch.run(work.encode, repetitions);
      if (elapsed > 0) return elapsed / repetitions;
    }
    return Number.NaN;
  }

  /** Seconds of the chain that only the clock can shorten. */
  async #chain(): Promise<number> {
    const probe = this.#probes.get('clock');
    const seconds = await this.#sample(probe, await this.#calibrateProbe(probe));
    this.#fastestChain = Math.min(this.#fastestChain, seconds);
    return seconds;
  }

  /** Of the cores by the chain, of what a baseline needs by its time: the lower one. */
  async #relativeClock(name: BaselineName, baseline: number): Promise<number | undefined> {
    if (this.software) return undefined;
    const fastest = Math.min(this.#fastestBaseline[name] ?? baseline, baseline);
    this.#fastestBaseline[name] = fastest;
    const seconds = await this.#chain();
    return Math.min(this.#fastestChain / seconds, fastest / baseline);
  }

  destroy(): void {
    this.#stopwatch.destroy();
    this.#probes.destroy();
  }
}
