/** A source in memory that keeps count of what is read from it. */
import type { ByteSource } from '../../src/checkpoint/byte-source.js';

export interface CountingSource extends ByteSource {
  readonly reads: number;
  readonly bytesRead: number;
  /** Of one read. */
  readonly largest: number;
}

export function countingSource(bytes: Uint8Array, name = 'model.gguf'): CountingSource {
  let reads = 0;
  let bytesRead = 0;
  let largest = 0;
  return {
    name,
    byteLength: bytes.length,
    get reads() {
      return reads;
    },
    get bytesRead() {
      return bytesRead;
    },
    get largest() {
      return largest;
    },
    async read(start, end) {
      reads++;
      bytesRead += end - start;
      largest = Math.max(largest, end - start);
      return bytes.slice(start, end);
    },
  };
}
