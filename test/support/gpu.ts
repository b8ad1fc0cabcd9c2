/** One GPU per test file, and what GPU tests share. */
import { afterAll, afterEach, beforeAll, beforeEach, expect } from 'vitest';
import { type Gpu, requestGpu } from '../../src/index.js';

const isNode = typeof process !== 'undefined' && Boolean(process.versions?.node);

/** True in CI, where a missing adapter is a failure and not a reason to skip. */
const required = isNode ? process.env.REQUIRE_GPU === '1' : true;

/** Which adapter this run is on: 'swiftshader', 'lavapipe' or 'system'. */
export function adapterId(): string | undefined {
  return isNode ? process.env.FP4_ADAPTER : import.meta.env.FP4_ADAPTER;
}

/** Set by `npm run test:sweep`: everything on every adapter, and samples of long sweeps in full. */
export const isSweep = isNode && process.env.FP4_SWEEP === '1';

/** Adapters that the same run of `npm test` has tests on; without the runner, only the present one. */
const adaptersOfRun = (isNode ? process.env.FP4_ADAPTERS : undefined)?.split(',') ?? [];

/**
 * Whether tests are another software adapter's, which the same run also has. A second driver proves nothing about what lies
 * above the device: commands, tuning, the benchmark, the language model, the cutting of weights. So each such test names the
 * adapter that has what it needs; it runs there and on real GPUs, and here as well where the other one is not part of the run.
 * @param what what is skipped, for the line that says so
 */
export function isLeftTo(adapter: 'swiftshader' | 'lavapipe', what: string): boolean {
  const here = adapterId();
  const left = !isSweep && here !== adapter && here !== 'system' && adaptersOfRun.includes(adapter);
  if (left) console.info(`${what}: not on ${here}, as ${adapter} runs them`);
  return left;
}

/** Requests the adapter of this environment, with everything it can do. */
export async function openGpu(): Promise<Gpu> {
  if (!isNode) return requestGpu();
  const { requestNodeGpu } = await import('../../src/node.js');
  return requestNodeGpu({ experimental: true });
}

export interface UseGpuOptions {
  /** Another adapter that these tests are left to; see {@link isLeftTo}. */
  readonly leftTo?: 'swiftshader' | 'lavapipe';
  /** What the file's tests are of. */
  readonly what?: string;
  /**
   * That no kernel on matrices takes part in them: lavapipe then makes vectors of four instead of eight, and leaves optimizing
   * out, which halves the time that it compiles, and offers no matrices. (With them the latter makes it longer.)
   */
  readonly narrow?: boolean;
}

/**
 * Opens a GPU before the file's tests and closes it after. Errors that reach the device without being caught fail the
 * test they happened in. Where there is no adapter, tests are skipped and say so, unless REQUIRE_GPU=1.
 */
export function useGpu({ leftTo, what = 'these tests', narrow = false }: UseGpuOptions = {}): {
  readonly gpu: Gpu;
} {
  // Each file has a process of its own, and Mesa reads these when the first adapter is asked for.
  if (narrow && adapterId() === 'lavapipe') {
    process.env.LP_NATIVE_VECTOR_WIDTH ??= '128';
    process.env.GALLIVM_PERF ??= 'nopt';
  }
  const isLeft = leftTo !== undefined && isLeftTo(leftTo, what);
  let gpu: Gpu | undefined;
  let reason: unknown;
  const uncaptured: string[] = [];

  beforeAll(async () => {
    if (isLeft) {
      reason = `left to ${leftTo}`;
      return;
    }
    try {
      gpu = await openGpu();
      gpu.device.addEventListener('uncapturederror', (event) => void uncaptured.push(event.error.message));
    } catch (error) {
      reason = error;
      if (required) throw error;
      console.warn(`no GPU, tests skipped: ${error}`);
    }
  });
  beforeEach((context) => {
    if (!gpu) context.skip(isLeft ? `${reason}` : `no GPU: ${reason}`);
  });
  afterEach(async () => {
    await gpu?.device.queue.onSubmittedWorkDone();
    expect(uncaptured.splice(0)).toEqual([]);
  });
  afterAll(() => gpu?.destroy());

  return {
    get gpu() {
      if (!gpu) throw new Error(`no GPU: ${reason}`);
      return gpu;
    },
  };
}
