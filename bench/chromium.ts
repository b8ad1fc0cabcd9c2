/** A headless Chromium whose pages have WebGPU. */
import { createRequire } from 'node:module';
import type { Browser } from 'playwright';
import { chromiumArgs } from '../scripts/lib/chromium-args.mjs';
import { UnsupportedError } from '../src/errors.js';

export interface ChromiumOptions {
  /** Whether pages get what stock ones do not. */
  readonly experimental?: boolean | undefined;
  /** Enables exact timestamps, and nothing else that a stock page lacks. */
  readonly developerFeatures?: boolean | undefined;
  /** SwiftShader instead of the machine's GPU. */
  readonly software?: boolean | undefined;
}

export const chromiumFlags = ({ experimental, developerFeatures, software }: ChromiumOptions): string[] => [
  ...chromiumArgs(software ? 'swiftshader' : 'system', process.platform, experimental ?? false),
  ...(developerFeatures ? ['--enable-webgpu-developer-features'] : []),
];

/**
 * CHROMIUM_PATH in the environment names the browser; without, it is Playwright's own.
 * @throws UnsupportedError where Playwright or the browser is missing, or the browser does not start
 */
export async function launchChromium(flags: readonly string[]): Promise<Browser> {
  const executablePath = process.env.CHROMIUM_PATH;
  const { chromium } = loadPlaywright();
  try {
    return await chromium.launch({
      args: [...flags],
      ...(executablePath ? { executablePath } : { channel: 'chromium' }),
    });
  } catch (cause) {
    const which = executablePath ? `CHROMIUM_PATH, ${executablePath},` : "Playwright's own Chromium";
    const [reason] = String(cause instanceof Error ? cause.message : cause).split('\n');
    throw new UnsupportedError(
      'chromium',
      `${which} does not start: ${reason}; set CHROMIUM_PATH to a Chromium that is there`,
      { cause },
    );
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
  throw new UnsupportedError(
    'chromium',
    'playwright cannot be loaded; npm ci, or set NODE_PATH to where it or playwright-core is',
  );
}
