/**
 * How the inputs of a layer are spread, gathered batch by batch in bounded memory: the statistics by which 'Diagnosing FP4
 * inference' (arXiv 2603.08747) explains which layers are sensitive.
 */
import { InvalidArgumentError } from '../errors.js';
import { placeLayer, sortComponents } from './layer-names.js';
import type { Place, TextTable } from './report.js';

export interface ActivationSummary {
  /** Rows of x that were seen. */
  readonly rows: number;
  /** Largest |x|. */
  readonly max: number;
  /** Mean of |x|. */
  readonly mean: number;
  /** The 99.9th percentile of |x|: see {@link ActivationStatistics.quantile}. */
  readonly p999: number;
  /** max / p999: how far outliers are above the rest; 1 where there are none, NaN where P99.9 is 0. */
  readonly ratio: number;
}

/** Mantissa bits of f32 that a bin ignores, and bins of one exponent. */
const IGNORED_BITS = 13;
const BINS = 1024;

/**
 * Statistics of x[m, k] over all its batches. Memory: 8 KB for each power of two that values lie in, so some hundreds of KB,
 * and 16 bytes a column; `secondMoments` takes k² · 8 bytes more.
 */
export class ActivationStatistics {
  readonly cols: number;
  /** Largest |x| by column, f64[k]. */
  readonly columnMax: Float64Array;
  readonly #squares: Float64Array;
  readonly #products: Float64Array | undefined;
  /** Counts by f32 exponent, then by the upper ten bits of the mantissa. */
  readonly #pages: (Float64Array | undefined)[] = new Array(255);
  #rows = 0;
  #sum = 0;

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
    const values = x instanceof Float32Array ? x : Float32Array.from(x);
    const bad = values.findIndex((value) => !Number.isFinite(value));
    if (bad >= 0) {
      const place = `row ${Math.floor(bad / cols)}, col ${bad % cols}`;
      throw new InvalidArgumentError('sensitivity', `input at ${place} is ${x[bad]}, no finite f32`);
    }
    const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
    for (let i = 0; i < values.length; i++) {
      const size = Math.abs(values[i]!);
      const col = i % cols;
      if (size > this.columnMax[col]!) this.columnMax[col] = size;
      this.#squares[col]! += size * size;
      this.#sum += size;
      const bin = (bits[i]! & 0x7fffffff) >>> IGNORED_BITS;
      const page = Math.floor(bin / BINS);
      this.#pages[page] ??= new Float64Array(BINS);
      this.#pages[page][bin % BINS]!++;
    }
    if (this.#products) addProducts(values, cols, this.#products);
    this.#rows += values.length / cols;
  }

  /**
   * The least |x| that at least the share `p` of all values is not above (the nearest rank, no interpolation). Exact where
   * values are bf16 or f16 (normal ones); of f32 values the result is by less than 2^-10 of it too small, and never too
   * large, as they are counted by exponent and ten bits of the mantissa.
   * @throws InvalidArgumentError for p outside of 0 to 1, and before the first `add`
   */
  quantile(p: number): number {
    if (!(p >= 0 && p <= 1))
      throw new InvalidArgumentError('sensitivity', `quantile ${p} is not within 0 to 1`);
    if (this.#rows === 0) throw new InvalidArgumentError('sensitivity', 'no inputs have been added');
    // Twelve digits: 0.999 · 1000 is a rank of 999, however the product is rounded.
    const rank = Math.max(1, Math.ceil(Number((p * this.#rows * this.cols).toPrecision(12))));
    let below = 0;
    for (const [page, counts] of this.#pages.entries()) {
      for (let bin = 0; counts && bin < BINS; bin++) {
        below += counts[bin]!;
        if (below >= rank) return fromBits((page * BINS + bin) << IGNORED_BITS);
      }
    }
    return this.#max();
  }

  summary(): ActivationSummary {
    const p999 = this.quantile(0.999);
    const max = this.#max();
    return {
      rows: this.#rows,
      max,
      mean: this.#sum / (this.#rows * this.cols),
      p999,
      ratio: max / p999,
    };
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

  #max(): number {
    return this.columnMax.reduce((a, b) => Math.max(a, b), 0);
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

function fromBits(bits: number): number {
  word[0] = bits;
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
