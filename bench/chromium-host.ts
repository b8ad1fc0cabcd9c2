/** The benchmark in a page of headless Chromium, driven by Playwright. */
import { fileURLToPath } from 'node:url';
import type { Page } from 'playwright';
import { UnsupportedError } from '../src/errors.js';
import { isSoftware } from '../src/gpu/caps.js';
import { type ChromiumOptions, chromiumFlags, launchChromium } from './chromium.js';
import type { HostFacts } from './page/main.js';
import { onnxruntimeWebFolder } from './peers/locate.js';
import type { Progress, RunOptions } from './run.js';
import { serve } from './static-server.js';

declare const __COMMIT__: string;

/**
 * Runs in a page what `run` does.
 * @throws UnsupportedError where Playwright, the browser or its GPU is missing
 */
export async function runInChromium(
  host: ChromiumOptions,
  options: RunOptions,
  tell: (progress: Progress) => void,
): Promise<void> {
  const flags = chromiumFlags(host);
  const peers = options.peers ? onnxruntimeWebFolder() : undefined;
  await withPage(flags, peers ? { '/peers/': peers } : {}, async (page, hostVersion) => {
    let refused: unknown;
    await page.exposeFunction('tellBench', (progress: Progress) => {
      if (progress.kind === 'environment' && !host.software && isSoftware(progress.environment.adapter)) {
        // Headless Chromium takes its software adapter without a word where the GPU's driver does not load.
        refused = new UnsupportedError(
          'bench',
          'Chromium has no GPU here; --software measures its software adapter',
        );
        void page.close();
      }
      if (refused) return;
      try {
        tell(progress);
      } catch (error) {
        refused = error;
        void page.close();
      }
    });
    const facts: HostFacts = {
      host: 'chromium',
      experimental: host.experimental ?? false,
      hostVersion,
      platform: `${process.platform} ${process.arch}`,
      flags,
      commit: __COMMIT__,
      date: new Date().toISOString(),
    };
    try {
      const message = await page.evaluate(([f, o]) => window.runBench(f, o), [facts, options] as const);
      if (message !== undefined) throw new UnsupportedError('bench', message);
    } catch (error) {
      throw refused ?? error;
    }
  });
}

/** Opens the benchmark's page, with further folders beside it, and closes everything afterwards. */
export async function withPage<T>(
  flags: readonly string[],
  folders: Readonly<Record<string, string>>,
  use: (page: Page, browserVersion: string) => Promise<T>,
): Promise<T> {
  const browser = await launchChromium(flags);
  const server = await serve({ '/': fileURLToPath(new URL('../page/', import.meta.url)), ...folders });
  try {
    const page = await browser.newPage();
    page.on('console', (message) => {
      if (message.type() === 'error') console.error(`page: ${message.text()}`);
    });
    page.on('pageerror', (error) => console.error(`page: ${error.message}`));
    await page.goto(server.url);
    await page.waitForFunction(() => 'runBench' in window);
    return await use(page, browser.version());
  } finally {
    await browser.close();
    server.close();
  }
}
