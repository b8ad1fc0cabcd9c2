import { expect, test } from 'vitest';
import { toMarkdown } from '../../../bench/markdown.js';
import { changePercent, significant } from '../../../bench/numbers.js';
import { plotResults } from '../../../bench/plot.js';
import { fileStem } from '../../../bench/schema.js';
import { geometricMean, spread } from '../../../bench/stats.js';
import { formatResults } from '../../../bench/table.js';
import { around, benchFile, CASES, row, timing } from './files.js';

const quantizer = { id: 'quantize', rows: 16384, cols: 4096 };

const file = benchFile(
  CASES.map((_, i) => row(i, around(i + 1))),
  {
    plans: [
      {
        case: CASES[0]!,
        planned: 'gemv.a',
        best: 'gemv.b',
        slowdown: 1.25,
        candidates: [
          { kernel: 'gemv.b', microseconds: 8 },
          { kernel: 'gemv.a', microseconds: 10 },
          { kernel: 'gemv.c', microseconds: null },
        ],
      },
      { case: CASES[1]!, planned: 'gemv.a', best: 'gemv.a', slowdown: 1, candidates: [] },
    ],
    quantizers: [
      { ...quantizer, rule: 'mxfp4.oas', status: 'ok', measurement: timing(around(0.8)) },
      { ...quantizer, rule: 'mxfp4.mse', status: 'wrong', note: '3 bytes are not those of the CPU' },
    ],
    peers: [
      { name: 'peer', version: '1.0', m: 1, n: 4096, k: 4096, layers: 17, time: around(20), error: 1e-3 },
      { name: 'peer', version: '1.0', m: 16, n: 4096, k: 4096, layers: 17, note: 'fails: no f16' },
    ],
  },
);

test('spreads and means', () => {
  expect(spread([5, 1, 4, 2, 3, 6])).toEqual({ median: 4, p20: 2, p80: 5 });
  expect(spread([7])).toEqual({ median: 7, p20: 7, p80: 7 });
  expect(geometricMean([1, 4])).toBeCloseTo(2);
});

test('numbers keep the digits that matter', () => {
  expect([1234.5, 123.4, 12.34, 1.234, 0.1234, undefined].map(significant)).toEqual([
    '1235',
    '123',
    '12.3',
    '1.23',
    '0.12',
    '',
  ]);
  expect([1.123, 0.9].map(changePercent)).toEqual(['+12.3 %', '-10.0 %']);
});

test('the table says what was measured, how, and what was not', () => {
  const text = formatResults({
    ...file,
    complete: false,
    rows: [...file.rows, { case: CASES[0]!, status: 'refused', note: 'the device lacks f16' }],
  });
  for (const part of [
    'ACME Anvil 9000',
    'copy 4000 GB/s',
    '25 %',
    'medians of 15 samples by GPU timestamps',
    'refused: 1x4096',
  ]) {
    expect(text).toContain(part);
  }
  expect(text).toContain('1 of 2 plans are within 10 %');
  expect(text).toContain('fails: no f16');
  expect(text).toMatch(/mxfp4\.oas .*16384 × 4096.* 80\.0 .* 1000 .* 25 %/);
  expect(text).toContain('wrong: 3 bytes are not those of the CPU');
  expect(text).toContain('ended before every case');
});

test('Markdown has a line for each shape and m, a column for each format', () => {
  const text = toMarkdown(file);
  expect(text).toContain('| n × k | m | `mxfp4` | `nvfp4` |\n|---|---:|---:|---:|\n');
  expect(text).toContain('| 4096 × 4096 | 16 | 200 µs (1000 GB/s, 25 %) | 500 µs (1000 GB/s, 25 %) |');
  expect(text).toContain('| 1x4096x4096.mxfp4.float.f32.f32 | gemv.a | gemv.b | 1.25 |');
  expect(text).toContain('| 4096 × 4096 | peer 1.0 | 20.0 |');
  expect(text).toContain('| quantizing f32[16384, 4096] | µs | GB/s | of copy |\n');
  expect(text).toContain('| `mxfp4.oas` | 80.0 | 1000 | 25 % |');
  // Every line of a table has as many cells as its head.
  for (const table of text.split('\n\n').filter((part) => part.startsWith('|'))) {
    const cells = table
      .trim()
      .split('\n')
      .map((line) => line.split('|').length);
    expect(new Set(cells).size).toBe(1);
  }
});

test('plots are well-formed, with a line for each format', () => {
  const plots = plotResults(file);
  expect(plots.map(({ name }) => name)).toEqual(['4096x4096-time', '4096x4096-ceiling']);
  for (const { svg } of plots) {
    expect(svg).toMatch(/^<svg [^>]*viewBox="0 0 \d+ \d+"[\s\S]*<\/svg>\n$/);
    expect(svg.match(/<polyline /g)?.length).toBe(2);
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
    for (const point of svg.matchAll(/c[xy]="([^"]+)"/g)) expect(Number(point[1])).toBeGreaterThan(0);
  }
});

test('one m draws nothing', () => {
  expect(plotResults(benchFile([row(0, around(1))]))).toEqual([]);
});

test('file names say adapter, host and whether features were experimental', () => {
  expect(fileStem(file.environment)).toBe('acme-anvil-9000-node');
  const stock = { ...file.environment.adapter, device: '', description: '' };
  const environment = { ...file.environment, adapter: stock, host: 'chromium' as const, experimental: true };
  expect(fileStem(environment)).toBe('acme-roadrunner-chromium-experimental');
});
