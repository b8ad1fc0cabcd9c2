/** The built demo page in headless Chromium. */
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright';
import { afterAll, afterEach, beforeAll, expect, inject } from 'vitest';
import { type StaticServer, serve } from '../../bench/static-server.js';
import { chromiumArgs } from '../../scripts/lib/chromium-args.mjs';

export interface OpenOptions extends BrowserContextOptions {
  /** Settings as the address has them, without the #. */
  readonly hash?: string;
  /** Runs in the page before its own scripts. */
  readonly before?: () => void;
}

export interface Demo {
  /** The folder that the page was built into. */
  readonly folder: string;
  /** A fresh page; what it throws, and what it asks of other hosts, fails the test. */
  open(options?: OpenOptions): Promise<Page>;
}

/** Serves the page, which is built once for all files, for the tests of one. */
export function useDemo(): Demo {
  const folder = inject('demoFolder');
  const pages: Page[] = [];
  const mistakes: string[] = [];
  let server: StaticServer;
  let browser: Browser;

  beforeAll(async () => {
    server = await serve({ '/': folder });
    const executablePath = process.env.CHROMIUM_PATH;
    const system = process.env.FP4_BROWSER_ADAPTER === 'system' || process.platform !== 'linux';
    browser = await chromium.launch({
      args: chromiumArgs(system ? 'system' : 'swiftshader'),
      ...(executablePath ? { executablePath } : { channel: 'chromium' }),
    });
  });

  afterEach(async () => {
    await Promise.all(pages.splice(0).map((page) => page.context().close()));
    expect(mistakes.splice(0)).toEqual([]);
  });

  afterAll(async () => {
    await browser?.close();
    server?.close();
  });

  return {
    folder,
    async open({ hash = '', before, ...options } = {}) {
      const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
      const page = await context.newPage();
      pages.push(page);
      // Others may have the cores.
      page.setDefaultTimeout(60_000);
      page.on('pageerror', (error) => void mistakes.push(error.message));
      page.on('request', (request) => {
        if (!/^(blob|data):/.test(request.url()) && !request.url().startsWith(server.url))
          mistakes.push(`asked for ${request.url()}`);
      });
      if (before) await page.addInitScript(before);
      await page.goto(server.url + (hash && `#${hash}`));
      return page;
    },
  };
}
