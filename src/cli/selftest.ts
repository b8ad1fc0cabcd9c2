import { availableParallelism } from 'node:os';
import { InvalidArgumentError } from '../errors.js';
import { KERNELS, type KernelId } from '../gemm/kernels/index.js';
import {
  describeLayerReport,
  LAYER_FORMATS,
  layersSelfTest,
  type PlansToCheck,
} from '../gemm/layers-selftest.js';
import { WEIGHT_FORMATS } from '../gemm/problem.js';
import {
  describeQuantizerReport,
  MAIN_QUANTIZER_RULES,
  type QuantizerReference,
  type QuantizerTask,
  quantizerSelfTest,
} from '../gemm/quantizer-selftest.js';
import { describeReport, selfTest } from '../gemm/selftest.js';
import { adapterName, type GpuOptions, openGpu } from './gpu-options.js';
import { layerShapes, MODEL_LAYERS } from './model-layers.js';
import { WorkerPool } from './worker-pool.js';

export interface SelftestOptions extends GpuOptions {
  cases: number;
  maxSize: number;
  seed: number;
  kernels?: string[];
  quantizers?: boolean;
  values?: number;
  rules?: string[];
  seconds?: number;
  layers?: boolean;
  models?: string[];
  shapes?: { n: number; k: number }[];
  formats?: string[];
  x?: 'f32' | 'f16';
  y?: 'f32' | 'f16';
  bias?: boolean;
  accumulate?: boolean;
  m?: number[];
  plans?: PlansToCheck;
  scaleDown?: number;
  timeLimit?: number;
}

const onProgress = (done: number, total: number) => {
  if (process.stderr.isTTY) process.stderr.write(`\r${done} of ${total}${done === total ? '\n' : ''}`);
};

export async function selftest(options: SelftestOptions): Promise<void> {
  if (options.quantizers) {
    await selftestQuantizers(options);
    return;
  }
  if (options.layers) {
    await selftestLayers(options);
    return;
  }
  const { cases, maxSize, seed } = options;
  const kernels = knownKernels(options);
  using gpu = await openGpu(options);
  const report = await selfTest(gpu, { cases, maxSize, seed, kernels, onProgress });
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

async function selftestLayers({
  json,
  x = 'f32',
  y = 'f32',
  bias = false,
  accumulate = false,
  m,
  plans,
  shapes,
  scaleDown,
  timeLimit,
  ...o
}: SelftestOptions): Promise<void> {
  const all = Object.keys(MODEL_LAYERS);
  const models = known('model', all, o.models ?? (shapes ? [] : all));
  const layers = [
    ...layerShapes(models, scaleDown),
    ...(shapes ?? []).map(({ n, k }) => ({ name: 'as asked', n, k })),
  ];
  const formats = known('format', Object.keys(WEIGHT_FORMATS), o.formats ?? LAYER_FORMATS);
  const kernels = knownKernels(o);
  using gpu = await openGpu(o);
  if (!json) console.log(`${adapterName(gpu)}: every plan for ${layers.length} layers`);
  const report = await layersSelfTest(gpu, {
    layers,
    formats,
    operands: { x, y, bias, accumulate },
    m,
    plans,
    kernels,
    seconds: timeLimit,
    onReport: json ? undefined : (layer) => console.log(describeLayerReport(layer)),
  });
  if (json) {
    console.log(JSON.stringify({ adapter: adapterName(gpu), ...report }, null, 2));
  } else {
    const end = report.complete ? '' : '; the time was up before the end';
    console.log(`${report.products} products, ${report.failures} wrong${end}`);
  }
  if (report.failures) process.exitCode = 1;
}

const knownKernels = ({ kernels }: SelftestOptions) =>
  kernels && known('kernel', Object.keys(KERNELS) as KernelId[], kernels);

/** What was asked for. @throws InvalidArgumentError for a name that is not known */
function known<T extends string>(what: string, all: readonly T[], asked: readonly string[]): readonly T[] {
  const unknown = asked.find((name) => !all.some((one) => one === name));
  if (unknown !== undefined) {
    throw new InvalidArgumentError(
      'selftest',
      `${what} '${unknown}' is not known; there are ${all.join(', ')}`,
    );
  }
  return asked as readonly T[];
}
