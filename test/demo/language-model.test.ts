/** The language-model section of the built page, on a small random Llama: what it shows is what f64 on the CPU says. */
import { readFileSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Page } from 'playwright';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openLlamaFolder } from '../../demo/lm/node.js';
import { continuation, openTokenizer, type TextTokenizer } from '../../demo/lm/tokenizer.js';
import type { PerplexityResult, SensitivityResult } from '../../demo/lm-report.js';
import {
  type Dtype,
  type FloatMatrix,
  quantize,
  type TensorData,
  tensorsAs,
  writeSafetensors,
} from '../../src/index.js';
import { openCheckpointFile } from '../../src/node.js';
import { useDemo } from '../support/demo.js';
import { type LlamaF64, loadLlamaF64, quantizedLinear } from '../support/llama-f64.js';
import { TINY, type TinyLlama, tinyConfig, writeTinyLlama } from '../support/tiny-llama.js';
import { writeTinyTokenizer } from '../support/tiny-tokenizer.js';

const demo = useDemo();

/** All products have the same k, so that there are few kernels to compile. */
const MODEL: TinyLlama = { ...TINY, intermediate: 64 };
/** Of prompts and sequences: passes over as many rows share their kernels. */
const LENGTH = 8;
const PROMPT = 'the cats in';
const TEXT = 'A thing that is in the house is a thin mat and a tin.';

let root = '';
let folder = '';
let reference: LlamaF64;
let tokenizer: TextTokenizer;

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'fp4-webgpu-lm-'));
  folder = join(root, 'tiny');
  await writeTinyLlama(folder, MODEL, { files: 2 });
  await writeTinyTokenizer(folder);
  reference = await loadLlamaF64(folder);
  await using source = await openLlamaFolder(folder);
  tokenizer = await openTokenizer(source);
});
afterAll(() => rm(root, { recursive: true }));

type Linear = NonNullable<Parameters<LlamaF64['nlls']>[1]>['linear'];

/** The likeliest token each time, in f64; the second likeliest has to be further away than f32 errs. */
function greedy(prompt: readonly number[], count: number, linear?: Linear): number[] {
  const tokens = [...prompt];
  for (let i = 0; i < count; i++) {
    const row = reference.logits(tokens, { linear }).subarray(-MODEL.vocabulary);
    const [first, second] = [...row.keys()].sort((a, b) => row[b]! - row[a]!);
    expect(row[first!]! - row[second!]!).toBeGreaterThan(1e-2);
    tokens.push(first!);
  }
  return tokens.slice(prompt.length);
}

/** Mean loss of a token, in f64. */
function loss(tokens: readonly number[], linear?: Linear): number {
  const sequences = Array.from({ length: tokens.length / LENGTH }, (_, i) =>
    tokens.slice(i * LENGTH, (i + 1) * LENGTH),
  );
  const all = reference.nlls(sequences, { linear }).flatMap((nll) => [...nll]);
  return all.reduce((sum, value) => sum + value, 0) / all.length;
}

const status = (page: Page, panel: string) => page.locator(`#lm-${panel} .status`);

async function run(page: Page, panel: string): Promise<string> {
  await page.locator(`#lm-${panel} .run`).click();
  return ended(page, panel);
}

async function ended(page: Page, panel: string): Promise<string> {
  // A software adapter compiles a kernel in a second, and others may have its cores.
  await status(page, panel)
    .filter({ hasText: /Done|Stopped|Cancelled/ })
    .waitFor({ timeout: 100_000 });
  return (await status(page, panel).textContent())!;
}

async function openModel(page: Page, path = folder): Promise<void> {
  await page.locator('#lm-folder').setInputFiles(path);
  await page.locator('.lm-status', { hasText: 'is open' }).waitFor();
}

async function exported(page: Page, panel: string, kind: 'json' | 'csv' | 'markdown'): Promise<string> {
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.locator(`#lm-${panel} .${kind}`).click(),
  ]);
  expect(download.suggestedFilename()).toMatch(new RegExp(`^fp4-${panel}\\.`));
  return readFileSync((await download.path())!, 'utf8');
}

/** axe's serious and critical findings in the section. */
async function findings(page: Page): Promise<string[]> {
  await page.addScriptTag({ path: createRequire(import.meta.url).resolve('axe-core') });
  return page.evaluate(async () => {
    const { axe } = globalThis as unknown as { axe: typeof import('axe-core') };
    const { violations } = await axe.run('#language-model');
    return violations
      .filter(({ impact }) => impact === 'serious' || impact === 'critical')
      .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
  });
}

const scrollsSideways = (page: Page) =>
  page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);

/** Calls of the methods by which bytes of files are read. */
const countReads = () => {
  const counter = { reads: 0 };
  Object.assign(window, { counter });
  for (const name of ['arrayBuffer', 'text', 'stream'] as const) {
    const method = Blob.prototype[name] as () => never;
    Object.assign(Blob.prototype, {
      [name](this: Blob) {
        counter.reads++;
        return method.call(this);
      },
    });
  }
};
const reads = (page: Page) =>
  page.evaluate(() => (window as unknown as { counter: { reads: number } }).counter.reads);

const keepDevice = () => {
  const request = GPUAdapter.prototype.requestDevice;
  GPUAdapter.prototype.requestDevice = async function (...args) {
    const device = await request.apply(this, args);
    Object.assign(window, { lastDevice: device });
    return device;
  };
};
const loseDevice = (page: Page) =>
  page.evaluate(() => (window as unknown as { lastDevice: GPUDevice }).lastDevice.destroy());

const text = async (page: Page) =>
  (await page.locator('#lm-generate .lm-text').textContent())!.slice(PROMPT.length);

describe('a model', () => {
  test('writes, is measured and has a heat map, as f64 says', async () => {
    const page = await demo.open({ acceptDownloads: true, before: countReads });
    await openModel(page);
    const parameters = 101 * 64 + 64 + 2 * (2 * 64 + 6 * 64 * 64);
    const facts = (await page.locator('.lm-facts').textContent())!;
    expect(facts).toContain(`Parameters${parameters.toLocaleString('en')}`);
    expect(facts).toMatch(/As storedBF16, 0\.\d+ MB.*Blocks2.*4 of 16, 2 of keys and values.*RoPE default/);

    const prompt = tokenizer.encode(PROMPT);
    expect(prompt).toHaveLength(LENGTH);
    await page.locator('#lm-prompt').fill(PROMPT);
    await page.locator('#lm-max-tokens').fill('5');
    await page.locator('#lm-temperature').fill('0');
    expect(await run(page, 'generate')).toBe('Done: 5 tokens.');
    const said = (tokens: readonly number[]) => continuation(tokenizer, prompt, tokens);
    const stored = greedy(prompt, 5);
    expect(await text(page)).toBe(said(stored));
    expect(await page.locator('.lm-speed').textContent()).toMatch(
      /^BF16\/float; prefill [\d.,]+ tokens\/s \(\d+ tokens\); decode [\d.,]+ tokens\/s$/,
    );

    const before = await reads(page);
    expect(before).toBeGreaterThan(0);
    await page.locator('#lm-generate-weights').selectOption('nvfp4');
    expect(await run(page, 'generate')).toBe('Done: 5 tokens.');
    const nvfp4 = quantizedLinear(reference, { weights: { format: 'nvfp4' } });
    const quantized = greedy(prompt, 5, nvfp4);
    expect(quantized).not.toEqual(stored);
    expect(await text(page)).toBe(said(quantized));
    expect(await reads(page)).toBe(before);

    // Random logits are far apart.
    await page.locator('#lm-temperature').fill('20');
    const draw = async (seed: string) => {
      await page.locator('#lm-seed').fill(seed);
      await run(page, 'generate');
      return text(page);
    };
    const drawn = await draw('1');
    expect(await draw('2')).not.toBe(drawn);
    expect(await draw('1')).toBe(drawn);

    // What was written stays when it is stopped.
    await page.locator('#lm-max-tokens').fill('50');
    await page.locator('#lm-generate .run').click();
    await status(page, 'generate').filter({ hasText: 'Writing' }).waitFor();
    await page.locator('#lm-generate .cancel').click();
    expect(await ended(page, 'generate')).toMatch(/^Stopped: \d+ tokens\.$/);
    expect(await text(page)).not.toBe('');

    await page.locator('#lm-text').fill(TEXT);
    await page.locator('#lm-length').fill(String(LENGTH));
    await page.locator('#lm-batch').fill('1');
    await page.locator('#lm-sequences').fill('3');
    await page.locator('[data-table=w4a16] summary').click();
    await page.locator('[data-table=w4a16]').getByRole('button', { name: 'None' }).click();
    expect(await run(page, 'perplexity')).toBe('Stopped.');
    expect(await page.locator('#lm-perplexity .alert').textContent()).toContain('nothing is chosen');
    await page.getByLabel('nvfp4:te/float', { exact: true }).check();
    expect(await run(page, 'perplexity')).toBe('Done: 2 of 2 measured.');
    const tokens = tokenizer.encode(TEXT).slice(0, 3 * LENGTH);
    const result = JSON.parse(await exported(page, 'perplexity', 'json')) as PerplexityResult;
    expect(result.settings).toMatchObject({ sequences: 3, length: LENGTH, batch: 1, precision: 'f32' });
    expect(result.rows.map(({ weights, activations }) => `${weights}/${activations}`)).toEqual([
      'float/float',
      'nvfp4:te/float',
    ]);
    const [floatRow, nvfp4Row] = result.rows;
    expect(floatRow!.loss).toBeCloseTo(loss(tokens), 3);
    expect(nvfp4Row!.loss).toBeCloseTo(loss(tokens, nvfp4), 3);
    expect(nvfp4Row!.percentOverFloat).toBeCloseTo(
      100 * (nvfp4Row!.perplexity / floatRow!.perplexity - 1),
      6,
    );
    expect([floatRow!.bitsPerWeight, nvfp4Row!.bitsPerWeight]).toEqual([16, 4.5]);
    const cells = await page
      .locator('#lm-perplexity tbody tr')
      .evaluateAll((rows) => rows.map((row) => [...row.children].map((cell) => cell.textContent)));
    expect(cells.map(([weights, activations]) => [weights, activations])).toEqual([
      ['BF16, as stored', 'float'],
      ['nvfp4:te', 'float'],
    ]);
    cells.forEach((row, i) => {
      expect(Number(row[2]!.replaceAll(',', '')) / result.rows[i]!.perplexity).toBeCloseTo(1, 4);
    });
    const csv = (await exported(page, 'perplexity', 'csv')).trim().split('\r\n');
    const at = csv[0]!.split(',').indexOf('perplexity');
    expect(csv.slice(1).map((line) => Number(line.split(',')[at]))).toEqual(
      result.rows.map(({ perplexity }) => perplexity),
    );
    expect(await exported(page, 'perplexity', 'markdown')).toMatch(/\| nvfp4:te \| float \|/);

    await page.locator('#lm-sequences').fill('1');
    await page.locator('#lm-whole').uncheck();
    await page.locator('#lm-sensitivity-weights').selectOption('nvfp4');
    // What was measured before it is cancelled is not measured again.
    await page.locator('#lm-sensitivity .run').click();
    await status(page, 'sensitivity')
      .filter({ hasText: /^[3-9] of 16/ })
      .waitFor({ timeout: 100_000 });
    await page.locator('#lm-sensitivity .cancel').click();
    expect(await ended(page, 'sensitivity')).toBe('Cancelled.');
    await page.evaluate(() => {
      const told: string[] = [];
      Object.assign(window, { told });
      const line = document.querySelector('#lm-sensitivity .status')!;
      new MutationObserver(() => told.push(line.textContent!)).observe(line, { childList: true });
    });
    // None, all, and seven components of two blocks.
    expect(await run(page, 'sensitivity')).toBe('Done: 16 evaluations.');
    const told = await page.evaluate(() => (window as unknown as { told: string[] }).told);
    const evaluated = told.flatMap((line) => /^(\d+) of 16/.exec(line)?.[1] ?? []).map(Number);
    expect(Math.min(...evaluated)).toBeGreaterThanOrEqual(3);
    expect(Math.max(...evaluated)).toBe(16);
    const { report, configuration } = JSON.parse(
      await exported(page, 'sensitivity', 'json'),
    ) as SensitivityResult;
    expect(configuration).toBe('nvfp4:te/float');
    const first = tokens.slice(0, LENGTH);
    expect(Math.log(report.baseline)).toBeCloseTo(loss(first, nvfp4), 3);
    expect(Math.log(report.reference!)).toBeCloseTo(loss(first), 3);
    const cell = report.cells.find(({ id }) => id === 'cell:up:model.layers.1')!;
    const kept = quantizedLinear(reference, {
      weights: { format: 'nvfp4' },
      keep: (name) => name === 'model.layers.1.mlp.up_proj.weight',
    });
    expect(Math.log(cell.value)).toBeCloseTo(loss(first, kept), 3);
    const chart = page.locator('#lm-sensitivity .chart svg');
    expect(await chart.locator('rect').count()).toBe(14);
    const best = report.cells.reduce((a, b) => (b.relative > a.relative ? b : a));
    expect(await chart.getAttribute('aria-label')).toContain(
      `by keeping: ${best.component} of block ${best.block!.at(-1)} (`,
    );
    expect(await page.locator('#lm-sensitivity .table').textContent()).toContain(
      `${cell.relative < 0 ? '−' : '+'}${Math.abs(100 * cell.relative).toFixed(2)} %`,
    );
    expect((await exported(page, 'sensitivity', 'csv')).trim().split('\r\n')).toHaveLength(1 + 16);

    expect(await scrollsSideways(page)).toBe(false);
    expect(await findings(page)).toEqual([]);
    await page.setViewportSize({ width: 390, height: 800 });
    await page.emulateMedia({ colorScheme: 'dark' });
    expect(await scrollsSideways(page)).toBe(false);
    expect(await findings(page)).toEqual([]);
  }, 180_000);

  test('is measured on a file of tokens; a cancelled run and a lost device leave it ready for the next', async () => {
    const file = join(root, 'tokens.u16');
    const tokens = Array.from({ length: 200 * LENGTH }, (_, i) => (i * 37 + (i >> 3)) % MODEL.vocabulary);
    await writeFile(file, Uint16Array.from(tokens));
    const page = await demo.open({ acceptDownloads: true, before: keepDevice });
    await openModel(page);
    await page.locator('[data-table=w4a16] summary').click();
    await page.locator('[data-table=w4a16]').getByRole('button', { name: 'None' }).click();
    await page.locator('#lm-others').fill('float');
    await page.locator('#lm-length').fill(String(LENGTH));
    await page.locator('#lm-batch').fill('1');
    expect(await run(page, 'perplexity')).toBe('Stopped.');
    const alert = page.locator('#lm-perplexity .alert');
    expect(await alert.textContent()).toContain('there are no tokens');

    await page.locator('#lm-token-file').setInputFiles(file);
    await page.locator('#lm-sequences').fill('200');
    const start = async () => {
      await page.locator('#lm-perplexity .run').click();
      await status(page, 'perplexity')
        .filter({ hasText: /: [1-9]\d* of 200 sequences/ })
        .waitFor({ timeout: 100_000 });
    };
    await start();
    await page.locator('#lm-perplexity .cancel').click();
    expect(await ended(page, 'perplexity')).toBe('Cancelled.');
    expect(await alert.textContent()).toBe('');

    await start();
    await loseDevice(page);
    await alert.locator('.again').waitFor();
    expect(await alert.textContent()).toMatch(/GPU went away.*lost/);
    await page.locator('#lm-sequences').fill('2');
    await alert.locator('.again').click();
    await status(page, 'perplexity').filter({ hasText: 'Done: 1 of 1' }).waitFor({ timeout: 100_000 });
    const { rows, settings } = JSON.parse(await exported(page, 'perplexity', 'json')) as PerplexityResult;
    expect(settings).toMatchObject({ tokens: 'tokens.u16', sequences: 2 });
    expect(rows[0]!.loss).toBeCloseTo(loss(tokens.slice(0, 2 * LENGTH)), 3);
  }, 180_000);
});

describe('a folder', () => {
  const problem = (page: Page) => page.locator('#language-model > .alert');
  const write = async (name: string, config: object) => {
    const path = join(root, name);
    await writeTinyLlama(path, { ...MODEL, layers: 1 });
    await writeFile(join(path, 'config.json'), JSON.stringify({ ...tinyConfig(MODEL), ...config }));
    return path;
  };

  test('that is none, or none that can be run, is told what is wrong with; the next one opens', async () => {
    const page = await demo.open();
    await page.locator('#lm-folder').waitFor();
    const files = (await readdir(folder)).filter((name) => !/config|model-2/.test(name));
    await page.locator('#lm-files').setInputFiles(files.map((name) => join(folder, name)));
    await problem(page)
      .filter({ hasText: 'files: config.json and model-2-of-2.safetensors are missing; choose all files' })
      .waitFor();

    const gguf = join(root, 'gguf');
    await mkdir(gguf);
    await writeFile(join(gguf, 'config.json'), await readFile(join(folder, 'config.json')));
    await writeFile(join(gguf, 'model.gguf'), 'GGUF');
    for (const [path, message] of [
      [gguf, /gguf: a safetensors file is missing \(model\.gguf is not read here\)/],
      [await write('gpt2', { model_type: 'gpt2' }), /model_type "gpt2" is not "llama"/],
      [
        await write('yarn', { rope_parameters: { rope_type: 'yarn', rope_theta: 1e4 } }),
        /rope_type "yarn" is not one of default, linear, llama3/,
      ],
      [await write('shallow', {}), /tensor model\.layers\.1\.\S+ and \d+ more is missing/],
      [root, /have a config.json each; choose one of them/],
    ] as const) {
      await page.locator('#lm-folder').setInputFiles(path);
      await problem(page).filter({ hasText: message }).waitFor();
      expect(await page.locator('.lm-panels').isVisible()).toBe(false);
    }
    expect(await findings(page)).toEqual([]);
    await openModel(page);
    expect(await problem(page).textContent()).toBe('');
  });

  test('with FP4 weights keeps them: there is no other format to choose', async () => {
    const path = join(root, 'fp4');
    await using checkpoint = await openCheckpointFile(folder);
    const written: TensorData[] = [];
    for (const tensor of checkpoint.tensors) {
      const { name, dtype, shape } = tensor;
      if (/_proj/.test(name)) {
        const { rows, cols, values } = (await checkpoint.matrix(name)) as FloatMatrix;
        written.push(...tensorsAs('fp4-webgpu', name, quantize(values, { format: 'mxfp4', rows, cols })));
      } else {
        written.push({ name, dtype: dtype as Dtype, shape, bytes: await checkpoint.read(tensor) });
      }
    }
    await mkdir(path);
    await writeFile(join(path, 'model.safetensors'), writeSafetensors(written));
    for (const name of ['config.json', 'tokenizer.json'])
      await copyFile(join(folder, name), join(path, name));
    const page = await demo.open();
    await openModel(page, path);
    expect(await page.locator('.lm-facts').textContent()).toContain('As storedMXFP4');
    expect(await page.locator('#lm-generate-weights option').allTextContents()).toEqual(['MXFP4, as stored']);
    expect(await page.locator('#lm-generate-activations').isEnabled()).toBe(true);
    expect(await page.locator('.lm-table:visible').count()).toBe(0);
    expect(await page.locator('#lm-others').inputValue()).toBe('float/int8, float/nvfp4');
  });

  test('that is dropped opens; without a tokenizer it has no words', async () => {
    const page = await demo.open();
    await page.locator('#lm-folder').waitFor();
    const names = (await readdir(folder)).filter((name) => name !== 'tokenizer.json');
    const contents = await Promise.all(names.map((name) => readFile(join(folder, name), 'base64')));
    const transfer = await page.evaluateHandle(
      (all) => {
        const data = new DataTransfer();
        for (const [name, base64] of all) {
          const bytes = Uint8Array.from(atob(base64!), (character) => character.charCodeAt(0));
          data.items.add(new File([bytes], name!));
        }
        return data;
      },
      names.map((name, i) => [name, contents[i]!]),
    );
    await page.locator('#language-model').dispatchEvent('drop', { dataTransfer: transfer });
    await page.locator('.lm-status', { hasText: 'is open' }).waitFor();
    expect(await page.locator('.lm-facts .notice').textContent()).toContain('no tokenizer.json');
    expect(await page.locator('#lm-generate').isVisible()).toBe(false);
    expect(await run(page, 'perplexity')).toBe('Stopped.');
    expect(await page.locator('#lm-perplexity .alert').textContent()).toContain('take a file of tokens');
    // A file of tokens that misses its box is still one, and the model stays.
    const file = await page.evaluateHandle(() => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(20)], 'some.u16'));
      return data;
    });
    await page.locator('#language-model').dispatchEvent('drop', { dataTransfer: file });
    expect(await page.locator('#lm-token-note').textContent()).toBe('some.u16, 20 bytes.');
    expect(await run(page, 'perplexity')).toBe('Stopped.');
    expect(await page.locator('#lm-perplexity .alert').textContent()).toContain(
      'some.u16: 10 tokens are fewer than a sequence of 32',
    );
  });
});
