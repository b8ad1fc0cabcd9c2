import { describe, expect, test } from 'vitest';
import { InvalidArgumentError } from '../../../src/errors.js';
import { dequantize, quantize } from '../../../src/quantize/quantize.js';
import { ActivationStatistics } from '../../../src/sensitivity/activation-statistics.js';
import {
  layerErrorTable,
  OutputErrorMeter,
  outputError,
  outputErrorReport,
} from '../../../src/sensitivity/output-error.js';
import { fill, gaussian, studentT } from '../../support/random-data.js';

const [n, k, m] = [24, 96, 40];
const layer = {
  name: 'model.layers.0.mlp.up_proj.weight',
  rows: n,
  cols: k,
  values: fill(n * k, gaussian(1)),
};
/** Columns of very different size, some going together. */
const x = fill(
  m * k,
  (() => {
    const draw = studentT(2, 3);
    return (i: number) => draw() * 2 ** ((i % k) % 7) * (i % k === 5 ? 20 : 1);
  })(),
);

/** ‖x̂·ŵᵀ - x·wᵀ‖² and ‖x·wᵀ‖², by definition. */
function naive(xHat: ArrayLike<number>, wHat: ArrayLike<number>) {
  let [signal, noise] = [0, 0];
  for (let row = 0; row < m; row++) {
    for (let col = 0; col < n; col++) {
      let [exact, got] = [0, 0];
      for (let i = 0; i < k; i++) {
        exact += x[row * k + i]! * layer.values[col * k + i]!;
        got += xHat[row * k + i]! * wHat[col * k + i]!;
      }
      signal += exact ** 2;
      noise += (got - exact) ** 2;
    }
  }
  return { signal, noise };
}

const expectClose = (actual: number, expected: number) =>
  expect(Math.abs(actual / expected - 1)).toBeLessThan(1e-9);

describe.each([
  { weights: { format: 'mxfp4' } },
  { weights: { format: 'nvfp4' }, activations: { format: 'nvfp4' } },
  {
    weights: { format: 'mxfp4', macroScale: 'dynamic', hadamard: true },
    activations: { format: 'mxfp4', macroScale: 'static', hadamard: true },
  },
] as const)('%o', (rules) => {
  const wHat = dequantize(quantize(layer.values, { ...rules.weights, rows: n, cols: k }));
  const xHat =
    'activations' in rules ? dequantize(quantize(x, { ...rules.activations, rows: m, cols: k })) : x;
  const expected = naive(xHat, wHat);

  test('of rows, as defined', () => {
    const error = outputError(layer, rules, { kind: 'rows', x });
    expect(error).toMatchObject({ name: layer.name, weights: n * k });
    expectClose(error.signal, expected.signal);
    expectClose(error.noise, expected.noise);
    expectClose(error.relative, expected.noise / expected.signal);
    expect(error.sqnr).toBeCloseTo(10 * Math.log10(expected.signal / expected.noise), 9);
  });

  test('of rows that come in batches', () => {
    // A tensor scale comes from a batch, so those of nvfp4 differ.
    if ('activations' in rules && rules.activations.format === 'nvfp4') return;
    const meter = new OutputErrorMeter(layer, rules);
    for (const rows of [1, 7, 32]) {
      const start = { 1: 0, 7: 1, 32: 8 }[rows]!;
      meter.add(x.subarray(start * k, (start + rows) * k));
    }
    expectClose(meter.result().noise, expected.noise);
    expectClose(meter.result().signal, expected.signal);
  });
});

test('second moments tell the same as the rows that they come from', () => {
  const rules = { weights: { format: 'mxfp4' } } as const;
  const statistics = new ActivationStatistics(k, { secondMoments: true });
  statistics.add(x.subarray(0, 9 * k));
  statistics.add(x.subarray(9 * k));
  const values = statistics.secondMoments;
  const error = outputError(layer, rules, { kind: 'second-moments', values });
  const ofRows = outputError(layer, rules, { kind: 'rows', x });
  expectClose(error.signal * m, ofRows.signal);
  expectClose(error.noise * m, ofRows.noise);

  // The diagonal alone: the same where nothing is off it.
  const diagonal = values.map((value, i) => (i % (k + 1) === 0 ? value : 0));
  const full = outputError(layer, rules, { kind: 'second-moments', values: diagonal });
  const squares = outputError(layer, rules, { kind: 'mean-squares', values: statistics.meanSquares });
  expectClose(squares.noise, full.noise);
  expectClose(squares.signal, full.signal);
  expect(Math.abs(full.noise / error.noise - 1)).toBeGreaterThan(0.01);
});

test('without inputs, the error of the weights', () => {
  const q = dequantize(quantize(layer.values, { format: 'nvfp4', rows: n, cols: k }));
  const error = outputError(layer, { weights: { format: 'nvfp4' } });
  expectClose(
    error.noise,
    layer.values.reduce((sum, w, i) => sum + (w - q[i]!) ** 2, 0),
  );
  const ones = outputError(
    layer,
    { weights: { format: 'nvfp4' } },
    { kind: 'mean-squares', values: new Float64Array(k).fill(1) },
  );
  expectClose(error.relative, ones.relative);
});

test.each([
  [{ activations: { format: 'mxfp4' } }, undefined, /depends on its rows, and nothing/],
  [
    { activations: { format: 'mxfp4' } },
    { kind: 'mean-squares', values: new Float64Array(k) },
    /only mean-squares/,
  ],
  [{}, { kind: 'mean-squares', values: new Float64Array(k - 1) }, /have 95 values; k = 96 needs 96/],
  [{}, { kind: 'second-moments', values: new Float64Array(k) }, /k = 96 needs 9216/],
  [{}, { kind: 'rows', x: new Float32Array(k + 1) }, /97 inputs are no rows of k = 96/],
  [{}, { kind: 'rows', x: new Float32Array(0) }, /0 inputs are no rows/],
  [{}, { kind: 'rows', x: new Float32Array(k).fill(Number.NaN) }, /no finite number/],
  [{ weights: { format: 'mxfp4', blockSize: 8 } }, undefined, /blockSize/],
  [{ activations: { format: 'nvfp4', macroScale: 'static' } }, { kind: 'rows', x }, /goes with mxfp4/],
] as const)('refuses %o with %o', (rules, inputs, message) => {
  const run = () => outputError(layer, { weights: { format: 'mxfp4' }, ...rules } as never, inputs as never);
  expect(run).toThrow(InvalidArgumentError);
  expect(run).toThrow(message);
});

test('a report: each layer adds its share of the mean', () => {
  const of = (name: string, relative: number) => ({
    name,
    weights: 64,
    signal: 1,
    noise: relative,
    relative,
    sqnr: -10 * Math.log10(relative),
  });
  const errors = [
    of('m.0.self_attn.q_proj.weight', 1 / 64),
    of('m.0.mlp.up_proj.weight', 1 / 32),
    of('m.1.self_attn.q_proj.weight', 1 / 128),
    of('m.1.mlp.up_proj.weight', 1 / 16),
  ];
  const report = outputErrorReport(errors);
  expect(report.baseline).toBe((1 / 64 + 1 / 32 + 1 / 128 + 1 / 16) / 4);
  expect(report.reference).toBe(0);
  expect(report.components.map(({ id, improvement }) => [id, improvement])).toEqual([
    ['component:q', 3 / 128 / 4],
    ['component:up', 3 / 32 / 4],
  ]);
  expect(report.cells.reduce((sum, { recovered }) => sum + recovered!, 0)).toBeCloseTo(1, 12);
  expect(layerErrorTable(errors).rows[0]).toEqual(['m.1.mlp.up_proj.weight', '64', '12.04']);
});
