/**
 * A model written to disk as its tensors come: safetensors files of bounded size and their index. Where each byte goes is
 * known before the first one is there, so tensors are written in any order and in parts, and nothing is held in memory.
 *
 * Until all of it is there, the files have temporary names, and a journal lists the tensors that are on the disk:
 * whoever opens the folder finds either no model or a whole one, and an interrupted run goes on after what it finished.
 * Node only.
 */
import { createHash } from 'node:crypto';
import { constants, createReadStream } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rename, rm, stat, statfs, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { CheckpointError, InvalidArgumentError } from '../errors.js';
import { checkPart, checkWritten, diskError, type TensorPlace, writeAt } from './disk.js';
import { Journal, readJournal } from './journal.js';
import { MAX_SHARDS } from './shards.js';
import { quote } from './strict-json.js';
import {
  layoutSafetensors,
  type SafetensorsLayout,
  type SafetensorsMetadata,
  type TensorHeader,
} from './write-safetensors.js';

export interface ModelWriterOptions {
  /** All tensors of the model, in the order in which they fill the files. */
  readonly tensors: readonly TensorHeader[];
  /** `__metadata__` of each file. */
  readonly metadata?: SafetensorsMetadata | undefined;
  /** Most bytes of tensors in a file, unless one tensor alone has more; 5 GB by default, as Hugging Face has it. */
  readonly maxShardBytes?: number | undefined;
  /**
   * What the tensors' values depend on, by name: the options, the source. A run that was interrupted is gone on with
   * only where all of it is the same.
   */
  readonly identity?: Readonly<Record<string, string>> | undefined;
  /** Writes into a folder with other files; those that make up a model are removed once the new one is complete. */
  readonly overwrite?: boolean | undefined;
}

/** A file beside the tensors: bytes, or the path of a file to copy. */
export interface ModelFile {
  readonly name: string;
  readonly from: Uint8Array | string;
}

const JOURNAL = 'fp4-webgpu.journal';
const INDEX = 'model.safetensors.index.json';
const PARTIAL = '.fp4-partial';
/** What another model in the folder consists of. */
const MODEL_FILE = /^model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?$/;
const DEFAULT_SHARD_BYTES = 5e9;
/** Finished tensors are made sure to be on the disk in batches: what a crash of the machine costs at most. */
const FLUSH_BYTES = 2 ** 28;
const FLUSH_MILLISECONDS = 2000;

interface Shard {
  readonly name: string;
  readonly layout: SafetensorsLayout;
  /** Tensors that the journal does not list yet. */
  unfinished: number;
  handle: Promise<FileHandle> | undefined;
  /** Under its final name already, by a run that was cut off at its very end. */
  renamed: boolean;
}

interface Place extends TensorPlace {
  readonly shard: Shard;
  /** Bytes written so far. */
  written: number;
}

interface Finished {
  readonly tensors: readonly string[];
  readonly note: unknown;
}

/** @see createModelWriter */
export class ModelWriter implements AsyncDisposable {
  readonly directory: string;
  /** Whether an interrupted run is gone on with. */
  readonly resumed: boolean;
  readonly #journal: Journal;
  readonly #shards: readonly Shard[];
  readonly #places: ReadonlyMap<string, Place>;
  readonly #finished: Map<string, unknown>;
  readonly #removeOthers: boolean;
  #pending: Finished[] = [];
  #pendingBytes = 0;
  #lastFlush = performance.now();
  #flushing: Promise<void> = Promise.resolve();
  #closed = false;

  /** @internal Use {@link createModelWriter}. */
  constructor(
    directory: string,
    journal: Journal,
    shards: readonly Shard[],
    finished: Map<string, unknown>,
    run: { resumed: boolean; removeOthers: boolean },
  ) {
    this.directory = directory;
    this.#journal = journal;
    this.#shards = shards;
    this.#places = placesOf(shards);
    this.#finished = finished;
    this.resumed = run.resumed;
    this.#removeOthers = run.removeOthers;
  }

  /** The tensors that are done, each with the note that was given with it. */
  get finished(): ReadonlyMap<string, unknown> {
    return this.#finished;
  }

  /** Names of the files that the model will have, the index left out. */
  get files(): string[] {
    return this.#shards.map(({ name }) => name);
  }

  /** Of all tensors. */
  get byteLength(): number {
    return this.#shards.reduce((sum, { layout }) => sum + layout.byteLength - layout.header.length, 0);
  }

  /**
   * Writes bytes of a tensor from byte `offset` of it on. Parts may come in any order, each once.
   * @throws InvalidArgumentError for a name that is none of the tensors, one that is finished, or bytes past its end
   * @throws CheckpointError where the disk does not take them
   */
  async write(tensor: string, bytes: Uint8Array, offset = 0): Promise<void> {
    const place = this.#unfinished(tensor);
    const { shard, start } = place;
    checkPart(tensor, place, bytes, offset, fail);
    const path = this.#partial(shard);
    try {
      shard.handle ??= this.#openShard(shard);
      await writeAt(await shard.handle, bytes, start + offset);
    } catch (cause) {
      throw diskError(path, cause);
    }
    place.written += bytes.length;
  }

  /**
   * Says that tensors are written: a later run does not write them again.
   * @param note JSON that a later run finds in `finished`
   * @throws InvalidArgumentError unless as many bytes were written as each has
   */
  async finish(tensors: readonly string[], note: unknown = null): Promise<void> {
    for (const tensor of tensors) {
      const place = this.#unfinished(tensor);
      checkWritten(tensor, place, place.written, fail);
      this.#pendingBytes += place.written;
    }
    for (const tensor of tensors) this.#finished.set(tensor, note);
    this.#pending.push({ tensors, note });
    const due = performance.now() - this.#lastFlush > FLUSH_MILLISECONDS;
    if (due || this.#pendingBytes > FLUSH_BYTES) await this.#flush();
  }

  /**
   * Gives the files their names, the index last, and removes the journal.
   * @param files what else belongs to the model; a file of that name in the folder is replaced
   * @throws InvalidArgumentError while tensors are missing
   */
  async complete(files: readonly ModelFile[] = []): Promise<void> {
    const missing = [...this.#places.keys()].filter((name) => !this.#finished.has(name));
    if (missing.length) {
      fail(`${missing.length} of ${this.#places.size} tensors are not written, ${quote(missing[0]!)} first`);
    }
    await this.#flush();
    const index = this.#shards.length > 1 ? [{ name: INDEX, from: this.#index() }] : [];
    const beside = [...files, ...index];
    try {
      for (const { name, from } of beside) await writeSynced(this.#path(name + PARTIAL), from);
      await this.#journal.append([{ complete: true }]);
      if (this.#removeOthers) {
        const own = new Set([...this.#shards, ...beside].map(({ name }) => name));
        for (const name of await readdir(this.directory)) {
          if (MODEL_FILE.test(name) && !own.has(name)) await rm(this.#path(name));
        }
      }
      for (const { name, renamed } of [
        ...this.#shards,
        ...beside.map(({ name }) => ({ name, renamed: false })),
      ]) {
        if (!renamed) await rename(this.#path(name + PARTIAL), this.#path(name));
      }
      await this.close();
      await rm(this.#path(JOURNAL));
    } catch (cause) {
      throw diskError(this.directory, cause);
    }
  }

  /** Leaves what is finished to a later run. A second call does nothing. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    try {
      await this.#flush();
    } finally {
      for (const { handle } of this.#shards) await (await handle?.catch(() => undefined))?.close();
      await this.#journal.close();
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #path(name: string): string {
    return join(this.directory, name);
  }

  #partial({ name }: Shard): string {
    return this.#path(name + PARTIAL);
  }

  #unfinished(tensor: string): Place {
    const place = this.#places.get(tensor) ?? fail(`${quote(tensor)} is none of the tensors`);
    if (this.#finished.has(tensor)) fail(`tensor ${quote(tensor)} is finished`);
    return place;
  }

  async #openShard(shard: Shard): Promise<FileHandle> {
    const handle = await open(this.#partial(shard), constants.O_RDWR | constants.O_CREAT);
    await handle.truncate(shard.layout.byteLength);
    await handle.write(shard.layout.header, 0, shard.layout.header.length, 0);
    return handle;
  }

  /** Journals what is pending, after its bytes are on the disk; one flush at a time. */
  #flush(): Promise<void> {
    const flushed = this.#flushing.then(async () => {
      const pending = this.#pending;
      this.#lastFlush = performance.now();
      if (pending.length === 0) return;
      this.#pending = [];
      this.#pendingBytes = 0;
      const touched = new Map<Shard, number>();
      for (const name of pending.flatMap(({ tensors }) => tensors)) {
        const { shard } = this.#places.get(name)!;
        touched.set(shard, (touched.get(shard) ?? 0) + 1);
      }
      try {
        for (const shard of touched.keys()) {
          // An empty tensor has opened nothing.
          shard.handle ??= this.#openShard(shard);
          await (await shard.handle).datasync();
        }
        await this.#journal.append(pending);
      } catch (cause) {
        this.#pending.unshift(...pending);
        throw diskError(this.directory, cause);
      }
      for (const [shard, count] of touched) {
        shard.unfinished -= count;
        if (shard.unfinished > 0) continue;
        await (await shard.handle)?.close();
        shard.handle = undefined;
      }
    });
    this.#flushing = flushed.catch(() => {});
    return flushed;
  }

  #index(): Uint8Array {
    const entries = [...this.#places].map(([name, { shard }]) => [name, shard.name] as const);
    entries.sort(([a], [b]) => (a < b ? -1 : 1));
    const index = {
      metadata: { total_size: this.byteLength },
      weight_map: Object.fromEntries(entries),
    };
    return new TextEncoder().encode(`${JSON.stringify(index, null, 2)}\n`);
  }
}

/**
 * Begins a model in a folder, which is made where there is none, or goes on with one that was interrupted there.
 * @throws InvalidArgumentError for tensors that no file can have, a folder that holds other files (unless `overwrite`),
 * and an interrupted run whose `identity` or tensors differ; nothing is written then
 * @throws CheckpointError where the disk has no room or fails, or what an interrupted run left is damaged
 */
export async function createModelWriter(
  directory: string,
  options: ModelWriterOptions,
): Promise<ModelWriter> {
  const shards = planShards(options);
  const identity = { ...options.identity, tensors: digest(shards) };
  const path = join(directory, JOURNAL);

  const names = await listDirectory(directory);
  const [begun, ...entries] = (await readJournal(path)).entries;
  const difference = begun === undefined ? undefined : differenceOf(begun, identity, path);
  const resumed = begun !== undefined && difference === undefined;
  if (!resumed && !options.overwrite) {
    if (difference) {
      fail(
        `${directory} holds an interrupted run with ${difference}; finish that, remove the folder, or overwrite it`,
      );
    }
    if (names.some((name) => name !== JOURNAL)) {
      fail(`${directory} is not empty; name another folder, or overwrite it`);
    }
  }

  const finished = new Map<string, unknown>();
  const removeOthers = resumed ? (begun as Begun).overwrite : names.length > 0;
  if (resumed) await takeUp(directory, shards, entries, finished, path);
  await checkSpace(directory, shards, finished);
  try {
    await mkdir(directory, { recursive: true });
    if (!resumed) {
      for (const name of names) {
        if (name === JOURNAL || name.endsWith(PARTIAL)) await rm(join(directory, name));
      }
    }
  } catch (cause) {
    throw diskError(directory, cause);
  }
  const { journal } = await Journal.open(path);
  if (!resumed) await journal.append([{ journal: 1, overwrite: removeOthers, identity } satisfies Begun]);
  return new ModelWriter(directory, journal, shards, finished, { resumed, removeOthers });
}

function fail(message: string): never {
  throw new InvalidArgumentError('model-writer', message);
}

function planShards({ tensors, metadata, maxShardBytes = DEFAULT_SHARD_BYTES }: ModelWriterOptions): Shard[] {
  if (!(maxShardBytes > 0)) fail(`maxShardBytes = ${maxShardBytes} is not a positive number`);
  const groups: TensorHeader[][] = [[]];
  let bytes = 0;
  const names = new Set<string>();
  for (const tensor of tensors) {
    if (names.has(tensor.name)) fail(`tensor ${quote(tensor.name)} appears twice`);
    names.add(tensor.name);
    const { ranges } = layoutSafetensors([tensor]);
    const { start, end } = ranges.get(tensor.name)!;
    if (bytes + end - start > maxShardBytes && groups.at(-1)!.length) {
      groups.push([]);
      bytes = 0;
    }
    groups.at(-1)!.push(tensor);
    bytes += end - start;
  }
  if (groups.length > MAX_SHARDS) fail(`${groups.length} files are over ${MAX_SHARDS}; allow larger ones`);
  const number = (i: number) => String(i).padStart(5, '0');
  return groups.map((group, i) => ({
    name:
      groups.length === 1
        ? 'model.safetensors'
        : `model-${number(i + 1)}-of-${number(groups.length)}.safetensors`,
    layout: layoutSafetensors(group, metadata),
    unfinished: group.length,
    handle: undefined,
    renamed: false,
  }));
}

function placesOf(shards: readonly Shard[]): Map<string, Place> {
  return new Map(
    shards.flatMap((shard) =>
      Array.from(shard.layout.ranges, ([name, range]) => [name, { shard, ...range, written: 0 }] as const),
    ),
  );
}

/** Of everything about the files but the tensors' values. */
function digest(shards: readonly Shard[]): string {
  const hash = createHash('sha256');
  for (const { name, layout } of shards) hash.update(`${name}\n`).update(layout.header);
  return hash.digest('hex');
}

/** The first line of a journal. */
interface Begun {
  readonly journal: 1;
  readonly overwrite: boolean;
  readonly identity: Readonly<Record<string, string>>;
}

/** In what the run that a journal is of differs from this one; undefined where in nothing. */
function differenceOf(
  begun: unknown,
  identity: Readonly<Record<string, string>>,
  path: string,
): string | undefined {
  const { journal, identity: other } = begun as Partial<Begun>;
  if (journal !== 1 || !other) throw new CheckpointError('model-writer', `${path}: is not a journal`);
  const keys = new Set([...Object.keys(identity), ...Object.keys(other)]);
  const differing = [...keys].find((key) => identity[key] !== other[key]);
  if (differing === undefined) return undefined;
  const show = (value: string | undefined) => (value === undefined ? 'none' : quote(value));
  return `another ${differing}: ${show(other[differing])} there, ${show(identity[differing])} now`;
}

/** Takes up what a journal lists as finished, once its bytes are seen to be there. */
async function takeUp(
  directory: string,
  shards: readonly Shard[],
  entries: readonly unknown[],
  finished: Map<string, unknown>,
  path: string,
): Promise<void> {
  const damaged = (problem: string): never => {
    throw new CheckpointError('model-writer', `${path}: ${problem}; remove the folder and begin again`);
  };
  const places = placesOf(shards);
  let complete = false;
  for (const entry of entries as Partial<Finished & { complete: boolean }>[]) {
    if (entry.complete) complete = true;
    for (const name of entry.tensors ?? []) {
      const { shard } = places.get(name) ?? damaged(`lists ${quote(name)}, which is none of the tensors`);
      if (finished.has(name)) damaged(`lists ${quote(name)} twice`);
      finished.set(name, entry.note);
      shard.unfinished--;
    }
  }
  for (const shard of shards) {
    if (shard.unfinished === shard.layout.ranges.size) continue;
    const sizes = await Promise.all(
      [shard.name + PARTIAL, shard.name].map(async (name) => {
        const stats = await stat(join(directory, name)).catch(() => undefined);
        return stats?.size;
      }),
    );
    const [partial, whole] = sizes;
    const { byteLength } = shard.layout;
    shard.renamed = complete && partial === undefined;
    const size = shard.renamed ? whole : partial;
    if (size !== byteLength) {
      const state = size === undefined ? 'is gone' : `has ${size} bytes instead of ${byteLength}`;
      damaged(`lists tensors of ${quote(shard.name)}, which ${state}`);
    }
  }
}

async function listDirectory(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return [];
    if (code === 'ENOTDIR') fail(`${directory} is not a folder; name another`);
    throw diskError(directory, cause, 'read');
  }
}

/** @throws CheckpointError where the disk has less room than the tensors still take */
async function checkSpace(
  directory: string,
  shards: readonly Shard[],
  finished: ReadonlyMap<string, unknown>,
): Promise<void> {
  let needed = 0;
  for (const [name, { start, end }] of placesOf(shards)) if (!finished.has(name)) needed += end - start;
  // Of the nearest folder that there is; a file system that does not tell is believed to have room.
  let folder = resolve(directory);
  while (folder !== dirname(folder) && !(await stat(folder).catch(() => undefined))) folder = dirname(folder);
  const stats = await statfs(folder).catch(() => undefined);
  const free = stats && stats.blocks > 0 ? stats.bavail * stats.bsize : Number.POSITIVE_INFINITY;
  if (needed > free) {
    throw new CheckpointError(
      'file',
      `${directory}: the model takes ${needed} bytes more, and the disk has ${free}; make room or name another`,
    );
  }
}

/** The file may be read-only where it comes from, so its mode is not copied. */
function writeSynced(path: string, from: Uint8Array | string): Promise<void> {
  return writeFile(path, typeof from === 'string' ? createReadStream(from) : from, { flush: true });
}
