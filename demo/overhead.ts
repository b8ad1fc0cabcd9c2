/** What each way to hold FP4 costs beside plain MXFP4, on one layer. */
import { type Spread, scaled } from '../bench/stats.js';
import type { AdapterInfo } from '../src/index.js';
import { barChart, showChart } from './charts.js';
import { dataTable, element, find, nextTask } from './dom.js';
import { type Provenance, provenance, showExports } from './export.js';
import { createCopy, Sampler, spreadOf, type Workload } from './measure.js';
import {
  overheadCaption,
  overheadColumns,
  overheadCsv,
  overheadMarkdown,
  overheadSummary,
  productName,
} from './overhead-report.js';
import { type Check, Layer, type Product } from './products.js';
import { BASE, RECIPES, type Recipe } from './recipes.js';
import { Refusals } from './refusals.js';
import { checkedRow, failedRow, isRight, type RecipeRow, wrongRow } from './rows.js';
import type { RunContext } from './run.js';
import { type Settings, toHash } from './settings.js';

export interface OverheadRow extends RecipeRow {
  /** µs of making x ready, of the kernel, and of adding up parts of k; each where it is a step of its own. */
  readonly convert?: Spread;
  readonly gemm?: Spread;
  readonly reduce?: Spread;
  /** µs that a bias and `y +=` add to the product of the same round; within the noise it may be negative. */
  readonly epilogue?: Spread;
  /** Time by that of the base in the same round. */
  readonly ratio?: Spread;
  /** The same of making x ready. */
  readonly convertRatio?: Spread;
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
        const product = await layer.prepare(recipe, { m, x: settings.x, epilogue: settings.epilogue });
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
    const placeAny = (work: Workload | undefined) => work && place(work);
    const places = products.map(({ total, stages, withEpilogue }) => ({
      total: place(total),
      // Next to each other, as one is taken from the other.
      withEpilogue: placeAny(withEpilogue),
      convert: placeAny(stages?.convert),
      gemm: placeAny(stages?.gemm),
      reduce: placeAny(stages?.reduce),
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
    /** What two works took in the same rounds, put together round by round. */
    const paired = (a: number, b: number, join: (a: number, b: number) => number) =>
      spreadOf(samples[a]!.map((time, round) => join(time, samples[b]![round]!)));
    const ratio = (a: number, b: number) => paired(a, b, (time, other) => time / other);
    const ofBase = places[base];
    products.forEach((product, i) => {
      const { total, withEpilogue, convert, gemm, reduce } = places[i]!;
      const { median } = spreadOf(samples[total]!);
      const gigabytesPerSecond = product.bytes / median / 1e9;
      const microseconds = (at: number) => scaled(spreadOf(samples[at]!), 1e6);
      rows.set(product.recipe, {
        ...checkedRow(product, checks.get(product)!),
        status: 'ok',
        total: microseconds(total),
        ...(convert !== undefined && { convert: microseconds(convert) }),
        ...(gemm !== undefined && { gemm: microseconds(gemm) }),
        ...(reduce !== undefined && { reduce: microseconds(reduce) }),
        ...(withEpilogue !== undefined && {
          epilogue: scaled(
            paired(withEpilogue, total, (time, without) => time - without),
            1e6,
          ),
        }),
        ...(ofBase && { ratio: ratio(total, ofBase.total) }),
        ...(ofBase?.convert !== undefined &&
          convert !== undefined && { convertRatio: ratio(convert, ofBase.convert) }),
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

export function showOverhead(root: HTMLElement, result: OverheadResult): void {
  const { m, n, k, x } = result.settings;
  find('.results', root).hidden = false;
  find('.summary', root).replaceChildren(...overheadSummary(result).map((text) => element('p', {}, text)));
  const bars = result.rows.flatMap(({ label, total, convert, reduce, epilogue }) =>
    total
      ? [{ label, total, convert: convert?.median, reduce: reduce?.median, epilogue: epilogue?.median }]
      : [],
  );
  const name = productName(result);
  showChart(find('.chart', root), `Bars: µs a product of ${name}, by format of weights`, (width) =>
    barChart(bars, width),
  );
  find('.table', root).replaceChildren(
    dataTable(overheadCaption(result), overheadColumns(result), result.rows),
  );
  showExports(root, `fp4-overhead-${m}x${n}x${k}-${x}`, result, {
    csv: () => overheadCsv(result),
    markdown: () => overheadMarkdown(result),
  });
}
