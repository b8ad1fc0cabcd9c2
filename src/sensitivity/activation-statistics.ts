/**
 * How the inputs of a layer are spread, gathered batch by batch in bounded memory: the statistics by which 'Diagnosing FP4
 * inference' (arXiv 2603.08747) explains which layers are sensitive.
 */
import { InvalidArgumentError } from '../errors.js';
import { placeLayer, sortComponents } from './layer-names.js';
import type { Place, TextTable } from './report.js';

export interface ActivationSummary {
  /** How many were seen. */
  readonly values: number;
  /** Largest |x|. */
  readonly max: number;
  /** Mean of |x|. */
  readonly mean: number;
  /** The 99.9th percentile of |x|: see {@link MagnitudeStatistics.quantile}. */
  readonly p999: number;
  /** max / p999: how far outliers are above the rest; 1 where there are none, NaN where P99.9 is 0. */
  readonly ratio: number;
}

/** Mantissa bits of f32 that a bin ignores, and bins of one exponent. */
const IGNORED_BITS = 13;
const PAGE = 1024;
const EXPONENTS = 255;
/** Bins of |x| by the upper bits of f32, finite ones: bin = bits(|x|) >>> 13. */
export const MAGNITUDE_BINS = PAGE * EXPONENTS;

/** Statistics of |x| by counts: 8 KB for each power of two that values lie in, so some hundreds of KB, however many come. */
export class MagnitudeStatistics {
  /** Counts by f32 exponent, then by the upper ten bits of the mantissa. */
  readonly #pages: (Float64Array | undefined)[] = new Array(EXPONENTS);
  #values = 0;
  #max = 0;
  #sum = 0;

  /** @param values finite ones */
  add(values: Float32Array): void {
    const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
    for (let i = 0; i < values.length; i++) {
      const size = Math.abs(values[i]!);
      if (size > this.#max) this.#max = size;
      this.#sum += size;
      const bin = (bits[i]! & 0x7fffffff) >>> IGNORED_BITS;
      this.#page(Math.floor(bin / PAGE))[bin % PAGE]!++;
    }
    this.#values += values.length;
  }

  /**
   * Adds what was counted elsewhere, on a GPU say. `mean` then is by up to 2^-11 of it off, as these count as the middle of
   * their bin.
   * @param counts by bin, {@link MAGNITUDE_BINS} of them @param max the largest of the values
   * @throws InvalidArgumentError for another number of bins
   */
  addCounts(counts: ArrayLike<number>, max: number): void {
    if (counts.length !== MAGNITUDE_BINS) {
      throw new InvalidArgumentError('sensitivity', `${counts.length} counts are not ${MAGNITUDE_BINS}`);
    }
    for (let bin = 0; bin < MAGNITUDE_BINS; bin++) {
      const count = counts[bin]!;
      if (count === 0) continue;
      this.#page(Math.floor(bin / PAGE))[bin % PAGE]! += count;
      // The first bin is where zeros are.
      if (bin > 0) this.#sum += (count * (lowerEdge(bin) + lowerEdge(bin + 1))) / 2;
      this.#values += count;
    }
    this.#max = Math.max(this.#max, max);
  }

  /**
   * The least |x| that at least the share `p` of all values is not above (the nearest rank, no interpolation). Exact where
   * values are bf16 or f16 (normal ones); of f32 values the result is by less than 2^-10 of it too small, and never too
   * large, as they are counted by exponent and ten bits of the mantissa.
   * @throws InvalidArgumentError for p outside of 0 to 1, and before there are values
   */
  quantile(p: number): number {
    if (!(p >= 0 && p <= 1))
      throw new InvalidArgumentError('sensitivity', `quantile ${p} is not within 0 to 1`);
    if (this.#values === 0) throw new InvalidArgumentError('sensitivity', 'no inputs have been added');
    // Twelve digits: 0.999 · 1000 is a rank of 999, however the product is rounded.
    const rank = Math.max(1, Math.ceil(Number((p * this.#values).toPrecision(12))));
    let below = 0;
    for (const [page, counts] of this.#pages.entries()) {
      for (let bin = 0; counts && bin < PAGE; bin++) {
        below += counts[bin]!;
        if (below >= rank) return lowerEdge(page * PAGE + bin);
      }
    }
    return this.#max;
  }

  summary(): ActivationSummary {
    const p999 = this.quantile(0.999);
    const [values, max] = [this.#values, this.#max];
    return { values, max, mean: this.#sum / values, p999, ratio: max / p999 };
  }

  #page(exponent: number): Float64Array {
    this.#pages[exponent] ??= new Float64Array(PAGE);
    return this.#pages[exponent];
  }
}

/**
 * Statistics of x[m, k] over all its batches, also by column. Memory: that of {@link MagnitudeStatistics}, 16 bytes a
 * column, and with `secondMoments` k² · 8 bytes more.
 */
export class ActivationStatistics {
  readonly cols: number;
  /** Largest |x| by column, f64[k]. */
  readonly columnMax: Float64Array;
  readonly #magnitudes = new MagnitudeStatistics();
  readonly #squares: Float64Array;
  readonly #products: Float64Array | undefined;
  #rows = 0;

  /** @param cols k @param options.secondMoments whether to gather xᵀ·x too, for `outputError` */
  constructor(cols: number, { secondMoments = false }: { secondMoments?: boolean } = {}) {
    if (!(Number.isSafeInteger(cols) && cols > 0)) {
      throw new InvalidArgumentError('sensitivity', `cols = ${cols} is not a positive integer`);
    }
    this.cols = cols;
    this.columnMax = new Float64Array(cols);
    this.#squares = new Float64Array(cols);
    this.#products = secondMoments ? new Float64Array(cols * cols) : undefined;
  }

  /**
   * @param x [m, k]; values that are no f32 are rounded to one
   * @throws InvalidArgumentError, before anything is counted, for a length that is no rows, and for NaN and Inf
   */
  add(x: Float32Array | Float64Array): void {
    const { cols } = this;
    if (x.length === 0 || x.length % cols) {
      throw new InvalidArgumentError('sensitivity', `${x.length} inputs are no rows of k = ${cols}`);
    }
    const values = x instanceof Float32Array ? x : new Float32Array(x);
    const bad = values.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0) {
      const place = `row ${Math.floor(bad / cols)}, col ${bad % cols}`;
      throw new InvalidArgumentError('sensitivity', `input at ${place} is ${x[bad]}, no finite f32`);
    }
    this.#magnitudes.add(values);
    for (let i = 0; i < values.length; i++) {
      const size = Math.abs(values[i]!);
      const col = i % cols;
      if (size > this.columnMax[col]!) this.columnMax[col] = size;
      this.#squares[col]! += size * size;
    }
    if (this.#products) addProducts(values, cols, this.#products);
    this.#rows += values.length / cols;
  }

  /** As {@link MagnitudeStatistics.quantile}. */
  quantile(p: number): number {
    return this.#magnitudes.quantile(p);
  }

  summary(): ActivationSummary {
    return this.#magnitudes.summary();
  }

  /** The mean of x² by column, f64[k]: `mean-squares` of `outputError`. */
  get meanSquares(): Float64Array {
    return this.#squares.map((sum) => sum / this.#rows);
  }

  /** xᵀ·x / m, f64[k, k]: `second-moments` of `outputError`. @throws InvalidArgumentError where they are not gathered */
  get secondMoments(): Float64Array {
    if (!this.#products) {
      throw new InvalidArgumentError(
        'sensitivity',
        'second moments are gathered where `secondMoments` is set',
      );
    }
    return this.#products.map((sum) => sum / this.#rows);
  }
}

function addProducts(x: Float32Array, k: number, products: Float64Array): void {
  for (let start = 0; start < x.length; start += k) {
    for (let i = 0; i < k; i++) {
      const value = x[start + i]!;
      for (let j = 0; j < k; j++) products[i * k + j]! += value * x[start + j]!;
    }
  }
}

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

/** The least |x| of a bin. */
function lowerEdge(bin: number): number {
  word[0] = bin << IGNORED_BITS;
  return float[0]!;
}

/** The inputs of one component over all blocks. */
export interface ComponentActivations {
  readonly component: string;
  readonly layers: number;
  /** Mean of the layers' P99.9. */
  readonly p999: number;
  /** The largest of all. */
  readonly max: number;
  /** Mean of the layers' means. */
  readonly mean: number;
  /**
   * Mean over layers of max / P99.9. The paper calls a column 'mean ratio' and does not say of what; this reading fits its
   * numbers: the columns beside it give 5.2 for 5.5 (`up`), 2.8 for 2.9 (`v`) and 2.5 for 2.6 (`o`), a mean of ratios being
   * somewhat above the ratio of means.
   */
  readonly meanRatio: number;
}

/** Statistics by component, in the order of a block. */
export function componentActivations(
  summaries: ReadonlyMap<string, ActivationSummary>,
  place: Place = placeLayer,
): ComponentActivations[] {
  const groups = new Map<string, ActivationSummary[]>();
  for (const [name, summary] of summaries) {
    const { component } = place(name);
    groups.set(component, [...(groups.get(component) ?? []), summary]);
  }
  return sortComponents(groups.keys()).map((component) => {
    const group = groups.get(component)!;
    const mean = (what: 'p999' | 'mean' | 'ratio') =>
      group.reduce((sum, summary) => sum + summary[what], 0) / group.length;
    return {
      component,
      layers: group.length,
      p999: mean('p999'),
      max: Math.max(...group.map(({ max }) => max)),
      mean: mean('mean'),
      meanRatio: mean('ratio'),
    };
  });
}

/** The paper's table of activations. */
export function activationTable(components: readonly ComponentActivations[]): TextTable {
  const number = (value: number) => (Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3));
  return {
    title: 'inputs of layers, by component',
    head: ['component', 'layers', 'P99.9', 'max', 'mean', 'mean max / P99.9'],
    align: ['left', 'right', 'right', 'right', 'right', 'right'],
    rows: components.map(({ component, layers, p999, max, mean, meanRatio }) => [
      component,
      String(layers),
      ...[p999, max, mean, meanRatio].map(number),
    ]),
  };
}
