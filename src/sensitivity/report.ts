/** What is learned of a model's layers, whatever it was measured by: one shape for tables, JSON and heat maps. */
import { InvalidArgumentError } from '../errors.js';
import { type LayerPlace, placeLayer, sortBlocks, sortComponents } from './layer-names.js';

/** What is kept in high precision together: a component of all blocks, a whole block, or one component of one block. */
export const SUBJECT_KINDS = ['component', 'block', 'cell'] as const;
export type SubjectKind = (typeof SUBJECT_KINDS)[number];

/** Layers that are kept in high precision together. */
export interface Subject {
  /** `component:up`, `block:model.layers.3`, `cell:up:model.layers.3`. */
  readonly id: string;
  readonly kind: SubjectKind;
  /** Absent of a block. */
  readonly component?: string;
  /** Absent of a component; empty of layers outside of blocks. */
  readonly block?: string;
  /** Names. */
  readonly layers: readonly string[];
}

export interface SensitivityRow extends Subject {
  /** The loss with these layers in high precision and all others in FP4. */
  readonly value: number;
  /** baseline - value: above zero where keeping them helps. */
  readonly improvement: number;
  /** improvement / baseline. */
  readonly relative: number;
  /**
   * Of `improvement`, where losses are known of parts of the data: from the spread of the differences between the two, part
   * by part. An improvement of less than two of these may be chance.
   */
  readonly standardError?: number;
  /** improvement / (baseline - reference): the share of FP4's whole cost; absent without a reference, or where nothing is lost. */
  readonly recovered?: number;
}

export interface SensitivityReport {
  /** What the loss is: `perplexity`, `mean relative output error`, … */
  readonly metric: string;
  /** The loss with every layer in FP4. */
  readonly baseline: number;
  /** The loss with every layer in high precision, where it is known. */
  readonly reference?: number;
  /** Each in the order of the model. */
  readonly components: readonly SensitivityRow[];
  readonly blocks: readonly SensitivityRow[];
  readonly cells: readonly SensitivityRow[];
}

/** Names to places: {@link placeLayer}, or the caller's own. */
export type Place = (name: string) => Pick<LayerPlace, 'component' | 'block'>;

/** What there is to keep, in the order of the model. @throws InvalidArgumentError where a name is there twice, or none is */
export function subjectsOf(
  layers: readonly string[],
  kinds: readonly SubjectKind[] = SUBJECT_KINDS,
  place: Place = placeLayer,
): Subject[] {
  const fail = (message: string): never => {
    throw new InvalidArgumentError('sensitivity', message);
  };
  if (layers.length === 0) fail('no layers; give the names of the linear layers that are FP4');
  for (const kind of kinds) {
    if (!SUBJECT_KINDS.includes(kind)) fail(`kind '${kind}' is not one of ${SUBJECT_KINDS.join(', ')}`);
  }
  const seen = new Set<string>();
  for (const name of layers) {
    if (seen.has(name)) fail(`layer ${name} is given twice`);
    seen.add(name);
  }
  const places = layers.map((name) => ({ name, ...place(name) }));
  const components = sortComponents(places.map(({ component }) => component));
  const blocks = sortBlocks(places.map(({ block }) => block));
  const namesOf = (wanted: { component?: string; block?: string }) =>
    places
      .filter(
        ({ component, block }) =>
          component === (wanted.component ?? component) && block === (wanted.block ?? block),
      )
      .map(({ name }) => name);
  const subject = (kind: SubjectKind, of: { component?: string; block?: string }): Subject => ({
    id: [kind, of.component, of.block].filter((part) => part !== undefined).join(':'),
    kind,
    ...of,
    layers: namesOf(of),
  });
  return [
    ...(kinds.includes('component')
      ? components.map((component) => subject('component', { component }))
      : []),
    ...(kinds.includes('block') ? blocks.map((block) => subject('block', { block })) : []),
    ...(kinds.includes('cell')
      ? blocks
          .flatMap((block) => components.map((component) => subject('cell', { component, block })))
          .filter(({ layers: own }) => own.length > 0)
      : []),
  ];
}

/** A loss as it was measured. */
export interface MeasuredLoss {
  readonly value: number;
  /** Natural logs of the losses of parts of the data; `value` is exp of their mean. */
  readonly samples?: ArrayLike<number> | undefined;
}

/**
 * Puts measurements together.
 * @param values the loss with each subject kept
 * @throws InvalidArgumentError for a loss that is not finite, and a baseline that is not above zero: what an improvement
 * is relative to
 */
export function sensitivityReport(
  metric: string,
  baseline: MeasuredLoss,
  reference: MeasuredLoss | undefined,
  values: readonly { readonly subject: Subject; readonly loss: MeasuredLoss }[],
): SensitivityReport {
  checkLoss('with every layer in FP4', baseline.value);
  if (!(baseline.value > 0)) {
    throw new InvalidArgumentError(
      'sensitivity',
      `the loss with every layer in FP4 is ${baseline.value}; improvements are relative to it, so it has to be above zero`,
    );
  }
  if (reference) checkLoss('with no layer in FP4', reference.value);
  const lost = reference ? baseline.value - reference.value : 0;
  const rows = values.map(({ subject, loss }): SensitivityRow => {
    const { value } = loss;
    checkLoss(`with ${subject.id} kept`, value);
    const improvement = baseline.value - value;
    const standardError = errorOfDifference(baseline, loss);
    return {
      ...subject,
      value,
      improvement,
      relative: improvement / baseline.value,
      ...(standardError !== undefined && { standardError }),
      ...(lost > 0 && { recovered: improvement / lost }),
    };
  });
  const ofKind = (kind: SubjectKind) => rows.filter((row) => row.kind === kind);
  return {
    metric,
    baseline: baseline.value,
    ...(reference && { reference: reference.value }),
    components: ofKind('component'),
    blocks: ofKind('block'),
    cells: ofKind('cell'),
  };
}

/**
 * Standard error of a.value - b.value, the two measured on the same parts: that of the mean difference of logs, times the
 * logarithmic mean of the values, by which a difference of logs is a difference of values.
 */
function errorOfDifference(a: MeasuredLoss, b: MeasuredLoss): number | undefined {
  const count = a.samples?.length ?? 0;
  if (!a.samples || !b.samples || count < 2) return undefined;
  const differences = Array.from(a.samples, (sample, i) => sample - b.samples![i]!);
  const mean = differences.reduce((sum, difference) => sum + difference, 0) / count;
  const squares = differences.reduce((sum, difference) => sum + (difference - mean) ** 2, 0);
  const valuePerLog = a.value === b.value ? a.value : (a.value - b.value) / Math.log(a.value / b.value);
  return Math.sqrt(squares / (count - 1) / count) * valuePerLog;
}

/** @throws InvalidArgumentError for NaN and infinities */
export function checkLoss(what: string, value: unknown): asserts value is number {
  if (typeof value === 'number' && Number.isFinite(value)) return;
  throw new InvalidArgumentError('sensitivity', `the loss ${what} is ${value}, which is no finite number`);
}

/** A matrix of components by blocks, for a heat map. */
export interface HeatMap {
  readonly components: readonly string[];
  readonly blocks: readonly string[];
  /** [component][block]; null where a block has no such component. */
  readonly values: readonly (readonly (number | null)[])[];
}

/** The cells of a report as a matrix; `relative` makes models comparable, `improvement` adds up. */
export function heatMap(
  report: SensitivityReport,
  what: 'improvement' | 'relative' | 'value' = 'relative',
): HeatMap {
  const components = sortComponents(report.cells.map(({ component }) => component!));
  const blocks = sortBlocks(report.cells.map(({ block }) => block!));
  const cells = new Map(report.cells.map((row) => [`${row.component}:${row.block}`, row[what]]));
  return {
    components,
    blocks,
    values: components.map((component) => blocks.map((block) => cells.get(`${component}:${block}`) ?? null)),
  };
}

/** A table as texts, for whatever prints it. */
export interface TextTable {
  readonly title: string;
  readonly head: readonly string[];
  /** Of the columns. */
  readonly align: readonly ('left' | 'right')[];
  readonly rows: readonly (readonly string[])[];
}

/** Rows of the table of cells, at most: a model has hundreds, and most hardly matter. */
const LISTED_CELLS = 20;

/**
 * The tables of the paper: components, blocks and the most sensitive cells, each with what is gained by keeping it; several
 * formats stand side by side. Components and cells come with those first that matter most in the first format, blocks in
 * order.
 * @param reports by the name of the format, all of the same layers
 * @param digits after the point, of losses; by default five of the baseline's count
 */
export function sensitivityTables(
  reports: ReadonlyMap<string, SensitivityReport>,
  digits?: number | undefined,
): TextTable[] {
  const columns = [...reports].map(([name, report]) => reportColumns(name, report, reports.size > 1, digits));
  const [first] = reports.values();
  if (!first) return [];
  const bySensitivity = (rows: readonly SensitivityRow[]) =>
    [...rows].sort((a, b) => b.improvement - a.improvement);
  const cells = bySensitivity(first.cells);
  const table = (
    title: string,
    names: readonly string[],
    rows: readonly (readonly [names: readonly string[], id: string])[],
  ): TextTable => {
    const heads = columns.flatMap(({ head }) => head);
    return {
      title,
      head: [...names, ...heads],
      align: [...names.map(() => 'left' as const), ...heads.map(() => 'right' as const)],
      rows: rows.map(([own, id]) => [...own, ...columns.flatMap(({ line }) => line(id))]),
    };
  };
  const blockName = ({ block }: SensitivityRow) => block || 'outside of blocks';
  return [
    table(
      'components kept in high precision, in all blocks',
      ['kept'],
      first.components.length === 0
        ? []
        : [
            [['none'], 'none'],
            ...bySensitivity(first.components).map((row) => [[row.component!], row.id] as const),
            ...(first.reference === undefined ? [] : [[['all'], 'all'] as const]),
          ],
    ),
    table(
      'blocks kept in high precision',
      ['kept'],
      first.blocks.map((row) => [[blockName(row)], row.id] as const),
    ),
    table(
      cells.length > LISTED_CELLS
        ? `the ${LISTED_CELLS} most sensitive of ${cells.length} parts of blocks`
        : 'parts of blocks kept in high precision',
      ['block', 'kept'],
      cells.slice(0, LISTED_CELLS).map((row) => [[blockName(row), row.component!], row.id] as const),
    ),
  ].filter(({ rows }) => rows.length > 0);
}

/** What a table says of one report: alone in full, beside others in short. */
function reportColumns(
  name: string,
  report: SensitivityReport,
  isShort: boolean,
  digits = Math.max(0, 4 - Math.floor(Math.log10(report.baseline))),
) {
  type Entry = Pick<SensitivityRow, 'value' | 'improvement' | 'standardError'>;
  const { metric, baseline, reference, components, blocks, cells } = report;
  const rows = [...components, ...blocks, ...cells];
  const entries = new Map(rows.map((row): [string, Entry] => [row.id, row]));
  if (reference !== undefined) {
    entries.set('all', { value: reference, improvement: baseline - reference });
  }
  // With a reference of 0 it would be `relative` again.
  const hasRecovered = !isShort && reference !== undefined && reference !== 0 && baseline > reference;
  const hasErrors = rows.some(({ standardError }) => standardError !== undefined);
  const signed = (value: number, places: number) =>
    `${value < 0 ? '-' : '+'}${Math.abs(value).toFixed(places)}`;
  const percent = (value: number) => `${signed(100 * value, 2)} %`;
  const columns: (readonly [head: string, text: (entry: Entry) => string])[] = [
    [isShort ? name : metric, ({ value }) => value.toFixed(digits)],
  ];
  if (!isShort) columns.push(['improvement', ({ improvement }) => signed(improvement, digits)]);
  columns.push([isShort ? 'improves' : 'relative', ({ improvement }) => percent(improvement / baseline)]);
  if (hasErrors) {
    columns.push([
      '± error',
      ({ standardError }) =>
        standardError === undefined ? '' : `${((100 * standardError) / baseline).toFixed(2)} %`,
    ]);
  }
  if (hasRecovered) {
    columns.push(["of FP4's cost", ({ improvement }) => percent(improvement / (baseline - reference))]);
  }
  return {
    head: columns.map(([head]) => head),
    /** Of a subject, or `none` or `all`; empty where this report does not have it. */
    line: (id: string): string[] => {
      const entry = entries.get(id);
      return columns.map(([, text], i) => {
        if (id === 'none') return i === 0 ? baseline.toFixed(digits) : '';
        return entry ? text(entry) : '';
      });
    },
  };
}

/** A table as plain text, its columns in line. */
export function tableText({ title, head, align, rows }: TextTable): string {
  const lines = [head, ...rows];
  const widths = head.map((_, col) => Math.max(...lines.map((line) => line[col]!.length)));
  const pad = (text: string, col: number) =>
    align[col] === 'right' ? text.padStart(widths[col]!) : text.padEnd(widths[col]!);
  return [title, ...lines.map((line) => line.map(pad).join('  ').trimEnd())].join('\n');
}
