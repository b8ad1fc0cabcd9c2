import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { aptInstall, architecture, distribution, hasApt } from './apt.mjs';
import { capture, foreground } from './exec.mjs';
import { hostNode, inNodeModules, root } from './paths.mjs';
import { SetupError } from './report.mjs';

/** Debian's own builds. On Ubuntu, packages of these names are stubs for a snap, which Playwright cannot drive. */
const debianBrowsers = ['/usr/bin/chromium-headless-shell', '/usr/bin/chromium'];
const debianIcd = '/usr/lib/chromium/vk_swiftshader_icd.json';

/** Where Playwright keeps the browser that it downloads itself; null when it is not there. */
function playwrightBrowser() {
  if (!existsSync(inNodeModules('playwright'))) return null;
  const script = "import { chromium } from 'playwright'; console.log(chromium.executablePath());";
  const path = capture(hostNode, ['--input-type=module', '-e', script], { cwd: root }).stdout.trim();
  return path !== '' && existsSync(path) ? path : null;
}

/**
 * The Chromium to test with: CHROMIUM_PATH where it is set, else Debian's, else Playwright's.
 * @returns {{ path: string, owner: 'user' | 'debian' | 'playwright' } | null}
 */
export function findChromium() {
  const given = process.env.CHROMIUM_PATH;
  if (given) return { path: given, owner: 'user' };
  if (distribution() !== 'ubuntu' && process.platform === 'linux') {
    const path = debianBrowsers.find((candidate) => existsSync(candidate));
    if (path) return { path, owner: 'debian' };
  }
  const path = playwrightBrowser();
  return path ? { path, owner: 'playwright' } : null;
}

/**
 * @param {(line: string) => void} log
 * @returns {Promise<import('./report.mjs').Outcome>}
 */
export async function setupBrowser(log) {
  const part = 'browser';
  const found = findChromium();
  if (found && !existsSync(found.path)) {
    throw new SetupError(`CHROMIUM_PATH names ${found.path}, which is not there`, 'correct or unset it');
  }
  if (found) return { part, state: 'ready', detail: found.path };
  if (distribution() === 'debian' && hasApt()) {
    aptInstall(['chromium-headless-shell'], log);
  } else {
    await installPlaywrightBrowser(log);
  }
  const installed = findChromium();
  if (!installed)
    throw new SetupError('Chromium is still not there', 'set CHROMIUM_PATH to a Chromium binary');
  return { part, state: 'installed', detail: installed.path };
}

/** @param {(line: string) => void} log */
async function installPlaywrightBrowser(log) {
  // On Linux the browser takes system libraries, which Playwright installs through apt or sudo.
  const args =
    process.platform === 'linux' ? ['install', '--with-deps', 'chromium'] : ['install', 'chromium'];
  log(`playwright ${args.join(' ')}`);
  const status = await foreground(hostNode, [inNodeModules('playwright/cli.js'), ...args], {
    cwd: root,
    stdio: ['ignore', 2, 2],
  });
  if (status !== 0) {
    throw new SetupError(
      'Playwright could not install its Chromium (see above)',
      `run npx playwright ${args.join(' ')}, or set CHROMIUM_PATH to a Chromium that is there`,
    );
  }
}

/** The Vulkan driver file of SwiftShader, which comes with every Linux Chromium; null when not found. */
export function swiftshaderIcd() {
  if (process.platform !== 'linux') return null;
  if (existsSync(debianIcd)) return debianIcd;
  const chromium = findChromium();
  if (!chromium) return null;
  const beside = join(dirname(chromium.path), 'vk_swiftshader_icd.json');
  return existsSync(beside) ? beside : null;
}

/** Whether the host's Node finds a Vulkan loader, without which Dawn sees no driver at all. */
function hasVulkanLoader() {
  const triplet = architecture?.triplet ?? '';
  const folders = [`/usr/lib/${triplet}`, `/lib/${triplet}`, '/usr/lib64', '/usr/lib', '/usr/local/lib'];
  return folders.some((folder) => existsSync(join(folder, 'libvulkan.so.1')));
}

/**
 * @param {(line: string) => void} log
 * @returns {import('./report.mjs').Outcome}
 */
export function setupSwiftshader(log) {
  const part = 'swiftshader';
  if (!architecture) {
    const detail = `for Linux on x64 and arm64; on ${process.platform} ${process.arch} the GPU is used`;
    return { part, state: 'skipped', detail };
  }
  const wanted = [];
  if (!hasVulkanLoader()) wanted.push('libvulkan1');
  if (!swiftshaderIcd() && distribution() === 'debian') wanted.push('chromium-common');
  if (wanted.length > 0) aptInstall(wanted, log);
  const icd = swiftshaderIcd();
  if (!icd) {
    throw new SetupError(
      'no SwiftShader driver was found',
      'install Chromium: npm run setup -- --only browser',
    );
  }
  return { part, state: wanted.length > 0 ? 'installed' : 'ready', detail: icd };
}
