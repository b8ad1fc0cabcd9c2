/** Pieces of the language-model section. */
import { FORMATS } from '../src/index.js';
import { element } from './dom.js';
import { type Configuration, configurationName, parseConfiguration, TABLES } from './lm/format-names.js';
import type { LlamaSource } from './lm/source.js';

type Attributes = Readonly<Record<string, string | number | boolean | undefined>>;

/** What `RunPanel` looks for, under a heading; `.settings` above the buttons, `.results` below. */
export function runPanel(
  id: string,
  title: string,
  about: string,
  words: { readonly run: string; readonly cancel: string; readonly progress: string },
  settings: readonly Node[],
  results: readonly Node[],
): HTMLElement {
  const form = element('form', { class: 'settings' }, ...settings);
  form.addEventListener('submit', (event) => event.preventDefault());
  return element(
    'div',
    { id, class: 'lm-panel' },
    element('h3', {}, title),
    element('p', {}, about),
    form,
    element(
      'div',
      { class: 'controls' },
      element('button', { type: 'button', class: 'run' }, words.run),
      element('button', { type: 'button', class: 'cancel', hidden: true }, words.cancel),
      element('progress', { 'aria-label': words.progress, hidden: true }),
      element('span', { class: 'status', role: 'status' }),
    ),
    element('div', { class: 'alert', role: 'alert' }),
    element('div', { class: 'results', hidden: true }, ...results),
  );
}

/** A control inside its label. */
export const labelled = (label: string, control: HTMLElement, wide = false): HTMLElement =>
  element('label', { class: wide && 'wide' }, `${label} `, control);

/** @param least and `step` of what it takes */
export const numberInput = (
  id: string,
  value: number,
  least: number,
  more: Attributes = {},
): HTMLInputElement =>
  element('input', {
    ...{ id, type: 'number', value, min: least, step: 1, inputmode: 'numeric', required: true },
    ...more,
  });

/** The name of weights that stay as they are: `BF16`. */
export const storedName = ({ storedAs }: LlamaSource) => storedAs.toUpperCase();

/** A configuration in the words of the page: `BF16/float`. */
export const configurationLabel = (configuration: Configuration, source: LlamaSource) =>
  configurationName(configuration).replace(/^float\//, `${storedName(source)}/`);

/** Whether the file has FP4 matrices, which stay what they are. */
export const isFp4 = ({ storedAs }: LlamaSource) => Object.hasOwn(FORMATS, storedAs);

const withoutActivations = (name: string) => name.split('/')[0]!;

/** Two selects: of the weights and of the activations. */
export class FormatSelects {
  readonly weights: HTMLSelectElement;
  readonly activations: HTMLSelectElement;

  /** @param prefix of ids */
  constructor(prefix: string) {
    this.weights = element('select', { id: `${prefix}-weights` });
    this.activations = element('select', { id: `${prefix}-activations` });
    this.weights.addEventListener('change', () => this.#match());
  }

  get fields(): HTMLElement[] {
    return [labelled('Weights', this.weights), labelled('Activations', this.activations)];
  }

  /** @param withStored whether the weights may stay as they are, where there are others */
  show(source: LlamaSource, withStored: boolean): void {
    const stored = new Option(`${storedName(source)}, as stored`, 'float');
    const fp4 = isFp4(source);
    const names = fp4 ? [] : TABLES.w4a16.map(withoutActivations);
    this.weights.replaceChildren(
      ...(withStored || fp4 ? [stored] : []),
      ...names.map((name) => new Option(name, name)),
    );
    this.activations.replaceChildren(
      new Option('float', 'float'),
      new Option('int8', 'int8'),
      ...(fp4
        ? [new Option('mxfp4', 'mxfp4'), new Option('nvfp4', 'nvfp4')]
        : [new Option('as the weights', 'same')]),
    );
    this.activations.dataset.alone = String(fp4);
    this.#match();
  }

  read(): Configuration {
    const x = this.activations.disabled ? 'float' : this.activations.value;
    return parseConfiguration(`${this.weights.value}/${x}`);
  }

  /** Weights that are floats are multiplied with floats. */
  #match(): void {
    this.activations.disabled = this.weights.value === 'float' && this.activations.dataset.alone !== 'true';
  }
}
