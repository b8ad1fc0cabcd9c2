/** Losses that are sums of known terms of layers, so that every number of a report is known. */
import { expect, test, vi } from 'vitest';
import { InvalidArgumentError } from '../../../src/errors.js';
import { type LeaveOneOutOptions, leaveOneOut } from '../../../src/sensitivity/leave-one-out.js';
import { keepCandidates } from '../../../src/sensitivity/recommend.js';
import { heatMap, sensitivityTables, subjectsOf, tableText } from '../../../src/sensitivity/report.js';
import { rejection } from '../../support/rejection.js';

/** What each layer in FP4 adds to a loss of 4; powers of two, so that sums are exact. One makes the model better. */
const TERMS: Readonly<Record<string, number>> = {
  'model.layers.10.self_attn.q_proj.weight': 0.125,
  'model.layers.10.mlp.down_proj.weight': 2,
  'model.layers.2.self_attn.q_proj.weight': 0.25,
  'model.layers.2.mlp.down_proj.weight': -0.5,
  'model.layers.2.mlp.experts.0.down_proj.weight': 0.0625,
  'model.layers.2.mlp.experts.1.down_proj.weight': 0.03125,
};
const LAYERS = Object.keys(TERMS);
const BASELINE = 4 + 0.125 + 2 + 0.25 - 0.5 + 0.0625 + 0.03125;

const loss = (keep: (name: string) => boolean) =>
  LAYERS.reduce((sum, name) => sum + (keep(name) ? 0 : TERMS[name]!), 4);

const run = (options: Partial<LeaveOneOutOptions> = {}) =>
  leaveOneOut({ layers: LAYERS, evaluate: loss, ...options });

test('each component, block and component of a block is kept once, in the order of the model', async () => {
  const ids: string[] = [];
  const report = await run({
    evaluate: async (keep, { id }) => {
      ids.push(id);
      return loss(keep);
    },
    metric: 'perplexity',
  });
  const [two, ten] = ['model.layers.2', 'model.layers.10'];
  // `cell:experts.down` of block 2 is all there is of the component.
  expect(ids).toEqual([
    'none',
    'all',
    'component:q',
    'component:down',
    'component:experts.down',
    `block:${two}`,
    `block:${ten}`,
    `cell:q:${two}`,
    `cell:down:${two}`,
    `cell:q:${ten}`,
    `cell:down:${ten}`,
  ]);
  expect(report).toMatchObject({ metric: 'perplexity', baseline: BASELINE, reference: 4 });
  const improvements = (rows: readonly { id: string; improvement: number }[]) =>
    Object.fromEntries(rows.map(({ id, improvement }) => [id, improvement]));
  expect(improvements(report.components)).toEqual({
    'component:q': 0.375,
    'component:down': 1.5,
    'component:experts.down': 0.09375,
  });
  expect(improvements(report.blocks)).toEqual({ [`block:${two}`]: -0.15625, [`block:${ten}`]: 2.125 });
  expect(improvements(report.cells)).toEqual({
    [`cell:q:${two}`]: 0.25,
    [`cell:down:${two}`]: -0.5,
    [`cell:experts.down:${two}`]: 0.09375,
    [`cell:q:${ten}`]: 0.125,
    [`cell:down:${ten}`]: 2,
  });
  for (const row of [...report.components, ...report.blocks, ...report.cells]) {
    expect(row.value).toBe(BASELINE - row.improvement);
    expect(row.relative).toBe(row.improvement / BASELINE);
    expect(row.recovered).toBe(row.improvement / (BASELINE - 4));
  }
  expect(report.cells[2]!.layers).toEqual(LAYERS.slice(4));
});

test('an interrupted run goes on where it was, and its values are the same', async () => {
  const storage = new Map<string, string>();
  const stop = new AbortController();
  let calls = 0;
  const evaluate = (keep: (name: string) => boolean) => {
    if (++calls === 4) stop.abort(new Error('enough'));
    return loss(keep);
  };
  const first = run({ evaluate, storage, identity: 'toy', signal: stop.signal });
  await expect(first).rejects.toThrow('enough');
  // The fourth value was there when it ended, and is kept.
  expect(storage.size).toBe(4);
  const progress: [string, boolean, number, number][] = [];
  const report = await run({
    evaluate,
    storage,
    identity: 'toy',
    onProgress: ({ id, isStored, done, total }) => progress.push([id, isStored, done, total]),
  });
  expect(calls).toBe(11);
  expect(report).toEqual(await run());
  expect(progress.map(([, isStored]) => isStored)).toEqual([...Array(4).fill(true), ...Array(7).fill(false)]);
  expect(progress.map(([, , done, total]) => `${done}/${total}`)).toEqual(
    Array.from({ length: 11 }, (_, i) => `${i + 1}/11`),
  );
  // What holds for another model is not taken.
  await run({ evaluate, storage, identity: 'other' });
  expect(calls).toBe(22);
});

test('an abort before the first evaluation, and one of an evaluation itself', async () => {
  const evaluate = vi.fn(loss);
  await expect(run({ evaluate, signal: AbortSignal.abort(new Error('now')) })).rejects.toThrow('now');
  expect(evaluate).not.toHaveBeenCalled();
  const failing = run({ evaluate: () => Promise.reject(new Error('device lost')) });
  await expect(failing).rejects.toThrow('device lost');
});

test('kinds, no reference, and another way to place layers', async () => {
  const report = await run({
    kinds: ['component'],
    reference: false,
    place: (name) => ({ component: name.includes('q_proj') ? 'attention' : 'mlp', block: '' }),
  });
  expect(report).not.toHaveProperty('reference');
  expect(report.components.map(({ id, improvement }) => [id, improvement])).toEqual([
    ['component:attention', 0.375],
    ['component:mlp', 1.59375],
  ]);
  expect(report.components[0]).not.toHaveProperty('recovered');
  expect(report.blocks).toEqual([]);
});

test.each([
  [{ layers: [] }, /no layers/],
  [{ layers: ['a.0.q', 'a.0.q'] }, /a\.0\.q is given twice/],
  [{ kinds: ['row' as never] }, /kind 'row' is not one of component, block, cell/],
  [{ evaluate: (): number => Number.NaN }, /the loss of none is NaN/],
  [{ evaluate: (): number => Number.POSITIVE_INFINITY }, /Infinity/],
  [{ evaluate: (): number => 0 }, /is 0; .* above zero/],
  [{ storage: new Map() }, /needs an identity/],
  [{ storage: new Map([['x none', 'six']]), identity: 'x' }, /stored of none is NaN/],
] satisfies [Partial<LeaveOneOutOptions>, RegExp][])('refuses %o', async (options, message) => {
  const error = await rejection(run(options));
  expect(error).toBeInstanceOf(InvalidArgumentError);
  expect(error.message).toMatch(message);
});

test('standard errors, from parts of the data', async () => {
  // Log losses of four parts; FP4 in q adds to each something else, in down the same to all.
  const [base, q, down] = [[1, 2, 0.5, 1.5], [0.3, 0.1, -0.2, 0.2], 0.25];
  const layers = ['m.0.attn.q_proj', 'm.0.mlp.down_proj'];
  const storage = new Map<string, string>();
  const options: LeaveOneOutOptions = {
    layers,
    evaluate: (keep) => ({
      logSamples: base.map((x, i) => x + (keep(layers[0]!) ? 0 : q[i]!) + (keep(layers[1]!) ? 0 : down)),
    }),
    kinds: ['cell'],
    storage,
    identity: 'x',
  };
  const report = await leaveOneOut(options);
  expect(report.baseline).toBeCloseTo(Math.exp(1.25 + 0.1 + 0.25), 12);
  expect(report.reference).toBeCloseTo(Math.exp(1.25), 12);
  const [ofQ, ofDown] = report.cells;
  // The differences' mean is 0.1 and the sum of their squared deviations 0.04 + 0 + 0.09 + 0.01.
  const perLog = ofQ!.improvement / 0.1;
  expect(ofQ!.standardError).toBeCloseTo(Math.sqrt(0.14 / 3 / 4) * perLog, 12);
  expect(ofDown!.standardError).toBeCloseTo(0, 12);
  // From the storage they are the same.
  expect(await leaveOneOut({ ...options, evaluate: () => Number.NaN })).toEqual(report);
  const [table] = sensitivityTables(new Map([['x', report]]));
  expect(table!.head).toEqual([
    'block',
    'kept',
    'loss',
    'improvement',
    'relative',
    '± error',
    "of FP4's cost",
  ]);
  const bits = new Map(layers.map((name) => [name, { weights: 64, bits: 4.25, highBits: 16 }]));
  const gains = (errors?: number) =>
    keepCandidates(report, bits, errors).candidates.map(({ improvement }) => improvement > 0);
  expect(gains()).toEqual([true, true]);
  expect(gains(2)).toEqual([false, true]);
});

test('a heat map has a place for every component of every block', async () => {
  const report = await run();
  expect(heatMap(report, 'improvement')).toEqual({
    components: ['q', 'down', 'experts.down'],
    blocks: ['model.layers.2', 'model.layers.10'],
    values: [
      [0.25, 0.125],
      [-0.5, 2],
      [0.09375, null],
    ],
  });
  expect(heatMap(report).values[1]![1]).toBe(2 / BASELINE);
});

test('tables: the most sensitive first, blocks in order', async () => {
  const report = await run({ metric: 'perplexity' });
  const tables = sensitivityTables(new Map([['mxfp4', report]]), 3);
  expect(tables.map(({ rows }) => rows.map((row) => row[0]))).toEqual([
    ['none', 'down', 'q', 'experts.down', 'all'],
    ['model.layers.2', 'model.layers.10'],
    ['model.layers.10', 'model.layers.2', 'model.layers.10', 'model.layers.2', 'model.layers.2'],
  ]);
  const text = tableText(tables[0]!).split('\n');
  expect(text[1]).toBe("kept          perplexity  improvement  relative  of FP4's cost");
  expect(text[3]).toBe('down               4.469       +1.500  +25.13 %       +76.19 %');
  expect(text.at(-1)).toBe('all                4.000       +1.969  +32.98 %      +100.00 %');
  for (const { head, align, rows } of tables) {
    for (const row of [align, ...rows]) expect(row.length).toBe(head.length);
  }
});

test('formats side by side, in the order of the first', async () => {
  const other = await run({ evaluate: (keep) => 2 * loss(keep), kinds: ['component'] });
  const [components, blocks] = sensitivityTables(
    new Map([
      ['mxfp4', await run()],
      ['nvfp4', other],
    ]),
    2,
  );
  expect(components!.head).toEqual(['kept', 'mxfp4', 'improves', 'nvfp4', 'improves']);
  expect(components!.rows).toEqual([
    ['none', '5.97', '', '11.94', ''],
    ['down', '4.47', '+25.13 %', '8.94', '+25.13 %'],
    ['q', '5.59', '+6.28 %', '11.19', '+6.28 %'],
    ['experts.down', '5.88', '+1.57 %', '11.75', '+1.57 %'],
    ['all', '4.00', '+32.98 %', '8.00', '+32.98 %'],
  ]);
  // What the second one lacks is empty.
  expect(blocks!.rows[0]!.slice(3)).toEqual(['', '']);
  expect(sensitivityTables(new Map())).toEqual([]);
});

test('what there is to keep covers each layer once in each kind', () => {
  for (const kind of ['component', 'block', 'cell'] as const) {
    const names = subjectsOf(LAYERS, [kind]).flatMap(({ layers }) => layers);
    expect([...names].sort()).toEqual([...LAYERS].sort());
  }
});
