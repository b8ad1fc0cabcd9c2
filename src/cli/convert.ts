/** `fp4-webgpu convert`: a checkpoint in another convention, one matrix at a time. */
import { readFile, realpath, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { bytesSource } from '../checkpoint/byte-source.js';
import type { Container } from '../checkpoint/container.js';
import { type Conversion, type ConversionStep, planConversion } from '../checkpoint/convert.js';
import {
  GGUF_METADATA_FILE,
  ggufMetadata,
  ggufMetadataFile,
  safetensorsMetadata,
} from '../checkpoint/convert-metadata.js';
import { openGguf } from '../checkpoint/gguf.js';
import type { Checkpoint } from '../checkpoint/open.js';
import type { GgufTensorHeader } from '../checkpoint/write-gguf.js';
import type { TensorHeader } from '../checkpoint/write-safetensors.js';
import { compressedTensorsConfig } from '../checkpoint/writers/compressed-tensors.js';
import { moduleName } from '../checkpoint/writers/experts.js';
import { gptOssConfig } from '../checkpoint/writers/gpt-oss.js';
import type { Convention } from '../checkpoint/writers/index.js';
import { InvalidArgumentError } from '../errors.js';
import { createGgufWriter, createModelWriter, type ModelFile } from '../node.js';
import { runInterruptible } from './interruptible.js';
import { jsonMembers, jsonObject } from './json-members.js';
import { CONFIG, type Config, filesDigest, listFolder, readConfig } from './model-folder.js';
import { isUrl, openModel } from './open-model.js';
import { megabytes } from './progress.js';

export interface ConvertOptions {
  output: string;
  to: Convention;
  /** Most bytes of tensors in a safetensors file. */
  shardSize?: number;
  overwrite?: boolean;
  json?: boolean;
}

/** What `--json` prints. */
export interface ConvertSummary {
  readonly output: string;
  readonly to: Convention;
  readonly resumed: boolean;
  /** How many there are after the conversion, each expert that is alone counted. */
  readonly matrices: number;
  /** Tensors that are not of an FP4 matrix, and stay what they are. */
  readonly kept: number;
  /** Read and written, of tensors. */
  readonly bytes: number;
  /** Of the source's folder. */
  readonly files: { readonly copied: readonly string[]; readonly leftOut: readonly string[] };
  readonly notes: readonly string[];
  readonly seconds: number;
  readonly peakMemory: number;
}

/** ModelOpt's description of how weights were stored. */
const OLD_CONFIG = 'hf_quant_config.json';

/** The command: reports on the terminal, and is interrupted by Ctrl-C. */
export async function convert(source: string, options: ConvertOptions): Promise<void> {
  await runInterruptible({
    run: (signal, bar) =>
      convertModel(source, options, {
        signal,
        onStart: (total) => bar.start(total),
        onProgress: (done, name) => bar.update(done, name),
      }),
    left: options.to === 'gguf' ? 'nothing is left of it' : 'the same command goes on from here',
    print: (summary) => (options.json ? JSON.stringify(summary, null, 2) : describe(summary)),
  });
}

export interface ConvertRun {
  readonly signal?: AbortSignal;
  /** Before the first tensor; bytes of all that are read. */
  readonly onStart?: (total: number) => void;
  /** Bytes that are done, and whose those were. */
  readonly onProgress?: (done: number, name: string) => void;
}

/**
 * Converts a file, a folder or what a URL leads to.
 * @throws UnsupportedError that lists what the convention cannot hold, and InvalidArgumentError for a place that is
 * taken; nothing is written then
 */
export async function convertModel(
  source: string,
  options: ConvertOptions,
  progress: ConvertRun = {},
): Promise<ConvertSummary> {
  await checkOutput(source, options);
  await using checkpoint = await openModel(source);
  // Awaited here, or the files would be closed while it runs.
  return await run({
    checkpoint,
    source: isUrl(source) ? source : resolve(source),
    folder: await folderOf(source),
    options,
    progress,
  });
}

/** A model's folder, where its other files are. Those beside a file, or behind a URL, could be anyone's. */
async function folderOf(source: string): Promise<string | undefined> {
  if (source.endsWith('.index.json')) return isUrl(source) ? undefined : dirname(source);
  return (await stat(source).catch(() => undefined))?.isDirectory() ? source : undefined;
}

/** Refuses what is no place for the convention, and to write over what is read. */
async function checkOutput(source: string, { output, to }: ConvertOptions): Promise<void> {
  if (to === 'gguf' && !output.endsWith('.gguf')) fail(`${output}: name a file that ends in .gguf`);
  if (to !== 'gguf' && /\.(safetensors|gguf)$/.test(output)) fail(`${output}: name a folder, not a file`);
  const real = (path: string) => realpath(path).catch(() => resolve(path));
  const [from, into] = await Promise.all([real(source), real(output)]);
  if (into === from || into === dirname(from)) fail(`${output} is where the source is; name another`);
}

function fail(message: string): never {
  throw new InvalidArgumentError('convert', message);
}

interface Run {
  readonly checkpoint: Checkpoint;
  readonly source: string;
  readonly folder: string | undefined;
  readonly options: ConvertOptions;
  readonly progress: ConvertRun;
}

/** Takes what a conversion makes. */
interface Sink {
  readonly finished?: ReadonlyMap<string, unknown>;
  write(tensor: string, bytes: Uint8Array, offset: number): Promise<void>;
  finish?(tensors: readonly string[]): Promise<void>;
}

async function run(job: Run): Promise<ConvertSummary> {
  const { checkpoint, folder, options, progress } = job;
  const { output, to } = options;
  const began = performance.now();
  const conversion = await planConversion(checkpoint, to, { signal: progress.signal });
  if (conversion.matrices.size === 0) fail(`${checkpoint.name}: holds no FP4 matrix; quantize it instead`);
  const config = folder === undefined ? { text: undefined, value: {} } : await readConfig(folder);
  const files = await filesBeside(job);
  const resumed =
    to === 'gguf'
      ? await writeGgufFile(job, conversion, config)
      : await writeModel(job, conversion, config, files.copied);
  return {
    output,
    to,
    resumed,
    matrices: conversion.matrices.size,
    kept: keptTensors(conversion.steps).length,
    bytes: bytesOf(conversion.steps),
    files: to === 'gguf' ? { copied: [], leftOut: notInGguf(files) } : files,
    notes: notesOf(job, conversion),
    seconds: (performance.now() - began) / 1000,
    peakMemory: process.resourceUsage().maxRSS * 1024,
  };
}

async function writeModel(
  job: Run,
  conversion: Conversion,
  config: Config,
  copied: readonly string[],
): Promise<boolean> {
  const { checkpoint, folder, options } = job;
  const files: ModelFile[] = copied.map((name) => ({ name, from: join(folder!, name) }));
  // Loaders of other conventions look there first; ours looks at the tensors.
  if (config.text !== undefined || options.to !== 'fp4-webgpu') {
    files.push({
      name: CONFIG,
      from: new TextEncoder().encode(convertConfig(config.text ?? '{}', conversion)),
    });
  }
  if (checkpoint.container === 'gguf') {
    files.push({ name: GGUF_METADATA_FILE, from: await ggufMetadataFile(checkpoint) });
  }
  await using writer = await createModelWriter(options.output, {
    // The plan has refused what has no dtype there.
    tensors: conversion.steps.flatMap(({ tensors }) => tensors as readonly TensorHeader[]),
    metadata: safetensorsMetadata(checkpoint),
    maxShardBytes: options.shardSize,
    identity: await identityOf(job),
    overwrite: options.overwrite,
  });
  await runSteps(job, conversion.steps, writer);
  await writer.complete(files);
  return writer.resumed;
}

async function writeGgufFile(job: Run, { steps }: Conversion, config: Config): Promise<boolean> {
  const { checkpoint, folder, options } = job;
  const kept = folder === undefined ? undefined : await readGgufMetadata(join(folder, GGUF_METADATA_FILE));
  const { model_type: type } = config.value;
  const architecture = typeof type === 'string' ? type : 'unknown';
  await using writer = await createGgufWriter(options.output, {
    tensors: steps.flatMap(({ tensors }) => tensors as readonly GgufTensorHeader[]),
    metadata: await ggufMetadata(checkpoint, kept, architecture),
    overwrite: options.overwrite,
  });
  await runSteps(job, steps, writer);
  await writer.complete();
  return false;
}

async function runSteps(
  { progress: { signal, onStart, onProgress } }: Run,
  steps: readonly ConversionStep[],
  sink: Sink,
): Promise<void> {
  onStart?.(bytesOf(steps));
  let done = 0;
  for (const step of steps) {
    const names = step.tensors.map(({ name }) => name);
    if (!names.every((name) => sink.finished?.has(name))) {
      await step.run((tensor, bytes, offset) => sink.write(tensor, bytes, offset), { signal });
      await sink.finish?.(names);
    }
    done += step.bytes;
    onProgress?.(done, step.matrix ?? names[0]!);
  }
}

const bytesOf = (steps: readonly ConversionStep[]) => steps.reduce((sum, { bytes }) => sum + bytes, 0);

/** What the bytes that are written depend on. What is behind a URL is known by it alone. */
async function identityOf({ checkpoint, source, options }: Run): Promise<Record<string, string>> {
  const files = isUrl(source) ? '' : await filesDigest(dirname(checkpoint.name), checkpoint);
  return { command: 'convert', convention: options.to, source, 'source, or its files were changed': files };
}

/** Names in the model's folder, or nothing where there is none. */
async function filesBeside({ folder, checkpoint }: Run) {
  if (folder === undefined) return { copied: [], leftOut: [] };
  const { copied, leftOut } = await listFolder(folder, checkpoint);
  const [old, others] = [true, false].map((isOld) =>
    copied.filter((name) => (name === OLD_CONFIG) === isOld),
  );
  return { copied: others!, leftOut: [...leftOut, ...old!].sort() };
}

/** A GGUF file is alone. Only the values of another one go into it. */
function notInGguf({ copied, leftOut }: { copied: readonly string[]; leftOut: readonly string[] }): string[] {
  return [...copied.filter((name) => name !== GGUF_METADATA_FILE), ...leftOut].sort();
}

async function readGgufMetadata(path: string): Promise<Container | undefined> {
  if (!(await stat(path).catch(() => undefined))) return undefined;
  return openGguf([bytesSource(await readFile(path), path)]);
}

/** Where configurations say how weights are stored. */
const QUANTIZATION_KEYS = ['quantization_config', 'compression_config', 'quantization', 'fp4_webgpu_config'];

/** The configuration with how weights are stored now; how they were at first is under `source_quantization`. */
function convertConfig(config: string, { to, matrices, floats }: Conversion): string {
  const modules = floats.filter((name) => name.endsWith('.weight')).map(moduleName);
  const now = {
    'fp4-webgpu': () => ({ quant_method: 'fp4-webgpu', modules_to_not_convert: modules }),
    'compressed-tensors': () => compressedTensorsConfig(matrices, modules),
    'gpt-oss': () => gptOssConfig(modules),
    gguf: () => undefined,
  }[to]();
  const members = setAside(jsonMembers(config));
  const text = members.get('text_config');
  if (text?.startsWith('{')) members.set('text_config', jsonObject(setAside(jsonMembers(text), 2), 1));
  members.set('quantization_config', JSON.stringify(now, null, 2).replaceAll('\n', '\n  '));
  return `${jsonObject(members)}\n`;
}

function setAside(members: ReadonlyMap<string, string>, depth = 1): Map<string, string> {
  const old = [...members].filter(([key]) => QUANTIZATION_KEYS.includes(key));
  const rest = [...members].filter(([key]) => !QUANTIZATION_KEYS.includes(key));
  // Of several conversions, what the first one found stays.
  return new Map(old.length ? [['source_quantization', jsonObject(old, depth)], ...rest] : rest);
}

/** What someone who uses the result should know. */
function notesOf({ checkpoint }: Run, { to, steps }: Conversion): string[] {
  const kept = keptTensors(steps);
  const notes: string[] = [];
  if (checkpoint.refused.length) {
    notes.push(
      `${checkpoint.refused.length} F8 matrices with scales stay as they are, and no configuration says so`,
    );
  }
  if (to !== 'gguf' && kept.some((name) => /\.input_(global_)?scale$/.test(name))) {
    notes.push('scales of activations stay as they are; the configuration is for weights alone');
  }
  if (to === 'gguf' && checkpoint.container !== 'gguf') {
    notes.push('names are those of the source; llama.cpp knows its own only (blk.0.attn_q.weight)');
  }
  return notes;
}

function keptTensors(steps: readonly ConversionStep[]): string[] {
  return steps.flatMap(({ matrix, tensors }) =>
    matrix === undefined ? tensors.map(({ name }) => name) : [],
  );
}

/** Names that a line of the summary lists. */
const LISTED = 8;

function describe(s: ConvertSummary): string {
  const names = (list: readonly string[]) =>
    `${list.slice(0, LISTED).join(', ')}${list.length > LISTED ? `, … (${list.length})` : ''}`;
  return [
    `${s.output}: ${s.matrices} FP4 matrices as ${s.to}, ${s.kept} other tensors as they were`,
    ...(s.files.copied.length ? [`copied    ${names(s.files.copied)}`] : []),
    ...(s.files.leftOut.length ? [`left out  ${names(s.files.leftOut)}`] : []),
    ...s.notes.map((note) => `note      ${note}`),
    `${megabytes(s.bytes)} in ${s.seconds.toFixed(1)} s${s.resumed ? ', after an earlier run' : ''}; at most ${megabytes(s.peakMemory)} of memory`,
  ].join('\n');
}
