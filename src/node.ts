/** fp4-webgpu/node: what only Node.js has, a WebGPU implementation to load (Dawn) and files to read and write. */
import { mkdir, readdir, readFile, rename, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type FileSource, openFile } from './checkpoint/file-source.js';
import { type Checkpoint, type OpenCheckpointOptions, openCheckpoint } from './checkpoint/open.js';
import { InvalidArgumentError, UnsupportedError } from './errors.js';
import type { TuneStorage } from './gemm/tune.js';
import { type Gpu, type RequestGpuOptions, requestGpu } from './gpu/gpu.js';

export { createGgufWriter, GgufWriter, type GgufWriterOptions } from './checkpoint/gguf-writer.js';
export {
  createModelWriter,
  type ModelFile,
  ModelWriter,
  type ModelWriterOptions,
} from './checkpoint/model-writer.js';
export { openFile };

/** A checkpoint on disk. It holds its files open until `close()`, which `await using` calls by itself. */
export interface CheckpointFile extends Checkpoint, AsyncDisposable {
  /** Gives the descriptors back; later reads throw. A second call does nothing. */
  close(): Promise<void>;
}

const INDEX_FILE = 'model.safetensors.index.json';

/**
 * {@link openCheckpoint} of a safetensors file, an index, a GGUF file, or a directory that holds an index or one model.
 * Other files are looked for beside it.
 * @param path a path, or a `file:` URL
 * @throws InvalidArgumentError where a directory holds neither, or several files without an index
 */
export async function openCheckpointFile(
  path: string | URL,
  options: Omit<OpenCheckpointOptions, 'open'> = {},
): Promise<CheckpointFile> {
  const file = await findCheckpoint(path instanceof URL ? fileURLToPath(path) : path);
  const opened: Promise<FileSource>[] = [];
  const open = (target: string) => {
    const source = openFile(target);
    opened.push(source);
    return source;
  };
  const close = async () => {
    // Those that are still being opened as well, after an error in another.
    for (const result of await Promise.allSettled(opened)) {
      if (result.status === 'fulfilled') await result.value.close();
    }
  };
  try {
    const source = await open(file);
    const beside = (name: string) => open(join(dirname(file), name));
    const checkpoint = await openCheckpoint(source, { ...options, open: beside });
    return { ...checkpoint, close, [Symbol.asyncDispose]: close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The file to open for a path: itself, or what a directory holds. */
async function findCheckpoint(path: string): Promise<string> {
  const stats = await stat(path).catch(() => undefined);
  // What is not there, or is no file, is `openFile`'s to say.
  if (!stats?.isDirectory()) return path;
  const names = await readdir(path);
  if (names.includes(INDEX_FILE)) return join(path, INDEX_FILE);
  const files = names.filter((name) => name.endsWith('.safetensors') || name.endsWith('.gguf'));
  if (files.length === 1) return join(path, files[0]!);
  // The files of one split model.
  const split = /-\d{5}-of-(\d{5})\.gguf$/;
  const models = new Set(files.map((name) => (split.test(name) ? name.replace(split, '-$1') : name)));
  if (models.size === 1) return join(path, files.sort()[0]!);
  const problem = files.length === 0 ? 'no checkpoint' : `${files.length} files of checkpoints and no index`;
  throw new InvalidArgumentError('checkpoint', `${path}: holds ${problem}; name the file to open`);
}

export interface DawnOptions {
  /** 'vulkan', 'metal', 'd3d12', …; Dawn's choice by default. */
  backend?: string | undefined;
  /** Part of the adapter's name, where a machine has several. */
  adapter?: string | undefined;
  /**
   * Enables what a stock browser page does not get: subgroup matrices (`allow_unsafe_apis`) and, on NVIDIA, f16
   * (`vulkan_enable_f16_on_nvidia`, which fails some conformance tests). False by default.
   */
  experimental?: boolean | undefined;
  /** Further Dawn toggles to enable or disable. */
  enable?: readonly string[] | undefined;
  disable?: readonly string[] | undefined;
}

/**
 * A WebGPU entry point from Dawn (npm package `webgpu`, an optional peer dependency). Timestamps are not quantized.
 * Node stays alive while the returned object is referenced.
 * @throws UnsupportedError where the package is not installed
 */
export async function createDawn(options: DawnOptions = {}): Promise<GPU> {
  let dawn: { create(flags: string[]): GPU };
  try {
    dawn = await import('webgpu');
  } catch (cause) {
    throw new UnsupportedError(
      'node',
      "the package 'webgpu' (Dawn for Node) cannot be loaded; npm install webgpu",
      {
        cause,
      },
    );
  }
  const enable = [
    ...(options.experimental ? ['allow_unsafe_apis', 'vulkan_enable_f16_on_nvidia'] : []),
    ...(options.enable ?? []),
  ];
  const disable = ['timestamp_quantization', ...(options.disable ?? [])];
  return dawn.create([
    ...(options.backend ? [`backend=${options.backend}`] : []),
    ...(options.adapter ? [`adapter=${options.adapter}`] : []),
    // One comma list a key: a repeated key replaces the earlier one.
    ...(enable.length ? [`enable-dawn-features=${enable.join(',')}`] : []),
    `disable-dawn-features=${disable.join(',')}`,
  ]);
}

/** {@link requestGpu} on Dawn. @throws UnsupportedError as both do */
export async function requestNodeGpu(
  options: DawnOptions & Omit<RequestGpuOptions, 'gpu'> = {},
): Promise<Gpu> {
  return requestGpu({ ...options, gpu: await createDawn(options) });
}

/**
 * Storage for `tuneGemm` in a JSON file, which is made when the first measurement is written. Each write replaces the
 * whole file at once, so that a reader never sees half of it; of two processes that tune at a time, the last one wins.
 * @throws UnsupportedError where the file is there but is not such a storage
 */
export function tuneFile(path: string): TuneStorage {
  let entries: Promise<Map<string, string>> | undefined;
  const load = async () => {
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Map<string, string>();
      throw error;
    }
    try {
      return new Map(Object.entries(JSON.parse(text) as Record<string, string>));
    } catch (cause) {
      throw new UnsupportedError('tune', `${path} is not a file of measurements; remove it or name another`, {
        cause,
      });
    }
  };
  return {
    async get(key) {
      entries ??= load();
      return (await entries).get(key);
    },
    async set(key, value) {
      entries ??= load();
      const map = (await entries).set(key, value);
      await mkdir(dirname(path), { recursive: true });
      const temporary = `${path}.${process.pid}`;
      await writeFile(temporary, `${JSON.stringify(Object.fromEntries(map), null, 1)}\n`);
      await rename(temporary, path);
    },
  };
}
