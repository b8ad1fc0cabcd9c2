/** The accuracy section of the built page: its numbers are the library's, its files stay in the page. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import type { Page } from 'playwright';
import { describe, expect, test } from 'vitest';
import { ERROR_BINS, generate, MAX_VALUES, WAYS } from '../../demo/accuracy-data.js';
import {
  dequantize,
  errorMetrics,
  quantize,
  type TensorData,
  tensorsAs,
  writeGguf,
  writeSafetensors,
} from '../../src/index.js';
import { useDemo } from '../support/demo.js';
import { roundToBf16 } from '../support/exact.js';
import { gaussian } from '../support/random-data.js';

const demo = useDemo();
const axe = createRequire(import.meta.url).resolve('axe-core');

const draw = gaussian(5);
const normals = (count: number) => Float32Array.from({ length: count }, () => roundToBf16(draw()));
const bytesOf = (values: Float32Array | Uint16Array) => new Uint8Array(values.buffer);
const asBf16 = (values: Float32Array) =>
  bytesOf(Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16));
const f32 = (name: string, shape: [number, number], values: Float32Array): TensorData => ({
  name,
  dtype: 'F32',
  shape,
  bytes: bytesOf(values),
});

/** By the library, for each way. */
function expected(values: Float32Array, rows: number, cols: number) {
  return WAYS.map(({ label, options }) => {
    const { sqnr, maxError } = errorMetrics(values, dequantize(quantize(values, { ...options, rows, cols })));
    return { label, sqnr, maxError };
  });
}

/** Of the table. */
function shown(page: Page) {
  return page.locator('#accuracy tbody tr').evaluateAll((rows) =>
    rows.map((row) => {
      const data = [...row.querySelectorAll('data')];
      return {
        label: row.querySelector('th')?.textContent,
        text: data[1]?.textContent,
        sqnr: Number(data[1]?.value),
        maxError: Number(data[2]?.value),
      };
    }),
  );
}

/** The same matrix here and there. */
function compare(inPage: Awaited<ReturnType<typeof shown>>, here: ReturnType<typeof expected>) {
  expect(inPage.map(({ label, maxError }) => ({ label, maxError }))).toEqual(
    here.map(({ label, maxError }) => ({ label, maxError })),
  );
  // log10 of another engine may differ in its last bit.
  for (const [i, { sqnr }] of here.entries()) expect(inPage[i]!.sqnr).toBeCloseTo(sqnr, 12);
}

const status = (page: Page) => page.locator('#accuracy .accuracy-status');
const measure = (page: Page) => page.getByRole('button', { name: 'Measure accuracy' }).click();
const allMeasured = (page: Page) =>
  status(page)
    .filter({ hasText: `All ${WAYS.length} measured` })
    .waitFor();

async function choose(page: Page, name: string, bytes: Uint8Array): Promise<void> {
  await page.locator('#accuracy-data').selectOption('own');
  const buffer = Buffer.from(bytes);
  await page.locator('#accuracy-file').setInputFiles({ name, mimeType: 'application/octet-stream', buffer });
}

test('SQNR and largest errors of generated data are those of the library', async () => {
  const page = await demo.open();
  await page.locator('#accuracy-data').selectOption('laplace');
  await page.locator('#accuracy-seed').fill('7');
  await measure(page);
  await allMeasured(page);
  const { values, rows, cols } = generate('laplace', 7);
  const rowsShown = await shown(page);
  expect(rowsShown.map(({ label }) => label)).toEqual(WAYS.map(({ label }) => label));
  for (const [i, { sqnr, maxError }] of expected(values, rows, cols).entries()) {
    // Logarithms of another engine may differ in their last bit, which moves some values by one rounding.
    expect(rowsShown[i]!.sqnr).toBeCloseTo(sqnr, 6);
    expect(rowsShown[i]!.maxError).toBeCloseTo(maxError, 6);
    expect(rowsShown[i]!.text).toBe(rowsShown[i]!.sqnr.toFixed(2));
  }
});

test('a link measures the same again, and files have what the table shows', async () => {
  const { values, rows, cols } = generate('student-t', 9);
  const [way] = WAYS;
  const { sqnr } = errorMetrics(values, dequantize(quantize(values, { ...way!.options, rows, cols })));
  const page = await demo.open({ hash: 'm=3&data=student-t&seed=9&way=nvfp4-te', acceptDownloads: true });
  await measure(page);
  await allMeasured(page);
  const table = await shown(page);
  const exported = async (kind: string) => {
    const [download] = await Promise.all([
      page.waitForEvent('download'),
      page.locator(`#accuracy .${kind}`).click(),
    ]);
    expect(download.suggestedFilename()).toBe(
      `fp4-accuracy-student-t-9.${kind === 'markdown' ? 'md' : kind}`,
    );
    return readFileSync((await download.path())!, 'utf8');
  };
  const json = JSON.parse(await exported('json'));
  expect(json).toMatchObject({ source: { data: 'student-t', seed: 9 }, rows: 256, cols: 2048 });
  expect(json.ways).toHaveLength(WAYS.length);
  expect(json.ways[0].sqnr).toBeCloseTo(sqnr, 6);
  expect(json.ways.map((way: { sqnr: number }) => way.sqnr)).toEqual(table.map((row) => row.sqnr));
  expect(json.ways[0].histogram.counts).toHaveLength(ERROR_BINS);
  const [head, ...lines] = (await exported('csv')).trim().split('\r\n');
  const column = head!.split(',').indexOf('sqnr_db');
  // No field before has a comma but the quoted label.
  const plain = lines.map((line) => line.replaceAll(/"[^"]*"/g, 'label').split(','));
  expect(plain.map((cells) => Number(cells[column]))).toEqual(table.map((row) => row.sqnr));
  const markdown = await exported('markdown');
  for (const { label } of table) expect(markdown).toContain(`| ${label} |`);
  expect(markdown).toContain(`| ${table[0]!.text} |`);
  const link = new URL(await page.locator('#accuracy .link').evaluate((a: HTMLAnchorElement) => a.href));
  expect(link.hash).toBe('#data=student-t&seed=9&way=nvfp4-te');
  // What is chosen here leaves what other sections have in the address.
  await page.locator('#accuracy-seed').fill('10');
  await page.locator('#accuracy-seed').blur();
  expect(new URL(page.url()).hash).toBe('#m=3&data=student-t&seed=10&way=nvfp4-te');
  const again = await demo.open({ hash: link.hash.slice(1) });
  await measure(again);
  await allMeasured(again);
  expect(await shown(again)).toEqual(table);
  expect(await again.locator('#accuracy tr.accuracy-chosen th').textContent()).toBe('nvfp4 te');
});

test('works without a network once it is loaded, and another seed gives other numbers', async () => {
  const page = await demo.open();
  await page.waitForLoadState('networkidle');
  await page.context().setOffline(true);
  await measure(page);
  await allMeasured(page);
  const first = await shown(page);
  await page.locator('#accuracy-seed').fill('2');
  await measure(page);
  await allMeasured(page);
  const second = await shown(page);
  expect(second).toHaveLength(WAYS.length);
  expect(second.map(({ sqnr }) => sqnr)).not.toEqual(first.map(({ sqnr }) => sqnr));
});

describe('files', () => {
  const small = normals(40 * 96);
  const odd = normals(8 * 100);
  const LARGE = 'model.language_model.layers.0.block_sparse_moe.shared_expert.large.weight';
  const largeRows = MAX_VALUES / 1024 + 90;
  const large = normals(largeRows * 1024);
  const q = quantize(small, { rows: 40, cols: 96, format: 'mxfp4' });
  const file = writeSafetensors([
    f32('small.weight', [40, 96], small),
    f32('odd.weight', [8, 100], odd),
    { name: LARGE, dtype: 'BF16', shape: [largeRows, 1024], bytes: asBf16(large) },
    f32('narrow.weight', [8, 16], new Float32Array(128)),
    ...tensorsAs('gpt-oss', 'model.layers.0.mlp.experts.down_proj', [q]),
  ]);

  test('a dropped one is listed with what applies, and measured', async () => {
    const page = await demo.open();
    const transfer = await page.evaluateHandle((base64) => {
      const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
      const data = new DataTransfer();
      data.items.add(new File([bytes], 'some.safetensors'));
      return data;
    }, Buffer.from(file).toString('base64'));
    await page.locator('#accuracy').dispatchEvent('drop', { dataTransfer: transfer });
    await status(page).filter({ hasText: 'some.safetensors is read' }).waitFor();
    const options = await page
      .locator('#accuracy-matrix option')
      .evaluateAll((all) => all.map((one) => [one.textContent, (one as HTMLOptionElement).disabled]));
    expect(options.slice(0, 3).sort()).toEqual([
      [`${LARGE} · ${largeRows} × 1024 · BF16`, false],
      ['odd.weight · 8 × 100 · F32', false],
      ['small.weight · 40 × 96 · F32', false],
    ]);
    expect(options.slice(3)).toHaveLength(2);
    for (const [text, disabled] of options.slice(3)) {
      expect(text).toMatch(/^(narrow\.weight .*|.*down_proj.* mxfp4 \(gpt-oss.*\)) · not applicable$/);
      expect(disabled).toBe(true);
    }

    for (const [name, values, rows, cols, note] of [
      ['small.weight', small, 40, 96, 'all of it'],
      ['odd.weight', odd.filter((_, i) => i % 100 < 96), 8, 96, 'the first 96 of 100 columns'],
      [LARGE, large.subarray(0, MAX_VALUES), MAX_VALUES / 1024, 1024, `the first 512 of ${largeRows} rows`],
    ] as const) {
      await page.locator('#accuracy-matrix').selectOption(name);
      await measure(page);
      await page.locator('#accuracy .accuracy-note', { hasText: name }).waitFor();
      await allMeasured(page);
      await page.getByText(`${name} of some.safetensors: ${note}.`).waitFor();
      compare(await shown(page), expected(values, rows, cols));
    }
    // Long names of matrices do not widen the page of a phone.
    await page.setViewportSize({ width: 390, height: 900 });
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(390);
  });

  test('GGUF, without a network: nothing is uploaded', async () => {
    const page = await demo.open();
    await page.waitForLoadState('networkidle');
    await page.context().setOffline(true);
    const gguf = writeGguf([
      { name: 'blk.0.ffn_up.weight', dtype: 'F32', shape: [40, 96], bytes: bytesOf(small) },
    ]);
    await choose(page, 'some.gguf', gguf);
    await status(page).filter({ hasText: 'some.gguf is read: 1 of 1' }).waitFor();
    await measure(page);
    await allMeasured(page);
    compare(await shown(page), expected(small, 40, 96));
    // A link cannot hold a file.
    expect(await page.locator('#accuracy .link').isVisible()).toBe(false);
    expect(await page.locator('#accuracy .json').isVisible()).toBe(true);
  });

  test('a broken one shows the typed error, and the next one is read', async () => {
    const page = await demo.open();
    await choose(page, 'broken.safetensors', file.subarray(0, 1000));
    const alert = page.locator('#accuracy [role=alert]');
    await alert.filter({ hasText: /^CheckpointError: .*broken\.safetensors/ }).waitFor();
    expect(await page.getByRole('button', { name: 'Measure accuracy' }).isDisabled()).toBe(true);
    await choose(page, 'some.safetensors', file);
    await status(page).filter({ hasText: 'some.safetensors is read' }).waitFor();
    expect(await alert.isVisible()).toBe(false);
  });

  test('a NaN in the matrix is named', async () => {
    const page = await demo.open();
    const values = small.slice();
    values[96 + 2] = Number.NaN;
    await choose(page, 'nan.safetensors', writeSafetensors([f32('w', [40, 96], values)]));
    await status(page).filter({ hasText: 'is read' }).waitFor();
    await measure(page);
    await page
      .locator('#accuracy [role=alert]', { hasText: /^InvalidArgumentError: .*row 1, col 2 is NaN/ })
      .waitFor();
  });
});

test('cancel stops, keeps what there is, and another measurement runs', async () => {
  const page = await demo.open();
  await page.locator('#accuracy-data').selectOption('student-t');
  const cancel = page.locator('#accuracy').getByRole('button', { name: 'Cancel' });
  expect(await cancel.isDisabled()).toBe(true);
  // In the page, as the way there and back takes as long as some of the ways.
  await page.evaluate(() => {
    const rows = document.querySelector('#accuracy tbody')!;
    new MutationObserver((_, observer) => {
      observer.disconnect();
      [...document.querySelectorAll('#accuracy button')]
        .find((b) => b.textContent === 'Cancel')!
        .dispatchEvent(new Event('click'));
    }).observe(rows, { childList: true });
  });
  await measure(page);
  await status(page)
    .filter({ hasText: `Cancelled after 1 of ${WAYS.length}.` })
    .waitFor();
  expect(await cancel.isDisabled()).toBe(true);
  // Longer than two of the ways take: nothing more comes.
  await page.waitForTimeout(500);
  expect(await shown(page)).toHaveLength(1);
  expect(await page.locator('#accuracy progress').isVisible()).toBe(false);
  await measure(page);
  await allMeasured(page);
  expect(await shown(page)).toHaveLength(WAYS.length);
});

test.each([
  [390, 'dark'],
  [1280, 'light'],
] as const)('charts follow the choice and fit a page of %i px, %s', async (width, colorScheme) => {
  const page = await demo.open({ viewport: { width, height: 900 }, colorScheme });
  await measure(page);
  await allMeasured(page);
  const charts = page.locator('#accuracy svg[role=img]');
  expect(await charts.count()).toBe(4);
  await page.locator('#accuracy-way').selectOption('nvfp4-te');
  const captions = await page.locator('#accuracy figcaption').allTextContents();
  expect(captions).toHaveLength(3);
  for (const caption of captions) expect(caption).toMatch(/^nvfp4 te:/);
  expect(await page.locator('#accuracy tr.accuracy-chosen th').allTextContents()).toEqual(['nvfp4 te']);
  expect(await page.locator('#accuracy svg image').count()).toBeGreaterThan(0);
  const beyond = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  expect(beyond).toBeLessThanOrEqual(0);
  await page.addScriptTag({ path: axe });
  const serious = await page.evaluate(async () => {
    const { violations } = await (globalThis as unknown as { axe: typeof import('axe-core') }).axe.run(
      '#accuracy',
    );
    return violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
  });
  expect(serious.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)])).toEqual([]);
  const widths = await charts.evaluateAll((all) => all.map((chart) => chart.getBoundingClientRect().width));
  for (const chart of widths) expect(chart).toBeLessThanOrEqual(width);
});

test('the file input is reached by the keyboard and shows where the focus is', async () => {
  const page = await demo.open();
  await page.locator('#accuracy-data').selectOption('own');
  await page.locator('#accuracy-data').focus();
  await page.keyboard.press('Tab');
  expect(await page.evaluate(() => document.activeElement?.id)).toBe('accuracy-file');
  const outline = await page
    .locator('.accuracy-drop')
    .evaluate((drop) => getComputedStyle(drop).outlineStyle);
  expect(outline).toBe('solid');
});
