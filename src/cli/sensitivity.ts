import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import Table from 'cli-table3';
import type { Checkpoint } from '../checkpoint/open.js';
import { InvalidArgumentError } from '../errors.js';
import { bitsPerValue } from '../matrix/quantized-matrix.js';
import { openCheckpointFile } from '../node.js';
import { addSums, type ErrorSums, NO_ERROR } from '../quantize/metrics.js';
import { dequantize, quantize } from '../quantize/quantize.js';
import {
  ActivationStatistics,
  activationTable,
  type ComponentActivations,
  componentActivations,
} from '../sensitivity/activation-statistics.js';
import {
  type LayerError,
  layerError,
  layerErrorTable,
  outputErrorReport,
} from '../sensitivity/output-error.js';
import {
  type KeepBudget,
  type KeepCandidate,
  type KeepRecommendation,
  keepCandidates,
  type LayerBits,
  recommendationTable,
  recommendKeep,
} from '../sensitivity/recommend.js';
import {
  type HeatMap,
  heatMap,
  type SensitivityReport,
  sensitivityTables,
  type TextTable,
} from '../sensitivity/report.js';
import { runInterruptible } from './interruptible.js';
import { readConfig } from './model-folder.js';
import { settled } from './parallel.js';
import { chooseGpu, type QuantizeRunOptions, type RuleOptions, rulesOf } from './quantize.js';
import { isPlanned, type MatrixRules, type PlannedMatrix, planQuantization } from './quantize-plan.js';
import { RowQuantizer } from './row-quantizer.js';
import type { MatrixInputs } from './rows-task.js';

export interface SensitivityCommandOptions extends RuleOptions, QuantizeRunOptions {
  /** What x is multiplied as, where `inputs` are given; with the weights' rules where they are of the same format. */
  activations?: 'float' | MatrixRules['format'];
  /** A safetensors file with rows of the input of each layer, under the layer's name. */
  inputs?: string;
  keep?: string[];
  also?: string[];
  /** Mean bits of a weight, bytes of the linear layers, or how much the loss shall fall: one of them. */
  budget?: number;
  budgetBytes?: number;
  improve?: number;
}

/** What `--json` prints. */
export interface SensitivitySummary {
  readonly model: string;
  readonly format: MatrixRules['format'];
  readonly rules: MatrixRules;
  readonly activations: 'float' | MatrixRules['format'];
  /** Of the layers in FP4. */
  readonly bitsPerWeight: number;
  readonly report: SensitivityReport;
  readonly heatMap: HeatMap;
  /** In the order of the files; dB, null where nothing is lost. */
  readonly layers: readonly {
    readonly name: string;
    readonly weights: number;
    readonly sqnr: number | null;
  }[];
  readonly inputs?: readonly ComponentActivations[];
  readonly recommendation?: Omit<KeepRecommendation, 'keep'> & {
    /** All names, also those of layers that are kept together. */
    readonly keep: readonly string[];
  };
  readonly seconds: number;
}

interface Result {
  readonly summary: SensitivitySummary;
  readonly tables: readonly TextTable[];
  readonly notes: readonly string[];
}

export async function sensitivity(model: string, options: SensitivityCommandOptions): Promise<void> {
  await runInterruptible({
    run: (signal, bar) =>
      sensitivityOfModel(model, options, {
        signal,
        onStart: (total) => bar.start(total),
        onProgress: (done, name) => bar.update(done, name),
      }),
    left: 'nothing is left behind',
    print: (result) => (options.json ? JSON.stringify(result.summary, null, 2) : describe(result)),
  });
}

export interface SensitivityRun {
  readonly signal?: AbortSignal | undefined;
  /** Before the first matrix; bytes of all. */
  readonly onStart?: ((total: number) => void) | undefined;
  readonly onProgress?: ((done: number, name: string) => void) | undefined;
}

/**
 * How much FP4 loses in each linear layer of a model: of its weights, or of its output where there are inputs.
 * @throws InvalidArgumentError, before anything is quantized, for options that do not go together, and for inputs that a
 * layer lacks or that are of another width
 */
export async function sensitivityOfModel(
  model: string,
  options: SensitivityCommandOptions,
  { signal = new AbortController().signal, onStart, onProgress }: SensitivityRun = {},
): Promise<Result> {
  const began = performance.now();
  const budget = budgetOf(options);
  const rules = rulesOf(options);
  const { activations = 'float' } = options;
  if (activations !== 'float' && !options.inputs) {
    throw new InvalidArgumentError(
      'sensitivity',
      `--activations ${activations}: what quantizing x costs depends on x; give rows of it with --inputs`,
    );
  }
  await using checkpoint = await openCheckpointFile(model);
  const config = await readConfig(dirname(checkpoint.name));
  const { keep = [], also = [] } = options;
  const plan = planQuantization(checkpoint, { rules, keep, also }, config.value);
  const planned = plan.steps.filter(isPlanned);
  await using inputs = options.inputs === undefined ? undefined : await openInputs(options.inputs, planned);

  using gpu = inputs ? undefined : await chooseGpu(options);
  const quantizer = new RowQuantizer({ gpu, threads: options.threads ?? availableParallelism(), signal });
  const errors: LayerError[] = [];
  const statistics = new Map<string, ReturnType<ActivationStatistics['summary']>>();
  try {
    onStart?.(planned.reduce((sum, { tensor }) => sum + tensor.byteLength, 0));
    let done = 0;
    for (const matrix of planned) {
      signal.throwIfAborted();
      const { name, byteLength } = matrix.tensor;
      let x: MatrixInputs | undefined;
      if (inputs) {
        const rows = await inputs.rows(matrix);
        const gathered = new ActivationStatistics(matrix.options.cols);
        gathered.add(rows);
        statistics.set(name, gathered.summary());
        x = { x: rows, quantized: quantizedInputs(rows, matrix, activations) };
      }
      const sums = await matrixError(checkpoint, matrix, quantizer, x);
      errors.push(layerError(name, weightsOf(matrix), sums));
      done += byteLength;
      onProgress?.(done, name);
    }
  } finally {
    await quantizer.close();
  }

  const { macroSize, ...withoutMacro } = plan.spec;
  const bits = bitsPerValue(plan.spec.macroScale === 'none' ? withoutMacro : plan.spec);
  const metric = inputs ? 'mean relative output error' : 'mean relative weight error';
  const report = outputErrorReport(errors, { metric });
  const stored = new Map(
    planned.map((matrix): [string, LayerBits] => [
      matrix.tensor.name,
      { weights: weightsOf(matrix), bits, highBits: (8 * matrix.tensor.byteLength) / weightsOf(matrix) },
    ]),
  );
  const { candidates, layersOf } = keepCandidates(report, stored);
  const choice = budget && recommendKeep(candidates, budget);
  const components = inputs && componentActivations(statistics);
  return {
    summary: {
      model,
      format: plan.spec.format,
      rules,
      activations,
      bitsPerWeight: bits,
      report,
      heatMap: heatMap(report),
      layers: errors.map(({ name, weights, sqnr }) => ({
        name,
        weights,
        sqnr: Number.isFinite(sqnr) ? sqnr : null,
      })),
      ...(components && { inputs: components }),
      ...(choice && { recommendation: { ...choice, keep: layersOf(choice.keep) } }),
      seconds: (performance.now() - began) / 1000,
    },
    tables: [
      ...(components ? [activationTable(components)] : []),
      // Parts of blocks are layers here, which the last table has in dB.
      ...sensitivityTables({ ...report, cells: [] }),
      layerErrorTable(errors),
      ...(choice ? [recommendationTable(choice, candidates)] : []),
    ],
    notes: [
      inputs
        ? `how much of each layer's output FP4 changes (x: ${activations}), not what the model makes of it`
        : 'how much of its weights each layer loses; --inputs measures what that does to its output',
      ...(choice ? [keepNote(choice, candidates, layersOf)] : []),
    ],
  };
}

/** Each component's own weights count; experts of one tensor are one layer. */
function weightsOf({ options: { rows, cols }, experts = 1 }: PlannedMatrix): number {
  return experts * rows * cols;
}

async function matrixError(
  checkpoint: Checkpoint,
  { tensor, dtype, options, experts }: PlannedMatrix,
  quantizer: RowQuantizer,
  inputs: MatrixInputs | undefined,
): Promise<ErrorSums> {
  const { rows } = options;
  const bytesPerRow = tensor.byteLength / (rows * (experts ?? 1));
  const sums = await settled(
    Array.from({ length: experts ?? 1 }, (_, expert) => {
      const above = expert * rows;
      const name = experts === undefined ? tensor.name : `${tensor.name}, expert ${expert}`;
      const read = (start: number, end: number) =>
        checkpoint.read(tensor, { start: (above + start) * bytesPerRow, end: (above + end) * bytesPerRow });
      const source = { name, dtype, options, read };
      return inputs ? quantizer.outputError(source, inputs) : quantizer.quantize(source, async () => {});
    }),
  );
  return sums.reduce(addSums, NO_ERROR);
}

/** What a layer multiplies: rows as they are, or in FP4, by the rules of the weights where the format is the same. */
function quantizedInputs(
  x: Float32Array,
  { options }: PlannedMatrix,
  activations: 'float' | MatrixRules['format'],
): Float32Array {
  if (activations === 'float') return x;
  const { cols } = options;
  const rules = activations === options.format ? options : { format: activations };
  return dequantize(quantize(x, { ...rules, rows: x.length / cols, cols, tile: '1d' }));
}

interface Inputs extends AsyncDisposable {
  /** f32[m, k] */
  rows(matrix: PlannedMatrix): Promise<Float32Array>;
}

/** @throws InvalidArgumentError where a matrix has no inputs, or of another width; for experts of one tensor */
async function openInputs(path: string, planned: readonly PlannedMatrix[]): Promise<Inputs> {
  const file = await openCheckpointFile(path);
  const fail = (message: string): never => {
    throw new InvalidArgumentError('sensitivity', `${path}: ${message}`);
  };
  try {
    const infos = new Map(file.matrices.map((info) => [info.name, info]));
    const names = new Map<string, string>();
    const missing: string[] = [];
    for (const { tensor, options, experts } of planned) {
      if (experts !== undefined) {
        fail(`${tensor.name} has ${experts} experts, each with inputs of its own; leave it out with --keep`);
      }
      const found = [tensor.name, tensor.name.replace(/\.weight$/, '')].find((name) => infos.has(name));
      if (found === undefined) missing.push(tensor.name);
      else {
        const { producer, shape, experts: batches } = infos.get(found)!;
        if (producer !== 'float') fail(`inputs ${found} are no floats`);
        if (batches !== undefined) fail(`inputs ${found} have three dimensions; give them as [rows, k]`);
        if (shape[1] !== options.cols)
          fail(`inputs ${found} are ${shape[1]} wide, and the layer ${options.cols}`);
        names.set(tensor.name, found);
      }
    }
    if (missing.length) {
      const more = missing.length > 1 ? ` and ${missing.length - 1} more` : '';
      fail(`no inputs for ${missing[0]}${more}; a tensor of that name has to hold rows of x, [m, k]`);
    }
    return {
      async rows({ tensor }) {
        const matrix = await file.matrix(names.get(tensor.name)!);
        return 'values' in matrix ? matrix.values : dequantize(matrix);
      },
      [Symbol.asyncDispose]: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}

function budgetOf({ budget, budgetBytes, improve }: SensitivityCommandOptions): KeepBudget | undefined {
  const given = [
    budget !== undefined && { bitsPerWeight: budget },
    budgetBytes !== undefined && { bytes: budgetBytes },
    improve !== undefined && { improvement: improve },
  ].filter((one) => one !== false);
  if (given.length > 1) {
    throw new InvalidArgumentError('sensitivity', 'give one of --budget, --budget-bytes and --improve');
  }
  return given[0];
}

/** How to quantize the model so. */
function keepNote(
  choice: KeepRecommendation,
  candidates: readonly KeepCandidate[],
  layersOf: (keep: readonly string[]) => string[],
): string {
  const names = layersOf(choice.keep);
  if (names.length === 0) return `nothing of ${candidates.length} parts is worth keeping within the budget`;
  // Patterns match names without their end as well.
  const patterns = names.map((name) => name.replace(/\.weight$/, ''));
  return `fp4-webgpu quantize … --keep '${patterns.join(',')}'`;
}

function describe({ summary, tables, notes }: Result): string {
  const { model, format, bitsPerWeight, seconds } = summary;
  return [
    `${model}: ${summary.layers.length} layers in ${format}, ${bitsPerWeight} bits a weight, ${seconds.toFixed(1)} s`,
    ...tables.flatMap((table) => [table.title, print(table)]),
    ...notes,
  ].join('\n');
}

function print({ head, align, rows }: TextTable): string {
  const table = new Table({
    head: [...head],
    colAligns: [...align],
    style: { head: [], border: [], compact: true },
  });
  table.push(...rows.map((row) => [...row]));
  return table.toString();
}
