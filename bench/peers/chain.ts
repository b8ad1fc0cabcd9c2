/** Chains of layers, each the next one's input, run by whoever: what peers and the library are compared on. */
import { Random } from '../../src/random.js';
import type { PeerRow } from '../schema.js';
import { spread } from '../stats.js';

/** Sizes of the layers of a chain: squares follow one another, others take turns with their transpose. */
export function chainLayers({ n, k }: { n: number; k: number }, count: number): { n: number; k: number }[] {
  const even = n === k ? count : count - (count % 2);
  return Array.from({ length: Math.max(even, n === k ? 1 : 2) }, (_, i) =>
    i % 2 ? { n: k, k: n } : { n, k },
  );
}

/** Layers that go past the cache and stay below what one model file may hold. */
export function layerCount({ n, k }: { n: number; k: number }, software: boolean): number {
  if (software) return 2;
  return Math.max(4, Math.min(17, Math.floor(1.2e9 / (n * k * 0.625))));
}

/** A chain that is compiled and has its x on the GPU. */
export interface Chain {
  /** Begins one pass through all layers; the GPU may still be at work when it resolves. */
  run(): Promise<void>;
  /** Resolves when the GPU has done all that was begun. */
  finish(): Promise<void>;
}

export interface ChainTiming {
  readonly samples: number;
  /** Each sample repeats the chain until it lasts this long. */
  readonly sampleSeconds: number;
  readonly warmUpSeconds: number;
}

export const GPU_TIMING: ChainTiming = { samples: 9, sampleSeconds: 0.08, warmUpSeconds: 0.7 };
export const SOFTWARE_TIMING: ChainTiming = { samples: 2, sampleSeconds: 0, warmUpSeconds: 0 };

/** After so many ms without work a GPU may have lowered its clock. */
const IDLE = 200;
let busyUntil = Number.NEGATIVE_INFINITY;

/** µs a layer by the clock on the wall, the GPU having been kept busy before: for less long where it just was. */
export async function timeChain(
  chain: Chain,
  layers: number,
  t: ChainTiming,
): Promise<NonNullable<PeerRow['time']>> {
  const sample = async (runs: number) => {
    await chain.finish();
    const start = performance.now();
    for (let i = 0; i < runs; i++) await chain.run();
    await chain.finish();
    return (performance.now() - start) / 1000;
  };
  let runs = 1;
  const idle = performance.now() - busyUntil > IDLE;
  const warmUpSeconds = idle ? t.warmUpSeconds : t.warmUpSeconds / 4;
  for (const start = performance.now(); ; ) {
    const elapsed = await sample(runs);
    const warm = performance.now() - start >= warmUpSeconds * 1000;
    if (warm && elapsed >= t.sampleSeconds / 2) {
      runs = Math.max(1, Math.ceil((runs * t.sampleSeconds) / elapsed));
      break;
    }
    if (elapsed < t.sampleSeconds) runs *= 2;
  }
  const times: number[] = [];
  for (let i = 0; i < t.samples; i++) times.push(((await sample(runs)) / runs / layers) * 1e6);
  busyUntil = performance.now();
  return spread(times);
}

/** f32[m, k] of standard normal values, the same for everyone; rows repeat after the 64th. */
export function chainInput(m: number, k: number): Float32Array {
  const distinct = new Random(7).normals(Math.min(m, 64) * k);
  const x = new Float32Array(m * k);
  for (let at = 0; at < x.length; at += distinct.length) {
    x.set(distinct.subarray(0, Math.min(distinct.length, x.length - at)), at);
  }
  return x;
}

/**
 * A row through a chain of matrices in f64.
 * @param decode f32[n, k] of a layer
 */
export function chainReference(
  x: Float32Array,
  layers: readonly { readonly n: number; readonly k: number }[],
  decode: (layer: number) => Float32Array,
): Float64Array {
  let row = Float64Array.from(x);
  layers.forEach(({ n, k }, i) => {
    const w = decode(i);
    const next = new Float64Array(n);
    for (let col = 0; col < n; col++) {
      // Four sums, each of which waits for itself alone.
      let [a, b, c, d] = [0, 0, 0, 0];
      let j = 0;
      for (let at = col * k; j + 3 < k; j += 4, at += 4) {
        a += row[j]! * w[at]!;
        b += row[j + 1]! * w[at + 1]!;
        c += row[j + 2]! * w[at + 2]!;
        d += row[j + 3]! * w[at + 3]!;
      }
      for (; j < k; j++) a += row[j]! * w[col * k + j]!;
      next[col] = a + b + c + d;
    }
    row = next;
  });
  return row;
}

/** The end of a chain of messages, which is what happened. */
export function firstLine(error: unknown): string {
  const [line] = String(error instanceof Error ? error.message : error).split('\n');
  return line!.split('Status Message: ').at(-1)!.slice(0, 120);
}

/** Root mean square of a difference by that of what should have come out. */
export function relativeError(got: ArrayLike<number>, wanted: Float64Array): number {
  let noise = 0;
  let signal = 0;
  wanted.forEach((value, i) => {
    noise += (got[i]! - value) ** 2;
    signal += value ** 2;
  });
  return Math.sqrt(noise / signal);
}
