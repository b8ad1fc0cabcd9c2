/** DOM of the accuracy section in one expression each. */

export function element<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** A control with its label above; the control has an id. */
export function field(label: string, control: HTMLElement): HTMLElement {
  return element(
    'div',
    { className: 'accuracy-field' },
    element('label', { htmlFor: control.id }, label),
    control,
  );
}

/** A chart with a heading and what it says in words. */
export function figure(title: string, caption: string, chart: Element): HTMLElement {
  return element(
    'figure',
    { className: 'accuracy-chart' },
    element('h4', {}, title),
    chart,
    element('figcaption', {}, caption),
  );
}
