/**
 * Safetensors checkpoints as containers: one file, or several under an index, `model.safetensors.index.json`:
 * `{"metadata": {…}, "weight_map": {tensor: file, …}}`. The index and the files are each other's check: what one says
 * of a tensor and the other doesn't is an error, because either would load as a checkpoint with something missing.
 */
import { CheckpointError, InvalidArgumentError } from '../errors.js';
import { inBatches } from './batches.js';
import { type ByteSource, type ReadOptions, readExactly } from './byte-source.js';
import { type Container, MAX_TENSORS, type StoredTensor } from './container.js';
import { readSafetensorsHeader, type SafetensorsFile, type TensorInfo } from './safetensors.js';
import { parseStrictJson, quote } from './strict-json.js';

/** Opens a file that stands beside the one that names it. Rejects when there is none of that name. */
export type OpenSibling = (name: string) => Promise<ByteSource>;

export interface Progress {
  readonly done: number;
  readonly total: number;
  readonly unit: 'files' | 'bytes';
}

export interface ShardOptions extends ReadOptions {
  /** Called after each file whose header has been read. */
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** Half a million tensors, the most that is known, take 60 MB. */
export const MAX_INDEX_BYTES = 200_000_000;
/** The limit of the Hugging Face hub. */
export const MAX_SHARDS = 10_000;
/** Part of the reserved names of some system, or of a path; a file beside the index needs none of them. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const UNSAFE_NAME = /[/\\:\u0000-\u001f\u007f]|\.\.|^\.?$/;

interface OpenFile {
  readonly name: string;
  readonly source: ByteSource;
  readonly header: SafetensorsFile;
}

/** A container over one safetensors file. @throws CheckpointError where the file is not one */
export async function openSafetensors(source: ByteSource, options: ShardOptions = {}): Promise<Container> {
  const header = await readSafetensorsHeader(source, options);
  options.onProgress?.({ done: 1, total: 1, unit: 'files' });
  return container(source.name, [{ name: source.name, source, header }]);
}

/**
 * A container over the files that an index names; the header of each is read here.
 * @throws CheckpointError when the index is malformed, a file cannot be opened, or they contradict each other
 */
export async function openShards(
  index: ByteSource,
  open: OpenSibling,
  options: ShardOptions = {},
): Promise<Container> {
  const fail = (message: string, cause?: unknown): never => {
    throw new CheckpointError('checkpoint', `${index.name}: ${message}`, { cause });
  };
  const weightMap = await readIndex(index, options, fail);
  if (weightMap.size > MAX_TENSORS) {
    fail(`lists ${weightMap.size} tensors; more than ${MAX_TENSORS} are not read`);
  }
  const names = [...new Set(weightMap.values())];
  if (names.length > MAX_SHARDS) fail(`names ${names.length} files; the limit is ${MAX_SHARDS}`);

  const files = await inBatches(
    names,
    async (name): Promise<OpenFile> => {
      options.signal?.throwIfAborted();
      const source = await open(name).catch((cause: unknown) => {
        options.signal?.throwIfAborted();
        return fail(`names ${quote(name)}, which cannot be opened (${messageOf(cause)})`, cause);
      });
      return { name, source, header: await readSafetensorsHeader(source, options) };
    },
    (done) => options.onProgress?.({ done, total: names.length, unit: 'files' }),
  );

  let found = 0;
  for (const { name, header } of files) {
    for (const tensor of header.tensors.keys()) {
      const expected = weightMap.get(tensor);
      if (expected === undefined) {
        fail(`does not list tensor ${quote(tensor)}, which ${quote(name)} has`);
      }
      if (expected !== name) {
        fail(`puts tensor ${quote(tensor)} into ${quote(expected!)}, but ${quote(name)} has it as well`);
      }
      found++;
    }
  }
  if (found !== weightMap.size) {
    const headers = new Map(files.map((file) => [file.name, file.header]));
    const missing = [...weightMap].find(([tensor, name]) => !headers.get(name)!.tensors.has(tensor))!;
    fail(`puts tensor ${quote(missing[0])} into ${quote(missing[1])}, which does not have it`);
  }
  return container(index.name, files);
}

async function readIndex(
  index: ByteSource,
  options: ReadOptions,
  fail: (message: string) => never,
): Promise<Map<string, string>> {
  if (index.byteLength > MAX_INDEX_BYTES) {
    fail(`has ${index.byteLength} bytes; an index of over ${MAX_INDEX_BYTES} is not read`);
  }
  const document = await readJson(index, fail, options);
  const weightMap = document instanceof Map ? document.get('weight_map') : undefined;
  if (!(weightMap instanceof Map)) return fail('has no "weight_map" object; it is not a safetensors index');
  for (const [tensor, file] of weightMap) {
    if (typeof file !== 'string') {
      return fail(`weight_map ${quote(tensor)} is not the name of a file`);
    }
    if (UNSAFE_NAME.test(file)) {
      fail(`weight_map ${quote(tensor)} is ${quote(file)}; only files beside the index are opened`);
    }
  }
  return weightMap as Map<string, string>;
}

/** A JSON file, such as an index or a model configuration. */
export async function readJson(source: ByteSource, fail: (message: string) => never, options?: ReadOptions) {
  const bytes = await readExactly(source, 0, source.byteLength, options);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return fail('is not valid UTF-8');
  }
  return parseStrictJson(text, fail, { numbers: 'any' });
}

function container(name: string, files: readonly OpenFile[]): Container {
  const tensors = new Map<string, StoredTensor>();
  const places = new Map<string, { source: ByteSource; info: TensorInfo }>();
  for (const { name: file, source, header } of files) {
    for (const info of header.tensors.values()) {
      const { dtype, shape, byteLength } = info;
      tensors.set(info.name, { name: info.name, dtype, shape, byteLength, file });
      places.set(info.name, { source, info });
    }
  }
  return {
    kind: 'safetensors',
    name,
    tensors,
    metadata: mergeMetadata(name, files),
    async read(tensor, options = {}) {
      const place = places.get(tensor.name);
      if (!place || tensors.get(tensor.name) !== tensor) {
        throw new InvalidArgumentError(
          'checkpoint',
          `${name}: ${quote(tensor.name)} is not one of its tensors`,
        );
      }
      const { start = 0, end = tensor.byteLength, ...readOptions } = options;
      if (!(start >= 0 && start <= end && end <= tensor.byteLength)) {
        throw new CheckpointError(
          'checkpoint',
          `${name}: bytes ${start}..${end} are not inside the ${tensor.byteLength} of tensor ${quote(tensor.name)}`,
        );
      }
      const { byteOffset } = place.info;
      return readExactly(place.source, byteOffset + start, byteOffset + end, readOptions);
    },
  };
}

/**
 * The metadata of all files. Plain strings may differ (hashes, dates), and the first file's is taken; an object in JSON
 * describes tensors, and two that differ cannot be put together here.
 */
function mergeMetadata(name: string, files: readonly OpenFile[]): Map<string, string> {
  const merged = new Map<string, string>();
  for (const file of files) {
    for (const [key, value] of file.header.metadata) {
      const before = merged.get(key);
      if (before === undefined) merged.set(key, value);
      else if (before !== value && value.trimStart().startsWith('{')) {
        throw new CheckpointError(
          'checkpoint',
          `${name}: metadata ${quote(key)} of ${quote(file.name)} differs from that of a file before it`,
        );
      }
    }
  }
  return merged;
}

/** What an error of any kind says. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
