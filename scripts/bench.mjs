/**
 * Bundles the benchmark if it is out of date and runs it on the best adapter of this machine, or in a page of headless
 * Chromium. bench/README.md tells what it does with its arguments.
 *
 *   node scripts/bench.mjs [arguments of the benchmark]
 *
 * FP4_ADAPTER=system|lavapipe|swiftshader in the environment picks the adapter in Node.
 */
import { join } from 'node:path';
import { findChromium } from './lib/browser.mjs';
import { foreground } from './lib/exec.mjs';
import { chooseAdapter, isStale, makeReady, viteBuild } from './lib/launch.mjs';
import { hostNode, root } from './lib/paths.mjs';

const args = process.argv.slice(2);
const bundle = 'dist-bench/node/bench.mjs';
const sources = ['src', 'shaders', 'bench', 'scripts/lib', 'test/support', 'package.json'];

process.exitCode = await main();

async function main() {
  if (!(await makeReady('node_modules'))) return 1;
  if (isStale(bundle, sources)) {
    for (const mode of ['page', 'node']) {
      const status = await viteBuild(['-c', 'bench/vite.config.ts', '--mode', mode]);
      if (status !== 0) return status;
    }
  }
  // Nothing is measured then, and no adapter is needed.
  const reads = args.some((arg) => /^(--input(=.*)?|--help|-h)$/.test(arg));
  const inChromium = args.some(
    (arg, i) => arg === '--host=chromium' || (arg === 'chromium' && args[i - 1] === '--host'),
  );
  if (reads) return run(hostNode, {});
  if (inChromium) return (await makeReady('browser')) ? run(hostNode, chromiumEnv()) : 1;
  const adapter = await chooseAdapter();
  if (!adapter) {
    console.error(
      'No WebGPU adapter: this machine has no GPU that Dawn can use, and no software one could be set up.',
    );
    return 1;
  }
  return run(adapter.node, { ...adapter.env, FP4_ADAPTER: adapter.id });
}

/** @returns {Record<string, string>} */
function chromiumEnv() {
  const chromium = findChromium();
  // Playwright finds its own browser.
  return chromium && chromium.owner !== 'playwright' ? { CHROMIUM_PATH: chromium.path } : {};
}

/**
 * @param {string} node
 * @param {Record<string, string>} env
 */
function run(node, env) {
  return foreground(node, [join(root, bundle), ...args], {
    stdio: 'inherit',
    cwd: root,
    env: { ...process.env, ...env },
  });
}
