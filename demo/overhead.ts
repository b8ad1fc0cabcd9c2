/** What each way to hold FP4 costs beside plain MXFP4, on one layer. */
import { type Spread, scaled } from '../bench/stats.js';
import type { AdapterInfo } from '../src/index.js';
import { barChart, showChart } from './charts.js';
import { type Column, dataTable, element, find, nextTask } from './dom.js';
import { type Provenance, provenance, showExports } from './export.js';
import { csvLine, percent, percentOver, significant, withSpread } from './format.js';
import { createCopy, Sampler, spreadOf, type Workload } from './measure.js';
import { type Check, Layer, type Product } from './products.js';
import { BASE, RECIPES, type Recipe } from './recipes.js';
import { Refusals } from './refusals.js';
import { checkedRow, checkText, failedRow, isRight, type RecipeRow, wrongRow } from './rows.js';
import type { RunContext } from './run.js';
import { type Settings, toHash } from './settings.js';

/** What the authors of MBS measured for it, on average. */
const PAPER_OVERHEAD = 1.062;

export interface OverheadRow extends RecipeRow {
  /** µs of making x ready, and of the rest. */
  readonly convert?: Spread;
  readonly gemm?: Spread;
  /** Time by that of the base in the same round. */
  readonly ratio?: Spread;
  readonly gigabytesPerSecond?: number;
  readonly ofCopy?: number;
}

export interface OverheadResult {
  readonly provenance: Provenance;
  readonly adapter: AdapterInfo;
  readonly features: readonly string[];
  readonly settings: Settings;
  readonly clock: 'timestamp' | 'wall';
  readonly copyGigabytesPerSecond: number;
  readonly rows: readonly OverheadRow[];
}

/** @throws the signal's reason where it aborts; DeviceLostError */
export async function measureOverhead(context: RunContext, settings: Settings): Promise<OverheadResult> {
  const { signal, progress, session } = context;
  const { gpu } = session;
  const { m, n, k, rounds } = settings;
  const recipes = RECIPES.filter(({ id }) => settings.formats.includes(id));
  const steps = 2 * recipes.length + rounds;
  const refusals = new Refusals(gpu.device);
  const sampler = new Sampler(gpu);
  const products: Product[] = [];
  const cleanUp: { destroy(): unknown }[] = [refusals, sampler];
  try {
    progress(0, steps, 'Making x and weights');
    await nextTask();
    const layer = await Layer.create(gpu, [m, m], n, k);
    cleanUp.push(layer);
    const rows = new Map<Recipe, OverheadRow>();
    const checks = new Map<Product, Check>();
    for (const [i, recipe] of recipes.entries()) {
      progress(2 * i, steps, `${recipe.label}: weights and kernel`);
      await nextTask();
      signal.throwIfAborted();
      try {
        const product = await layer.prepare(recipe, m, settings.x);
        cleanUp.push(product);
        progress(2 * i + 1, steps, `${recipe.label}: comparing with the CPU`);
        await nextTask();
        const check = await product.check();
        refusals.throwIfAny();
        if (isRight(check)) {
          checks.set(product, check);
          products.push(product);
        } else rows.set(recipe, wrongRow(product, check));
      } catch (error) {
        rows.set(recipe, failedRow(recipe, error));
      }
    }
    const copy = await createCopy(gpu);
    cleanUp.push(copy);
    const works: Workload[] = [copy];
    const place = (work: Workload) => works.push(work) - 1;
    const places = products.map(({ total, stages }) => ({
      total: place(total),
      convert: stages && place(stages.convert),
      gemm: stages && place(stages.gemm),
    }));
    progress(2 * recipes.length, steps, 'Measuring, all in turns');
    await sampler.warmUp(products[0]?.total ?? copy, signal);
    const samples = await sampler.rounds(works, rounds, signal, (done) =>
      progress(2 * recipes.length + done, steps, 'Measuring, all in turns'),
    );
    // Work that the device refuses takes no time at all, and would be the fastest of all.
    refusals.throwIfAny();
    const copyRate = copy.bytes / spreadOf(samples[0]!).median / 1e9;
    const base = products.findIndex(({ recipe }) => recipe === BASE);
    products.forEach((product, i) => {
      const { total, convert, gemm } = places[i]!;
      const seconds = samples[total]!;
      const { median } = spreadOf(seconds);
      const gigabytesPerSecond = product.bytes / median / 1e9;
      const microseconds = (at: number) => scaled(spreadOf(samples[at]!), 1e6);
      rows.set(product.recipe, {
        ...checkedRow(product, checks.get(product)!),
        status: 'ok',
        total: microseconds(total),
        ...(convert !== undefined && { convert: microseconds(convert) }),
        ...(gemm !== undefined && { gemm: microseconds(gemm) }),
        ...(base >= 0 && {
          ratio: spreadOf(seconds.map((time, round) => time / samples[places[base]!.total]![round]!)),
        }),
        gigabytesPerSecond,
        ofCopy: gigabytesPerSecond / copyRate,
        teraflops: (2 * m * n * k) / median / 1e12,
      });
    });
    return {
      provenance: provenance(toHash(settings)),
      adapter: gpu.adapterInfo,
      features: gpu.caps.features,
      settings,
      clock: sampler.clock,
      copyGigabytesPerSecond: copyRate,
      rows: recipes.map((recipe) => rows.get(recipe)!),
    };
  } finally {
    await Promise.all(cleanUp.map((made) => made.destroy()));
  }
}

const COLUMNS: readonly Column<OverheadRow>[] = [
  { title: 'weights', cell: ({ label }) => label },
  { title: 'against the CPU', cell: ({ check, note }) => checkText(check, note) },
  {
    title: 'against MXFP4',
    numeric: true,
    cell: ({ ratio, recipe }) => (recipe === BASE.id ? 'base' : ratio ? overText(ratio) : '–'),
  },
  { title: 'µs', numeric: true, cell: ({ total }) => (total ? withSpread(total) : '–') },
  { title: 'x, µs', numeric: true, cell: ({ convert }) => (convert ? withSpread(convert) : '–') },
  { title: 'GEMM, µs', numeric: true, cell: ({ gemm, total }) => spreadText(gemm ?? total) },
  {
    title: 'GB/s',
    numeric: true,
    cell: ({ gigabytesPerSecond: rate }) => (rate ? significant(rate) : '–'),
  },
  { title: 'of a copy', numeric: true, cell: ({ ofCopy }) => (ofCopy ? percent(ofCopy) : '–') },
  { title: 'TFLOPS', numeric: true, cell: ({ teraflops }) => (teraflops ? significant(teraflops) : '–') },
  { title: 'kernel', cell: ({ kernel }) => (kernel ? element('code', {}, kernel) : '–') },
];

const spreadText = (spread: Spread | undefined) => (spread ? withSpread(spread) : '–');
const overText = ({ median, p20, p80 }: Spread) =>
  `${percentOver(median)} (${percentOver(p20)} to ${percentOver(p80)})`;

export function showOverhead(root: HTMLElement, result: OverheadResult): void {
  const { m, n, k, x, rounds } = result.settings;
  const ok = result.rows.filter(({ status }) => status === 'ok');
  find('.results', root).hidden = false;
  find('.summary', root).replaceChildren(...summary(result));
  const name = `y[${m}, ${n}] = x[${m}, ${k}] · wᵀ, activations ${x}`;
  const bars = ok.map(({ label, total, convert }) => ({ label, total: total!, convert: convert?.median }));
  showChart(find('.chart', root), `Bars: µs a product of ${name}, by format of weights`, (width) =>
    barChart(bars, width),
  );
  const caption = `${name}; medians of ${rounds} rounds in turns (20th to 80th percentile)`;
  find('.table', root).replaceChildren(dataTable(caption, COLUMNS, result.rows));
  showExports(root, `fp4-overhead-${m}x${n}x${k}-${x}`, result, () => overheadCsv(result));
}

function summary({ rows, clock, copyGigabytesPerSecond }: OverheadResult): HTMLElement[] {
  const line = (text: string) => element('p', {}, text);
  const of = (id: string) => rows.find(({ recipe }) => recipe === id)?.ratio;
  const found = (['mbs-static', 'mbs-dynamic'] as const).flatMap((id) => {
    const ratio = of(id);
    return ratio ? [`${id === 'mbs-static' ? 'static' : 'dynamic'} ${overText(ratio)}`] : [];
  });
  const paper = `The paper (arXiv 2603.08713) has ${percentOver(PAPER_OVERHEAD)} on average.`;
  const timed =
    clock === 'timestamp'
      ? 'Timed by GPU timestamps'
      : 'This device has no timestamps: timed by the wall clock around long chains of products';
  return [
    ...(found.length
      ? [line(`Macro Block Scaling costs here, against plain MXFP4: ${found.join('; ')}. ${paper}`)]
      : []),
    line(`${timed}. A copy in the same run: ${significant(copyGigabytesPerSecond)} GB/s.`),
  ];
}

export function overheadCsv({
  rows,
  settings,
  clock,
  copyGigabytesPerSecond,
  adapter,
}: OverheadResult): string {
  const spread = (name: string) => [`${name}_median`, `${name}_p20`, `${name}_p80`];
  const values = (s: Spread | undefined) => [s?.median, s?.p20, s?.p80];
  const head = [
    ...['weights', 'status', 'm', 'n', 'k', 'x', 'clock', 'adapter', 'kernel', 'error_of_bound'],
    ...['total_us', 'convert_us', 'gemm_us', 'ratio'].flatMap(spread),
    ...['gb_per_s', 'of_copy', 'copy_gb_per_s', 'tflops'],
  ];
  const { m, n, k, x } = settings;
  const device = [adapter.vendor, adapter.description || adapter.architecture].join(' ');
  const lines = rows.map((row) => [
    ...[row.recipe, row.status, m, n, k, x, clock, device, row.kernel, row.check?.errorOfBound],
    ...[row.total, row.convert, row.gemm, row.ratio].flatMap(values),
    ...[row.gigabytesPerSecond, row.ofCopy, copyGigabytesPerSecond, row.teraflops],
  ]);
  return `${[head, ...lines].map(csvLine).join('\r\n')}\r\n`;
}
