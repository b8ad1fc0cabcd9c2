/** What the measurements of a run share. */
import { Fp4Error, UnsupportedError } from '../src/errors.js';
import type { Gpu } from '../src/gpu/gpu.js';
import type { Instrument } from './instrument.js';
import type { Workload } from './probes.js';
import type { BaselineName, Ceilings, PlanRow, QuantizerRow, Row, Status, Timing } from './schema.js';
import { scaled } from './stats.js';

/** Where results go as they are made. */
export interface Report {
  ceilings(ceilings: Ceilings): void;
  row(row: Row): void;
  quantizer(row: QuantizerRow): void;
  plan(row: PlanRow): void;
  progress(done: number, total: number, what: string): void;
}

export interface Context {
  readonly gpu: Gpu;
  readonly instrument: Instrument;
  readonly ceilings: Ceilings;
  readonly late: () => boolean;
  readonly report: Report;
  /** Says what is being done. */
  readonly progress: (doing: string) => void;
  /** Errors of the device that nothing caught, until they are taken out. */
  readonly refusals: string[];
}

/** Times work that reads and writes so many bytes, in turn with a baseline. */
export async function measureTiming(
  { instrument, ceilings }: Context,
  work: Workload,
  baseline: BaselineName,
  bytes: number,
): Promise<Timing> {
  const { time, samples, repetitions, pairing, gpuClock } = await instrument.timePaired(work, baseline);
  const gigabytesPerSecond = bytes / time.median / 1e9;
  return {
    total: scaled(time, 1e6),
    samples,
    repetitions,
    clock: instrument.clock,
    pairing,
    gigabytesPerSecond,
    ofCopy: gigabytesPerSecond / ceilings.copy,
    ...(gpuClock !== undefined && { gpuClock }),
  };
}

/** What a row says of an error. @throws what the library did not throw on purpose */
export function failure(error: unknown): { readonly status: Status; readonly note: string } {
  if (!(error instanceof Fp4Error)) throw error;
  return { status: error instanceof UnsupportedError ? 'refused' : 'failed', note: error.message };
}
