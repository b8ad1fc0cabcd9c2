/**
 * Runs the tests: on the CPU, on every WebGPU adapter that Node can have on this machine, and in a
 * browser, the demo page too. Makes the machine ready first. Ends with `N passed, N failed, N skipped` over everything.
 *
 *   node scripts/test.mjs [cpu] [gpu] [swiftshader] [lavapipe] [system] [browser] [demo] [--sweep] [-- vitest arguments]
 *
 * With `--sweep`, tests that are left to another adapter run on each, and those that take samples take everything: hours on
 * software adapters.
 * A part that this machine cannot run is named with the reason; with REQUIRE_GPU=1 in the environment
 * it counts as a failure.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findAdapter, isExpected } from './lib/adapters.mjs';
import { findChromium } from './lib/browser.mjs';
import { foreground } from './lib/exec.mjs';
import { hostNode, inNodeModules, root } from './lib/paths.mjs';
import { printSummary, readCounts } from './lib/test-counts.mjs';
import { setup } from './setup.mjs';

/**
 * @typedef {import('./lib/adapters.mjs').AdapterId} AdapterId
 * @typedef {{ project: string, part?: import('./setup.mjs').Part, adapter?: AdapterId }} Leg
 */

/** @type {Record<string, Leg>} */
const legs = {
  cpu: { project: 'cpu' },
  swiftshader: { project: 'gpu', adapter: 'swiftshader', part: 'swiftshader' },
  lavapipe: { project: 'gpu', adapter: 'lavapipe', part: 'lavapipe' },
  system: { project: 'gpu', adapter: 'system' },
  browser: { project: 'browser', part: 'browser' },
  demo: { project: 'demo', part: 'browser' },
};
const gpuLegs = ['swiftshader', 'lavapipe', 'system'];

const { names, isSweep, vitestArgs } = parseCommandLine(process.argv.slice(2));
const gpuRequired = process.env.REQUIRE_GPU === '1';
const reports = mkdtempSync(join(tmpdir(), 'fp4-webgpu-test-'));
try {
  process.exitCode = await main();
} finally {
  rmSync(reports, { recursive: true, force: true });
}

async function main() {
  const parts = names.flatMap((name) => legs[name].part ?? []);
  const outcomes = await setup(['node_modules', ...parts]);
  /** @type {import('./lib/test-counts.mjs').LegResult[]} */
  const results = [];
  if (outcomes[0].state === 'missing') {
    const note = 'without node_modules nothing can be run';
    return printSummary([{ title: 'setup', passed: 0, failed: 1, skipped: 0, seconds: 0, note }]) ? 0 : 1;
  }
  for (const name of names) {
    const leg = legs[name];
    const title = leg.adapter ? `gpu: ${name}` : name;
    const outcome = outcomes.find(({ part }) => part === leg.part);
    if (outcome?.state === 'missing') results.push(notRun(title, true, outcome.detail));
    else if (outcome?.state === 'skipped') results.push(notRun(title, false, outcome.detail));
    else results.push(await runLeg(name, leg, title));
  }
  return printSummary(results) ? 0 : 1;
}

/**
 * @param {string} name
 * @param {Leg} leg
 * @param {string} title
 */
async function runLeg(name, leg, title) {
  const start = performance.now();
  /** @type {Record<string, string>} */
  const env = { REQUIRE_GPU: '1', ...(isSweep && { FP4_SWEEP: '1' }) };
  let node = hostNode;
  if (leg.adapter) {
    const adapter = findAdapter(leg.adapter);
    if (!adapter) return notRun(title, isExpected(leg.adapter), whyNoAdapter(leg.adapter));
    node = adapter.node;
    Object.assign(env, adapter.env, { FP4_ADAPTER: adapter.id, FP4_ADAPTERS: adaptersOfRun().join() });
  }
  if (leg.part === 'browser') {
    const chromium = findChromium();
    if (!chromium) return notRun(title, true, 'no Chromium found');
    // Playwright finds its own browser, and starts it in the mode that fits.
    if (chromium.owner !== 'playwright') env.CHROMIUM_PATH = chromium.path;
  }
  console.log(`\n=== ${title} ===`);
  const report = join(reports, `${name}.json`);
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  // Arguments may choose tests that one of the projects does not have.
  const filter = vitestArgs.length > 0 ? ['--passWithNoTests', ...vitestArgs] : [];
  const status = await foreground(
    node,
    [inNodeModules('vitest/vitest.mjs'), 'run', '--project', leg.project, ...reporters, ...filter],
    { cwd: root, env: { ...process.env, ...env } },
  );
  const counts = readCounts(report, status, filter.length === 0);
  return { title, ...counts, seconds: (performance.now() - start) / 1000 };
}

/** The adapters that this run has tests on, so that what one of them proves need not be run on another. */
function adaptersOfRun() {
  return names.flatMap((name) => legs[name].adapter ?? []).filter((id) => id === 'system' || findAdapter(id));
}

/**
 * @param {string} title
 * @param {boolean} expected whether this kind of machine should have it
 * @param {string} reason
 */
function notRun(title, expected, reason) {
  const failed = expected && gpuRequired;
  console.log(`\n=== ${title}: not run: ${reason} ===`);
  return {
    title,
    passed: 0,
    failed: failed ? 1 : 0,
    skipped: 0,
    seconds: 0,
    note: `not run: ${reason.split('\n')[0]}`,
  };
}

/** @param {AdapterId} id */
function whyNoAdapter(id) {
  return id === 'system' ? 'Dawn finds no GPU on this machine' : `${id} is not set up; run npm run setup`;
}

/** @param {string[]} args */
function parseCommandLine(args) {
  const separator = args.indexOf('--');
  const own = separator < 0 ? args : args.slice(0, separator);
  const chosen = own.filter((name) => name !== '--sweep');
  const expanded = new Set(chosen.flatMap((name) => (name === 'gpu' ? gpuLegs : [name])));
  const unknown = [...expanded].filter((name) => !(name in legs));
  if (unknown.length > 0) {
    console.error(
      `unknown part ${unknown.join(', ')}; choose from ${['gpu', ...Object.keys(legs)].join(', ')}`,
    );
    process.exit(2);
  }
  return {
    isSweep: own.includes('--sweep'),
    names: Object.keys(legs).filter((name) => expanded.size === 0 || expanded.has(name)),
    vitestArgs: separator < 0 ? [] : args.slice(separator + 1),
  };
}
