import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { foreground } from './exec.mjs';
import { hostNode, inNodeModules, root } from './paths.mjs';
import { SetupError } from './report.mjs';

/**
 * Why the installed packages are not the locked ones, or null when they are. npm's own record of what
 * it installed is compared by content: file times say nothing after a checkout.
 */
export function staleReason() {
  const recordPath = inNodeModules('.package-lock.json');
  if (!existsSync(recordPath)) return 'node_modules is missing';
  const locked = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const installed = JSON.parse(readFileSync(recordPath, 'utf8')).packages;
  for (const [path, wanted] of Object.entries(locked)) {
    if (path === '') continue;
    const found = installed[path];
    // Optional packages are those of other platforms; npm leaves them out.
    if (!found && (wanted.optional || wanted.devOptional || wanted.peer)) continue;
    if (found?.version !== wanted.version || found?.integrity !== wanted.integrity) {
      return `${path} is not the locked version`;
    }
    if (!existsSync(join(root, path))) return `${path} is missing`;
  }
  return null;
}

/**
 * @param {(line: string) => void} log
 * @returns {Promise<import('./report.mjs').Outcome>}
 */
export async function setupNodeModules(log) {
  const part = 'node_modules';
  const reason = staleReason();
  if (reason === null) return { part, state: 'ready', detail: 'as locked' };
  log(`${reason}; running npm ci`);
  const args = ['ci', '--include=dev', '--no-audit', '--no-fund'];
  // All to standard error: a caller may have results of its own to print.
  /** @type {import('node:child_process').SpawnOptions} */
  const options = { cwd: root, stdio: ['ignore', 2, 2] };
  const npmScript = process.env.npm_execpath;
  const status = npmScript?.endsWith('npm-cli.js')
    ? await foreground(hostNode, [npmScript, ...args], options)
    : await foreground('npm', args, { ...options, shell: process.platform === 'win32' });
  if (status !== 0) {
    throw new SetupError('npm ci failed (see above)', 'check the network and npm registry, then run npm ci');
  }
  return { part, state: 'installed', detail: 'npm ci' };
}
