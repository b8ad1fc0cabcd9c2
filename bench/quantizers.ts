/** Quantizers alone: a matrix of f32 in, codes and scales out. */
import { Fp4Error, UnsupportedError } from '../src/errors.js';
import { createQuantizer, GpuQuantizer } from '../src/gemm/gpu-quantizer.js';
import { MAIN_QUANTIZER_RULES, quantizerOptions, quantizerSelfTest } from '../src/gemm/quantizer-selftest.js';
import { createStorageBuffer } from '../src/gpu/buffers.js';
import { isSoftware } from '../src/gpu/caps.js';
import type { Gpu } from '../src/gpu/gpu.js';
import { caseFilter } from './cases.js';
import { randomNormals } from './data.js';
import type { Instrument } from './instrument.js';
import type { QuantizerRow } from './schema.js';
import { scaled } from './stats.js';

export interface QuantizerContext {
  readonly gpu: Gpu;
  readonly instrument: Instrument;
  /** The copy ceiling in GB/s. */
  readonly copy: number;
  readonly late: () => boolean;
  readonly report: { quantizer(row: QuantizerRow): void };
  /** Says what is being done. */
  readonly progress: (doing: string) => void;
  /** Errors of the device that nothing caught, until they are taken out. */
  readonly refusals: string[];
}

/** Past any last-level cache; on a CPU as little as will run. */
const GPU_ROWS = 16384;
const SOFTWARE_ROWS = 16;
const COLS = 4096;
/** Bit patterns that each rule is compared with the CPU on, byte for byte. */
const CHECKED_VALUES = 2 ** 16;

/**
 * All rules are compiled and checked before any is timed, as the GPU idles meanwhile.
 * @param filter keeps those whose id it matches
 * @returns whether every rule was reached before the time limit
 */
export async function measureQuantizers(context: QuantizerContext, filter?: string): Promise<boolean> {
  const { gpu, instrument, report, late, progress } = context;
  const { maxBufferSize, maxStorageBufferBindingSize } = gpu.device.limits;
  const mostRows = Math.floor(Math.min(maxBufferSize, maxStorageBufferBindingSize) / (4 * COLS));
  const rows = Math.min(isSoftware(gpu.adapterInfo) ? SOFTWARE_ROWS : GPU_ROWS, mostRows);
  const matches = caseFilter(filter);
  const wanted = MAIN_QUANTIZER_RULES.map((rule) => {
    const id = `quantize.${rows}x${COLS}.${rule}`;
    return { id, names: [rule], rule, rows, cols: COLS };
  }).filter(matches);
  const ready: { about: Pick<QuantizerRow, 'id' | 'rule' | 'rows' | 'cols'>; quantizer: GpuQuantizer }[] = [];
  const x = createStorageBuffer(gpu.device, 'bench matrix', randomNormals(rows * COLS));
  try {
    for (const { names: _, ...about } of wanted) {
      if (late()) return false;
      progress(`checking ${about.rule}`);
      const made = await prepare(gpu, about.rule, rows);
      if (made instanceof GpuQuantizer) ready.push({ about, quantizer: made });
      else report.quantizer({ ...about, ...made });
    }
    await instrument.spin();
    for (const { about, quantizer } of ready) {
      if (late()) return false;
      progress(about.rule);
      report.quantizer({ ...about, ...(await measure(context, about.rule, quantizer, x)) });
    }
    return true;
  } finally {
    for (const { quantizer } of ready) quantizer.destroy();
    x.destroy();
  }
}

type Outcome = Pick<QuantizerRow, 'status' | 'note' | 'measurement'>;

async function prepare(gpu: Gpu, rule: string, rows: number): Promise<GpuQuantizer | Outcome> {
  try {
    const { mismatches } = await quantizerSelfTest(gpu, { values: CHECKED_VALUES, rules: [rule] });
    if (mismatches) return { status: 'wrong', note: `${mismatches} bytes are not those of the CPU` };
    return await createQuantizer(gpu, quantizerOptions({ rule, rows, cols: COLS, seed: 1 }));
  } catch (error) {
    if (!(error instanceof Fp4Error)) throw error;
    return { status: error instanceof UnsupportedError ? 'refused' : 'failed', note: error.message };
  }
}

async function measure(
  { instrument, copy, refusals }: QuantizerContext,
  rule: string,
  quantizer: GpuQuantizer,
  x: GPUBuffer,
): Promise<Outcome> {
  using q = quantizer.createOutputs();
  const work = { label: rule, encode: (pass: GPUComputePassEncoder) => quantizer.encode(pass, { x, ...q }) };
  const { time, samples, repetitions, gpuClock, pairing } = await instrument.timePaired(work, 'copy');
  const [note] = refusals.splice(0);
  if (note !== undefined) return { status: 'failed', note };
  const gigabytesPerSecond = (x.size + q.byteLength) / time.median / 1e9;
  return {
    status: 'ok',
    measurement: {
      total: scaled(time, 1e6),
      samples,
      repetitions,
      clock: instrument.clock,
      pairing,
      gigabytesPerSecond,
      ofCopy: gigabytesPerSecond / copy,
      ...(gpuClock !== undefined && { gpuClock }),
    },
  };
}
