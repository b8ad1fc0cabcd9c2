/** The panel of sensitivity: which parts of the model FP4 hurts, as a heat map. */
import * as Plot from '@observablehq/plot';
import { type HeatMap, heatMap, InvalidArgumentError, leaveOneOut, type SubjectKind } from '../src/index.js';
import { showChart } from './charts.js';
import { dataTable, element, find, nextTask } from './dom.js';
import { exportButtons, provenance, showExports } from './export.js';
import { signed } from './format.js';
import { FLOAT } from './lm/comparison.js';
import { configurationName } from './lm/format-names.js';
import { mixLlamas } from './lm/mix.js';
import { perplexity } from './lm/perplexity.js';
import { fp4Layers } from './lm/quantized-layers.js';
import { FormatSelects, runPanel } from './lm-elements.js';
import {
  blockName,
  FALL,
  heatTable,
  measuredOn,
  perplexityText,
  reportTables,
  type SensitivityResult,
  sensitivityCsv,
  sensitivityMarkdown,
  textColumns,
} from './lm-report.js';
import type { OpenModel } from './lm-section.js';
import type { Tokens } from './lm-tokens.js';
import type { RunContext } from './run.js';

/** Losses of a run that may have been cancelled, and what they hold for. */
interface Known {
  readonly key: string;
  readonly tokens: Uint32Array;
  readonly losses: Map<string, string>;
}

export class SensitivityPanel {
  readonly root: HTMLElement;
  readonly #formats = new FormatSelects('lm-sensitivity');
  readonly #whole = element('input', { type: 'checkbox', id: 'lm-whole', checked: true });
  #known: Known | undefined;

  constructor() {
    this.root = runPanel(
      'lm-sensitivity',
      'Sensitivity',
      'Everything in FP4 but one component of one block, which stays as it is stored: what perplexity falls by is what ' +
        'FP4 costs there. One evaluation a component and block, on the tokens above; what was measured is kept when you ' +
        'cancel, and the next run goes on from there.',
      { run: 'Measure sensitivity', cancel: 'Cancel', progress: 'Progress of the sensitivities' },
      [
        ...this.#formats.fields,
        element('label', { class: 'check wide' }, this.#whole, ' Also whole components and whole blocks'),
      ],
      [
        element('div', { class: 'summary' }),
        element(
          'figure',
          {},
          element('div', { class: 'chart' }),
          element('div', { class: 'lm-legend' }),
          element('figcaption', {}, FALL),
        ),
        element('div', { class: 'table' }),
        exportButtons('Link to this page'),
      ],
    );
  }

  show({ source }: OpenModel): void {
    this.#formats.show(source, false);
    this.#known = undefined;
    find('.results', this.root).hidden = true;
  }

  /** @throws InvalidArgumentError where no layer becomes FP4; as `perplexity` and `createLlama` */
  async run({ session, signal, progress }: RunContext, model: OpenModel): Promise<string> {
    const configuration = this.#formats.read();
    const name = configurationName(configuration);
    const kinds: SubjectKind[] = this.#whole.checked ? ['component', 'block', 'cell'] : ['cell'];
    const tokens = await model.tokens();
    const { sequences, length, batch, from } = tokens;
    const precision = model.precision();
    const storage = this.#losses(JSON.stringify([name, precision, length, batch]), tokens);
    const onDevice = model.onGpu(session);
    find('.results', this.root).hidden = true;
    return onDevice.use(async () => {
      const options = (what: string) => ({
        precision,
        signal,
        onProgress: (done: number, of: number) => progress(0, 1, `${what}: layer ${done} of ${of}`),
      });
      const quantized = await onDevice.get(configuration, options(name));
      const float = await onDevice.create(FLOAT, options('as stored'));
      try {
        const shared = await onDevice.shared();
        const layers = [...fp4Layers(quantized, float, configuration).keys()];
        if (layers.length === 0)
          throw new InvalidArgumentError('demo', 'no layer of this model becomes FP4: it is FP4 as stored');
        let [done, total] = [0, 1];
        const report = await leaveOneOut({
          ...{ layers, kinds, storage, signal, metric: 'perplexity', identity: name },
          onStart: (all) => {
            total = all;
          },
          onProgress: (now) => {
            done = now.done;
          },
          evaluate: async (isKept, { id }) => {
            const at = done * sequences;
            const tell = (more: number) =>
              progress(at + more, total * sequences, `${done + 1} of ${total}: ${what(id)}`);
            tell(0);
            await nextTask();
            const mixed = mixLlamas(quantized, float, shared, isKept);
            const how = { sequenceLength: length, batch, signal, onProgress: tell };
            const { lossPerSequence } = await perplexity(mixed, tokens.tokens, how);
            await onDevice.check();
            return { logSamples: lossPerSequence };
          },
        });
        signal.throwIfAborted();
        this.#show({
          provenance: provenance(location.hash),
          adapter: session.gpu.adapterInfo,
          model: model.facts,
          settings: { tokens: from, sequences, length, batch, precision },
          configuration: name,
          report,
        });
        return `Done: ${total} evaluations.`;
      } finally {
        float.destroy();
      }
    });
  }

  #losses(key: string, { tokens }: Tokens): Map<string, string> {
    const known = this.#known;
    const same = known?.key === key && known.tokens.length === tokens.length;
    if (!(same && tokens.every((token, i) => token === known.tokens[i])))
      this.#known = { key, tokens, losses: new Map() };
    return this.#known!.losses;
  }

  #show(result: SensitivityResult): void {
    const map = heatMap(result.report);
    const { columns, rows } = heatTable(map);
    const summary = summaryOf(result, map);
    find('.results', this.root).hidden = false;
    find('.summary', this.root).replaceChildren(element('p', {}, summary));
    showChart(find('.chart', this.root), `Heat map of components by blocks. ${summary}`, (width) =>
      heatChart(map, width),
    );
    find('.lm-legend', this.root).replaceChildren(...legend(largest(map)));
    find('.table', this.root).replaceChildren(
      dataTable(`Fall of perplexity by component and block, ${measuredOn(result)}`, columns, rows),
      ...reportTables(result).map((table) => dataTable(table.title, textColumns(table), table.rows)),
    );
    showExports(this.root, 'fp4-sensitivity', result, {
      csv: () => sensitivityCsv(result),
      markdown: () => sensitivityMarkdown(result),
    });
  }
}

/** What is kept, in words. */
function what(id: string): string {
  if (id === 'none') return 'all in FP4';
  if (id === 'all') return 'all as stored';
  return id
    .split(':')
    .slice(1)
    .join(' of ')
    .replace(/model\.layers\./, 'block ');
}

interface Cell {
  readonly component: string;
  readonly block: string;
  readonly value: number;
}

function cellsOf({ components, blocks, values }: HeatMap): Cell[] {
  return components.flatMap((component, i) =>
    blocks.flatMap((block, j) => {
      const value = values[i]![j];
      return value == null ? [] : [{ component, block: blockName(block), value }];
    }),
  );
}

const largest = (map: HeatMap) => Math.max(...cellsOf(map).map(({ value }) => Math.abs(value)));
const percentOf = (value: number) => `${signed(100 * value)} %`;

function summaryOf({ report, configuration }: SensitivityResult, map: HeatMap): string {
  const { baseline, reference } = report;
  const sorted = cellsOf(map).sort((a, b) => b.value - a.value);
  const most = sorted
    .slice(0, 3)
    .map(({ component, block, value }) => `${component} of block ${block} (${percentOf(value)})`)
    .join(', ');
  const stored = reference === undefined ? '' : `, ${perplexityText(reference)} as stored`;
  return `${configuration}: perplexity ${perplexityText(baseline)} with all in FP4${stored}. What is gained most by keeping: ${most}.`;
}

/** Pixels that a cell needs to have its number in it. */
const NUMBER_WIDTH = 46;

/** Mixed with the page's own colours, so that it is as readable in the dark; numbers have a rim of the background. */
function heatChart(map: HeatMap, width: number): SVGSVGElement | HTMLElement {
  const cells = cellsOf(map);
  const most = largest(map);
  const labels = 52;
  const cellWidth = (width - labels) / map.blocks.length;
  const text = Plot.text(cells, {
    x: 'block',
    y: 'component',
    text: ({ value }: Cell) => signed(Number((100 * value).toPrecision(2))),
    fill: 'var(--text)',
    stroke: 'var(--card)',
    strokeWidth: 3,
  });
  return Plot.plot({
    width,
    height: 52 + 32 * map.components.length,
    marginLeft: labels,
    marginRight: 0,
    marginBottom: 40,
    style: { fontSize: '12px', background: 'transparent' },
    x: {
      label: 'block',
      labelOffset: 36,
      type: 'band',
      domain: map.blocks.map(blockName),
      padding: 0,
      ticks: map.blocks.map(blockName).filter((_, i) => cellWidth >= 20 || i % 4 === 0),
      tickSize: 0,
    },
    y: { label: null, type: 'band', domain: [...map.components], tickSize: 0, padding: 0 },
    marks: [
      Plot.cell(cells, {
        x: 'block',
        y: 'component',
        fill: ({ value }: Cell) => heatColor(most > 0 ? value / most : 0),
        inset: cellWidth >= 8 ? 1 : 0,
        title: ({ component, block, value }: Cell) => `${component} of block ${block}: ${percentOf(value)}`,
      }),
      ...(cellWidth >= NUMBER_WIDTH ? [text] : []),
    ],
    color: { type: 'identity' },
  });
}

/** @param share from -1, where keeping makes it worse, to 1, where it helps most */
const heatColor = (share: number): string =>
  `color-mix(in oklab, var(--lm-${share < 0 ? 'worse' : 'better'}) ${Math.round(Math.abs(share) * 100)}%, var(--lm-none))`;

function legend(most: number): Node[] {
  return [
    element('span', {}, percentOf(-most)),
    element('span', { class: 'lm-scale', 'aria-hidden': 'true' }),
    element('span', {}, percentOf(most)),
    element('span', {}, 'above zero: keeping it lowers perplexity'),
  ];
}
