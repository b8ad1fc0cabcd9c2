import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { openFile } from '../checkpoint/file-source.js';
import { type FloatMatrix, readMatrix } from '../checkpoint/matrix-source.js';
import { readSafetensorsHeader } from '../checkpoint/safetensors.js';
import { InvalidArgumentError } from '../errors.js';
import { fromF16, toF16 } from '../formats/f16.js';
import { FORMATS, type Format } from '../formats/formats.js';
import type { Activations } from '../gemm/activations.js';
import { createGemm, problemOf } from '../gemm/gemm.js';
import { KERNELS } from '../gemm/kernels/index.js';
import { pickColumns, problemReference, worstError } from '../gemm/reference.js';
import { type TuneStorage, tuneGemm } from '../gemm/tune.js';
import { uploadCopies } from '../gemm/weights.js';
import { createStorageBuffer, readBuffer } from '../gpu/buffers.js';
import { isSoftware } from '../gpu/caps.js';
import type { Gpu } from '../gpu/gpu.js';
import { type Timing, time } from '../gpu/timer.js';
import { bitsPerValue, byteLength, type QuantizedMatrix, selectRows } from '../matrix/quantized-matrix.js';
import { tuneFile } from '../node.js';
import { errorMetrics } from '../quantize/metrics.js';
import { type QuantizeOptions, resolveOptions, SCALE_RULES, type ScaleRule } from '../quantize/options.js';
import { dequantize, quantize } from '../quantize/quantize.js';
import { Random } from '../random.js';
import { adapterName, type GpuOptions, openGpu } from './gpu-options.js';

/** A quarter of a layer of a small language model, so that the command runs with no argument. */
const SAMPLE = fileURLToPath(
  new URL('../../samples/dictionary-lm.layers.3.down_proj.safetensors', import.meta.url),
);

const DEFAULT_TUNE_FILE = join(
  process.env.XDG_CACHE_HOME || join(homedir(), '.cache'),
  'fp4-webgpu',
  'tune.json',
);

export interface GemmCommandOptions extends GpuOptions {
  file?: string;
  tensor?: string;
  shape?: { n: number; k: number };
  format?: string[];
  block?: number[];
  scale?: string[];
  macro?: string[];
  macroSize?: number[];
  rounding?: 'nearest-even' | 'stochastic';
  hadamard?: boolean;
  m: number[];
  /** What x is multiplied as; float by default. */
  activations?: Activations['kind'][];
  /** Types of x and y in their buffers; f32 by default. */
  x?: 'f32' | 'f16';
  y?: 'f32' | 'f16';
  /** Of float activations in products; f16 by default. */
  precision?: 'f32' | 'f16';
  seed: number;
  /** True, or the file that keeps the measurements. */
  tune?: boolean | string;
}

type Recipe = Omit<QuantizeOptions, 'rows' | 'cols'>;

/** What is compared when nothing is asked for. */
const DEFAULT_RECIPES: readonly Recipe[] = [
  { format: 'mxfp4', scaleRule: 'floor' },
  { format: 'mxfp4', scaleRule: 'oas' },
  { format: 'mxfp4', scaleRule: 'oas', macroScale: 'static' },
  { format: 'mxfp4', scaleRule: 'oas', macroScale: 'dynamic' },
  { format: 'mxfp4', scaleRule: 'oas', macroScale: 'dynamic', macroSize: 32 },
  { format: 'mxfp4', scaleRule: 'oas', blockSize: 16 },
  { format: 'mxfp4', scaleRule: 'oas', blockSize: 16, macroScale: 'dynamic' },
  { format: 'nvfp4', scaleRule: 'te' },
  { format: 'nvfp4', scaleRule: 'four-over-six' },
];

/** One line of the table. */
interface Row {
  format: Format;
  block: number;
  rule: string;
  macro: string;
  bitsPerWeight: number;
  sqnrWeights: number;
  m: number;
  n: number;
  k: number;
  activations: Activations['kind'];
  xType: 'f32' | 'f16';
  yType: 'f32' | 'f16';
  sqnrY: number;
  /** Largest error against f64 in parts of the bound, over `checkedColumns` columns of y. */
  errorOfBound: number;
  checkedColumns: number;
  microseconds: number;
  timing: Timing;
  gigabytesPerSecond: number;
  teraflops: number;
  adapter: string;
  kernel: string;
}

export async function gemm(options: GemmCommandOptions): Promise<void> {
  const matrix = await loadMatrix(options);
  const recipes = chooseRecipes(options);
  for (const recipe of recipes) resolveOptions({ ...recipe, rows: matrix.rows, cols: matrix.cols });
  using gpu = await openGpu(options);

  const storage = options.tune
    ? tuneFile(options.tune === true ? DEFAULT_TUNE_FILE : options.tune)
    : undefined;
  const rows: Row[] = [];
  for (const recipe of recipes) {
    const q = quantize(matrix.values, { ...recipe, rows: matrix.rows, cols: matrix.cols });
    const sqnrWeights = errorMetrics(matrix.values, dequantize(q)).sqnr;
    for (const m of options.m) {
      for (const activations of options.activations ?? ['float']) {
        const { x, y, precision, seed } = options;
        const product = { m, activations, x, y, precision };
        rows.push(await measure(gpu, matrix, q, recipe, product, sqnrWeights, seed, storage));
      }
    }
  }
  if (options.json) {
    const { name, rows: n, cols: k } = matrix;
    console.log(
      JSON.stringify(
        { adapter: adapterName(gpu), adapterInfo: gpu.adapterInfo, tensor: { name, n, k }, rows },
        null,
        2,
      ),
    );
  } else {
    console.log(formatTable(gpu, matrix, rows));
  }
  if (rows.some((row) => !(row.errorOfBound <= 1))) {
    console.error('error: a kernel disagrees with f64 by more than its bound');
    process.exitCode = 1;
  }
}

async function loadMatrix(options: GemmCommandOptions): Promise<FloatMatrix> {
  if (options.shape) {
    if (options.file)
      throw new InvalidArgumentError('gemm', '--shape makes a random matrix; leave --file out');
    const { n, k } = options.shape;
    return { name: 'standard normal', rows: n, cols: k, values: new Random(options.seed + 1).normals(n * k) };
  }
  const source = await openFile(options.file ?? SAMPLE);
  try {
    const file = await readSafetensorsHeader(source);
    const matrices = [...file.tensors.values()]
      .filter(({ shape }) => shape.length === 2)
      .map(({ name }) => name);
    const name = options.tensor ?? (matrices.length === 1 ? matrices[0]! : undefined);
    if (name === undefined) {
      throw new InvalidArgumentError(
        'gemm',
        `${source.name} has ${matrices.length} matrices; choose one with --tensor: ${matrices.slice(0, 20).join(', ')}${matrices.length > 20 ? ', …' : ''}`,
      );
    }
    return await readMatrix(source, file, name);
  } finally {
    await source.close();
  }
}

/** Every combination asked for that makes sense; scale rules and macro scales go with their format only. */
function chooseRecipes(o: GemmCommandOptions): readonly Recipe[] {
  const common = { rounding: o.rounding, seed: o.seed, hadamard: o.hadamard };
  if (!(o.format || o.block || o.scale || o.macro || o.macroSize)) {
    return DEFAULT_RECIPES.map((recipe) => ({ ...recipe, ...common }));
  }
  const recipes: Recipe[] = [];
  const formats = (o.format ?? Object.keys(FORMATS)) as Format[];
  for (const format of formats) {
    const known = SCALE_RULES[format];
    if (!known)
      throw new InvalidArgumentError(
        'gemm',
        `unknown format ${format}; there are ${Object.keys(FORMATS).join(', ')}`,
      );
    const elsewhere = Object.values(SCALE_RULES).flat();
    const unknown = o.scale?.find((rule) => !elsewhere.includes(rule as ScaleRule));
    if (unknown)
      throw new InvalidArgumentError(
        'gemm',
        `unknown scale rule ${unknown}; there are ${elsewhere.join(', ')}`,
      );
    const rules = o.scale ? known.filter((rule) => o.scale!.includes(rule)) : [undefined];
    const blocks = o.block?.filter((size) => FORMATS[format].blockSizes.includes(size)) ?? [undefined];
    const macros = format === 'mxfp4' ? (o.macro ?? (o.macroSize ? ['static'] : ['none'])) : ['none'];
    for (const blockSize of blocks) {
      for (const scaleRule of rules) {
        for (const macroScale of macros) {
          for (const macroSize of macroScale === 'none' ? [undefined] : (o.macroSize ?? [undefined])) {
            recipes.push({ format, blockSize, scaleRule, macroScale, macroSize, ...common } as Recipe);
          }
        }
      }
    }
  }
  if (!recipes.length)
    throw new InvalidArgumentError(
      'gemm',
      'no combination of the formats, blocks and scale rules asked for exists',
    );
  return recipes;
}

/** Products of f64 arithmetic that a check may take; beyond, columns of y are sampled. */
const CHECK_BUDGET = 2e8;

/** How a quantized matrix is multiplied. */
interface Product {
  m: number;
  activations?: Activations['kind'] | undefined;
  x?: 'f32' | 'f16' | undefined;
  y?: 'f32' | 'f16' | undefined;
  precision?: 'f32' | 'f16' | undefined;
}

async function measure(
  gpu: Gpu,
  matrix: FloatMatrix,
  q: QuantizedMatrix,
  recipe: Recipe,
  { m, activations = 'float', x: xType = 'f32', y: yType = 'f32', precision = 'f16' }: Product,
  sqnrWeights: number,
  seed: number,
  storage: TuneStorage | undefined,
): Promise<Row> {
  const { rows: n, cols: k } = q;
  const values = new Random(seed).normals(m * k);
  // What the buffer holds is what the product is compared with.
  const stored = xType === 'f16' ? toF16(values) : values;
  const x = stored instanceof Uint16Array ? fromF16(stored) : stored;
  const [xBytes, yBytes] = [stored.byteLength, m * n * (yType === 'f16' ? 2 : 4)];
  const weights = await uploadCopies(gpu, q, m);
  const options = { m, activations, x: xType, y: yType, precision };
  const plan = storage && (await tuneGemm(gpu, problemOf(weights[0]!, options), { storage }));
  const gemms = await Promise.all(weights.map((w) => createGemm(gpu, { ...options, weights: w, plan })));
  const gemm = gemms[0]!;
  const xBuffer = createStorageBuffer(gpu.device, 'x', stored);
  const yBuffer = createStorageBuffer(gpu.device, 'y', yBytes);
  const timing = await time(
    gpu,
    (pass, i) => gemms[i % gemms.length]!.encode(pass, { x: xBuffer, y: yBuffer }),
    {
      sampleSeconds: 0.01,
      samples: 15,
      // A GPU that idled while weights were made needs this long to raise its clock again.
      warmUpSeconds: isSoftware(gpu.adapterInfo) ? 0.1 : 0.8,
    },
  );
  const bytes = await readBuffer(gpu.device, yBuffer);
  const y = yType === 'f16' ? fromF16(new Uint16Array(bytes, 0, m * n)) : new Float32Array(bytes, 0, m * n);
  for (const resource of [...gemms, ...weights, xBuffer, yBuffer]) resource.destroy();

  const columns = Math.max(1, Math.min(n, Math.floor(CHECK_BUDGET / (m * k))));
  const picked = Array.from({ length: columns }, (_, i) => Math.floor((i * n) / columns));
  const reference = problemReference(x, selectRows(q, picked), gemm.problem);
  const errors = KERNELS[gemm.plan.kernel].errors(gemm.plan.constants, gemm.problem);
  const picks = pickColumns(y, m, n, picked);
  const seconds = timing.median;
  const { scaleRule, macroScale } = resolveOptions({ ...recipe, rows: n, cols: k });
  return {
    format: q.format,
    block: q.blockSize,
    rule: scaleRule,
    macro: q.macroSize ? `${macroScale} ${q.macroSize}` : 'none',
    bitsPerWeight: bitsPerValue(q),
    sqnrWeights,
    m,
    n,
    k,
    activations,
    xType,
    yType,
    sqnrY: errorMetrics(unquantizedProduct(x, matrix, m, picked), picks).sqnr,
    errorOfBound: worstError(picks, reference, errors, yType),
    checkedColumns: columns,
    microseconds: seconds * 1e6,
    timing,
    gigabytesPerSecond: (byteLength(q) + xBytes + yBytes) / seconds / 1e9,
    teraflops: (2 * m * n * k) / seconds / 1e12,
    adapter: adapterName(gpu),
    kernel: gemm.plan.label,
  };
}

/** Columns `picked` of x · wᵀ with the weights as they were before quantization, in f64. */
function unquantizedProduct(
  x: Float32Array,
  { values, cols: k }: FloatMatrix,
  m: number,
  picked: readonly number[],
): Float64Array {
  const y = new Float64Array(m * picked.length);
  for (let row = 0; row < m; row++) {
    picked.forEach((col, at) => {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += x[row * k + i]! * values[col * k + i]!;
      y[row * picked.length + at] = sum;
    });
  }
  return y;
}

function formatTable(gpu: Gpu, matrix: FloatMatrix, rows: readonly Row[]): string {
  const head = [
    'format',
    'block',
    'rule',
    'macro',
    'bits/weight',
    'SQNR w dB',
    'm',
    'x',
    'SQNR y dB',
    'µs',
    'GB/s',
    'TFLOPS',
    'error/bound',
    'kernel',
  ];
  const table = new Table({
    colAligns: [
      'left',
      'right',
      'left',
      'left',
      'right',
      'right',
      'left',
      'right',
      'right',
      'right',
      'right',
      'right',
      'left',
    ],
    style: { head: [], border: [], compact: true },
  });
  table.push([{ colSpan: head.length, content: `adapter: ${adapterName(gpu)}`, hAlign: 'left' }]);
  table.push([
    {
      colSpan: head.length,
      content: `w: ${matrix.name} [n ${matrix.rows}, k ${matrix.cols}]`,
      hAlign: 'left',
    },
  ]);
  table.push(head);
  for (const row of rows) {
    table.push([
      row.format,
      row.block,
      row.rule,
      row.macro,
      row.bitsPerWeight,
      row.sqnrWeights.toFixed(2),
      row.m,
      row.activations,
      row.sqnrY.toFixed(2),
      row.microseconds.toFixed(1),
      significant(row.gigabytesPerSecond),
      significant(row.teraflops),
      row.errorOfBound.toFixed(3),
      row.kernel,
    ]);
  }
  const clock = rows[0]?.timing.clock === 'timestamp' ? 'GPU timestamps' : 'wall clock';
  return `${table}\nmedian of ${rows[0]?.timing.samples} samples by ${clock}; SQNR of y is against the unquantized weights; error/bound is against f64 of the quantized ones, at most 1`;
}

function significant(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toPrecision(2);
}
