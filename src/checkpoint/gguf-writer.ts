/**
 * A GGUF file written to disk as its tensors come, in any order and in parts, under a temporary name until all of it is
 * there. Node only.
 */
import { type FileHandle, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { InvalidArgumentError } from '../errors.js';
import { checkPart, checkWritten, diskError, writeAt } from './disk.js';
import { quote } from './strict-json.js';
import { type GgufLayout, type GgufMetadata, type GgufTensorHeader, layoutGguf } from './write-gguf.js';

export interface GgufWriterOptions {
  /** All tensors, in the order of the file. */
  readonly tensors: readonly GgufTensorHeader[];
  readonly metadata?: GgufMetadata | undefined;
  /** Replaces a file of that name, once the new one is complete. */
  readonly overwrite?: boolean | undefined;
}

/** @see createGgufWriter */
export class GgufWriter implements AsyncDisposable {
  readonly path: string;
  readonly #partial: string;
  readonly #handle: FileHandle;
  readonly #layout: GgufLayout;
  readonly #written = new Map<string, number>();
  #closed = false;

  /** @internal Use {@link createGgufWriter}. */
  constructor(path: string, partial: string, handle: FileHandle, layout: GgufLayout) {
    this.path = path;
    this.#partial = partial;
    this.#handle = handle;
    this.#layout = layout;
  }

  /**
   * Writes bytes of a tensor from byte `offset` of it on. Parts may come in any order, each once.
   * @throws InvalidArgumentError for a name that is none of the tensors, and bytes past its end
   * @throws CheckpointError where the disk does not take them
   */
  async write(tensor: string, bytes: Uint8Array, offset = 0): Promise<void> {
    const place = this.#layout.ranges.get(tensor) ?? fail(`${quote(tensor)} is none of the tensors`);
    checkPart(tensor, place, bytes, offset, fail);
    try {
      await writeAt(this.#handle, bytes, place.start + offset);
    } catch (cause) {
      throw diskError(this.#partial, cause);
    }
    this.#written.set(tensor, (this.#written.get(tensor) ?? 0) + bytes.length);
  }

  /** Gives the file its name. @throws InvalidArgumentError while bytes are missing */
  async complete(): Promise<void> {
    for (const [name, place] of this.#layout.ranges) {
      checkWritten(name, place, this.#written.get(name) ?? 0, fail);
    }
    try {
      await this.#handle.sync();
      await this.#handle.close();
      this.#closed = true;
      await rename(this.#partial, this.path);
    } catch (cause) {
      throw diskError(this.path, cause);
    }
  }

  /** Removes what is there, unless it is complete. A second call does nothing. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#handle.close();
    await rm(this.#partial, { force: true });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Begins a file; its folder is made where there is none.
 * @throws InvalidArgumentError for tensors or metadata that no file can have, and a path where there is something
 * already (unless `overwrite`); nothing is written then
 * @throws CheckpointError where the disk does not take it
 */
export async function createGgufWriter(path: string, options: GgufWriterOptions): Promise<GgufWriter> {
  const layout = layoutGguf(options.tensors, options.metadata);
  const there = await stat(path).catch(() => undefined);
  if (there && !(options.overwrite && there.isFile())) {
    fail(
      there.isFile()
        ? `${path} is there already; name another, or overwrite it`
        : `${path} is no file; name one`,
    );
  }
  const partial = `${path}.fp4-partial`;
  try {
    await mkdir(dirname(path), { recursive: true });
    const handle = await open(partial, 'w');
    // What no tensor covers is padding: zeros, as a file has them where nothing was written.
    await handle.truncate(layout.byteLength);
    await handle.write(layout.header, 0, layout.header.length, 0);
    return new GgufWriter(path, partial, handle, layout);
  } catch (cause) {
    throw diskError(partial, cause);
  }
}

function fail(message: string): never {
  throw new InvalidArgumentError('gguf-writer', message);
}
