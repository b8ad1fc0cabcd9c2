/** Tables as Markdown. */

type Cell = string | number;

/** A table with a head; numbers are set to the right. */
export function markdownTable(
  head: readonly string[],
  rows: readonly (readonly Cell[])[],
  left: readonly number[],
): string {
  const line = (cells: readonly Cell[]) => `| ${cells.join(' | ')} |`;
  const rule = `|${head.map((_, i) => (left.includes(i) ? '---' : '---:')).join('|')}|`;
  return [line(head), rule, ...rows.map(line)].join('\n');
}
