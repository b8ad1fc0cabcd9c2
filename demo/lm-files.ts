/** A model's folder as a page gets it, dropped or chosen: which files are the model's, and what is missing. */
import { CheckpointError } from '../src/index.js';

/** A file and where it was: `folder/config.json`. */
export interface PlacedFile {
  readonly path: string;
  readonly file: File;
}

export interface ModelFolder {
  readonly name: string;
  readonly files: readonly File[];
  /** Of the safetensors files. */
  readonly weightBytes: number;
  readonly hasTokenizer: boolean;
}

const INDEX = 'model.safetensors.index.json';
const CHOOSE = "choose all files of the model's folder";

/** Files that were chosen: by a folder, where each knows its path, or one by one. */
export const chosenFiles = (files: Iterable<File>): PlacedFile[] =>
  Array.from(files, (file) => ({ path: file.webkitRelativePath || file.name, file }));

/** Files that were dropped, folders opened. What was dropped is gone after the event, so call it at once. */
export async function droppedFiles(data: DataTransfer): Promise<PlacedFile[]> {
  const parts = [...data.items].map((item) => {
    const entry = item.webkitGetAsEntry();
    return entry ? filesBelow(entry) : Promise.resolve(chosenFiles([item.getAsFile()].filter(isThere)));
  });
  return (await Promise.all(parts)).flat();
}

const isThere = <T>(value: T | null): value is T => value !== null;

async function filesBelow(entry: FileSystemEntry): Promise<PlacedFile[]> {
  if (entry.isFile) {
    const file = await new Promise<File>((resolve, reject) =>
      (entry as FileSystemFileEntry).file(resolve, reject),
    );
    return [{ path: entry.fullPath.replace(/^\//, ''), file }];
  }
  // Caches of tools, and repositories.
  if (entry.name.startsWith('.')) return [];
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const inside: PlacedFile[] = [];
  // A reader gives a hundred at a time, and none at the end.
  for (;;) {
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) =>
      reader.readEntries(resolve, reject),
    );
    if (entries.length === 0) return inside;
    inside.push(...(await Promise.all(entries.map(filesBelow))).flat());
  }
}

/**
 * The files of the model among all: those beside the config.json that is least deep.
 * @throws CheckpointError where there are several such folders, and naming all that is missing
 */
export async function modelFolder(placed: readonly PlacedFile[]): Promise<ModelFolder> {
  if (placed.length === 0) fail(`no files; ${CHOOSE}`);
  const folderOf = (path: string) => path.slice(0, path.lastIndexOf('/') + 1);
  const depth = (folder: string) => folder.split('/').length;
  const isConfig = ({ path }: PlacedFile) => path.endsWith('/config.json') || path === 'config.json';
  const withConfig = placed.filter(isConfig).map(({ path }) => folderOf(path));
  // Without one, what is least deep is what is meant.
  const candidates = withConfig.length ? withConfig : placed.map(({ path }) => folderOf(path));
  const least = Math.min(...candidates.map(depth));
  const [folder = '', ...others] = new Set(candidates.filter((candidate) => depth(candidate) === least));
  if (withConfig.length && others.length)
    fail(`${[folder, ...others].join(', ')} have a config.json each; choose one of them`);
  const files = placed.filter(({ path }) => folderOf(path) === folder).map(({ file }) => file);
  const name = folder.replace(/\/$/, '') || 'files';
  const missing = await missingFiles(files);
  if (missing.length) {
    const are = missing.length > 1 ? 'are' : 'is';
    fail(`${name}: ${missing.join(' and ')} ${are} missing${otherWeights(files)}; ${CHOOSE}`);
  }
  const weights = files.filter((file) => file.name.endsWith('.safetensors'));
  return {
    name,
    files,
    weightBytes: weights.reduce((sum, { size }) => sum + size, 0),
    hasTokenizer: files.some((file) => file.name === 'tokenizer.json'),
  };
}

async function missingFiles(files: readonly File[]): Promise<string[]> {
  const names = new Set(files.map((file) => file.name));
  const missing = names.has('config.json') ? [] : ['config.json'];
  const index = files.find((file) => file.name === INDEX);
  if (index) return [...missing, ...(await shardsOf(index)).filter((shard) => !names.has(shard))];
  const count = files.filter((file) => file.name.endsWith('.safetensors')).length;
  if (count === 0) missing.push('a safetensors file');
  if (count > 1) missing.push(`${INDEX}, which tells what is in ${count} safetensors files,`);
  return missing;
}

/** Names of files; an index that is malformed is left to who reads it, which knows what is wrong. */
async function shardsOf(index: File): Promise<string[]> {
  try {
    const { weight_map: map } = JSON.parse(await index.text()) as { weight_map?: Record<string, string> };
    return [...new Set(Object.values(map ?? {}))].filter((shard) => typeof shard === 'string');
  } catch {
    return [];
  }
}

/** Weights that are there, but not as safetensors. */
function otherWeights(files: readonly File[]): string {
  if (files.some((file) => file.name.endsWith('.safetensors'))) return '';
  const other = files.find((file) => /\.(gguf|bin|pth?|onnx|ckpt)$/.test(file.name));
  return other ? ` (${other.name} is not read here)` : '';
}

function fail(problem: string): never {
  throw new CheckpointError('lm', problem);
}
