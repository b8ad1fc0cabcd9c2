/** The benchmark in a page of headless Chromium, driven by Playwright. */
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { Page } from 'playwright';
import { chromiumArgs } from '../scripts/lib/chromium-args.mjs';
import { UnsupportedError } from '../src/errors.js';
import { isSoftware } from '../src/gpu/caps.js';
import type { HostFacts } from './page/main.js';
import { onnxruntimeWebFolder } from './peers/locate.js';
import type { Progress, RunOptions } from './run.js';
import { serve } from './static-server.js';

declare const __COMMIT__: string;

export interface ChromiumHostOptions {
  /** Whether pages get what stock ones do not. */
  readonly experimental?: boolean | undefined;
  /** Enables exact timestamps, and nothing else that a stock page lacks. */
  readonly developerFeatures?: boolean | undefined;
  /** SwiftShader instead of the machine's GPU. */
  readonly software?: boolean | undefined;
}

/**
 * Runs in a page what `run` does. CHROMIUM_PATH in the environment names the browser; without, it is Playwright's own.
 * @throws UnsupportedError where Playwright, the browser or its GPU is missing
 */
export async function runInChromium(
  host: ChromiumHostOptions,
  options: RunOptions,
  tell: (progress: Progress) => void,
): Promise<void> {
  const adapter = host.software ? 'swiftshader' : 'system';
  const experimental = host.experimental ?? false;
  const flags = [
    ...chromiumArgs(adapter, process.platform, experimental),
    ...(host.developerFeatures ? ['--enable-webgpu-developer-features'] : []),
  ];
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
      experimental,
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
  const { chromium } = loadPlaywright();
  const server = await serve({ '/': fileURLToPath(new URL('../page/', import.meta.url)), ...folders });
  const executablePath = process.env.CHROMIUM_PATH;
  const browser = await chromium.launch({
    args: [...flags],
    ...(executablePath ? { executablePath } : { channel: 'chromium' }),
  });
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

/** Found beside the project or by NODE_PATH, which imports do not follow. */
function loadPlaywright(): typeof import('playwright') {
  const require = createRequire(import.meta.url);
  for (const name of ['playwright', 'playwright-core']) {
    try {
      return require(name) as typeof import('playwright');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error;
    }
  }
  throw new UnsupportedError('bench', 'playwright cannot be loaded; npm ci, or set NODE_PATH to where it is');
}
