import { availableParallelism } from 'node:os';
import {
  describeQuantizerReport,
  MAIN_QUANTIZER_RULES,
  type QuantizerReference,
  type QuantizerTask,
  quantizerSelfTest,
} from '../gemm/quantizer-selftest.js';
import { describeReport, selfTest } from '../gemm/selftest.js';
import { adapterName, type GpuOptions, openGpu } from './gpu-options.js';
import { WorkerPool } from './worker-pool.js';

export interface SelftestOptions extends GpuOptions {
  cases: number;
  maxSize: number;
  seed: number;
  quantizers?: boolean;
  values?: number;
  rules?: string[];
  seconds?: number;
}

const onProgress = (done: number, total: number) => {
  if (process.stderr.isTTY) process.stderr.write(`\r${done} of ${total}${done === total ? '\n' : ''}`);
};

export async function selftest(options: SelftestOptions): Promise<void> {
  if (options.quantizers) {
    await selftestQuantizers(options);
    return;
  }
  using gpu = await openGpu(options);
  const report = await selfTest(gpu, { ...options, onProgress });
  if (options.json) {
    console.log(JSON.stringify({ adapter: adapterName(gpu), ...report }, null, 2));
  } else {
    console.log(`${adapterName(gpu)}: ${report.cases} random problems`);
    console.log(describeReport(report));
    for (const { what, row, col, expected, actual, bound } of report.failures.slice(0, 10)) {
      console.log(`  ${what}: y[${row}, ${col}] = ${actual}, expected ${expected} ± ${bound}`);
    }
  }
  if (report.failures.length) process.exitCode = 1;
}

async function selftestQuantizers(options: SelftestOptions): Promise<void> {
  using gpu = await openGpu(options);
  const { values, seed, seconds } = options;
  const rules = options.rules?.flatMap((name) => (name === 'main' ? MAIN_QUANTIZER_RULES : [name]));
  const script = new URL('quantize-worker.js', import.meta.url);
  const pool = new WorkerPool<QuantizerTask, QuantizerReference>(script, availableParallelism());
  try {
    const report = await quantizerSelfTest(gpu, {
      values,
      rules,
      seed,
      seconds,
      reference: (task) => pool.run(task),
      ahead: pool.size + 2,
      onProgress,
    });
    if (options.json) {
      console.log(JSON.stringify({ adapter: adapterName(gpu), ...report }, null, 2));
    } else {
      console.log(`${adapterName(gpu)}: quantizers against the CPU`);
      console.log(describeQuantizerReport(report));
    }
    if (report.mismatches) process.exitCode = 1;
  } finally {
    await pool.close();
  }
}
