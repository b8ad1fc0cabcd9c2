/**
 * Speed of the CPU reference on one core. `FP4_SLOW=1` measures the required sizes; without it a loose guard. What counts is
 * the time that this process had a core, as others may have them meanwhile.
 */
import { expect, it } from 'vitest';
import type { QuantizeOptions } from '../../../src/quantize/options.js';
import { quantize } from '../../../src/quantize/quantize.js';
import { fill, gaussian } from '../../support/random-data.js';

function seconds(rows: number, options: Partial<QuantizeOptions>): number {
  const cols = 4096;
  const draw = gaussian(1);
  const row = fill(cols + 97, draw);
  // Rows that differ by where they start in one random row: as good as random here, and quick to make.
  const values = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r++) values.set(row.subarray(r % 97, (r % 97) + cols), r * cols);
  quantize(values.subarray(0, 64 * cols), { rows: 64, cols, format: 'mxfp4', ...options });
  const start = process.cpuUsage();
  quantize(values, { rows, cols, format: 'mxfp4', ...options });
  return process.cpuUsage(start).user / 1e6;
}

// Required for 4096 × 4096; the guard allows three times that, for slower machines.
const REQUIRED: [string, Partial<QuantizeOptions>, number][] = [
  ['oas', {}, 2],
  ['oas with dynamic macro blocks', { macroScale: 'dynamic' }, 25],
];

it.each(REQUIRED)('%s is not grossly slow', (_, options, required) => {
  const rows = 256;
  expect((seconds(rows, options) * 4096) / rows).toBeLessThan(3 * required);
});

it.runIf(process.env.FP4_SLOW === '1').each(REQUIRED)(
  '4096 × 4096, %s',
  { timeout: 120_000 },
  (name, options, required) => {
    const measured = seconds(4096, options);
    console.log(`4096 × 4096 ${name}: ${measured.toFixed(2)} s (required: ${required} s)`);
    expect(measured).toBeLessThan(required);
  },
);
