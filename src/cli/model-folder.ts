/** A model's folder: its configuration, and the files that go where its weights go. */
import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { Checkpoint } from '../checkpoint/open.js';
import { CheckpointError } from '../errors.js';

export const CONFIG = 'config.json';
/** Weights in other formats, which would be a second model beside the one that is written. */
const OTHER_WEIGHTS =
  /\.(safetensors(\.index\.json)?|gguf|bin|bin\.index\.json|pth?|ckpt|h5|msgpack|onnx|ot|tflite|npz)$/;

export interface Config {
  /** The text of config.json; undefined where there is none. */
  readonly text: string | undefined;
  readonly value: Readonly<Record<string, unknown>>;
}

/** @throws CheckpointError where it is no JSON object or cannot be read */
export async function readConfig(folder: string): Promise<Config> {
  const path = join(folder, CONFIG);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return { text: undefined, value: {} };
    throw new CheckpointError('model', `${path}: cannot be read (${cause})`, { cause });
  }
  try {
    const value = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { text, value };
  } catch {
    // Said below.
  }
  throw new CheckpointError('model', `${path}: is no JSON object; mend it or move it away`);
}

/** Names in a folder but the model's own and config.json: what goes with it, and weights, hidden files and folders. */
export async function listFolder(folder: string, checkpoint: Checkpoint) {
  const own = new Set([CONFIG, basename(checkpoint.name), ...sourceFiles(checkpoint)]);
  const names = { copied: [] as string[], leftOut: [] as string[] };
  for (const name of (await readdir(folder)).sort()) {
    if (own.has(name)) continue;
    const isLeftOut =
      name.startsWith('.') || OTHER_WEIGHTS.test(name) || !(await stat(join(folder, name))).isFile();
    (isLeftOut ? names.leftOut : names.copied).push(name);
  }
  return names;
}

/** Changes when a file of the model's tensors does. */
export async function filesDigest(folder: string, checkpoint: Checkpoint): Promise<string> {
  const hash = createHash('sha256');
  for (const file of sourceFiles(checkpoint)) {
    const { size, mtimeMs } = await stat(join(folder, file));
    hash.update(`${JSON.stringify([file, size, mtimeMs])}\n`);
  }
  return hash.digest('hex').slice(0, 16);
}

/** Names of the files that have the tensors. */
function sourceFiles({ tensors }: Checkpoint): string[] {
  return [...new Set(tensors.map(({ file }) => basename(file)))];
}
