/** Elements in few words. */
import { type Column, filled, NOTHING } from './report.js';

type Attributes = Readonly<Record<string, string | number | boolean | undefined>>;

/** An element with attributes and children; text is never read as HTML. */
export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    made.setAttribute(name, value === true ? '' : String(value));
  }
  made.append(...children);
  return made;
}

/** @throws Error where the page lacks it, which is a mistake in index.html */
export function find<T extends HTMLElement = HTMLElement>(
  selector: string,
  within: ParentNode = document,
): T {
  const found = within.querySelector<T>(selector);
  if (!found) throw new Error(`demo: the page has no ${selector}`);
  return found;
}

/** A table that scrolls in its own box, also by keyboard; the first column names the row. Empty columns are left out. */
export function dataTable<Row>(
  caption: string,
  columns: readonly Column<Row>[],
  rows: readonly Row[],
): HTMLElement {
  const used = filled(columns, rows);
  const head = used.map(({ title, numeric }) =>
    element('th', { scope: 'col', class: numeric && 'number' }, title),
  );
  const body = rows.map((row) =>
    element(
      'tr',
      {},
      ...used.map((column, i) =>
        i === 0
          ? element('th', { scope: 'row' }, column.text(row))
          : element('td', { class: column.numeric && 'number' }, cell(column, row)),
      ),
    ),
  );
  return element(
    'div',
    { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': caption },
    element(
      'table',
      {},
      element('caption', {}, caption),
      element('thead', {}, element('tr', {}, ...head)),
      element('tbody', {}, ...body),
    ),
  );
}

function cell<Row>({ text, kind }: Column<Row>, row: Row): string | Node {
  const content = text(row);
  if (kind === 'prose') return element('span', { class: 'prose' }, content);
  return kind === 'code' && content !== NOTHING ? element('code', {}, content) : content;
}

/** Lets the page draw and take input before the next step of long work. */
export const nextTask = (): Promise<void> => new Promise((resolve) => void setTimeout(resolve));
