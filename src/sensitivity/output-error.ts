/**
 * What FP4 does to the output of one linear layer, `‖x̂·ŵᵀ - x·wᵀ‖² / ‖x·wᵀ‖²`, on a sample of its inputs or on moments of
 * them: for layers of a model that cannot be evaluated as a whole.
 */
import { InvalidArgumentError } from '../errors.js';
import { addSums, type ErrorSums, errorSums, NO_ERROR, sqnrOf } from '../quantize/metrics.js';
import { type QuantizeOptions, resolveOptions } from '../quantize/options.js';
import { dequantize, quantize } from '../quantize/quantize.js';
import {
  type Place,
  type SensitivityReport,
  sensitivityReport,
  subjectsOf,
  type TextTable,
} from './report.js';

/** Options of `quantize` but for the sizes. */
export type MatrixRules = Omit<QuantizeOptions, 'rows' | 'cols'>;

/** A linear layer y = x · wᵀ. */
export interface LinearLayer {
  readonly name: string;
  /** n: outputs. */
  readonly rows: number;
  /** k: inputs. */
  readonly cols: number;
  /** w, f32[n, k]. */
  readonly values: Float32Array;
}

/** What is known of a layer's inputs x[m, k]. */
export type LayerInputs =
  /** Rows of x themselves, f32[m, k]: exact for these rows, and the only kind that x in FP4 can be judged by. */
  | { readonly kind: 'rows'; readonly x: Float32Array }
  /** xᵀ·x / m, f64[k, k]: the same for W4A16, whatever m is. */
  | { readonly kind: 'second-moments'; readonly values: Float64Array }
  /**
   * The diagonal of it, the mean of x² by column, f64[k]: the same where columns of x are uncorrelated. An importance
   * matrix holds these; squares of column maxima are a stand-in.
   */
  | { readonly kind: 'mean-squares'; readonly values: ArrayLike<number> };

export interface OutputErrorRules {
  readonly weights: MatrixRules;
  /** W4A4; without, x stays as it is (W4A16). NVFP4's tensor scale comes from each batch of rows. */
  readonly activations?: MatrixRules | undefined;
}

/** The error of one layer's output. */
export interface LayerError {
  readonly name: string;
  /** Weights that the layer has. */
  readonly weights: number;
  /** ‖x·wᵀ‖², up to a factor that noise has too. */
  readonly signal: number;
  /** ‖x̂·ŵᵀ - x·wᵀ‖² */
  readonly noise: number;
  /** noise / signal; 0 where both are. */
  readonly relative: number;
  /** 10·log10(signal / noise) in dB; Infinity where nothing is lost. */
  readonly sqnr: number;
}

/** A layer's error from its sums, as other means give them. */
export function layerError(
  name: string,
  weights: number,
  { signal, noise }: Omit<ErrorSums, 'maxError'>,
): LayerError {
  const relative = noise === 0 ? 0 : noise / signal;
  return { name, weights, signal, noise, relative, sqnr: sqnrOf({ signal, noise }) };
}

/**
 * The output error of a layer by rows of its inputs that come in batches. Sums are f64.
 *
 * ```ts
 * const meter = new OutputErrorMeter(layer, { weights: { format: 'mxfp4' }, activations: { format: 'mxfp4' } });
 * for (const x of batches) meter.add(x);
 * meter.result().sqnr; // dB
 * ```
 */
export class OutputErrorMeter {
  readonly #layer: LinearLayer;
  readonly #activations: MatrixRules | undefined;
  readonly #quantized: Float32Array;
  #sums = NO_ERROR;

  /** @throws InvalidArgumentError as `quantize`, for weights and activations */
  constructor(layer: LinearLayer, { weights, activations }: OutputErrorRules) {
    this.#layer = layer;
    this.#activations = activations;
    if (activations) resolveOptions({ ...activations, rows: 1, cols: layer.cols });
    this.#quantized = quantizeDequantize(layer, weights);
  }

  /** @param x f32[m, k] @throws InvalidArgumentError for a length that is no rows, NaN and Inf */
  add(x: Float32Array): void {
    const { name, cols: k, values: w } = this.#layer;
    const m = wholeRows(name, x, k);
    const inputs = this.#activations
      ? quantizeDequantize({ name, rows: m, cols: k, values: x }, this.#activations)
      : x;
    const sums = outputSums({ x, quantized: inputs }, { w, quantized: this.#quantized }, k);
    if (!Number.isFinite(sums.signal)) {
      throw new InvalidArgumentError('sensitivity', `${name}: x or w has a value that is no finite number`);
    }
    this.#sums = addSums(this.#sums, sums);
  }

  /** Of all rows so far. */
  result(): LayerError {
    const { name, rows, cols } = this.#layer;
    return layerError(name, rows * cols, this.#sums);
  }
}

/**
 * ‖x·wᵀ‖² and ‖x̂·ŵᵀ - x·wᵀ‖² over all of x[m, k] and w[n, k], which may be some rows of a matrix; sums are f64.
 * `maxError` is not looked for, and 0.
 */
export function outputSums(
  { x, quantized: xq }: { readonly x: Float32Array; readonly quantized: Float32Array },
  { w, quantized: wq }: { readonly w: Float32Array; readonly quantized: Float32Array },
  k: number,
): ErrorSums {
  let signal = 0;
  let noise = 0;
  const count = (exact: number, quantized: number) => {
    signal += exact * exact;
    noise += (quantized - exact) ** 2;
  };
  // Pairs of rows of x, so that rows of w are loaded half as often.
  const pairs = x.length - (x.length % (2 * k));
  for (let col = 0; col < w.length; col += k) {
    for (let row = 0; row < pairs; row += 2 * k) {
      let exact0 = 0;
      let exact1 = 0;
      let quantized0 = 0;
      let quantized1 = 0;
      for (let i = 0; i < k; i++) {
        const weight = w[col + i]!;
        const weightq = wq[col + i]!;
        exact0 += x[row + i]! * weight;
        exact1 += x[row + k + i]! * weight;
        quantized0 += xq[row + i]! * weightq;
        quantized1 += xq[row + k + i]! * weightq;
      }
      count(exact0, quantized0);
      count(exact1, quantized1);
    }
    if (pairs === x.length) continue;
    let exact = 0;
    let quantized = 0;
    for (let i = 0; i < k; i++) {
      exact += x[pairs + i]! * w[col + i]!;
      quantized += xq[pairs + i]! * wq[col + i]!;
    }
    count(exact, quantized);
  }
  return { signal, noise, maxError: 0 };
}

/**
 * The output error of a layer.
 * @param inputs by default nothing is known of them: each column counts the same, and the error is that of the weights
 * @throws InvalidArgumentError as `quantize`, for inputs of another length, and for activations in FP4 where `inputs` are
 * no rows
 */
export function outputError(
  layer: LinearLayer,
  rules: OutputErrorRules,
  inputs?: LayerInputs | undefined,
): LayerError {
  const { name, rows, cols, values } = layer;
  if (inputs?.kind === 'rows') {
    const meter = new OutputErrorMeter(layer, rules);
    meter.add(inputs.x);
    return meter.result();
  }
  if (rules.activations) {
    const known = inputs ? `only ${inputs.kind}` : 'nothing';
    throw new InvalidArgumentError(
      'sensitivity',
      `${name}: what quantizing x costs depends on its rows, and ${known} of them is known; give rows or no activations`,
    );
  }
  const quantized = quantizeDequantize(layer, rules.weights);
  if (!inputs) return layerError(name, rows * cols, errorSums(values, quantized));
  const difference = Float64Array.from(values, (w, i) => quantized[i]! - w);
  const energy = inputs.kind === 'mean-squares' ? weightedEnergy : quadraticEnergy;
  const expected = inputs.kind === 'mean-squares' ? cols : cols * cols;
  if (inputs.values.length !== expected) {
    throw new InvalidArgumentError(
      'sensitivity',
      `${name}: ${inputs.kind} have ${inputs.values.length} values; k = ${cols} needs ${expected}`,
    );
  }
  return layerError(name, rows * cols, {
    signal: energy(values, cols, inputs.values),
    noise: energy(difference, cols, inputs.values),
  });
}

function quantizeDequantize({ name, rows, cols, values }: LinearLayer, rules: MatrixRules): Float32Array {
  if (values.length !== rows * cols) {
    throw new InvalidArgumentError(
      'sensitivity',
      `${name}: ${values.length} values; [${rows}, ${cols}] needs ${rows * cols}`,
    );
  }
  return dequantize(quantize(values, { ...rules, rows, cols }));
}

/** @returns m */
function wholeRows(name: string, x: Float32Array, k: number): number {
  const m = x.length / k;
  if (Number.isInteger(m) && m > 0) return m;
  throw new InvalidArgumentError('sensitivity', `${name}: ${x.length} inputs are no rows of k = ${k}`);
}

/** sum over rows and columns of moment[j] · a[i, j]² */
function weightedEnergy(a: ArrayLike<number>, k: number, moments: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += moments[i % k]! * a[i]! * a[i]!;
  return sum;
}

/** trace(a · C · aᵀ), C being f64[k, k]. */
function quadraticEnergy(a: ArrayLike<number>, k: number, moments: ArrayLike<number>): number {
  let sum = 0;
  for (let start = 0; start < a.length; start += k) {
    for (let i = 0; i < k; i++) {
      let along = 0;
      for (let j = 0; j < k; j++) along += moments[i * k + j]! * a[start + j]!;
      sum += a[start + i]! * along;
    }
  }
  return sum;
}

/**
 * A report from output errors. The loss is the mean of `relative` over all layers, to which each layer adds its share and a
 * kept one nothing: it ranks layers by what FP4 does to their own outputs, and knows nothing of what the model makes of
 * these. Measure perplexity (`leaveOneOut`) where that can be had.
 * @throws InvalidArgumentError for no layers, one twice, one whose error is no finite number, and where nothing is lost
 */
export function outputErrorReport(
  errors: readonly LayerError[],
  { metric = 'mean relative output error', place }: { metric?: string; place?: Place | undefined } = {},
): SensitivityReport {
  const subjects = subjectsOf(
    errors.map(({ name }) => name),
    undefined,
    place,
  );
  const mean = (kept: ReadonlySet<string>) =>
    errors.reduce((sum, { name, relative }) => sum + (kept.has(name) ? 0 : relative), 0) / errors.length;
  return sensitivityReport(
    metric,
    { value: mean(new Set()) },
    { value: 0 },
    subjects.map((subject) => ({ subject, loss: { value: mean(new Set(subject.layers)) } })),
  );
}

/** Layers that a table lists, at most. */
const LISTED_LAYERS = 20;

/** Layers by their error in dB, the worst first; of many only those. */
export function layerErrorTable(errors: readonly LayerError[], most = LISTED_LAYERS): TextTable {
  const listed = [...errors].sort((a, b) => b.relative - a.relative).slice(0, most);
  return {
    title:
      listed.length < errors.length
        ? `the worst ${most} of ${errors.length} layers`
        : 'layers, the worst first',
    head: ['layer', 'weights', 'SQNR dB'],
    align: ['left', 'right', 'right'],
    rows: listed.map(({ name, weights, sqnr }) => [
      name,
      weights.toLocaleString('en'),
      Number.isFinite(sqnr) ? sqnr.toFixed(2) : 'exact',
    ]),
  };
}
