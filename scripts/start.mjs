/**
 * Builds what is out of date and runs the command line's `gemm` on the best adapter of this machine:
 * its GPU if it has one, else a software GPU, which is set up on the first run.
 *
 *   node scripts/start.mjs [arguments of `fp4-webgpu gemm`]
 *
 * FP4_ADAPTER=system|lavapipe|swiftshader in the environment picks the adapter.
 */
import { join } from 'node:path';
import { foreground } from './lib/exec.mjs';
import { chooseAdapter, isStale, makeReady, viteBuild } from './lib/launch.mjs';
import { root } from './lib/paths.mjs';

// Standard output is for the results alone.
const log = console.error;
const cli = 'dist/cli/main.js';
const sources = [
  'src',
  'shaders',
  'demo/lm',
  'package.json',
  'vite.config.ts',
  'tsconfig.json',
  'tsconfig.build.json',
];

process.exitCode = await main();

async function main() {
  if (!(await makeReady('node_modules'))) return 1;
  const adapter = await chooseAdapter();
  if (!adapter) {
    log('No WebGPU adapter: this machine has no GPU that Dawn can use, and no software one could be set up.');
    return 1;
  }
  if (isStale(cli, sources)) {
    log('building');
    // The JavaScript only: type declarations are not needed to run it.
    const status = await viteBuild();
    if (status !== 0) return status;
  }
  log(`running on the adapter: ${adapter.id}`);
  return foreground(adapter.node, [join(root, cli), 'gemm', ...process.argv.slice(2)], {
    stdio: 'inherit',
    env: { ...process.env, ...adapter.env, FP4_ADAPTER: adapter.id },
  });
}
