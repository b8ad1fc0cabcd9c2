/** The benchmark in a page: `bench/chromium-host.ts` calls `runBench` and is told how it goes. */
import { Fp4Error } from '../../src/errors.js';
import { requestGpu } from '../../src/gpu/gpu.js';
import type { Onnxruntime } from '../peers/onnxruntime.js';
import { type Progress, type RunOptions, run } from '../run.js';
import type { Environment } from '../schema.js';

/** What of the environment the page does not know. */
export type HostFacts = Omit<Environment, 'adapter' | 'driver' | 'tiers'>;

declare global {
  interface Window {
    /** Provided by the host. */
    tellBench(progress: Progress): Promise<void>;
    runBench(facts: HostFacts, options: RunOptions): Promise<string | undefined>;
  }
}

/** Returns the message of an error that the library threw on purpose; others reject. */
window.runBench = async (facts, options) => {
  try {
    using gpu = await requestGpu();
    const adapter = gpu.adapterInfo;
    const { tiers } = await gpu.usableCaps();
    const told: Promise<void>[] = [];
    const tell = (progress: Progress) => void told.push(window.tellBench(progress));
    tell({ kind: 'environment', environment: { ...facts, adapter, driver: adapter.description, tiers } });
    await run(gpu, options, tell, loadPeer);
    await Promise.all(told);
    return undefined;
  } catch (error) {
    if (error instanceof Fp4Error) return error.message;
    throw error;
  }
};

/** Served by the host where it is installed. */
async function loadPeer(): Promise<Onnxruntime | undefined> {
  const base = new URL('/peers/', location.href).href;
  const found = await fetch(`${base}ort.webgpu.bundle.min.mjs`, { method: 'HEAD' });
  if (!found.ok) return undefined;
  const ort = await import(/* @vite-ignore */ `${base}ort.webgpu.bundle.min.mjs`);
  ort.env.wasm.wasmPaths = base;
  ort.env.wasm.numThreads = 1;
  ort.env.webgpu.powerPreference = 'high-performance';
  return ort as Onnxruntime;
}
