/** What leaves the accuracy section: JSON, CSV and Markdown of what was measured. No DOM. */
import { type Measurement, WAYS } from './accuracy-data.js';
import { csvLine } from './format.js';
import { type Column, markdownReport } from './report.js';

/** Of a {@link Measurement} all but the map of errors, whose thousands of cells say little without their values. */
export interface AccuracyRow extends Omit<Measurement, 'heatMap' | 'histogram'> {
  readonly label: string;
  readonly histogram: {
    readonly range: number;
    readonly counts: readonly number[];
    readonly outside: number;
  };
}

export interface AccuracyData {
  /** Which values they are, in words; for generated ones what makes them again. */
  readonly note: string;
  readonly source: { readonly data: string; readonly seed: number } | { readonly matrix: string };
  readonly rows: number;
  readonly cols: number;
}

export const labelOf = (id: string): string => WAYS.find((way) => way.id === id)?.label ?? id;

export const accuracyRow = ({ heatMap: _, histogram, ...rest }: Measurement): AccuracyRow => ({
  ...rest,
  label: labelOf(rest.id),
  histogram: { ...histogram, counts: [...histogram.counts] },
});

export function formatDb(sqnr: number): string {
  if (Number.isFinite(sqnr)) return sqnr.toFixed(2).replace('-', '−');
  if (Number.isNaN(sqnr)) return '–';
  return sqnr > 0 ? '∞' : '−∞';
}

export const formatSmall = (value: number): string => String(Number(value.toPrecision(3)));

const COLUMNS: readonly Column<AccuracyRow>[] = [
  { title: 'format and rule', text: ({ label }) => label },
  { title: 'bits a value', numeric: true, text: ({ bits }) => String(bits) },
  { title: 'SQNR, dB', numeric: true, text: ({ sqnr }) => formatDb(sqnr) },
  { title: 'largest error', numeric: true, text: ({ maxError }) => formatSmall(maxError) },
  {
    title: 'at row, column',
    numeric: true,
    text: ({ maxErrorRow, maxErrorCol }) => `${maxErrorRow}, ${maxErrorCol}`,
  },
];

export const accuracyMarkdown = ({ note, rows, cols }: AccuracyData, ways: readonly AccuracyRow[]): string =>
  markdownReport(`${note} ${rows} × ${cols} values`, [], COLUMNS, ways);

export function accuracyCsv({ source, rows, cols }: AccuracyData, ways: readonly AccuracyRow[]): string {
  const { data, seed, matrix } = { data: undefined, seed: undefined, matrix: undefined, ...source };
  const head = ['way', 'format_and_rule', 'bits', 'sqnr_db', 'max_error', 'max_error_row', 'max_error_col'];
  const lines = ways.map(({ id, label, bits, sqnr, maxError, maxErrorRow, maxErrorCol }) => [
    ...[id, label, bits, sqnr, maxError, maxErrorRow, maxErrorCol],
    ...[data, seed, matrix, rows, cols],
  ]);
  return `${[[...head, 'data', 'seed', 'matrix', 'rows', 'cols'], ...lines].map(csvLine).join('\r\n')}\r\n`;
}
