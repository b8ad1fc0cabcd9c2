/** Elements in few words. */

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

export interface Column<Row> {
  readonly title: string;
  cell(row: Row): string | Node;
  /** Numbers line up on their right side. */
  readonly numeric?: boolean;
}

/** A table that scrolls in its own box, also by keyboard; the first column names the row. */
export function dataTable<Row>(
  caption: string,
  columns: readonly Column<Row>[],
  rows: readonly Row[],
): HTMLElement {
  const head = columns.map(({ title, numeric }) =>
    element('th', { scope: 'col', class: numeric && 'number' }, title),
  );
  const body = rows.map((row) =>
    element(
      'tr',
      {},
      ...columns.map(({ cell, numeric }, i) =>
        i === 0
          ? element('th', { scope: 'row' }, cell(row))
          : element('td', { class: numeric && 'number' }, cell(row)),
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

/** Lets the page draw and take input before the next step of long work. */
export const nextTask = (): Promise<void> => new Promise((resolve) => void setTimeout(resolve));
