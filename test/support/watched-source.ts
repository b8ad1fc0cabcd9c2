import type { ByteSource } from '../../src/checkpoint/byte-source.js';

/** A source that remembers what was read of it, and where a test says so refuses to be read. */
export interface WatchedSource extends ByteSource {
  readonly reads: [start: number, end: number][];
  /** Bytes read so far. */
  readonly total: number;
  /** Bytes of the largest read. */
  readonly largest: number;
}

export function watchedSource(bytes: Uint8Array, name = 'model.safetensors'): WatchedSource {
  const reads: [number, number][] = [];
  return {
    name,
    byteLength: bytes.length,
    reads,
    get total() {
      return reads.reduce((sum, [start, end]) => sum + end - start, 0);
    },
    get largest() {
      return reads.reduce((largest, [start, end]) => Math.max(largest, end - start), 0);
    },
    async read(start, end, options) {
      options?.signal?.throwIfAborted();
      if (!(start >= 0 && start <= end && end <= bytes.length)) throw new Error(`read ${start}..${end}`);
      reads.push([start, end]);
      return bytes.slice(start, end);
    },
  };
}
