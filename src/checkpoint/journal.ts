/** What an interrupted job has done, kept beside its output. Node only, like `file-source.ts`. */
import { type FileHandle, open, readFile } from 'node:fs/promises';
import { CheckpointError } from '../errors.js';
import { diskError } from './disk.js';

/** Lines of JSON; one that was being written when the job was cut off does not count. */
export class Journal {
  readonly #path: string;
  readonly #handle: FileHandle;
  /** Bytes of whole lines. */
  #byteLength: number;

  private constructor(path: string, handle: FileHandle, byteLength: number) {
    this.#path = path;
    this.#handle = handle;
    this.#byteLength = byteLength;
  }

  /**
   * Opens a journal, or begins one.
   * @returns it with the entries that are there already
   * @throws CheckpointError where the file is no journal, or cannot be read or written
   */
  static async open(path: string): Promise<{ journal: Journal; entries: unknown[] }> {
    const { entries, byteLength } = await readJournal(path);
    try {
      const handle = await open(path, 'a');
      await handle.truncate(byteLength);
      return { journal: new Journal(path, handle, byteLength), entries };
    } catch (cause) {
      throw diskError(path, cause);
    }
  }

  /** Adds lines; resolves when they are on the disk. */
  async append(entries: readonly unknown[]): Promise<void> {
    const lines = Buffer.from(entries.map((entry) => `${JSON.stringify(entry)}\n`).join(''));
    try {
      await this.#handle.appendFile(lines);
      await this.#handle.datasync();
      this.#byteLength += lines.length;
    } catch (cause) {
      // No later line may stand behind half of one.
      await this.#handle.truncate(this.#byteLength).catch(() => {});
      throw diskError(this.#path, cause);
    }
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

/**
 * The whole lines of a journal and the bytes that they take; none where there is no file.
 * @throws CheckpointError
 */
export async function readJournal(path: string): Promise<{ entries: unknown[]; byteLength: number }> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return { entries: [], byteLength: 0 };
    throw diskError(path, cause, 'read');
  }
  const whole = bytes.subarray(0, bytes.lastIndexOf(0x0a) + 1);
  const lines = whole.toString('utf8').split('\n').slice(0, -1);
  const entries = lines.map((line, i) => {
    try {
      return JSON.parse(line) as unknown;
    } catch (cause) {
      throw new CheckpointError('journal', `${path}: line ${i + 1} is not JSON`, { cause });
    }
  });
  return { entries, byteLength: whole.length };
}
