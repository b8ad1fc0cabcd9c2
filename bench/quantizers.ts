/** Quantizers alone: a matrix of f32 in, codes and scales out. */
import { Fp4Error, UnsupportedError } from '../src/errors.js';
import { createQuantizer } from '../src/gemm/gpu-quantizer.js';
import { MAIN_QUANTIZER_RULES, quantizerOptions, quantizerSelfTest } from '../src/gemm/quantizer-selftest.js';
import { createStorageBuffer } from '../src/gpu/buffers.js';
import { isSoftware } from '../src/gpu/caps.js';
import type { Gpu } from '../src/gpu/gpu.js';
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
  /** Says which rule is being measured. */
  readonly progress: (rule: string) => void;
  /** Errors of the device that nothing caught, until they are taken out. */
  readonly refusals: string[];
}

/** Past any last-level cache; on a CPU as little as will run. */
const GPU_ROWS = 16384;
const SOFTWARE_ROWS = 16;
const COLS = 4096;
/** Bit patterns that each rule is compared with the CPU on, byte for byte. */
const CHECKED_VALUES = 2 ** 16;

/** @returns whether every rule was reached before the time limit */
export async function measureQuantizers(context: QuantizerContext): Promise<boolean> {
  const { gpu, report, late, progress } = context;
  const { maxBufferSize, maxStorageBufferBindingSize } = gpu.device.limits;
  const mostRows = Math.floor(Math.min(maxBufferSize, maxStorageBufferBindingSize) / (4 * COLS));
  const rows = Math.min(isSoftware(gpu.adapterInfo) ? SOFTWARE_ROWS : GPU_ROWS, mostRows);
  const x = createStorageBuffer(gpu.device, 'bench matrix', randomNormals(rows * COLS));
  try {
    for (const rule of MAIN_QUANTIZER_RULES) {
      if (late()) return false;
      progress(rule);
      const about = { id: `quantize.${rows}x${COLS}.${rule}`, rule, rows, cols: COLS };
      try {
        report.quantizer({ ...about, ...(await measureRule(context, rule, x, rows)) });
      } catch (error) {
        if (!(error instanceof Fp4Error)) throw error;
        const status = error instanceof UnsupportedError ? 'refused' : 'failed';
        report.quantizer({ ...about, status, note: error.message });
      }
    }
    return true;
  } finally {
    x.destroy();
  }
}

async function measureRule(
  { gpu, instrument, copy, refusals }: QuantizerContext,
  rule: string,
  x: GPUBuffer,
  rows: number,
): Promise<Pick<QuantizerRow, 'status' | 'note' | 'measurement'>> {
  const { mismatches } = await quantizerSelfTest(gpu, { values: CHECKED_VALUES, rules: [rule] });
  if (mismatches) return { status: 'wrong', note: `${mismatches} bytes are not those of the CPU` };
  using quantizer = await createQuantizer(gpu, quantizerOptions({ rule, rows, cols: COLS, seed: 1 }));
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
