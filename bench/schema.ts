/** The results file: what a run writes, and what `--compare` reads. The same on every host. */
import { InvalidArgumentError } from '../src/errors.js';
import type { AdapterInfo } from '../src/gpu/caps.js';
import type { BenchCase } from './cases.js';
import type { Spread } from './stats.js';

export const SCHEMA = 1;

/** Where a run took place. */
export interface Environment {
  readonly host: 'node' | 'chromium';
  /** Whether what stock browsers do not offer was enabled: subgroup matrices, and f16 on NVIDIA. */
  readonly experimental: boolean;
  readonly adapter: AdapterInfo;
  /** As the adapter describes it. */
  readonly driver: string;
  /** Version of Node.js or of the browser. */
  readonly hostVersion: string;
  /** Version of the npm package `webgpu`; absent in a browser. */
  readonly dawn?: string;
  readonly platform: string;
  /** Dawn's toggles, or the browser's command line. */
  readonly flags: readonly string[];
  readonly tiers: readonly string[];
  readonly commit: string;
  readonly date: string;
}

/** What the adapter can do at most, measured in the same run; absent where it lacks the feature. */
export interface Ceilings {
  /** Bytes read and written, and bytes read, in GB/s. */
  readonly copy: number;
  readonly read: number;
  /** TFLOPS, a multiply-add counted as two. */
  readonly fma: number;
  readonly dp4a?: number;
  readonly matrixF16?: number;
  readonly matrixI8?: number;
}
export type ComputeCeiling = Exclude<keyof Ceilings, 'copy' | 'read'>;
export type BaselineName = 'copy' | 'fma';

/** A workload that never changes, timed in turn with a case: their ratio does not see the clock or the room's warmth. */
export interface Pairing {
  readonly baseline: BaselineName;
  /** µs of the baseline. */
  readonly time: Spread;
  /** Time of the case by that of the baseline, of neighbouring samples. */
  readonly ratio: Spread;
}

/** Below this part of the fastest clock seen, a measurement is taken again, and is marked where that did not help. */
export const LOW_CLOCK = 0.9;

/** Times of work that reads and writes so many bytes. */
export interface Timing {
  /** µs of all of it. */
  readonly total: Spread;
  readonly samples: number;
  /** How often a sample repeats the work. */
  readonly repetitions: number;
  readonly clock: 'timestamp' | 'wall';
  readonly pairing: Pairing;
  /** Bytes over the time, and as a part of the copy ceiling. */
  readonly gigabytesPerSecond: number;
  readonly ofCopy: number;
  /** Clock of the GPU, of cores after it or of what the baseline needs, as a part of the fastest in this run. */
  readonly gpuClock?: number;
}

/** A product with everything it needs: conversion of x, parts of k, all of it. Its bytes are those of weights, x and y. */
export interface Measurement extends Timing {
  /** µs of the kernel alone and of bringing x into its order and type, where x has to be. */
  readonly kernelOnly?: Spread;
  readonly conversion?: Spread;
  /** µs that `encode` takes on the CPU; absent for kernels that are not the library's. */
  readonly encode?: number;
  readonly teraflops: number;
  /** Which ceiling the kernel works against, and the part of it that it reaches. */
  readonly ceiling: ComputeCeiling;
  readonly ofCeiling: number;
}

/**
 * - wrong: off by more than the kernel's error bound, or other bytes than the CPU's, and not timed
 * - refused: the device or the library cannot
 * - failed: something else went wrong
 */
export type Status = 'ok' | 'wrong' | 'refused' | 'failed';

export interface Row {
  readonly case: BenchCase;
  readonly status: Status;
  readonly note?: string;
  /** Label of the plan. */
  readonly kernel?: string;
  /** Largest error against f64 in parts of its bound. */
  readonly errorOfBound?: number;
  readonly measurement?: Measurement;
}

/** Quantizing a matrix of f32 on the GPU. Its bytes are those of x, which is read, and of codes and scales. */
export interface QuantizerRow {
  /** E.g. `quantize.16384x4096.mxfp4.oas`. */
  readonly id: string;
  /** Its format, scale rule and macro factors, as `fp4-webgpu selftest --quantizers` calls them. */
  readonly rule: string;
  readonly rows: number;
  readonly cols: number;
  readonly status: Status;
  readonly note?: string;
  readonly measurement?: Timing;
}

/** How a case's planned kernel compares with every other that can compute it. */
export interface PlanRow {
  readonly case: BenchCase;
  readonly planned: string;
  readonly best: string;
  /** Time of the planned kernel by that of the best, 1 where they are the same. */
  readonly slowdown: number;
  /** µs, fastest first, those that dropped out of the race after the others; null where a kernel failed its check or did not compile. */
  readonly candidates: readonly { readonly kernel: string; readonly microseconds: number | null }[];
}

/** Someone else's product, or ours in the same chain of layers. */
export interface PeerRow {
  readonly name: string;
  readonly version: string;
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Distinct layers that follow one another. */
  readonly layers: number;
  /** µs a layer, by the clock on the wall: the CPU's share is in it. */
  readonly time?: Spread;
  /** Root mean square error against f64 by the root mean square of the result. */
  readonly error?: number;
  readonly note?: string;
}

export interface BenchFile {
  readonly schema: typeof SCHEMA;
  readonly environment: Environment;
  readonly ceilings?: Ceilings;
  /** False where a time limit or an interruption ended the run early. */
  readonly complete: boolean;
  readonly rows: readonly Row[];
  readonly quantizers?: readonly QuantizerRow[];
  readonly plans?: readonly PlanRow[];
  readonly peers?: readonly PeerRow[];
}

/** A case or a quantizer, and what was measured of it. */
export interface Measured {
  readonly id: string;
  readonly status: Status;
  readonly note?: string;
  readonly kernel?: string;
  readonly measurement?: Timing;
}

export const measuredIn = ({ rows, quantizers = [] }: BenchFile): readonly Measured[] => [
  ...rows.map((row) => ({ ...row, id: row.case.id })),
  ...quantizers,
];

/** @throws InvalidArgumentError where a text is not a results file of this schema */
export function parseBenchFile(text: string, name: string): BenchFile {
  let file: BenchFile | undefined;
  try {
    file = JSON.parse(text) as BenchFile;
  } catch (cause) {
    throw new InvalidArgumentError('bench', `${name} is not JSON`, { cause });
  }
  if (file?.schema !== SCHEMA || !Array.isArray(file.rows) || !file.environment) {
    throw new InvalidArgumentError(
      'bench',
      `${name} is not a results file of schema ${SCHEMA}; run the benchmark again`,
    );
  }
  return file;
}

/** The adapter in a few words. */
export function adapterLabel({ device, description, architecture, vendor }: AdapterInfo): string {
  // Stock pages are told the vendor and the architecture only.
  const short = [vendor, architecture].filter(Boolean).join(' ');
  return device || description || short || 'unknown adapter';
}

/** `nvidia-h200-node`, `nvidia-h200-chromium-experimental`: the stem of the file's name. */
export function fileStem({ adapter, host, experimental }: Environment): string {
  const name = adapterLabel(adapter)
    .toLowerCase()
    .replace(/\([^)]*\)/g, ' ')
    .replace(/[^a-z0-9]+/g, '-')
    .replace(/^-+|-+$/g, '');
  return `${name}-${host}${experimental ? '-experimental' : ''}`;
}
