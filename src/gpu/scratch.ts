/**
 * Buffers that hold something only between two dispatches. As a device runs its dispatches one after another, all that
 * need as many bytes share one buffer: a model's layers take the memory of its largest, not their sum.
 */
import { createStorageBuffer } from './buffers.js';

export interface Scratch {
  readonly buffer: GPUBuffer;
  /** Destroys the buffer if no one else uses it; for the second time does nothing. */
  release(): void;
}

interface Shared {
  readonly buffer: GPUBuffer;
  users: number;
}

const pools = new WeakMap<GPUDevice, Map<string, Shared>>();

/**
 * A buffer of at least `bytes`, shared between all that ask under the same name for about as many. Names keep apart
 * what has to exist at the same time.
 * @throws UnsupportedError where the device's limits are below the size
 */
export function acquireScratch(device: GPUDevice, name: string, bytes: number): Scratch {
  let pool = pools.get(device);
  if (!pool) {
    pool = new Map();
    pools.set(device, pool);
  }
  // Steps of an eighth of a power of two: few sizes, little waste.
  const step = 2 ** Math.max(8, Math.floor(Math.log2(bytes)) - 3);
  const largest = Math.min(device.limits.maxBufferSize, device.limits.maxStorageBufferBindingSize);
  const size = Math.max(bytes, Math.min(Math.ceil(bytes / step) * step, largest - (largest % 4)));
  const key = `${name} ${size}`;
  let shared = pool.get(key);
  if (!shared) {
    shared = { buffer: createStorageBuffer(device, `fp4 scratch ${name}`, size), users: 0 };
    pool.set(key, shared);
  }
  const { buffer } = shared;
  shared.users++;
  let released = false;
  return {
    buffer,
    release: () => {
      if (released) return;
      released = true;
      if (--shared.users === 0) {
        pool.delete(key);
        buffer.destroy();
      }
    },
  };
}
