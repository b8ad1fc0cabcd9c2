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

/** Requests the adapter of this environment, with everything it can do. */
export async function openGpu(): Promise<Gpu> {
  if (!isNode) return requestGpu();
  const { requestNodeGpu } = await import('../../src/node.js');
  return requestNodeGpu({ experimental: true });
}

/**
 * Opens a GPU before the file's tests and closes it after. Errors that reach the device without being caught fail the
 * test they happened in. Where there is no adapter, tests are skipped and say so, unless REQUIRE_GPU=1.
 */
export function useGpu(): { readonly gpu: Gpu } {
  let gpu: Gpu | undefined;
  let reason: unknown;
  const uncaptured: string[] = [];

  beforeAll(async () => {
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
    if (!gpu) context.skip(`no GPU: ${reason}`);
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
