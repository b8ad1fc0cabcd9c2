/** What every checkpoint container offers, safetensors (one file or shards) and GGUF (one file or splits) alike. */
import type { ReadOptions } from './byte-source.js';

/** In a checkpoint. The largest that is known has half as many; each takes memory, a kilobyte or so, once it is read. */
export const MAX_TENSORS = 1 << 20;

/** A tensor as it is stored. */
export interface StoredTensor {
  readonly name: string;
  /** As the container calls it: a safetensors dtype (`F8_E4M3`), or a GGUF type (`MXFP4`). */
  readonly dtype: string;
  /** Slowest dimension first, whatever the container's own order; counts elements. */
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** Name of the file it is in. */
  readonly file: string;
}

/** A container whose headers have been read and checked: what they say of tensors is true of the files. */
export interface Container {
  readonly kind: 'safetensors' | 'gguf';
  /** What error messages call it. */
  readonly name: string;
  /** Of all files, by name. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** Text of the headers: safetensors `__metadata__`, or GGUF's values as text. */
  readonly metadata: ReadonlyMap<string, string>;
  /**
   * Bytes `start` to `end` of a tensor, all of them by default. They may alias the source: read them, do not write them.
   * @throws CheckpointError when the range does not lie inside the tensor, or the bytes cannot be had
   */
  read(tensor: StoredTensor, options?: ReadOptions & { start?: number; end?: number }): Promise<Uint8Array>;
  /**
   * GGUF: a value of the metadata as it stands in the file, its u32 type first, for `layoutGguf`. Absent elsewhere.
   * @throws InvalidArgumentError when there is no value of that key
   */
  storedValue?(key: string, options?: ReadOptions): Promise<Uint8Array>;
}
