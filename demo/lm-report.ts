/** What the language-model section says of its results: as tables, CSV and Markdown. No DOM. */
import { markdownTable } from '../bench/markdown-table.js';
import type { AdapterInfo } from '../src/index.js';
import {
  type HeatMap,
  heatMap,
  type SensitivityReport,
  sensitivityTables,
  type TextTable,
} from '../src/index.js';
import type { Provenance } from './export.js';
import { csvLine, significant } from './format.js';
import type { PerplexityRow } from './lm/comparison.js';
import { type Column, markdownReport, NOTHING } from './report.js';

/** What both results begin with. */
interface Measurement {
  readonly provenance: Provenance;
  readonly adapter: AdapterInfo;
  readonly model: { readonly name: string; readonly parameters: number; readonly storedAs: string };
  readonly settings: {
    /** Where the tokens are from. */
    readonly tokens: string;
    readonly sequences: number;
    readonly length: number;
    readonly batch: number;
    readonly precision: 'f32' | 'f16';
  };
}

export interface PerplexityResult extends Measurement {
  readonly rows: readonly PerplexityRow[];
  /** What the device does not do. */
  readonly refused: readonly { readonly configuration: string; readonly reason: string }[];
}

export interface SensitivityResult extends Measurement {
  readonly configuration: string;
  readonly report: SensitivityReport;
}

export const measuredOn = ({ model, settings }: Measurement) =>
  `${model.name}, ${settings.sequences} ${settings.sequences === 1 ? 'sequence' : 'sequences'} of ${settings.length} tokens of ${settings.tokens}`;

const adapterName = ({ adapter }: Measurement) =>
  [adapter.vendor, adapter.description || adapter.architecture].filter(Boolean).join(' ');

export const megabytes = (bytes: number) => `${significant(bytes / 1e6, 4)} MB`;

/** Of a model that knows nothing, it is above what digits after the point say anything of. */
export const perplexityText = (value: number) => (value < 1000 ? value.toFixed(4) : significant(value, 6));

const percentText = (value: number | undefined) =>
  value === undefined ? NOTHING : `${value < 0 ? '−' : '+'}${Math.abs(value).toFixed(2)} %`;

export function perplexityColumns(storedAs: string): Column<PerplexityRow>[] {
  const numeric = true;
  const rate = (value: number | undefined) => (value === undefined ? NOTHING : significant(value));
  return [
    { title: 'weights', text: ({ weights }) => (weights === 'float' ? `${storedAs}, as stored` : weights) },
    { title: 'activations', text: ({ activations }) => activations },
    { title: 'perplexity', numeric, text: ({ perplexity }) => perplexityText(perplexity) },
    { title: `to ${storedAs}`, numeric, text: ({ percentOverFloat }) => percentText(percentOverFloat) },
    { title: 'to NVFP4', numeric, text: ({ percentOverNvfp4 }) => percentText(percentOverNvfp4) },
    { title: 'bits/weight', numeric, text: ({ bitsPerWeight }) => String(Number(bitsPerWeight.toFixed(4))) },
    { title: 'weights, bytes', numeric, text: ({ weightBytes }) => megabytes(weightBytes) },
    { title: 'prefill tokens/s', numeric, text: (row) => rate(row.prefillTokensPerSecond) },
    { title: 'decode tokens/s', numeric, text: (row) => rate(row.decodeTokensPerSecond) },
  ];
}

export const perplexityMarkdown = (result: PerplexityResult): string =>
  markdownReport(
    `${adapterName(result)}: perplexity of ${measuredOn(result)}`,
    result.refused.map(({ configuration, reason }) => `\`${configuration}\`: ${reason}`),
    perplexityColumns(result.model.storedAs),
    result.rows,
  );

export function perplexityCsv(result: PerplexityResult): string {
  const { model, settings, rows } = result;
  const head = [
    ...['model', 'adapter', 'sequences', 'length', 'batch', 'precision', 'weights', 'activations'],
    ...['perplexity', 'loss', 'percent_over_stored', 'percent_over_nvfp4', 'bits_per_weight', 'weight_bytes'],
    ...['prefill_tokens_per_s', 'decode_tokens_per_s'],
  ];
  const { sequences, length, batch, precision } = settings;
  const lines = rows.map((row) => [
    ...[model.name, adapterName(result), sequences, length, batch, precision, row.weights, row.activations],
    ...[
      row.perplexity,
      row.loss,
      row.percentOverFloat,
      row.percentOverNvfp4,
      row.bitsPerWeight,
      row.weightBytes,
    ],
    ...[row.prefillTokensPerSecond, row.decodeTokensPerSecond],
  ]);
  return csvText([head, ...lines]);
}

/** `3` of `model.layers.3`. */
export const blockName = (block: string) => block.slice(block.lastIndexOf('.') + 1) || 'outside of blocks';

/** A row of the heat map's table. */
export interface HeatRow {
  readonly component: string;
  readonly values: readonly (number | null)[];
}

export function heatTable({ components, blocks, values }: HeatMap): {
  columns: Column<HeatRow>[];
  rows: HeatRow[];
} {
  return {
    columns: [
      { title: 'kept', text: ({ component }) => component },
      ...blocks.map((block, i): Column<HeatRow> => {
        const text = ({ values: own }: HeatRow) => (own[i] == null ? NOTHING : percentText(100 * own[i]));
        return { title: blockName(block), numeric: true, text };
      }),
    ],
    rows: components.map((component, i) => ({ component, values: values[i]! })),
  };
}

/** The tables of components, blocks and cells, as the page shows tables. */
export const textColumns = ({ head, align }: TextTable): Column<readonly string[]>[] =>
  head.map((title, i) => ({ title, numeric: align[i] === 'right', text: (row) => row[i]! }));

export const reportTables = ({ configuration, report }: SensitivityResult): TextTable[] =>
  sensitivityTables(new Map([[configuration, report]]));

/** What the cells of the heat map say. */
export const FALL =
  'By how much perplexity falls, of what it is with all in FP4, where one component of one block is kept.';

export function sensitivityMarkdown(result: SensitivityResult): string {
  const { columns, rows } = heatTable(heatMap(result.report));
  const tables = reportTables(result).map(
    ({ title, head, align, rows: lines }) =>
      `${title}:\n\n${markdownTable(
        head,
        lines,
        align.flatMap((side, i) => (side === 'left' ? [i] : [])),
      )}\n`,
  );
  const title = `${adapterName(result)}: sensitivity of ${measuredOn(result)}, in ${result.configuration}`;
  return [markdownReport(title, [FALL], columns, rows), ...tables].join('\n');
}

export function sensitivityCsv({ configuration, report }: SensitivityResult): string {
  const { baseline, reference, components, blocks, cells } = report;
  const head = ['configuration', 'kind', 'component', 'block', 'perplexity', 'improvement', 'relative'];
  const none = [configuration, 'none', undefined, undefined, baseline, 0, 0];
  const all =
    reference === undefined
      ? []
      : [
          [
            configuration,
            'all',
            undefined,
            undefined,
            reference,
            baseline - reference,
            1 - reference / baseline,
          ],
        ];
  const lines = [...components, ...blocks, ...cells].map((row) => [
    ...[configuration, row.kind, row.component, row.block, row.value, row.improvement, row.relative],
    row.standardError,
  ]);
  return csvText([[...head, 'standard_error'], none, ...all, ...lines]);
}

const csvText = (lines: readonly (readonly (string | number | undefined)[])[]): string =>
  `${lines.map(csvLine).join('\r\n')}\r\n`;
