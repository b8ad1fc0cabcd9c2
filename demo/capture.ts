/**
 * Measures with the built demo page in headless Chromium, as a reader would, and keeps what the page exports and how it
 * looks. See CONTRIBUTING.md, *The demo's numbers*.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { InvalidArgumentError as BadOption, Command } from 'commander';
import type { Download, Page } from 'playwright';
import { type ChromiumOptions, chromiumFlags, launchChromium } from '../bench/chromium.js';
import { type StaticServer, serve } from '../bench/static-server.js';
import { Fp4Error, UnsupportedError } from '../src/errors.js';
import { checkLink } from './link.js';
import type { OverheadResult } from './overhead.js';
import type { SweepResult } from './sweep.js';

interface Options extends ChromiumOptions {
  out: string;
  settings: string[];
  sweep?: boolean;
  page: string;
  timeout: number;
  screenshots: boolean;
}

type Panel = 'overhead' | 'sweep';

/** In this order, as the Markdown is what is printed at the end. */
const EXPORTS = ['json', 'csv', 'markdown'] as const;
/** A desktop and a phone. */
const WIDTHS = [1280, 390];
const SCHEMES = ['light', 'dark'] as const;
/** How long a page may take to find its GPU, in ms: a driver may compile its first kernels for that. */
const START = 120_000;
/** How long a browser may take to close, in ms. */
const CLOSE = 10_000;
/** Between two looks at a run, in ms. */
const LOOK = 500;

const seconds = (text: string): number => {
  const value = Number(text);
  if (!(value > 0)) throw new BadOption('It is a positive number of seconds.');
  return value;
};
const link = (text: string, before: string[]): string[] => [...before, text.replace(/^.*#/, '')];

const program = new Command('capture')
  .description(
    'measures with the demo page in headless Chromium; keeps its JSON, CSV, Markdown and screenshots',
  )
  .showHelpAfterError()
  .requiredOption('--out <folder>', 'where the files go')
  .option(
    '--settings <link>',
    "what the page's link has after its #, or the link: 'm=16&n=4096&k=4096&x=float'; again for more runs",
    link,
    [],
  )
  .option('--sweep', 'sweep over m, too')
  .option('--page <folder>', 'the built page', fileURLToPath(new URL('../dist-demo/', import.meta.url)))
  .option('--timeout <seconds>', 'how long a run may take', seconds, 600)
  .option('--no-screenshots', 'keep none')
  .option('--experimental', 'enable what stock browsers do not: subgroup matrices, and f16 on NVIDIA')
  .option('--developer-features', 'exact timestamps')
  .option('--software', "Chromium's software adapter instead of the GPU");

async function main(options: Options): Promise<void> {
  const links = options.settings.length ? options.settings : [''];
  // Before a browser starts, as the page itself takes its defaults for what it cannot read.
  for (const settings of links) checkLink(settings);
  if (!existsSync(join(options.page, 'index.html')))
    throw new UnsupportedError(
      'capture',
      `${options.page} has no built page; npm run build:capture makes it`,
    );
  mkdirSync(options.out, { recursive: true });
  const flags = chromiumFlags(options);
  const browser = await launchChromium(flags);
  const server = await serve({ '/': resolve(options.page) });
  try {
    const host = {
      chromium: browser.version(),
      platform: `${process.platform} ${process.arch}`,
      flags,
      links,
    };
    console.error(`Chromium ${host.chromium} ${flags.join(' ')}`);
    writeFileSync(join(options.out, 'capture.json'), `${JSON.stringify(host, null, 2)}\n`);
    for (const settings of links) {
      const context = await browser.newContext({ acceptDownloads: true });
      const page = await context.newPage();
      await open(page, server, settings, options);
      for (const panel of options.sweep ? (['overhead', 'sweep'] as const) : (['overhead'] as const)) {
        console.error(`${panel}, ${settings || 'default settings'}`);
        await run(page, panel, options.timeout * 1000);
        await keep(page, panel, options.out);
      }
      if (options.screenshots) await photograph(page, options);
      await context.close();
    }
  } finally {
    server.close();
    // A browser whose GPU process hangs may not close; Playwright ends it with this process.
    await Promise.race([browser.close(), sleep(CLOSE)]);
  }
}

/** @throws UnsupportedError where the page has no GPU, or only a software one that was not asked for */
async function open(page: Page, server: StaticServer, settings: string, options: Options): Promise<void> {
  page.on('pageerror', (error) => console.error(`page: ${error.message}`));
  page.on('crash', () => console.error('page: it crashed'));
  try {
    await page.goto(`${server.url}#${settings}`);
  } catch (cause) {
    if (page.context().browser()?.isConnected()) throw cause;
    throw new UnsupportedError(
      'capture',
      'Chromium ended when it opened the page, as it does where it finds no font; install one (fonts-dejavu-core), or let ' +
        'FONTCONFIG_FILE name a configuration with a folder that has one',
      { cause },
    );
  }
  await page
    .locator('#overhead .run:visible, #no-webgpu, #adapter-card [role=alert]')
    .first()
    .waitFor({ timeout: START });
  if (!(await page.locator('#overhead').isVisible()))
    throw new UnsupportedError(
      'capture',
      (await page.locator('#adapter-card').innerText()).replaceAll('\n', ' '),
    );
  // Headless Chromium takes its software adapter without a word where the GPU's driver does not load.
  if (!options.software && (await page.locator('#software').count()))
    throw new UnsupportedError(
      'capture',
      'Chromium has no GPU here; --software measures its software adapter',
    );
}

/** Runs a panel and tells its progress. @throws where it stops or takes too long */
async function run(page: Page, panel: Panel, timeout: number): Promise<void> {
  const status = page.locator(`#${panel} .status`);
  const start = performance.now();
  await page.locator(`#${panel} .run`).click();
  for (let told = ''; ; ) {
    const text = (await status.textContent()) ?? '';
    const elapsed = performance.now() - start;
    if (text !== told) console.error(`${(elapsed / 1000).toFixed(1)} s: ${text}`);
    told = text;
    if (text.startsWith('Done')) return;
    if (text.startsWith('Stopped')) {
      const reason = await page.locator(`#${panel} .alert p`).textContent();
      throw new UnsupportedError('capture', `${panel} stopped: ${reason}`);
    }
    if (elapsed > timeout) {
      throw new UnsupportedError(
        'capture',
        `${panel} took more than ${timeout / 1000} s, at: ${text}; --timeout allows more`,
      );
    }
    await page.waitForTimeout(LOOK);
  }
}

/** Saves what the page exports, and prints the Markdown. */
async function keep(page: Page, panel: Panel, out: string): Promise<void> {
  for (const kind of EXPORTS) {
    const [download] = await Promise.all([
      page.waitForEvent('download'),
      page.locator(`#${panel} .${kind}`).click(),
    ]);
    const path = await save(download, out);
    if (kind === 'json') judge(readFileSync(path, 'utf8'));
    if (kind === 'markdown' && panel === 'overhead') console.log(readFileSync(path, 'utf8'));
  }
}

async function save(download: Download, out: string): Promise<string> {
  const path = join(out, download.suggestedFilename());
  await download.saveAs(path);
  console.error(`written: ${path}`);
  return path;
}

/** What was wrong or failed is in the table; it also makes the command fail. */
function judge(json: string): void {
  const { rows } = JSON.parse(json) as OverheadResult | SweepResult;
  for (const { label, status, note } of rows) {
    if (status !== 'wrong' && status !== 'failed') continue;
    console.error(`${label}: ${status}: ${note}`);
    process.exitCode = 1;
  }
}

async function photograph(page: Page, { out }: Options): Promise<void> {
  const name = await page.evaluate(() => {
    const value = (id: string) => document.querySelector<HTMLInputElement>(`#${id}`)!.value;
    return `${['m', 'n', 'k'].map(value).join('x')}-${value('activations')}`;
  });
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: 900 });
    for (const colorScheme of SCHEMES) {
      await page.emulateMedia({ colorScheme });
      // Charts are drawn again after the box has told its width.
      await page.waitForTimeout(LOOK);
      const path = join(out, `fp4-page-${name}-${width}-${colorScheme}.png`);
      await page.screenshot({ path, fullPage: true });
      console.error(`written: ${path}`);
    }
  }
}

try {
  await main(program.parse().opts<Options>());
} catch (error) {
  console.error(error instanceof Fp4Error ? `error: ${error.message}` : error);
  process.exitCode = 2;
}
// Nothing that hangs keeps the command from ending. What was printed to a pipe has to leave first.
process.stdout.write('', () => process.exit());
