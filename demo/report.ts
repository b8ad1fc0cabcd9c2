/** Results as text: one set of columns for the table on the page and the one in Markdown. No DOM. */
import { markdownTable } from '../bench/markdown-table.js';

export interface Column<Row> {
  readonly title: string;
  /** {@link NOTHING} where the row has nothing to say. */
  text(row: Row): string;
  /** Numbers line up on their right side. */
  readonly numeric?: boolean;
  /** Code, or a sentence that needs room. */
  readonly kind?: 'code' | 'prose';
}

export const NOTHING = '–';

/** Columns without those in which no row says anything. */
export const filled = <Row>(columns: readonly Column<Row>[], rows: readonly Row[]): Column<Row>[] =>
  columns.filter(({ text }) => rows.some((row) => ![NOTHING, ''].includes(text(row))));

/** A title, paragraphs, and the table of the rows. */
export function markdownReport<Row>(
  title: string,
  paragraphs: readonly string[],
  columns: readonly Column<Row>[],
  rows: readonly Row[],
): string {
  const used = filled(columns, rows);
  const cell = ({ text, kind }: Column<Row>, row: Row) => {
    const plain = text(row).replaceAll('|', '\\|');
    return kind === 'code' && plain !== NOTHING ? `\`${plain}\`` : plain;
  };
  const table = markdownTable(
    used.map((column) => column.title),
    rows.map((row) => used.map((column) => cell(column, row))),
    used.flatMap(({ numeric }, i) => (numeric ? [] : [i])),
  );
  return `${[`**${title}**`, ...paragraphs, table].join('\n\n')}\n`;
}
