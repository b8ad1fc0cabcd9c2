/** What commands that build and run something on this machine's best adapter share. */
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setup } from '../setup.mjs';
import { findAdapter } from './adapters.mjs';
import { foreground } from './exec.mjs';
import { hostNode, inNodeModules, root } from './paths.mjs';

/** @typedef {import('./adapters.mjs').AdapterId} AdapterId */

/**
 * Sets up one part; says something only if there is something to say, and not on standard output.
 * @param {import('../setup.mjs').Part} part
 */
export async function makeReady(part) {
  /** @type {string[]} */
  const lines = [];
  const [outcome] = await setup([part], (line) => lines.push(line));
  if (outcome?.state !== 'ready') for (const line of lines) console.error(line);
  return outcome?.state === 'ready' || outcome?.state === 'installed';
}

/** The machine's GPU if it has one, else a software adapter, which is set up; what FP4_ADAPTER names where it is set. */
export async function chooseAdapter() {
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
 * Whether any of the sources changed after a file was built.
 * @param {string} built
 * @param {string[]} sources files and folders
 */
export function isStale(built, sources) {
  const time = statSync(join(root, built), { throwIfNoEntry: false })?.mtimeMs ?? 0;
  return sources.some((path) => newest(join(root, path)) > time);
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
  const names = readdirSync(path).filter((name) => name !== 'node_modules' && name !== 'results');
  return Math.max(stats.mtimeMs, ...names.map((name) => newest(join(path, name))));
}

/**
 * Runs Vite's build; what it says goes to standard error.
 * @param {string[]} args
 */
export function viteBuild(args = []) {
  return foreground(hostNode, [inNodeModules('vite/bin/vite.js'), 'build', '--logLevel', 'warn', ...args], {
    cwd: root,
    stdio: ['ignore', 2, 2],
  });
}
