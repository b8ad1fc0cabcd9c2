/** Quantizers alone: a matrix of f32 in, codes and scales out. */
import { createQuantizer, GpuQuantizer } from '../src/gemm/gpu-quantizer.js';
import { MAIN_QUANTIZER_RULES, quantizerOptions, quantizerSelfTest } from '../src/gemm/quantizer-selftest.js';
import { createStorageBuffer } from '../src/gpu/buffers.js';
import { isSoftware } from '../src/gpu/caps.js';
import type { Gpu } from '../src/gpu/gpu.js';
import { type CaseSelection, textFilter } from './cases.js';
import { type Context, failure, measureTiming } from './context.js';
import { randomNormals } from './data.js';
import type { QuantizerRow } from './schema.js';

/** Past any last-level cache; on a CPU as little as will run. */
const GPU_ROWS = 16384;
const SOFTWARE_ROWS = 16;
const COLS = 4096;
/** Bit patterns that each rule is compared with the CPU on, byte for byte. */
const CHECKED_VALUES = 2 ** 16;

/**
 * All rules are compiled and checked before any is timed, as the GPU idles meanwhile.
 * @returns whether every rule was reached before the time limit
 */
export async function measureQuantizers(
  context: Context,
  { filter, skip = [] }: Pick<CaseSelection, 'filter' | 'skip'>,
): Promise<boolean> {
  const { gpu, instrument, report, late, progress } = context;
  const { maxBufferSize, maxStorageBufferBindingSize } = gpu.device.limits;
  const mostRows = Math.floor(Math.min(maxBufferSize, maxStorageBufferBindingSize) / (4 * COLS));
  const rows = Math.min(isSoftware(gpu.adapterInfo) ? SOFTWARE_ROWS : GPU_ROWS, mostRows);
  const matches = textFilter(filter);
  const wanted = MAIN_QUANTIZER_RULES.map(
    (rule): About => ({ id: `quantize.${rows}x${COLS}.${rule}`, rule, rows, cols: COLS }),
  ).filter(({ id, rule }) => matches(id, rule) && !skip.includes(id));
  if (!wanted.length) return true;
  const ready: { about: About; quantizer: GpuQuantizer }[] = [];
  const x = createStorageBuffer(gpu.device, 'bench matrix', randomNormals(rows * COLS));
  try {
    for (const about of wanted) {
      if (late()) return false;
      progress(`checking ${about.rule}`);
      const made = await prepare(gpu, about);
      if (made instanceof GpuQuantizer) ready.push({ about, quantizer: made });
      else report.quantizer({ ...about, ...made });
    }
    await instrument.spin();
    for (const { about, quantizer } of ready) {
      if (late()) return false;
      progress(about.rule);
      report.quantizer({ ...about, ...(await measure(context, about, quantizer, x)) });
    }
    return true;
  } finally {
    for (const { quantizer } of ready) quantizer.destroy();
    x.destroy();
  }
}

type About = Pick<QuantizerRow, 'id' | 'rule' | 'rows' | 'cols'>;
type Outcome = Pick<QuantizerRow, 'status' | 'note' | 'measurement'>;

async function prepare(gpu: Gpu, { rule, rows, cols }: About): Promise<GpuQuantizer | Outcome> {
  try {
    const { mismatches } = await quantizerSelfTest(gpu, { values: CHECKED_VALUES, rules: [rule] });
    if (mismatches) return { status: 'wrong', note: `${mismatches} bytes are not those of the CPU` };
    return await createQuantizer(gpu, quantizerOptions({ rule, rows, cols, seed: 1 }));
  } catch (error) {
    return failure(error);
  }
}

async function measure(
  context: Context,
  { rule }: About,
  quantizer: GpuQuantizer,
  x: GPUBuffer,
): Promise<Outcome> {
  using q = quantizer.createOutputs();
  const work = { label: rule, encode: (pass: GPUComputePassEncoder) => quantizer.encode(pass, { x, ...q }) };
  const measurement = await measureTiming(context, work, 'copy', x.size + q.byteLength);
  const [note] = context.refusals.splice(0);
  return note === undefined ? { status: 'ok', measurement } : { status: 'failed', note };
}
