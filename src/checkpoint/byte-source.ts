/**
 * Where checkpoint bytes come from. Every container reader (safetensors, GGUF) sees only a `ByteSource`,
 * so a file on disk, a `File` the user dropped on a page and an array in memory are all the same to it.
 */
import { CheckpointError, UnsupportedError } from '../errors.js';

export interface ReadOptions {
  /** Abandons the read: the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
}

/** Random access to a fixed run of bytes. */
export interface ByteSource {
  /** What error messages call it: a path, a file name, a URL. */
  readonly name: string;
  readonly byteLength: number;
  /**
   * Bytes `start` (inclusive) to `end` (exclusive). They may alias the source: read them, do not write them.
   * @throws CheckpointError when the range does not lie inside the source, or the bytes cannot be had
   */
  read(start: number, end: number, options?: ReadOptions): Promise<Uint8Array>;
}

/** A source over bytes in memory; `read` returns views and copies nothing. */
export function bytesSource(bytes: ArrayBuffer | Uint8Array, name = 'bytes'): ByteSource {
  // A plain Uint8Array even over a Node Buffer, whose own `slice` would surprise whoever gets the view.
  const view =
    bytes instanceof Uint8Array
      ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
      : new Uint8Array(bytes);
  const source: ByteSource = {
    name,
    byteLength: view.byteLength,
    async read(start, end, options) {
      options?.signal?.throwIfAborted();
      checkRange(source, start, end);
      return view.subarray(start, end);
    },
  };
  return source;
}

/** A source over a Blob or a File (then named after the file); `read` loads only the range. */
export function blobSource(blob: Blob, name = blob instanceof File ? blob.name : 'blob'): ByteSource {
  const source: ByteSource = {
    name,
    byteLength: blob.size,
    async read(start, end, options) {
      options?.signal?.throwIfAborted();
      checkRange(source, start, end);
      let buffer: ArrayBuffer;
      try {
        buffer = await blob.slice(start, end).arrayBuffer();
      } catch (cause) {
        // A File whose bytes on disk changed or vanished after the user picked it ends here.
        throw new CheckpointError('byte-source', `${name}: bytes ${start}..${end} cannot be read`, { cause });
      }
      options?.signal?.throwIfAborted();
      return new Uint8Array(buffer);
    },
  };
  return source;
}

/**
 * `source.read`, held to its contract. Readers call this rather than `read`, because a source may be the caller's own.
 * @throws CheckpointError when the range does not lie inside the source, or another number of bytes comes back
 * @throws UnsupportedError when so many bytes have no place in memory
 */
export async function readExactly(
  source: ByteSource,
  start: number,
  end: number,
  options?: ReadOptions,
): Promise<Uint8Array> {
  options?.signal?.throwIfAborted();
  checkRange(source, start, end);
  const bytes = await source.read(start, end, options).catch((cause: unknown) => {
    options?.signal?.throwIfAborted();
    // What an engine throws where it has no such memory; a sparse file of terabytes is easily made.
    if (!(cause instanceof RangeError)) throw cause;
    const message = `${source.name}: the ${end - start} bytes at ${start} are too many for one array here`;
    throw new UnsupportedError('byte-source', message, { cause });
  });
  options?.signal?.throwIfAborted();
  if (bytes.byteLength !== end - start) {
    throw new CheckpointError(
      'byte-source',
      `${source.name}: ${bytes.byteLength} bytes came back for ${start}..${end}, which holds ${end - start}`,
    );
  }
  return bytes;
}

/** @throws CheckpointError unless `start` and `end` are integers with 0 ≤ start ≤ end ≤ byteLength */
export function checkRange(
  source: Pick<ByteSource, 'name' | 'byteLength'>,
  start: number,
  end: number,
): void {
  const inside = start >= 0 && start <= end && end <= source.byteLength;
  if (!(Number.isInteger(start) && Number.isInteger(end) && inside)) {
    throw new CheckpointError(
      'byte-source',
      `${source.name}: range ${start}..${end} is not inside its ${source.byteLength} bytes`,
    );
  }
}
