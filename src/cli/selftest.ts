import { describeReport, selfTest } from '../gemm/selftest.js';
import { adapterName, type GpuOptions, openGpu } from './gpu-options.js';

export interface SelftestOptions extends GpuOptions {
  cases: number;
  maxSize: number;
  seed: number;
}

export async function selftest(options: SelftestOptions): Promise<void> {
  using gpu = await openGpu(options);
  const report = await selfTest(gpu, {
    ...options,
    onProgress: (done, total) => {
      if (process.stderr.isTTY) process.stderr.write(`\r${done} of ${total}${done === total ? '\n' : ''}`);
    },
  });
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
