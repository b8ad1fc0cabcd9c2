/** Results as files, and the link that makes them again. */
import { element, find } from './dom.js';

declare const __COMMIT__: string;

/** What every export says about where it was measured. */
export interface Provenance {
  /** Of the page, `+changes` where there were some; `unknown` where it was built without a repository. */
  readonly commit: string;
  readonly date: string;
  readonly link: string;
  readonly userAgent: string;
}

export const provenance = (hash: string): Provenance => ({
  commit: __COMMIT__,
  date: new Date().toISOString(),
  link: linkTo(hash),
  userAgent: navigator.userAgent,
});

export const linkTo = (hash: string): string => new URL(hash, location.href).href;

export function download(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const anchor = document.createElement('a');
  anchor.href = url;
  anchor.download = name;
  anchor.click();
  // Browsers take the URL up after the click has returned.
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** What {@link showExports} gives something to do. */
export function exportButtons(link: string): HTMLElement {
  const button = (name: string, title: string) => element('button', { type: 'button', class: name }, title);
  return element(
    'p',
    { class: 'exports' },
    button('json', 'JSON'),
    button('csv', 'CSV'),
    button('markdown', 'Markdown'),
    element('a', { class: 'link', href: '.' }, link),
  );
}

/** Buttons and link of a panel's results. */
export function showExports(
  root: HTMLElement,
  name: string,
  result: { readonly provenance: Provenance },
  { csv, markdown }: { csv(): string; markdown(): string },
): void {
  // JSON has no NaN: what was not measured is null.
  find<HTMLButtonElement>('.json', root).onclick = () =>
    download(`${name}.json`, 'application/json', `${JSON.stringify(result, null, 2)}\n`);
  find<HTMLButtonElement>('.csv', root).onclick = () => download(`${name}.csv`, 'text/csv', csv());
  find<HTMLButtonElement>('.markdown', root).onclick = () =>
    download(`${name}.md`, 'text/markdown', markdown());
  find<HTMLAnchorElement>('.link', root).href = result.provenance.link;
}
