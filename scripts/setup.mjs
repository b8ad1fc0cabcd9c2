/**
 * Makes this machine ready to build and test: npm packages, a browser, and two software GPUs, so that a
 * machine without a GPU runs every test. What is there already is left alone.
 *
 *   node scripts/setup.mjs [--only node_modules,swiftshader,lavapipe,browser]
 */
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { setupBrowser, setupSwiftshader } from './lib/browser.mjs';
import { setupLavapipe } from './lib/lavapipe.mjs';
import { setupNodeModules } from './lib/node-modules.mjs';
import { cacheDir } from './lib/paths.mjs';
import { describe, SetupError } from './lib/report.mjs';

/**
 * In the order in which they are made: the browser needs Playwright from node_modules, and SwiftShader
 * comes with the browser.
 * @typedef {keyof typeof makers} Part
 */
const makers = {
  node_modules: setupNodeModules,
  browser: setupBrowser,
  swiftshader: setupSwiftshader,
  lavapipe: setupLavapipe,
};

export const parts = /** @type {Part[]} */ (Object.keys(makers));

/**
 * Makes the named parts ready; one that fails does not keep the others from it.
 * @param {Part[]} [wanted]
 * @param {(line: string) => void} [log] where progress and results go
 */
export async function setup(wanted = parts, log = console.log) {
  /** @type {import('./lib/report.mjs').Outcome[]} */
  const outcomes = [];
  for (const part of parts.filter((name) => wanted.includes(name))) {
    const outcome = await make(part, log);
    log(describe(outcome));
    outcomes.push(outcome);
  }
  return outcomes;
}

/**
 * @param {Part} part
 * @param {(line: string) => void} log
 * @returns {Promise<import('./lib/report.mjs').Outcome>}
 */
async function make(part, log) {
  try {
    return await makers[part]((line) => log(`${part.padEnd(14)}${'…'.padEnd(11)}${line}`));
  } catch (error) {
    const failure = error instanceof SetupError ? error : fileSystemFailure(error);
    if (!failure) throw error;
    return { part, state: 'missing', detail: failure.message, remedy: failure.remedy };
  }
}

/**
 * A full disk or a folder that may not be written is no bug of the setup.
 * @param {unknown} error
 */
function fileSystemFailure(error) {
  if (!(error instanceof Error) || !('syscall' in error)) return null;
  return new SetupError(
    error.message,
    `free the way, or set FP4_WEBGPU_CACHE to another folder than ${cacheDir}`,
  );
}

if (process.argv[1] && resolve(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { only: { type: 'string' } } });
  const wanted = values.only?.split(',') ?? parts;
  const unknown = wanted.filter((name) => !parts.includes(/** @type {Part} */ (name)));
  if (unknown.length > 0) {
    console.error(`unknown part ${unknown.join(', ')}; the parts are ${parts.join(', ')}`);
    process.exit(2);
  }
  const outcomes = await setup(/** @type {Part[]} */ (wanted));
  if (outcomes.some(({ state }) => state === 'missing')) process.exitCode = 1;
}
