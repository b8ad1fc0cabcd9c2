/**
 * Builds what is out of date and runs the command line's `gemm` on the best adapter of this machine:
 * its GPU if it has one, else a software GPU, which is set up on the first run.
 *
 *   node scripts/start.mjs [arguments of `fp4-webgpu gemm`]
 *
 * FP4_ADAPTER=system|lavapipe|swiftshader in the environment picks the adapter.
 */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { findAdapter } from './lib/adapters.mjs';
import { foreground } from './lib/exec.mjs';
import { hostNode, inNodeModules, root } from './lib/paths.mjs';
import { setup } from './setup.mjs';

/** @typedef {import('./lib/adapters.mjs').AdapterId} AdapterId */

// Standard output is for the results alone.
const log = console.error;
const cli = join(root, 'dist/cli/main.js');
const sources = ['src', 'shaders', 'package.json', 'vite.config.ts', 'tsconfig.json', 'tsconfig.build.json'];

process.exitCode = await main();

async function main() {
  if (!(await makeReady('node_modules'))) return 1;
  const adapter = await chooseAdapter();
  if (!adapter) {
    log('No WebGPU adapter: this machine has no GPU that Dawn can use, and no software one could be set up.');
    return 1;
  }
  if (buildIsStale()) {
    log('building');
    const status = await build();
    if (status !== 0) return status;
  }
  log(`running on the adapter: ${adapter.id}`);
  return foreground(adapter.node, [cli, 'gemm', ...process.argv.slice(2)], {
    stdio: 'inherit',
    env: { ...process.env, ...adapter.env, FP4_ADAPTER: adapter.id },
  });
}

async function chooseAdapter() {
  const wanted = process.env.FP4_ADAPTER;
  const order = /** @type {AdapterId[]} */ (wanted ? [wanted] : ['system', 'lavapipe', 'swiftshader']);
  for (const id of order) {
    if (id !== 'system' && !(await makeReady(id))) continue;
    const adapter = findAdapter(id);
    if (adapter) return adapter;
  }
  return null;
}

/**
 * Sets up one part; says something only if there is something to say.
 * @param {import('./setup.mjs').Part} part
 */
async function makeReady(part) {
  /** @type {string[]} */
  const lines = [];
  const [outcome] = await setup([part], (line) => lines.push(line));
  if (outcome?.state !== 'ready') for (const line of lines) log(line);
  return outcome?.state === 'ready' || outcome?.state === 'installed';
}

function buildIsStale() {
  const built = statSync(cli, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  return sources.some((path) => newest(join(root, path)) > built);
}

/**
 * The latest time of change in a file or folder.
 * @param {string} path
 * @returns {number}
 */
function newest(path) {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (!stats) return 0;
  if (!stats.isDirectory()) return stats.mtimeMs;
  return Math.max(stats.mtimeMs, ...readdirSync(path).map((name) => newest(join(path, name))));
}

/** The JavaScript only: type declarations are not needed to run it. */
function build() {
  return foreground(hostNode, [inNodeModules('vite/bin/vite.js'), 'build', '--logLevel', 'warn'], {
    cwd: root,
    stdio: ['ignore', 2, 2],
  });
}
