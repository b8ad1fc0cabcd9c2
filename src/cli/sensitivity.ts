/** `fp4-webgpu sensitivity`: which layers of a model FP4 hurts, and which to keep in high precision for a budget. */
import Table from 'cli-table3';
import { type Configuration, parseConfiguration } from '../../demo/lm/format-names.js';
import { InvalidArgumentError } from '../errors.js';
import {
  activationTable,
  type ComponentActivations,
  componentActivations,
} from '../sensitivity/activation-statistics.js';
import { layerErrorTable } from '../sensitivity/output-error.js';
import {
  type KeepBudget,
  type KeepRecommendation,
  keepCandidates,
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
import { type ErrorOptions, measureErrors } from './sensitivity-errors.js';
import { configurationName, fp4Bits, type Measured, type MeasuredFormat } from './sensitivity-measured.js';
import { type LossOptions, measureLosses } from './sensitivity-perplexity.js';

export interface SensitivityCommandOptions extends ErrorOptions, Partial<LossOptions> {
  formats?: string[];
  activations?: string;
  /** Mean bits of a weight, bytes of the linear layers, or how much the loss shall fall: one of them. */
  budget?: number;
  budgetBytes?: number;
  improve?: number;
}

/** What `--json` prints. */
export interface SensitivitySummary {
  readonly model: string;
  readonly adapter?: string;
  readonly formats: readonly FormatSensitivity[];
  readonly inputs?: readonly ComponentActivations[];
  readonly seconds: number;
}

export interface FormatSensitivity {
  /** WEIGHTS/ACTIVATIONS */
  readonly format: string;
  /** Of the layers in FP4. */
  readonly bitsPerWeight: number;
  readonly report: SensitivityReport;
  readonly heatMap: HeatMap;
  /** Where errors are of single layers; dB, null where nothing is lost. */
  readonly layers?: readonly {
    readonly name: string;
    readonly weights: number;
    readonly sqnr: number | null;
  }[];
  readonly recommendation?: Omit<KeepRecommendation, 'keep'> & {
    /** All names, also those of layers that are kept together. */
    readonly keep: readonly string[];
    /** The loss with them, where it was measured: how far improvements add up. */
    readonly loss?: number;
  };
}

export interface SensitivityResult {
  readonly summary: SensitivitySummary;
  readonly tables: readonly TextTable[];
  readonly notes: readonly string[];
}

export interface SensitivityRun {
  readonly signal?: AbortSignal | undefined;
  /** Before the first matrix or evaluation: bytes, or sequences with `tokens`. */
  readonly onStart?: ((total: number) => void) | undefined;
  readonly onProgress?: ((done: number, name: string) => void) | undefined;
}

export async function sensitivity(model: string, options: SensitivityCommandOptions): Promise<void> {
  await runInterruptible({
    unit: options.tokens === undefined ? 'MB' : 'sequences',
    run: (signal, bar) =>
      sensitivityOfModel(model, options, {
        signal,
        onStart: (total) => bar.start(total),
        onProgress: (done, name) => bar.update(done, name),
      }),
    left:
      options.resume === undefined
        ? 'nothing was printed'
        : 'the same command goes on after the last finished evaluation',
    print: (result: SensitivityResult) =>
      options.json ? JSON.stringify(result.summary, null, 2) : describe(result),
  });
}

/** What formats are compared where none are named. */
const DEFAULT_FORMATS = ['mxfp4', 'nvfp4'];

/**
 * Measures by perplexity with `tokens`, by errors of outputs with `inputs`, else by errors of weights.
 * @throws InvalidArgumentError for options that do not go together; as `measureErrors` and `measureLosses`
 */
export async function sensitivityOfModel(
  model: string,
  options: SensitivityCommandOptions,
  { signal = new AbortController().signal, ...tell }: SensitivityRun = {},
): Promise<SensitivityResult> {
  const began = performance.now();
  const budget = budgetOf(options);
  const configurations = configurationsOf(options);
  if (budget) checkBudget(budget, configurations);
  const { tokens } = options;
  const measured =
    tokens === undefined
      ? await measureErrors(model, configurations, options, { signal, ...tell })
      : await measureLosses(
          model,
          configurations,
          { ...options, tokens },
          { signal, ...tell, recommend: (format) => (budget && recommend(format, budget).names) || [] },
        );
  const components = measured.inputs && componentActivations(measured.inputs);
  const recommended = measured.formats.map((format) => budget && recommend(format, budget));
  return {
    summary: {
      model,
      ...(measured.adapter !== undefined && { adapter: measured.adapter }),
      formats: measured.formats.map((format, i) => summarize(format, recommended[i])),
      ...(components && { inputs: components }),
      seconds: (performance.now() - began) / 1000,
    },
    tables: [
      ...(components ? [activationTable(components)] : []),
      ...tablesOf(measured.formats),
      ...recommended.flatMap((one) => (one?.table ? [one.table] : [])),
    ],
    notes: [measured.note, ...recommended.flatMap((one) => (one ? [one.note] : []))],
  };
}

function configurationsOf({
  formats = DEFAULT_FORMATS,
  activations,
}: SensitivityCommandOptions): Configuration[] {
  const parsed = formats.map((text) => parseConfiguration(text, activations));
  return [
    ...new Map(parsed.map((configuration) => [configurationName(configuration), configuration])).values(),
  ];
}

function budgetOf(options: SensitivityCommandOptions): KeepBudget | undefined {
  const { budget, budgetBytes, improve, kinds, tokens, inputs, gpu, also, resume } = options;
  const fail = (message: string): never => {
    throw new InvalidArgumentError('sensitivity', message);
  };
  const given = [
    budget !== undefined && { bitsPerWeight: budget },
    budgetBytes !== undefined && { bytes: budgetBytes },
    improve !== undefined && { improvement: improve },
  ].filter((one) => one !== false);
  if (given.length > 1) fail('give one of --budget, --budget-bytes and --improve');
  if (tokens === undefined) {
    const ofTokens = [kinds, resume, options.tokenType, options.sequences, options.length, options.batch];
    if (ofTokens.some((option) => option !== undefined)) {
      fail('--kinds, --resume, --token-type, --sequences, --length and --batch go with --tokens');
    }
  } else {
    if (inputs !== undefined) fail('give --tokens or --inputs: perplexity, or errors of outputs');
    if (gpu === 'off') fail('--tokens runs the model on a GPU; --gpu off goes with errors of weights');
    if (also?.length) fail('--also goes with errors of weights; with --tokens the head stays');
    if (given.length && kinds && !kinds.includes('cell')) fail('a recommendation needs --kinds cell');
  }
  return given[0];
}

/** @throws InvalidArgumentError, before hours of measuring, for a budget that a format alone exceeds */
function checkBudget(budget: KeepBudget, configurations: readonly Configuration[]): void {
  for (const configuration of configurations) {
    const { weights } = configuration;
    if (!('bitsPerWeight' in budget) || weights === 'float') continue;
    const bits = fp4Bits(weights);
    if (budget.bitsPerWeight >= bits) continue;
    throw new InvalidArgumentError(
      'sensitivity',
      `--budget ${budget.bitsPerWeight} bits a weight is below the ${bits} of ${configurationName(configuration)}`,
    );
  }
}

interface Recommended {
  /** Absent where there is none; `note` says why. */
  readonly choice?: KeepRecommendation;
  readonly names: readonly string[];
  readonly table?: TextTable;
  readonly note: string;
}

/** Standard errors that an improvement has to be above, so that layers are not kept for what is chance. */
const CERTAINTY = 2;

function recommend(
  { configuration, report, layers, recommendedLoss }: MeasuredFormat,
  budget: KeepBudget,
): Recommended {
  const { candidates, layersOf } = keepCandidates(report, layers, CERTAINTY);
  let choice: KeepRecommendation;
  try {
    choice = recommendKeep(candidates, budget);
  } catch (error) {
    // What has been measured is worth printing all the same.
    if (!(error instanceof InvalidArgumentError)) throw error;
    return {
      names: [],
      note: `${configurationName(configuration)}: nothing is recommended: ${error.message}`,
    };
  }
  const names = layersOf(choice.keep);
  const name = configurationName(configuration);
  // Patterns match names without their end as well.
  const patterns = names.map((layer) => layer.replace(/\.weight$/, ''));
  const table = recommendationTable(choice, candidates);
  const useful = candidates.filter(({ improvement }) => improvement > 0).length;
  const considered = `${useful} of ${candidates.length} parts improve, by more than ${CERTAINTY} standard errors where these are known`;
  const measured =
    recommendedLoss === undefined
      ? ''
      : `, with all of these ${report.metric} is ${recommendedLoss.toPrecision(5)}, ${(report.baseline - recommendedLoss).toPrecision(4)} better`;
  return {
    choice,
    names,
    table: { ...table, title: `${name}: ${table.title}${measured}` },
    note: names.length
      ? `${name}: ${considered}: --keep '${patterns.join(',')}'`
      : `${name}: ${considered}; none fits the budget`,
  };
}

function summarize(
  { configuration, bitsPerWeight, report, errors, recommendedLoss: loss }: MeasuredFormat,
  recommended: Recommended | undefined,
): FormatSensitivity {
  return {
    format: configurationName(configuration),
    bitsPerWeight,
    report,
    heatMap: heatMap(report),
    ...(errors && {
      layers: errors.map(({ name, weights, sqnr }) => {
        return { name, weights, sqnr: Number.isFinite(sqnr) ? sqnr : null };
      }),
    }),
    ...(recommended?.choice && {
      recommendation: { ...recommended.choice, keep: recommended.names, ...(loss !== undefined && { loss }) },
    }),
  };
}

function tablesOf(formats: Measured['formats']): TextTable[] {
  const named = formats.map((format) => [configurationName(format.configuration), format] as const);
  const reports = named.map(([name, { report, errors }]) => {
    // Parts of blocks are layers then, which another table has in dB.
    return [name, errors ? { ...report, cells: [] } : report] as const;
  });
  return [
    ...sensitivityTables(new Map(reports)),
    ...named.flatMap(([name, { errors }]) => {
      if (!errors) return [];
      const table = layerErrorTable(errors);
      return [{ ...table, title: `${name}: ${table.title}` }];
    }),
  ];
}

function describe({ summary, tables, notes }: SensitivityResult): string {
  const formats = summary.formats.map(({ format, bitsPerWeight, report }) => {
    const layers = new Set(report.components.flatMap((row) => row.layers)).size;
    return `${format}${layers ? `, ${layers} layers` : ''}, ${Number(bitsPerWeight.toFixed(4))} bits a weight`;
  });
  return [
    `${summary.model}: ${formats.join('; ')}`,
    ...(summary.adapter === undefined ? [] : [`adapter: ${summary.adapter}`]),
    ...tables.flatMap((table) => [table.title, print(table)]),
    ...notes,
    `${summary.seconds.toFixed(1)} s`,
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
