import { describe, expect, test } from 'vitest';
import { compare, parsePart } from '../../../bench/compare.js';
import { type BenchFile, parseBenchFile, type QuantizerRow, type Row } from '../../../bench/schema.js';
import { formatComparison } from '../../../bench/table.js';
import { around, benchFile, CASES, measurement, row, timing } from './files.js';

const LIMIT = 0.1;
const verdicts = (before: Row[], after: Row[]) =>
  Object.fromEntries(
    compare(benchFile(before), benchFile(after), LIMIT).cases.map(({ id, verdict }) => [id, verdict]),
  );
const id = (index: number) => CASES[index]!.id;

test('a case that became slower is a regression, and the other way round it is none', () => {
  const fast = benchFile([row(0, around(1)), row(1, around(2))]);
  const slow = benchFile([row(0, around(1.2)), row(1, around(2.02))]);

  const worse = compare(fast, slow, LIMIT);
  expect(worse.cases.map(({ verdict }) => verdict)).toEqual(['slower', 'same']);
  expect(worse.regressions.map((c) => c.id)).toEqual([id(0)]);
  expect(worse.regressions[0]!.change).toBeCloseTo(1.2);
  expect(worse.mean).toBeCloseTo(Math.sqrt(1.2 * 1.01));
  expect(formatComparison(worse, LIMIT)).toMatch(
    /slower.*\+20\.0 %[\s\S]*FAILED: 1 cases lost more than 10 %/,
  );

  const better = compare(slow, fast, LIMIT);
  expect(better.cases.map(({ verdict }) => verdict)).toEqual(['faster', 'same']);
  expect(better.regressions).toEqual([]);
  expect(formatComparison(better, LIMIT)).toMatch(/faster.*-16\.7 %[\s\S]*no case lost more than 10 %/);
});

test('a GPU that is slower as a whole is no regression, as the baseline is slower too', () => {
  const before = row(0, around(1));
  const { measurement: m } = before;
  const after = {
    ...before,
    measurement: { ...m!, total: around(150), pairing: { ...m!.pairing, time: around(150) } },
  };
  expect(verdicts([before], [after])).toEqual({ [id(0)]: 'same' });
});

test('samples that overlap are noise, in both directions', () => {
  expect(verdicts([row(0, around(1, 0.2))], [row(0, around(1.2, 0.2))])).toEqual({ [id(0)]: 'noise' });
  expect(verdicts([row(0, around(1.2, 0.2))], [row(0, around(1, 0.2))])).toEqual({ [id(0)]: 'noise' });
  expect(
    compare(benchFile([row(0, around(1, 0.2))]), benchFile([row(0, around(1.2, 0.2))]), LIMIT).regressions,
  ).toEqual([]);
});

test('the limit is the one that is given', () => {
  const [before, after] = [benchFile([row(0, around(1, 0.001))]), benchFile([row(0, around(1.05, 0.001))])];
  expect(compare(before, after, 0.1).regressions.length).toBe(0);
  expect(compare(before, after, 0.04).regressions.length).toBe(1);
});

test('a case that stopped working is a regression; one that was not reached or is new is none', () => {
  const { measurement: _, ...wrong } = row(0, around(1), { status: 'wrong' });
  const comparison = compare(
    benchFile([row(0, around(1)), row(1, around(1))]),
    benchFile([wrong, row(2, around(1))], { complete: false }),
    LIMIT,
  );
  expect(comparison.cases.map(({ id, verdict }) => [id, verdict])).toEqual([
    [id(0), 'broken'],
    [id(1), 'missing'],
    [id(2), 'new'],
  ]);
  expect(comparison.regressions.map((c) => c.id)).toEqual([id(0)]);
  expect(comparison.warnings).toEqual(['this run is not complete']);
});

test('a case that did not work before cannot be broken', () => {
  const { measurement: _, ...wrong } = row(0, around(1), { status: 'failed' });
  expect(verdicts([wrong], [row(0, around(1))])).toEqual({});
});

test('ratios to different baselines are not compared', () => {
  const other = measurement(around(9));
  const after = row(0, around(9), {
    measurement: { ...other, pairing: { ...other.pairing, baseline: 'fma' } },
  });
  expect(verdicts([row(0, around(1))], [after])).toEqual({ [id(0)]: 'missing' });
});

test('quantizers are compared like cases', () => {
  const quantizer = (ratio: number): QuantizerRow => ({
    id: 'quantize.16384x4096.mxfp4.oas',
    rule: 'mxfp4.oas',
    rows: 16384,
    cols: 4096,
    status: 'ok',
    measurement: timing(around(ratio)),
  });
  const [fast, slow] = [0.8, 1].map((ratio) =>
    benchFile([row(0, around(1))], { quantizers: [quantizer(ratio)] }),
  );
  const changes = (before: BenchFile, after: BenchFile) =>
    compare(before, after, LIMIT).cases.map(({ id, verdict }) => [id.split('.')[0], verdict]);
  expect(changes(fast!, slow!)).toEqual([
    [id(0).split('.')[0], 'same'],
    ['quantize', 'slower'],
  ]);
  expect(changes(slow!, fast!)).toEqual([
    [id(0).split('.')[0], 'same'],
    ['quantize', 'faster'],
  ]);
  expect(compare(fast!, slow!, LIMIT).regressions.map((c) => c.id)).toEqual([
    'quantize.16384x4096.mxfp4.oas',
  ]);
  // A run without them is no regression.
  expect(compare(fast!, benchFile([row(0, around(1))]), LIMIT).regressions).toEqual([]);
});

describe('files that cannot be compared', () => {
  const file = benchFile([row(0, around(1))]);
  const elsewhere = {
    ...file.environment,
    adapter: { ...file.environment.adapter, device: 'ACME Anvil 10' },
  };
  test.each([
    ['adapter', elsewhere],
    ['host', { ...file.environment, host: 'chromium' as const }],
    ['experimental', { ...file.environment, experimental: true }],
  ])('another %s', (what, environment) => {
    expect(() => compare(file, { ...file, environment }, LIMIT)).toThrow(what);
  });

  test.each(['{', '{}', '[]', 'null', '{"schema": 0, "rows": [], "environment": {}}'])(
    '%s is no results file',
    (text) => {
      expect(() => parseBenchFile(text, 'old.json')).toThrow(/^bench: old\.json is not/);
    },
  );
});

test('driver, version and flags are allowed to differ, and said', () => {
  const file = benchFile([row(0, around(1))]);
  const environment = { ...file.environment, driver: 'ACME driver 2.0', flags: ['--fast'] };
  expect(compare(file, { ...file, environment }, LIMIT).warnings).toEqual([
    'driver was ACME driver 1.0 and is ACME driver 2.0',
    'the flags differ',
  ]);
});

test('a results file survives being written and read', () => {
  const file = benchFile([row(0, around(1)), row(3, around(2))]);
  expect(parseBenchFile(JSON.stringify(file), 'new.json')).toEqual(file);
});

test('parts are percent or plain', () => {
  expect(parsePart('10%')).toBe(0.1);
  expect(parsePart('0.25')).toBe(0.25);
  for (const text of ['', 'ten', '-5%', '0', '10 percent'])
    expect(() => parsePart(text)).toThrow('is not a part');
});
