/** Accuracy: SQNR of each format and rule on generated data or on the reader's own matrix, and where the error lies. */
import './accuracy.css';
import { errorChart, heatMapChart, scalesChart, sqnrBars } from './accuracy-charts.js';
import {
  DISTRIBUTIONS,
  type Distribution,
  MAX_VALUES,
  type Measurement,
  scaleLabel,
  WAYS,
} from './accuracy-data.js';
import { field, figure } from './accuracy-elements.js';
import type { Answer, ListedMatrix, Request, Source } from './accuracy-messages.js';
import {
  type AccuracyData,
  accuracyCsv,
  accuracyMarkdown,
  accuracyRow,
  formatDb,
  formatSmall,
  labelOf,
} from './accuracy-report.js';
import {
  ACCURACY_DEFAULTS,
  type AccuracySettings,
  accuracyFrom,
  accuracyParameters,
  isSeed,
} from './accuracy-settings.js';
import { hashOf, onAddress, writeAddress } from './address.js';
import { element } from './dom.js';
import { exportButtons, provenance, showExports } from './export.js';

/** A select of more options is of no use, and slow. */
const MAX_LISTED = 5000;
const OWN = 'own';
/** Between two charts, in pixels: that of the style sheet. */
const GAP = 24;

export function mountAccuracy(section: HTMLElement): void {
  new AccuracySection(section);
}

class AccuracySection {
  readonly #data = element('select', { id: 'accuracy-data' });
  readonly #seed = element('input', {
    id: 'accuracy-seed',
    type: 'number',
    value: '1',
    min: '0',
    max: '4294967295',
    step: '1',
    required: true,
  });
  readonly #fileInput = element('input', {
    id: 'accuracy-file',
    type: 'file',
    accept: '.safetensors,.gguf',
  });
  readonly #drop = element('label', { for: 'accuracy-file', class: 'accuracy-drop' });
  readonly #dropText = element('span', {}, 'Drop a safetensors or GGUF file here, or choose one.');
  readonly #matrix = element('select', { id: 'accuracy-matrix' });
  readonly #matrixField = field('Matrix', this.#matrix);
  readonly #listNote = element('p', { class: 'accuracy-note', id: 'accuracy-list-note' });
  readonly #run = element('button', { type: 'submit', class: 'accuracy-run' }, 'Measure accuracy');
  readonly #cancel = element('button', { type: 'button', disabled: true }, 'Cancel');
  readonly #progress = element('progress', { max: 1, value: 0, hidden: true });
  readonly #status = element('p', { class: 'accuracy-status', role: 'status', 'aria-live': 'polite' });
  readonly #error = element('p', { class: 'accuracy-error', role: 'alert', hidden: true });
  readonly #note = element('p', { class: 'accuracy-note' });
  readonly #rows = element('tbody');
  readonly #bars = element('figure', { class: 'accuracy-chart' });
  readonly #way = element('select', { id: 'accuracy-way' });
  readonly #details = element('div', { class: 'accuracy-details' });
  readonly #exports = exportButtons('Link to this measurement');
  readonly #results = element('div', { class: 'accuracy-results', hidden: true });
  readonly #generatedFields: HTMLElement;
  readonly #ownFields: HTMLElement;

  readonly #worker = new Worker(new URL('./accuracy-worker.ts', import.meta.url), { type: 'module' });
  #request = 0;
  #file: File | undefined;
  #measured: Measurement[] = [];
  #source: Source | undefined;
  /** What the measured values are. */
  #values: AccuracyData | undefined;
  /** The width that the charts were drawn for. */
  #drawnWidth = 0;

  constructor(section: HTMLElement) {
    section.classList.add('accuracy');
    for (const [value, { label }] of Object.entries(DISTRIBUTIONS))
      this.#data.append(new Option(label, value));
    this.#data.append(new Option('Your own matrix', OWN));
    for (const { id, label } of WAYS) this.#way.append(new Option(label, id));
    this.#takeLink();

    this.#drop.append(this.#fileInput, this.#dropText);
    this.#generatedFields = element('div', {}, field('Seed', this.#seed));
    this.#ownFields = element(
      'div',
      { class: 'accuracy-own' },
      this.#drop,
      this.#matrixField,
      this.#listNote,
    );
    this.#matrix.setAttribute('aria-describedby', this.#listNote.id);
    const form = element(
      'form',
      { class: 'accuracy-form' },
      field('Data', this.#data),
      this.#generatedFields,
      this.#ownFields,
      element('div', { class: 'accuracy-buttons' }, this.#run, this.#cancel),
    );
    this.#progress.setAttribute('aria-label', 'Progress of the accuracy measurement');
    section.append(
      element('h2', {}, 'Accuracy'),
      element(
        'p',
        {},
        'What is lost when values become FP4, by format and by the rule that chooses the scales: generated data, or a ' +
          'matrix of your own. It is quantized by the library in a worker of this tab. A file that you choose is read ' +
          `here and goes nowhere: nothing is uploaded. Of a large matrix the first rows are taken, ${MAX_VALUES} values ` +
          'at most.',
      ),
      form,
      this.#progress,
      this.#status,
      this.#error,
      this.#results,
    );
    this.#buildResults();
    this.#listen(form, section);
    this.#showFields();
  }

  #buildResults(): void {
    const head = element('tr');
    for (const [title, numeric] of [
      ['Format and rule', false],
      ['Bits a value', true],
      ['SQNR, dB', true],
      ['Largest error', true],
      ['at row, column', true],
    ] as const) {
      head.append(element('th', { scope: 'col', class: numeric ? 'accuracy-number' : '' }, title));
    }
    const table = element('table', {}, element('thead', {}, head), this.#rows);
    // A box that scrolls has to take the focus, or the keyboard does not get at it.
    const box = element('div', { class: 'accuracy-table', tabindex: 0, role: 'region' }, table);
    box.setAttribute('aria-label', 'Accuracy by format and rule');
    this.#results.append(
      this.#note,
      element(
        'p',
        { class: 'accuracy-note' },
        'SQNR is the signal to quantization noise ratio: 3 dB more is half the squared error.',
      ),
      box,
      this.#bars,
      element('h3', {}, 'Where the error lies'),
      field('Format and rule', this.#way),
      this.#details,
      this.#exports,
    );
  }

  /** Settings that the address has. */
  #takeLink(): void {
    const { data, seed, way } = accuracyFrom(location.hash);
    this.#data.value = data;
    this.#seed.value = String(seed);
    this.#way.value = way;
  }

  /** A file is in no link. */
  #settings(): AccuracySettings {
    const seed = this.#seed.valueAsNumber;
    return {
      data: this.#data.value === OWN ? ACCURACY_DEFAULTS.data : (this.#data.value as Distribution),
      seed: isSeed(seed) ? seed : ACCURACY_DEFAULTS.seed,
      way: this.#way.value,
    };
  }

  #listen(form: HTMLFormElement, section: HTMLElement): void {
    form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#measure();
    });
    this.#cancel.addEventListener('click', () => this.#stop());
    this.#data.addEventListener('change', () => this.#showFields());
    this.#way.addEventListener('change', () => {
      this.#draw();
      this.#offer();
    });
    for (const control of [this.#data, this.#seed, this.#way])
      control.addEventListener('change', () => writeAddress(accuracyParameters(this.#settings())));
    onAddress(() => {
      this.#takeLink();
      this.#showFields();
      this.#draw();
    });
    this.#fileInput.addEventListener('change', () => {
      const file = this.#fileInput.files?.[0];
      if (file) this.#list(file);
    });
    // The whole section takes a file, as one that misses the box would make the browser leave the page.
    section.addEventListener('dragover', (event) => {
      if (!event.dataTransfer?.types.includes('Files')) return;
      event.preventDefault();
      this.#drop.classList.add('accuracy-over');
    });
    section.addEventListener('dragleave', () => this.#drop.classList.remove('accuracy-over'));
    section.addEventListener('drop', (event) => {
      event.preventDefault();
      this.#drop.classList.remove('accuracy-over');
      const file = event.dataTransfer?.files[0];
      if (!file) return;
      this.#data.value = OWN;
      this.#showFields();
      this.#list(file);
    });
    this.#worker.addEventListener('message', ({ data }: MessageEvent<Answer>) => this.#answer(data));
    this.#worker.addEventListener('error', (event) => {
      this.#end('');
      this.#fail('the worker', event.message || 'it could not be loaded; reload the page');
    });
    new ResizeObserver(() => {
      // A running measurement draws when it ends.
      if (this.#cancel.disabled && Math.abs(this.#results.clientWidth - this.#drawnWidth) >= 1) this.#draw();
    }).observe(this.#results);
  }

  #showFields(): void {
    const own = this.#data.value === OWN;
    this.#generatedFields.hidden = own;
    this.#ownFields.hidden = !own;
    this.#matrixField.hidden = this.#matrix.length === 0;
    this.#run.disabled = !this.#cancel.disabled || (own && this.#matrix.value === '');
  }

  #send(request: Request): void {
    this.#worker.postMessage(request);
  }

  #begin(status: string): number {
    this.#error.hidden = true;
    this.#status.textContent = status;
    this.#progress.removeAttribute('value');
    this.#progress.hidden = false;
    this.#cancel.disabled = false;
    this.#showFields();
    return ++this.#request;
  }

  #end(status: string): void {
    this.#status.textContent = status;
    this.#progress.hidden = true;
    this.#cancel.disabled = true;
    this.#showFields();
    this.#draw();
    this.#offer();
  }

  /** What there is, in files; and the link that makes it again, which holds no file of the reader's. */
  #offer(): void {
    if (!this.#values || !this.#measured.length) return;
    const data = this.#values;
    const ways = this.#measured.map(accuracyRow);
    const { source } = data;
    const generated = 'data' in source;
    const settings = {
      ...this.#settings(),
      ...(generated && { data: source.data as Distribution, seed: source.seed }),
    };
    const hash = generated ? hashOf(accuracyParameters(settings)) : hashOf({ way: settings.way });
    const name = generated ? `${source.data}-${source.seed}` : source.matrix.replaceAll(/[^\w.-]+/g, '_');
    const result = { provenance: provenance(hash), ...data, ways };
    showExports(this.#exports, `fp4-accuracy-${name}`, result, {
      csv: () => accuracyCsv(data, ways),
      markdown: () => accuracyMarkdown(data, ways),
    });
    this.#exports.querySelector<HTMLElement>('.link')!.hidden = !generated;
  }

  #fail(name: string, message: string): void {
    this.#error.textContent = `${name}: ${message}`;
    this.#error.hidden = false;
  }

  #list(file: File): void {
    this.#file = file;
    this.#matrix.replaceChildren();
    this.#listNote.textContent = '';
    this.#dropText.textContent = `${file.name}. Drop or choose another.`;
    this.#send({ type: 'list', id: this.#begin(`Reading the header of ${file.name}.`), file });
  }

  #measure(): void {
    const own = this.#data.value === OWN;
    const source: Source | undefined = !own
      ? { kind: 'generated', distribution: this.#data.value as Distribution, seed: this.#seed.valueAsNumber }
      : this.#file && { kind: 'file', file: this.#file, matrix: this.#matrix.value };
    if (!source) return;
    this.#source = source;
    this.#values = undefined;
    this.#measured = [];
    this.#rows.replaceChildren();
    this.#results.hidden = true;
    this.#send({ type: 'measure', id: this.#begin('Making the data.'), source });
  }

  #stop(): void {
    const id = this.#request;
    this.#send({ type: 'cancel', id });
    // What it still sends is of a number that is gone.
    this.#request++;
    const count = this.#measured.length;
    this.#end(count > 0 ? `Cancelled after ${count} of ${WAYS.length}.` : 'Cancelled.');
  }

  #answer(answer: Answer): void {
    if (answer.id !== this.#request) return;
    switch (answer.type) {
      case 'listed':
        this.#showList(answer.matrices);
        return;
      case 'data':
        this.#note.textContent = `${answer.note} ${answer.rows} × ${answer.cols} values.`;
        this.#takeData(answer);
        return;
      case 'progress':
        this.#progress.max = answer.total;
        this.#progress.value = answer.done;
        this.#status.textContent = `${answer.done} of ${answer.total} done; now ${answer.label}.`;
        return;
      case 'measured':
        this.#measured.push(answer.result);
        this.#rows.append(tableRow(answer.result));
        this.#results.hidden = false;
        return;
      case 'done':
        this.#end(`All ${WAYS.length} measured.`);
        return;
      case 'failed':
        this.#end('');
        this.#fail(answer.name, answer.message);
    }
  }

  #takeData({ note, rows, cols }: Answer & { type: 'data' }): void {
    const made = this.#source!;
    const source =
      made.kind === 'generated' ? { data: made.distribution, seed: made.seed } : { matrix: made.matrix };
    this.#values = { note, source, rows, cols };
  }

  #showList(matrices: readonly ListedMatrix[]): void {
    // What can be measured comes first.
    const usable = matrices.filter(({ refusal }) => refusal === undefined);
    const refused = matrices.filter(({ refusal }) => refusal !== undefined);
    for (const matrix of [...usable, ...refused].slice(0, MAX_LISTED))
      this.#matrix.append(matrixOption(matrix));
    this.#matrix.value = usable[0]?.name ?? '';
    const parts = [`${usable.length} of ${matrices.length} matrices can be measured.`];
    if (refused[0]) parts.push(`${refused[0].name}: ${refused[0].refusal}.`);
    if (matrices.length > MAX_LISTED) parts.push(`The first ${MAX_LISTED} are listed.`);
    this.#listNote.textContent = parts.join(' ');
    this.#end(`${this.#file?.name ?? 'The file'} is read: ${parts[0]}`);
  }

  /** The charts of what has been measured. */
  #draw(): void {
    const chosen = this.#measured.find(({ id }) => id === this.#way.value) ?? this.#measured[0];
    if (!chosen) return;
    this.#way.value = chosen.id;
    const room = this.#results.clientWidth;
    this.#drawnWidth = room;
    // Hidden, it has none; axes take some.
    const width = Math.max(room, 260);
    for (const row of this.#rows.rows) {
      row.classList.toggle('accuracy-chosen', row.dataset.way === chosen.id);
    }
    const bars = this.#measured.map(({ id, sqnr }) => ({
      label: labelOf(id),
      sqnr,
      chosen: id === chosen.id,
    }));
    this.#bars.replaceChildren(sqnrBars(bars, width));
    // Two beside each other where there is room.
    const two = width >= 720;
    const half = two ? (width - GAP) / 2 : width;
    this.#details.classList.toggle('accuracy-two', two);
    this.#details.replaceChildren(
      figure('Errors', errorCaption(chosen), errorChart(chosen.histogram, half)),
      figure('Block scales', scalesCaption(chosen), scalesChart(chosen.scales, half)),
      figure(
        'Error block by block',
        heatCaption(chosen),
        heatMapChart(chosen.heatMap, chosen.blockSize, width),
      ),
    );
  }
}

function matrixOption({ name, shape, experts, format, refusal }: ListedMatrix): HTMLOptionElement {
  const sizes = [...(experts === undefined ? [] : [experts]), ...shape].join(' × ');
  const option = new Option(
    `${name} · ${sizes} · ${format}${refusal === undefined ? '' : ' · not applicable'}`,
    name,
  );
  option.disabled = refusal !== undefined;
  return option;
}

function tableRow(result: Measurement): HTMLTableRowElement {
  const row = element('tr');
  row.dataset.way = result.id;
  const number = (text: string, value?: number) =>
    element(
      'td',
      { class: 'accuracy-number' },
      value === undefined ? text : element('data', { value: String(value) }, text),
    );
  row.append(
    element('th', { scope: 'row' }, labelOf(result.id)),
    number(String(result.bits), result.bits),
    number(formatDb(result.sqnr), result.sqnr),
    number(formatSmall(result.maxError), result.maxError),
    number(`${result.maxErrorRow}, ${result.maxErrorCol}`),
  );
  return row;
}

const percent = (share: number) => `${formatSmall(100 * share)} %`;

function errorCaption({ id, histogram: { range, outside, counts } }: Measurement): string {
  if (range === 0) return `${labelOf(id)}: nothing is lost.`;
  const total = counts.reduce((sum, count) => sum + count, outside);
  return (
    `${labelOf(id)}: quantized value minus value. ${percent(outside / total)} of the errors lie beyond ` +
    `±${formatSmall(range)}, which is four times their RMS, and are not shown.`
  );
}

function scalesCaption({ id, scales: { format, firstByte, counts, zero } }: Measurement): string {
  const empty = zero > 0 ? ` ${zero} blocks are zero, or as good as, and are not shown.` : '';
  if (counts.length === 0) return `${labelOf(id)}: no block has a scale.${empty}`;
  const total = counts.reduce((sum, count) => sum + count, 0);
  const most = Math.max(...counts);
  const kind = format === 'nvfp4' ? 'E4M3 scales (times one of the tensor)' : 'E8M0 scales';
  const name = (i: number) => scaleLabel(format, firstByte + i);
  return (
    `${labelOf(id)}: ${kind} from ${name(0)} to ${name(counts.length - 1)}; ` +
    `the most frequent, ${name(counts.indexOf(most))}, has ${percent(most / total)} of the blocks.${empty}`
  );
}

function heatCaption({ id, sqnr, blockSize, heatMap: { rowsPerCell, blocksPerCell } }: Measurement): string {
  const count = (n: number, one: string) => (n === 1 ? `one ${one}` : `${n} ${one}s`);
  return (
    `${labelOf(id)}: a cell is ${count(blocksPerCell, 'block')} of ${blockSize} values across and ` +
    `${count(rowsPerCell, 'row')} down; its colour is the mean squared error there. All cells together are at ` +
    `${formatDb(-sqnr)} dB, which is the SQNR with its sign turned.`
  );
}
