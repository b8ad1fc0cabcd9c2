/** Files on disk as byte sources. Node only: nothing that a browser bundle reaches may import this module. */
import { open, stat } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { CheckpointError } from '../errors.js';
import { type ByteSource, checkRange } from './byte-source.js';

/** An open file. It holds a descriptor until `close()`, which `await using` calls by itself. */
export interface FileSource extends ByteSource, AsyncDisposable {
  /** Gives the descriptor back; later reads throw. A second call does nothing. */
  close(): Promise<void>;
}

/** One system call cannot return 2 GiB or more, and between two calls an abort is noticed. */
const MAX_BYTES_PER_CALL = 1 << 26;

/**
 * Opens a regular file for reading by ranges; the file is never read whole.
 * @param path a path, or a `file:` URL
 * @throws CheckpointError when there is no such file, when it is not a regular file, or when it cannot be opened
 */
export async function openFile(path: string | URL): Promise<FileSource> {
  const name = path instanceof URL ? fileURLToPath(path) : path;
  const refuse = (problem: string, cause?: unknown): never => {
    throw new CheckpointError('file', `${name}: ${problem}`, { cause });
  };

  // Asked before opening, because opening a named pipe would wait for its writer.
  const stats = await stat(name).catch((cause) => refuse(explain(cause), cause));
  if (!stats.isFile()) {
    refuse(`${stats.isDirectory() ? 'a directory' : 'a device or pipe'}, not a regular file`);
  }
  const handle = await open(name, 'r').catch((cause) => refuse(explain(cause), cause));
  // Asked again of the descriptor: the path may lead to another file by now.
  const byteLength = (await handle.stat()).size;
  let closed = false;

  const source: FileSource = {
    name,
    byteLength,
    async read(start, end, options) {
      options?.signal?.throwIfAborted();
      checkRange(source, start, end);
      if (closed) refuse('read after close()');
      const bytes = new Uint8Array(end - start);
      for (let filled = 0; filled < bytes.length; ) {
        const length = Math.min(bytes.length - filled, MAX_BYTES_PER_CALL);
        const { bytesRead } = await handle
          .read(bytes, filled, length, start + filled)
          .catch((cause) => refuse(explain(cause), cause));
        if (bytesRead === 0) {
          refuse(`ends at byte ${start + filled}; it had ${byteLength} bytes when it was opened`);
        }
        filled += bytesRead;
        options?.signal?.throwIfAborted();
      }
      return bytes;
    },
    async close() {
      closed = true;
      await handle.close();
    },
    [Symbol.asyncDispose]: () => source.close(),
  };
  return source;
}

function explain(error: unknown): string {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' ? 'no such file' : `cannot be read (${code ?? error})`;
}
