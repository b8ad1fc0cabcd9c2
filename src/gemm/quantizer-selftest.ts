/**
 * Checks the quantizers on a device against `quantize`, byte for byte, on random bit patterns: the same values on every
 * host for a given seed.
 */
import { InvalidArgumentError } from '../errors.js';
import type { Gpu } from '../gpu/gpu.js';
import type { QuantizedMatrix } from '../matrix/quantized-matrix.js';
import type { QuantizeOptions } from '../quantize/options.js';
import { quantize } from '../quantize/quantize.js';
import { quantizeOnGpu, readbackQuantized } from './gpu-quantizer.js';
import { quantizerTestValues } from './quantizer-test-values.js';

type RuleOptions = Omit<QuantizeOptions, 'rows' | 'cols' | 'seed'>;

const mx = (scaleRule: QuantizeOptions['scaleRule'], more: Partial<RuleOptions> = {}): RuleOptions => ({
  format: 'mxfp4',
  scaleRule,
  ...more,
});
const nv = (scaleRule: QuantizeOptions['scaleRule'], more: Partial<RuleOptions> = {}): RuleOptions => ({
  format: 'nvfp4',
  scaleRule,
  ...more,
});

/** Each scale rule, and each kind of macro factor, with the defaults for the rest. */
const MAIN: readonly RuleOptions[] = [
  mx('floor'),
  mx('ceil'),
  mx('rceil'),
  mx('even'),
  mx('oas'),
  mx('mse'),
  mx('oas', { macroScale: 'static' }),
  mx('oas', { macroScale: 'dynamic' }),
  nv('te'),
  nv('four-over-six'),
  nv('four-over-six', { fourOverSixError: 'mae' }),
];

/** Every value of every option, and every chain of kernels, at least once. */
const MORE: readonly RuleOptions[] = [
  mx('oas', { blockSize: 16 }),
  mx('even', { blockSize: 16, macroScale: 'static' }),
  mx('floor', { macroScale: 'static', macroSize: 64 }),
  mx('ceil', { macroScale: 'static', macroSize: 32 }),
  mx('rceil', { blockSize: 16, macroScale: 'static', macroSize: 32 }),
  mx('floor', { macroScale: 'dynamic', macroSize: 64 }),
  mx('ceil', { macroScale: 'dynamic', macroSize: 32 }),
  mx('rceil', { blockSize: 16, macroScale: 'dynamic' }),
  mx('even', { blockSize: 16, macroScale: 'dynamic', macroSize: 32 }),
  mx('mse', { blockSize: 16, macroScale: 'static' }),
  mx('mse', { macroScale: 'dynamic', macroSize: 64 }),
  mx('oas', { tile: '2d' }),
  mx('ceil', { tile: '2d', blockSize: 16, macroScale: 'static', macroSize: 64 }),
  mx('oas', { tile: '2d', macroScale: 'dynamic' }),
  mx('mse', { tile: '2d', blockSize: 16 }),
  mx('oas', { rounding: 'stochastic' }),
  mx('rceil', { macroScale: 'static', rounding: 'stochastic' }),
  mx('even', { tile: '2d', macroScale: 'dynamic', macroSize: 32, rounding: 'stochastic' }),
  mx('oas', { hadamard: true }),
  mx('oas', { macroScale: 'dynamic', hadamard: true }),
  nv('te', { tile: '2d' }),
  nv('te', { rounding: 'stochastic' }),
  nv('te', { hadamard: true }),
  nv('four-over-six', { tile: '2d' }),
  nv('four-over-six', { tile: '2d', fourOverSixError: 'mae', rounding: 'stochastic' }),
  nv('four-over-six', { rounding: 'stochastic', hadamard: true }),
];

/** For instance 'mxfp4.oas.dynamic128' or 'nvfp4.four-over-six.mae.2d'. */
function ruleName(o: RuleOptions): string {
  const macro = o.macroScale && `${o.macroScale}${o.macroSize ?? 128}`;
  return [
    o.format,
    o.scaleRule,
    o.blockSize && `block${o.blockSize}`,
    macro,
    o.fourOverSixError,
    o.tile,
    o.rounding,
    o.hadamard && 'hadamard',
  ]
    .filter(Boolean)
    .join('.');
}

const byName = (list: readonly RuleOptions[]) => new Map(list.map((options) => [ruleName(options), options]));
const RULES: ReadonlyMap<string, RuleOptions> = byName([...MAIN, ...MORE]);

/** Names of what can be checked; the first ones are the scale rules with the defaults for the rest. */
export const QUANTIZER_RULES: readonly string[] = [...RULES.keys()];
export const MAIN_QUANTIZER_RULES: readonly string[] = [...byName(MAIN).keys()];

/** One matrix: plain data, so that it can be given to a worker. */
export interface QuantizerTask {
  readonly rule: string;
  readonly rows: number;
  readonly cols: number;
  /** Of the values, and of stochastic rounding. */
  readonly seed: number;
}

export interface QuantizerReference {
  readonly values: Float32Array;
  readonly expected: QuantizedMatrix;
}

export interface QuantizerSelfTestOptions {
  /** Least number of values for each rule, filled up to whole rows; 1e6 by default. */
  values?: number | undefined;
  /** Names among {@link QUANTIZER_RULES}; all by default. */
  rules?: readonly string[] | undefined;
  /** 1 by default. */
  seed?: number | undefined;
  /** Begins no further matrix after that time; what was compared is reported. */
  seconds?: number | undefined;
  /** What computes values and bytes of a matrix; {@link quantizerReference} by default, workers in the command. */
  reference?: ((task: QuantizerTask) => QuantizerReference | Promise<QuantizerReference>) | undefined;
  /** How many of them to ask for at once; 1 by default. */
  ahead?: number | undefined;
  /** Called after every matrix. */
  onProgress?: ((done: number, total: number) => void) | undefined;
}

export interface QuantizerMismatch {
  readonly task: QuantizerTask;
  /** Which bytes, or 'error' where the GPU's result could not be read. */
  readonly field: 'macroScales' | 'scales' | 'codes' | 'globalScale' | 'error';
  readonly row: number;
  /** Index of the byte in its row. */
  readonly byte: number;
  readonly expected: number | string;
  readonly actual: number | string;
}

export interface QuantizerRuleReport {
  readonly rule: string;
  readonly values: number;
  readonly bytes: number;
  /** Bytes that differ. */
  readonly mismatches: number;
  readonly first?: QuantizerMismatch;
}

export interface QuantizerSelfTestReport {
  readonly values: number;
  readonly mismatches: number;
  readonly seconds: number;
  /** False where time ran out. */
  readonly complete: boolean;
  readonly rules: readonly QuantizerRuleReport[];
}

/** Rows of whole macro blocks, and rows that end inside one; numbers of blocks that are not whole words. */
const WIDTHS = [4096, 2976] as const;
const MOST_VALUES = 2 ** 22;
/** Matrices for each rule at least, as a matrix has one tensor scale, and one of {@link WIDTHS}. */
const LEAST_MATRICES = 4;

/**
 * Runs the check. Differences are reported, not thrown.
 * @throws InvalidArgumentError for a rule that does not exist
 */
export async function quantizerSelfTest(
  gpu: Gpu,
  options: QuantizerSelfTestOptions = {},
): Promise<QuantizerSelfTestReport> {
  const { values = 1e6, rules = QUANTIZER_RULES, seed = 1, seconds = Number.POSITIVE_INFINITY } = options;
  const { reference = quantizerReference, ahead = 1, onProgress } = options;
  for (const rule of rules) quantizerOptions({ rule, rows: 1, cols: 32, seed });
  const tasks = tasksFor(rules, values, seed);
  const started = performance.now();
  const elapsed = () => (performance.now() - started) / 1000;
  const reports = new Map<string, QuantizerRuleReport>(
    rules.map((rule) => [rule, { rule, values: 0, bytes: 0, mismatches: 0 }]),
  );
  const pending: { task: QuantizerTask; result: Promise<QuantizerReference> }[] = [];
  let begun = 0;
  let done = 0;
  for (;;) {
    while (begun < tasks.length && pending.length < ahead && elapsed() < seconds) {
      const task = tasks[begun++]!;
      const result = Promise.resolve(task).then(reference);
      // Whoever awaits it sees the error; until then it is not an unhandled one.
      result.catch(() => {});
      pending.push({ task, result });
    }
    const next = pending.shift();
    if (!next) break;
    const { values: x, expected } = await next.result;
    const found = await compareOnGpu(gpu, next.task, x, expected);
    const old = reports.get(next.task.rule)!;
    const first = old.first ?? found.first;
    reports.set(next.task.rule, {
      rule: old.rule,
      values: old.values + x.length,
      bytes: old.bytes + found.bytes,
      mismatches: old.mismatches + found.mismatches,
      ...(first && { first }),
    });
    done++;
    onProgress?.(done, tasks.length);
  }
  const list = [...reports.values()];
  return {
    values: list.reduce((sum, report) => sum + report.values, 0),
    mismatches: list.reduce((sum, report) => sum + report.mismatches, 0),
    seconds: elapsed(),
    complete: done === tasks.length,
    rules: list,
  };
}

/** Values of a matrix and its bytes by `quantize`. */
export function quantizerReference(task: QuantizerTask): QuantizerReference {
  const options = quantizerOptions(task);
  const values = quantizerTestValues(task.rows * task.cols, task.seed, {
    oneScale: options.format === 'nvfp4',
    rotated: options.hadamard === true,
  });
  return { values, expected: quantize(values, options) };
}

/** A line for each rule, and a total. */
export function describeQuantizerReport({
  rules,
  values,
  mismatches,
  seconds,
  complete,
}: QuantizerSelfTestReport): string {
  const width = Math.max(...rules.map(({ rule }) => rule.length));
  const lines = rules.map(({ rule, values, mismatches, first }) => {
    const result = mismatches ? `${mismatches} bytes differ, first: ${describeMismatch(first!)}` : 'equal';
    return `${rule.padEnd(width)} ${String(values).padStart(11)} values  ${result}`;
  });
  const total =
    `${values} values in ${seconds.toFixed(1)} s, ` +
    (mismatches ? `${mismatches} bytes differ` : 'all bytes equal') +
    (complete ? '' : '; the time was up before the end');
  return [...lines, total].join('\n');
}

function describeMismatch({ task, field, row, byte, expected, actual }: QuantizerMismatch): string {
  const where = `[${task.rows}, ${task.cols}] of seed ${task.seed}`;
  return field === 'error'
    ? `${where}: ${actual}`
    : `${where}: ${field}[${row}, ${byte}] = ${actual}, expected ${expected}`;
}

/** What {@link quantize} is called with. @throws InvalidArgumentError for a rule that does not exist */
export function quantizerOptions({ rule, rows, cols, seed }: QuantizerTask): QuantizeOptions {
  const options = RULES.get(rule);
  if (!options) {
    throw new InvalidArgumentError(
      'selftest',
      `rule '${rule}' does not exist; there are ${QUANTIZER_RULES.join(', ')}`,
    );
  }
  return { ...options, rows, cols, seed };
}

/** First one matrix of each rule, then a second one, and so on: what a time limit cuts off is spread evenly. */
function tasksFor(rules: readonly string[], values: number, seed: number): QuantizerTask[] {
  const count = Math.max(LEAST_MATRICES, Math.ceil(values / MOST_VALUES));
  return Array.from({ length: count }, (_, i) => {
    const cols = WIDTHS[i % WIDTHS.length]!;
    const rows = Math.ceil(values / count / cols);
    return rules.map((rule, j) => ({ rule, rows, cols, seed: seed + i * rules.length + j }));
  }).flat();
}

async function compareOnGpu(
  gpu: Gpu,
  task: QuantizerTask,
  values: Float32Array,
  expected: QuantizedMatrix,
): Promise<{ bytes: number; mismatches: number; first?: QuantizerMismatch }> {
  let actual: QuantizedMatrix;
  try {
    using q = await quantizeOnGpu(gpu, values, quantizerOptions(task));
    actual = await readbackQuantized(gpu, q);
  } catch (error) {
    const bytes = expected.codes.length + expected.scales.length;
    const first = {
      task,
      field: 'error',
      row: 0,
      byte: 0,
      expected: 'bytes',
      actual: String(error),
    } as const;
    return { bytes, mismatches: bytes, first };
  }
  let bytes = 0;
  let mismatches = 0;
  let first: QuantizerMismatch | undefined;
  for (const field of ['macroScales', 'scales', 'codes'] as const) {
    const a = actual[field] ?? new Uint8Array();
    const b = expected[field] ?? new Uint8Array();
    const length = Math.max(a.length, b.length);
    bytes += length;
    for (let i = 0; i < length; i++) {
      if (a[i] === b[i]) continue;
      const perRow = length / task.rows;
      first ??= {
        task,
        field,
        row: Math.floor(i / perRow),
        byte: i % perRow,
        expected: b[i] ?? 'none',
        actual: a[i] ?? 'none',
      };
      mismatches++;
    }
  }
  if (actual.globalScale !== expected.globalScale) {
    mismatches++;
    const [e, found] = [expected.globalScale, actual.globalScale];
    first ??= { task, field: 'globalScale', row: 0, byte: 0, expected: e, actual: found };
  }
  return { bytes, mismatches, ...(first && { first }) };
}
