import { existsSync, readFileSync } from 'node:fs';

/**
 * @typedef {{ passed: number, failed: number, skipped: number, seconds: number, note?: string }} Counts
 * @typedef {{ title: string } & Counts} LegResult
 */

/**
 * Counts the tests of a run of vitest from its JSON report. Whatever makes vitest fail outside of a test
 * counts as one failure, so that no failure is lost in the sum.
 * @param {string} report
 * @param {number} status vitest's exit status
 * @param {boolean} needsTests whether a run without tests is a failure
 */
export function readCounts(report, status, needsTests) {
  if (!existsSync(report))
    return { passed: 0, failed: 1, skipped: 0, note: `vitest ended with status ${status}` };
  const result = JSON.parse(readFileSync(report, 'utf8'));
  const brokenFiles = result.testResults.filter(
    (/** @type {{ status: string, assertionResults: { status: string }[] }} */ file) =>
      file.status === 'failed' && !file.assertionResults.some((test) => test.status === 'failed'),
  ).length;
  const passed = result.numPassedTests;
  const skipped = result.numPendingTests + result.numTodoTests;
  let failed = result.numFailedTests + brokenFiles;
  let note = brokenFiles > 0 ? `${brokenFiles} test files could not be run` : undefined;
  if (failed === 0 && status !== 0) {
    failed = 1;
    note = `vitest ended with status ${status}`;
  } else if (failed === 0 && passed === 0 && needsTests) {
    failed = 1;
    note = 'no test was run';
  }
  return { passed, failed, skipped, ...(note ? { note } : {}) };
}

/**
 * Prints a line per leg and the sum of them all.
 * @param {LegResult[]} results
 * @returns {boolean} whether all passed
 */
export function printSummary(results) {
  const width = Math.max(...results.map(({ title }) => title.length)) + 2;
  console.log(`\n${''.padEnd(width)}  passed  failed  skipped  seconds`);
  for (const { title, passed, failed, skipped, seconds, note } of results) {
    const numbers = [pad(passed, 8), pad(failed, 8), pad(skipped, 9), pad(seconds.toFixed(1), 9)].join('');
    console.log(`${title.padEnd(width)}${numbers}${note ? `  ${note}` : ''}`);
  }
  const sum = (/** @type {'passed' | 'failed' | 'skipped'} */ key) =>
    results.reduce((total, result) => total + result[key], 0);
  const failed = sum('failed');
  console.log(`\n${sum('passed')} passed, ${failed} failed, ${sum('skipped')} skipped`);
  return failed === 0;
}

const pad = (/** @type {string | number} */ value, /** @type {number} */ width) =>
  String(value).padStart(width);
