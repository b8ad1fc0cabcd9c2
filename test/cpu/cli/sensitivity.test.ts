/** `sensitivity` on small models: what it measures against the library's own functions, and what it refuses. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import {
  type FormatSensitivity,
  type SensitivityCommandOptions,
  type SensitivityRun,
  sensitivity,
  sensitivityOfModel,
} from '../../../src/cli/sensitivity.js';
import { InvalidArgumentError, UnsupportedError } from '../../../src/errors.js';
import { errorMetrics } from '../../../src/quantize/metrics.js';
import { dequantize, quantize } from '../../../src/quantize/quantize.js';
import { ActivationStatistics } from '../../../src/sensitivity/activation-statistics.js';
import { outputError } from '../../../src/sensitivity/output-error.js';
import { type FileTensors, f32, safetensorsFile } from '../../support/checkpoint-files.js';
import { roundToBf16 } from '../../support/exact.js';
import { CONFIG, type ModelFolder, smallModel, writeModel } from '../../support/model-folder.js';
import { fill, gaussian } from '../../support/random-data.js';
import { rejection } from '../../support/rejection.js';

let folder: string;
let model: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fp4-sensitivity-'));
  model = join(folder, 'model');
});
afterEach(async () => {
  vi.restoreAllMocks();
  await rm(folder, { recursive: true });
});

const run = (options: Partial<SensitivityCommandOptions> = {}, how?: SensitivityRun) =>
  sensitivityOfModel(model, { formats: ['mxfp4'], gpu: 'off', threads: 0, ...options }, how);

/** Two blocks of two layers, values of very different spread. */
function twoBlocks(): ModelFolder {
  const draw = gaussian(8);
  const matrix = (rows: number, cols: number, power: number) => ({
    rows,
    cols,
    values: fill(rows * cols, () => roundToBf16(Math.sign(draw()) * Math.abs(draw()) ** power)),
  });
  return {
    matrices: {
      'model.layers.0.self_attn.q_proj.weight': matrix(32, 64, 1),
      'model.layers.0.mlp.down_proj.weight': matrix(64, 96, 3),
      'model.layers.1.self_attn.q_proj.weight': matrix(32, 64, 2),
      'model.layers.1.mlp.down_proj.weight': matrix(64, 96, 4),
    },
    others: {},
    config: CONFIG,
  };
}

const M = 5;

/** Inputs in a file, under names with and without `.weight`. */
async function writeInputs({ matrices }: ModelFolder, change: (inputs: FileTensors) => void = () => {}) {
  const values = Object.fromEntries(
    Object.entries(matrices).map(([name, { cols }], i) => [name, fill(M * cols, gaussian(20 + i))]),
  );
  const tensors: FileTensors = Object.fromEntries(
    Object.entries(values).map(([name, x], i) => [
      i % 2 ? name : name.replace('.weight', ''),
      f32([M, x.length / M], [...x]),
    ]),
  );
  change(tensors);
  const path = join(folder, 'inputs.safetensors');
  await writeFile(path, safetensorsFile(tensors));
  return { path, values };
}

test('errors of weights, experts together, as quantize has them', async () => {
  const small = smallModel();
  await writeModel(model, small, 2);
  const { summary } = await run({ formats: ['mxfp4:mse:dynamic128', 'nvfp4'] });
  expect(summary.formats.map(({ format, bitsPerWeight }) => [format, bitsPerWeight])).toEqual([
    ['mxfp4:mse:dynamic128:b32/float', 4.3125],
    ['nvfp4:te/float', 4.5],
  ]);
  const rules = [{ format: 'mxfp4', scaleRule: 'mse', macroScale: 'dynamic' }, { format: 'nvfp4' }] as const;
  for (const [i, { layers, report, heatMap, ...rest }] of summary.formats.entries()) {
    expect(layers!.map(({ name }) => name).sort()).toEqual(Object.keys(small.matrices).sort());
    for (const { name, weights, sqnr } of layers!) {
      const { rows, cols, values, experts = 1 } = small.matrices[name]!;
      const each = values.length / experts;
      const parts = Array.from({ length: experts }, (_, e) => values.subarray(e * each, (e + 1) * each));
      const quantized = parts.flatMap((part) => [
        ...dequantize(quantize(part, { ...rules[i]!, rows, cols })),
      ]);
      expect(sqnr).toBeCloseTo(errorMetrics(values, quantized).sqnr, 9);
      expect(weights).toBe(values.length);
    }
    expect(report.metric).toBe('mean relative weight error');
    expect(report.components.map(({ component }) => component)).toEqual([
      'q',
      'down',
      'experts.gate_up',
      'experts.down',
    ]);
    expect(heatMap.blocks).toEqual(['model.layers.0', 'model.layers.1']);
    expect(rest).not.toHaveProperty('recommendation');
  }
  expect(summary).not.toHaveProperty('inputs');
});

test.each([
  ['mxfp4/float', { format: 'mxfp4' }, undefined],
  [
    'mxfp4:static32/mxfp4:floor:dynamic64',
    { format: 'mxfp4', macroScale: 'static', macroSize: 32 },
    { format: 'mxfp4', scaleRule: 'floor', macroScale: 'dynamic', macroSize: 64 },
  ],
  ['mxfp4:b16/mxfp4', { format: 'mxfp4', blockSize: 16 }, { format: 'mxfp4', blockSize: 16 }],
  ['mxfp4:hadamard/mxfp4', { format: 'mxfp4', hadamard: true }, { format: 'mxfp4', hadamard: true }],
  ['nvfp4/nvfp4', { format: 'nvfp4' }, { format: 'nvfp4' }],
  ['mxfp4/nvfp4', { format: 'mxfp4' }, { format: 'nvfp4' }],
] as const)('errors of outputs: %s', async (format, weights, activations) => {
  const made = twoBlocks();
  await writeModel(model, made);
  const { path, values } = await writeInputs(made);
  const { summary } = await run({ formats: [format], inputs: path });
  for (const { name, sqnr } of summary.formats[0]!.layers!) {
    const { rows, cols, values: w } = made.matrices[name]!;
    const layer = { name, rows, cols, values: w };
    const expected = outputError(layer, { weights, activations }, { kind: 'rows', x: values[name]! });
    expect(sqnr).toBeCloseTo(expected.sqnr, 9);
  }
  const q = ['0', '1'].map((block) => {
    const statistics = new ActivationStatistics(64);
    statistics.add(values[`model.layers.${block}.self_attn.q_proj.weight`]!);
    return statistics.summary();
  });
  expect(summary.inputs![0]).toMatchObject({
    component: 'q',
    layers: 2,
    max: Math.max(q[0]!.max, q[1]!.max),
    meanRatio: (q[0]!.ratio + q[1]!.ratio) / 2,
  });
});

test('a recommendation keeps within the budget, and its line for quantize names all', async () => {
  await writeModel(model, twoBlocks());
  const { summary, notes, tables } = await run({ budget: 7 });
  const [{ recommendation, layers, report }] = summary.formats as [FormatSensitivity];
  const { keep, bitsPerWeight, isOptimal } = recommendation!;
  expect(isOptimal).toBe(true);
  expect(bitsPerWeight).toBeLessThanOrEqual(7);
  expect(keep.length).toBeGreaterThan(0);
  const weights = keep.reduce((sum, name) => sum + layers!.find((l) => l.name === name)!.weights, 0);
  expect(bitsPerWeight).toBe(4.25 + (11.75 * weights) / 16384);
  const patterns = keep.map((name) => name.replace('.weight', '')).join(',');
  expect(notes.at(-1)).toMatch(/^mxfp4:oas:b32\/float: 4 of 4 parts improve, .*: --keep '/);
  expect(notes.at(-1)!.endsWith(`--keep '${patterns}'`)).toBe(true);
  expect(tables.at(-1)!.rows.length).toBe(keep.length);

  const bytes = await run({ budgetBytes: (7 * 16384) / 8 });
  expect(bytes.summary.formats[0]!.recommendation).toEqual(recommendation);
  const all = report.cells.reduce((sum, { improvement }) => sum + improvement, 0);
  const improved = await run({ improve: all * 0.9 });
  expect(improved.summary.formats[0]!.recommendation!.improvement).toBeGreaterThanOrEqual(all * 0.9);
  // What cannot be recommended does not keep the rest from being printed.
  const more = await run({ improve: all * 2 });
  expect(more.summary.formats[0]).not.toHaveProperty('recommendation');
  expect(more.summary.formats[0]!.report).toEqual(report);
  expect(more.notes.at(-1)).toMatch(/nothing is recommended: .* is more than the .* that keeping all gains/);
  const few = await run({ budgetBytes: 10 });
  expect(few.notes.at(-1)).toMatch(/nothing is recommended: .* below the 4\.25/);
  const little = await run({ budget: 4.26 });
  expect(little.notes.at(-1)).toMatch(/; none fits the budget$/);
});

test('what is printed, as tables and as JSON', async () => {
  await writeModel(model, twoBlocks());
  const printed: string[] = [];
  vi.spyOn(console, 'log').mockImplementation((text: string) => void printed.push(text));
  const options = { gpu: 'off', threads: 0, budget: 8 } as const;
  await sensitivity(model, options);
  await sensitivity(model, { ...options, json: true });
  // Both formats by default.
  expect(printed[0]).toMatch(
    /mxfp4:oas:b32\/float, 4 layers, 4\.25 bits a weight; nvfp4:te\/float, 4 layers, 4\.5/,
  );
  expect(printed[0]).toMatch(/│ down .*│ +\+\d+\.\d\d % │.*│ +\+\d+\.\d\d % │/);
  expect(printed[0]).toMatch(/nvfp4:te\/float: 4 of 4 parts .* --keep '/);
  const { seconds, ...json } = JSON.parse(printed[1]!);
  const { summary } = await run({ formats: ['mxfp4', 'nvfp4', 'mxfp4:oas:b32'], budget: 8 });
  const { seconds: _, ...expected } = JSON.parse(JSON.stringify(summary));
  expect(json).toEqual(expected);
});

test.each([
  [{ activations: 'same' }, InvalidArgumentError, /mxfp4:oas:b32\/mxfp4:oas:b32: .* --inputs/],
  [{ activations: 'int8' }, UnsupportedError, /int8 activations/],
  [{ formats: ['float'] }, InvalidArgumentError, /lose nothing/],
  [{ formats: ['mxfp4:te'] }, InvalidArgumentError, /'te' in 'mxfp4:te' is unknown/],
  [{ budget: 5, improve: 1 }, InvalidArgumentError, /one of --budget/],
  [{ budget: 4 }, InvalidArgumentError, /4 bits a weight is below the 4\.25/],
  [{ keep: ['nothing'] }, InvalidArgumentError, /pattern 'nothing' matches none/],
  [{ kinds: ['block'] }, InvalidArgumentError, /--kinds, .* go with --tokens/],
  [{ sequences: 3 }, InvalidArgumentError, /go with --tokens/],
  [{ tokens: 't.u16', inputs: 'x' }, InvalidArgumentError, /--tokens or --inputs/],
  [{ tokens: 't.u16' }, InvalidArgumentError, /--gpu off goes with errors of weights/],
  [{ tokens: 't.u16', gpu: 'auto', also: ['x'] }, InvalidArgumentError, /--also/],
  [{ tokens: 't.u16', gpu: 'auto', budget: 5, kinds: ['block'] }, InvalidArgumentError, /--kinds cell/],
] as const)('refuses %o', async (options, type, message) => {
  await writeModel(model, twoBlocks());
  const error = await rejection(run(options as never));
  expect(error).toBeInstanceOf(type);
  expect(error.message).toMatch(message);
});

test('refuses inputs that are not those of the layers, before anything is measured', async () => {
  const made = twoBlocks();
  await writeModel(model, made);
  const q = 'model.layers.0.self_attn.q_proj';
  const cases: [(inputs: FileTensors) => void, RegExp][] = [
    [(inputs) => delete inputs[q], /no inputs for model\.layers\.0\.self_attn\.q_proj\.weight; a tensor/],
    [
      (inputs) => Object.assign(inputs, { [q]: f32([2, 32], new Array(64).fill(1)) }),
      /32 wide, and the layer 64/,
    ],
    [
      (inputs) => Object.assign(inputs, { [q]: f32([1, 64], [Number.NaN, ...new Array(63).fill(1)]) }),
      /q_proj have NaN in row 0/,
    ],
    [(inputs) => Object.assign(inputs, { [q]: f32([1, 2, 64], new Array(128).fill(1)) }), /three dimensions/],
  ];
  for (const [change, message] of cases) {
    const { path } = await writeInputs(made, change);
    const onStart = vi.fn();
    const error = await rejection(run({ inputs: path }, { onStart }));
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error.message).toMatch(message);
    // Values are looked at as they are read.
    if (!message.source.includes('NaN')) expect(onStart).not.toHaveBeenCalled();
  }
  await writeModel(model, smallModel());
  const { path } = await writeInputs(made);
  expect((await rejection(run({ inputs: path, keep: ['*q_proj', '*.0.mlp*'] }))).message).toMatch(
    /gate_up_proj has 3 experts/,
  );
});

test('stops at the signal', async () => {
  await writeModel(model, twoBlocks());
  const stop = new AbortController();
  const seen: string[] = [];
  const onProgress = (_: number, name: string) => {
    seen.push(name);
    stop.abort(new Error('enough'));
  };
  await expect(run({}, { signal: stop.signal, onProgress })).rejects.toThrow('enough');
  expect(seen.length).toBe(1);
});
