/** Made-up results files. */
import { selectCases } from '../../../bench/cases.js';
import type { BenchFile, Measurement, Row, Timing } from '../../../bench/schema.js';
import type { Spread } from '../../../bench/stats.js';

/** A median and the 20th and 80th percentiles around it, by a part of it. */
export const around = (median: number, part = 0.01): Spread => ({
  median,
  p20: median * (1 - part),
  p80: median * (1 + part),
});

export const CASES = selectCases({
  shapes: ['4096x4096'],
  m: [1, 16, 128],
  formats: ['mxfp4', 'nvfp4'],
  activations: ['float'],
  types: ['f32'],
});

/** @param ratio to the baseline, which took 100 µs */
export function timing(ratio: Spread): Timing {
  return {
    total: { median: 100 * ratio.median, p20: 100 * ratio.p20, p80: 100 * ratio.p80 },
    samples: 15,
    repetitions: 100,
    clock: 'timestamp',
    pairing: { baseline: 'copy', time: around(100), ratio },
    gigabytesPerSecond: 1000,
    ofCopy: 0.25,
  };
}

/** @param ratio to the baseline, as {@link timing} */
export const measurement = (ratio: Spread, more: Partial<Measurement> = {}): Measurement => ({
  ...timing(ratio),
  teraflops: 2,
  ceiling: 'fma',
  ofCeiling: 0.05,
  ...more,
});

export function row(index: number, ratio: Spread, more: Partial<Row> = {}): Row {
  return {
    case: CASES[index]!,
    status: 'ok',
    kernel: 'gemv.mxfp4.f32.8x32',
    errorOfBound: 0.01,
    measurement: measurement(ratio),
    ...more,
  };
}

export function benchFile(rows: readonly Row[], more: Partial<BenchFile> = {}): BenchFile {
  return {
    schema: 1,
    environment: {
      host: 'node',
      experimental: false,
      adapter: {
        vendor: 'acme',
        architecture: 'roadrunner',
        device: 'ACME Anvil 9000',
        description: 'ACME driver 1.0',
        isFallbackAdapter: false,
        subgroupMatrixConfigs: [],
      },
      driver: 'ACME driver 1.0',
      hostVersion: 'v20.19.0',
      dawn: '0.6.2',
      platform: 'linux x64',
      flags: [],
      tiers: ['base'],
      commit: '0123456789ab',
      date: '2026-01-01T00:00:00.000Z',
    },
    ceilings: { copy: 4000, read: 4200, fma: 40 },
    complete: true,
    rows,
    ...more,
  };
}
