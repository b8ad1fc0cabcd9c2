/** The panel of perplexities: what the model loses in each format. */
import { InvalidArgumentError, UnsupportedError } from '../src/index.js';
import { dataTable, element, find } from './dom.js';
import { exportButtons, provenance, showExports } from './export.js';
import { chooseConfigurations, type Measured, measureLlama, toRows } from './lm/comparison.js';
import { configurationName, parseConfiguration, TABLES } from './lm/format-names.js';
import { isFp4, labelled, numberInput, runPanel } from './lm-elements.js';
import {
  measuredOn,
  type PerplexityResult,
  perplexityColumns,
  perplexityCsv,
  perplexityMarkdown,
} from './lm-report.js';
import type { OpenModel } from './lm-section.js';
import { count } from './lm-tokens.js';
import type { RunContext } from './run.js';

const TITLES: Readonly<Record<keyof typeof TABLES, string>> = {
  w4a16: 'W4A16: weights alone in FP4',
  w4a4: 'W4A4: weights and activations in FP4',
};
const FIRST = ['mxfp4:floor:b32/float', 'mxfp4:oas:b32/float', 'mxfp4:oas:dynamic128:b32/float'];

export class PerplexityPanel {
  readonly root: HTMLElement;
  readonly #tables = (Object.keys(TABLES) as (keyof typeof TABLES)[]).map((name) => tableChoice(name));
  readonly #others = element('input', {
    ...{ id: 'lm-others', type: 'text', spellcheck: 'false', autocomplete: 'off' },
    placeholder: 'mxfp4:oas/int8, nvfp4:four-over-six/nvfp4',
  });
  readonly #decode = numberInput('lm-decode', 32, 0);

  constructor() {
    this.root = runPanel(
      'lm-perplexity',
      'Perplexity',
      'exp of the mean loss of a token: what each configuration loses against the weights as they are stored and against ' +
        'NVFP4, which are always measured too.',
      { run: 'Measure perplexity', cancel: 'Cancel', progress: 'Progress of the perplexities' },
      [
        ...this.#tables,
        labelled('Others, by name: WEIGHTS or WEIGHTS/ACTIVATIONS, with commas between', this.#others, true),
        labelled('Tokens to decode for the speed', this.#decode),
      ],
      [
        element('div', { class: 'table' }),
        element('div', { class: 'refused' }),
        exportButtons('Link to this page'),
      ],
    );
  }

  show({ source }: OpenModel, decode: number): void {
    // FP4 weights stay what they are, whatever the configuration says.
    const fp4 = isFp4(source);
    for (const table of this.#tables) table.hidden = fp4;
    this.#others.value = fp4 ? 'float/int8, float/nvfp4' : '';
    this.#decode.valueAsNumber = decode;
    find('.results', this.root).hidden = true;
  }

  /** @throws as `perplexity` and `createLlama`; what was measured by then stays in the table */
  async run({ session, signal, progress }: RunContext, model: OpenModel): Promise<string> {
    const { source, onGpu } = model;
    const configurations = chooseConfigurations({ formats: this.#formats(isFp4(source)), baselines: true });
    const decode = count('Tokens to decode', this.#decode, 0);
    const { tokens, sequences, length, batch, from } = await model.tokens();
    const precision = model.precision();
    const total = configurations.length * sequences;
    const measured: Measured[] = [];
    const refused: { configuration: string; reason: string }[] = [];
    const result = (): PerplexityResult => ({
      provenance: provenance(location.hash),
      adapter: session.gpu.adapterInfo,
      model: model.facts,
      settings: { tokens: from, sequences, length, batch, precision },
      rows: toRows(measured),
      refused,
    });
    find('.results', this.root).hidden = true;
    const onDevice = onGpu(session);
    return onDevice.use(async () => {
      for (const [i, configuration] of configurations.entries()) {
        signal.throwIfAborted();
        const name = configurationName(configuration);
        const at = i * sequences;
        const start = performance.now();
        try {
          const llama = await onDevice.get(configuration, {
            precision,
            signal,
            onProgress: (done, of) => progress(at, total, `${name}: layer ${done} of ${of}`),
          });
          const seconds = (performance.now() - start) / 1000;
          const onProgress = (done: number) =>
            progress(at + done, total, `${name}: ${done} of ${sequences} sequences`);
          const how = { length, batch, decode, signal, onProgress };
          const one = await measureLlama(configuration, llama, tokens, seconds, how);
          await onDevice.check();
          measured.push(one);
        } catch (error) {
          if (!(error instanceof UnsupportedError)) throw error;
          refused.push({ configuration: name, reason: error.message });
        }
        signal.throwIfAborted();
        this.#show(result());
      }
      const wrong = refused.length ? `, ${refused.length} refused` : '';
      return `Done: ${measured.length} of ${configurations.length} measured${wrong}.`;
    });
  }

  /** @throws InvalidArgumentError for a name that is none, and where nothing is chosen */
  #formats(fp4: boolean): string[] {
    const boxes = fp4 ? [] : this.#tables.flatMap((table) => [...table.querySelectorAll('input')]);
    const chosen = boxes.filter(({ checked }) => checked).map(({ value }) => value);
    const others = this.#others.value
      .split(',')
      .map((text) => text.trim())
      .filter(Boolean);
    for (const text of others) parseConfiguration(text);
    const all = [...chosen, ...others];
    if (all.length === 0)
      throw new InvalidArgumentError('demo', 'nothing is chosen; tick a configuration or name one');
    return all;
  }

  #show(result: PerplexityResult): void {
    const caption = `Perplexity of ${measuredOn(result)}`;
    const columns = perplexityColumns(result.model.storedAs);
    find('.table', this.root).replaceChildren(dataTable(caption, columns, result.rows));
    find('.refused', this.root).replaceChildren(
      ...result.refused.map(({ configuration, reason }) =>
        element('p', {}, element('code', {}, configuration), `: ${reason}`),
      ),
    );
    find('.results', this.root).hidden = false;
    showExports(this.root, 'fp4-perplexity', result, {
      csv: () => perplexityCsv(result),
      markdown: () => perplexityMarkdown(result),
    });
  }
}

/** A table of configurations, of which each may be chosen. */
function tableChoice(table: keyof typeof TABLES): HTMLElement {
  // Written out, as rows are named.
  const names = TABLES[table].map((text) => configurationName(parseConfiguration(text)));
  const boxes = names.map((value) =>
    element('input', { type: 'checkbox', value, checked: FIRST.includes(value) }),
  );
  const summary = element('summary');
  const tell = () => {
    const chosen = boxes.filter(({ checked }) => checked).length;
    summary.textContent = `${TITLES[table]} (${chosen} of ${boxes.length})`;
  };
  const button = (title: string, checked: boolean) => {
    const made = element('button', { type: 'button' }, title);
    made.addEventListener('click', () => {
      for (const box of boxes) box.checked = checked;
      tell();
    });
    return made;
  };
  const details = element(
    'details',
    { class: 'wide lm-table', 'data-table': table },
    summary,
    element(
      'fieldset',
      {},
      element('legend', {}, TITLES[table]),
      ...boxes.map((box, i) =>
        element('label', { class: 'check' }, box, ' ', element('code', {}, names[i]!)),
      ),
      element('div', { class: 'controls' }, button('All', true), button('None', false)),
    ),
  );
  details.addEventListener('change', tell);
  tell();
  return details;
}
