/** Time and throughput of one layer over the rows of x, and which kernel the plan chose where. */
import { scaled } from '../bench/stats.js';
import type { AdapterInfo } from '../src/index.js';
import { kernelChart, lineChart, showChart } from './charts.js';
import { dataTable, find, nextTask } from './dom.js';
import { type Provenance, provenance, showExports } from './export.js';
import { csvLine, significant, withSpread } from './format.js';
import { Sampler, spreadOf } from './measure.js';
import { type Check, Layer, type Product } from './products.js';
import { sweepRecipes } from './recipes.js';
import { Refusals } from './refusals.js';
import { type Column, markdownReport, NOTHING } from './report.js';
import { checkedRow, checkText, failedRow, isRight, type RecipeRow, wrongRow } from './rows.js';
import type { RunContext } from './run.js';
import { type Settings, toHash } from './settings.js';

/** Samples a point: a line needs fewer than a comparison of its ends. */
const MOST_ROUNDS = 7;

export interface SweepRow extends RecipeRow {
  readonly m: number;
}

export interface SweepResult {
  readonly provenance: Provenance;
  readonly adapter: AdapterInfo;
  readonly settings: Settings;
  readonly clock: 'timestamp' | 'wall';
  readonly rows: readonly SweepRow[];
}

/** 1, 2, 4, … and `to` itself. */
export function sweepSizes(to: number): number[] {
  const sizes: number[] = [];
  for (let m = 1; m < to; m *= 2) sizes.push(m);
  return [...sizes, to];
}

/**
 * @param onRows called after each m with all rows so far
 * @throws the signal's reason where it aborts; DeviceLostError
 */
export async function measureSweep(
  context: RunContext,
  settings: Settings,
  onRows: (result: SweepResult) => void,
): Promise<SweepResult> {
  const { signal, progress, session } = context;
  const { gpu } = session;
  const { n, k, to } = settings;
  const sizes = sweepSizes(to);
  const rounds = Math.min(settings.rounds, MOST_ROUNDS);
  const recipes = sweepRecipes(settings.formats, settings.x);
  const rows: SweepRow[] = [];
  const refusals = new Refusals(gpu.device);
  const sampler = new Sampler(gpu);
  let layer: Layer | undefined;
  try {
    progress(0, sizes.length, 'Making x and weights');
    await nextTask();
    layer = await Layer.create(gpu, [1, to], n, k);
    const result = () => ({
      provenance: provenance(toHash(settings)),
      adapter: gpu.adapterInfo,
      settings,
      clock: sampler.clock,
      rows: [...rows],
    });
    for (const [i, m] of sizes.entries()) {
      progress(i, sizes.length, `m = ${m}: compiling and comparing with the CPU`);
      const prepared: Product[] = [];
      const products: { product: Product; check: Check }[] = [];
      const others: SweepRow[] = [];
      try {
        for (const recipe of recipes) {
          await nextTask();
          signal.throwIfAborted();
          try {
            const product = await layer.prepare(recipe, { m, x: settings.x });
            prepared.push(product);
            const check = await product.check();
            refusals.throwIfAny();
            products.push({ product, check });
          } catch (error) {
            others.push({ ...failedRow(recipe, error), m });
          }
        }
        const right = products.filter(({ check }) => isRight(check));
        for (const { product, check } of products) {
          if (!isRight(check)) others.push({ ...wrongRow(product, check), m });
        }
        progress(i, sizes.length, `m = ${m}: measuring`);
        const works = right.map(({ product }) => product.total);
        if (works[0] && i === 0) await sampler.warmUp(works[0], signal);
        const samples = await sampler.rounds(works, rounds, signal);
        refusals.throwIfAny();
        right.forEach(({ product, check }, at) => {
          const total = scaled(spreadOf(samples[at]!), 1e6);
          const teraflops = (2 * m * n * k) / total.median / 1e6;
          rows.push({ ...checkedRow(product, check), m, status: 'ok', total, teraflops });
        });
        rows.push(...others);
      } finally {
        for (const product of prepared) product.destroy();
      }
      onRows(result());
    }
    return result();
  } finally {
    refusals.destroy();
    sampler.destroy();
    await layer?.destroy();
  }
}

const COLUMNS: readonly Column<SweepRow>[] = [
  { title: 'm', text: ({ m }) => String(m) },
  { title: 'weights', text: ({ label }) => label },
  { title: 'µs', numeric: true, text: ({ total }) => (total ? withSpread(total) : NOTHING) },
  { title: 'TFLOPS', numeric: true, text: ({ teraflops }) => (teraflops ? significant(teraflops) : NOTHING) },
  { title: 'kernel', kind: 'code', text: ({ kernel }) => kernel ?? NOTHING },
  { title: 'why', kind: 'prose', text: ({ reason, note }) => reason ?? note ?? '' },
  { title: 'against the CPU', text: ({ check, note }) => checkText(check, note) },
];

export function showSweep(root: HTMLElement, result: SweepResult): void {
  const { n, k, x } = result.settings;
  const ok = result.rows.filter(({ status }) => status === 'ok');
  const points = (value: (row: SweepRow, time: number) => number) =>
    ok.map((row) => {
      const at = (time: number) => value(row, time);
      const { median, p20, p80 } = row.total!;
      const [low, high] = [at(p20), at(p80)].toSorted((a, b) => a - b) as [number, number];
      return { label: row.label, m: row.m, kernel: row.kernel!, value: at(median), low, high };
    });
  const times = points((_, time) => time);
  const throughput = points(({ m }, time) => (2 * m * n * k) / time / 1e6);
  find('.results', root).hidden = false;
  const layer = `${n} × ${k}, activations ${x}`;
  showChart(find('.chart-time', root), `Lines: µs a product over m, ${layer}`, (width) =>
    lineChart(times, 'µs', width),
  );
  showChart(find('.chart-tflops', root), `Lines: TFLOPS over m, ${layer}`, (width) =>
    lineChart(throughput, 'TFLOPS', width),
  );
  showChart(find('.chart-kernels', root), `Cells: the kernel that the plan chose, by m and format`, (width) =>
    kernelChart(times, width),
  );
  const clock = result.clock === 'timestamp' ? 'GPU timestamps' : 'wall clock around chains';
  const caption = `${layer}; medians (20th to 80th percentile), ${clock}`;
  find('.table', root).replaceChildren(dataTable(caption, COLUMNS, result.rows));
  showExports(root, `fp4-sweep-${n}x${k}-${x}`, result, {
    csv: () => sweepCsv(result),
    markdown: () => markdownReport(caption, [], COLUMNS, result.rows),
  });
}

export function sweepCsv({ rows, settings: { n, k, x }, clock }: SweepResult): string {
  const head = ['m', 'n', 'k', 'x', 'weights', 'status', 'clock', 'us_median', 'us_p20', 'us_p80', 'tflops'];
  const lines = rows.map(({ m, recipe, status, total, teraflops, kernel, check }) => [
    ...[m, n, k, x, recipe, status, clock, total?.median, total?.p20, total?.p80, teraflops],
    ...[kernel, check?.errorOfBound],
  ]);
  return `${[[...head, 'kernel', 'error_of_bound'], ...lines].map(csvLine).join('\r\n')}\r\n`;
}
