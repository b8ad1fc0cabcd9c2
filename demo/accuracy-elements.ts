/** Pieces of the accuracy section. */
import { element } from './dom.js';

/** A control with its label above; the control has an id. */
export function field(label: string, control: HTMLElement): HTMLElement {
  return element('div', { class: 'accuracy-field' }, element('label', { for: control.id }, label), control);
}

/** A chart with a heading and what it says in words. */
export function figure(title: string, caption: string, chart: Element): HTMLElement {
  return element(
    'figure',
    { class: 'accuracy-chart' },
    element('h4', {}, title),
    chart,
    element('figcaption', {}, caption),
  );
}
