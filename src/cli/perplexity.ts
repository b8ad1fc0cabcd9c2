/** `fp4-webgpu perplexity`: what a language model loses in each format. */
import { readFile } from 'node:fs/promises';
import Table from 'cli-table3';
import {
  activationsName,
  type Configuration,
  parseConfiguration,
  TABLES,
  weightsName,
} from '../../demo/lm/format-names.js';
import { generate } from '../../demo/lm/generate.js';
import { createLlama, type Llama, uploadShared } from '../../demo/lm/llama.js';
import { openLlamaFolder } from '../../demo/lm/node.js';
import { perplexity as measurePerplexity, type Perplexity } from '../../demo/lm/perplexity.js';
import { keepingMatrices, type LlamaSource } from '../../demo/lm/source.js';
import { diskError } from '../checkpoint/disk.js';
import { InvalidArgumentError } from '../errors.js';
import type { Gpu } from '../gpu/gpu.js';
import { adapterName, type GpuOptions, openGpu } from './gpu-options.js';
import { runInterruptible } from './interruptible.js';
import { megabytes, type ProgressBar } from './progress.js';

/** Where tokens come from. */
export interface TokenOptions {
  tokens: string;
  tokenType?: 'u16' | 'u32';
  /** From the beginning; all by default. */
  sequences?: number;
}

export interface PerplexityCommandOptions extends GpuOptions, TokenOptions {
  formats?: string[];
  activations?: string[];
  table?: string[];
  keep?: string[];
  length?: number;
  batch?: number;
  precision: 'f32' | 'f16';
  decode: number;
  /** False with --no-baselines. */
  baselines: boolean;
}

/** One line of the table. */
export interface PerplexityRow {
  readonly weights: string;
  readonly activations: string;
  readonly perplexity: number;
  readonly loss: number;
  /** Against the weights as they are stored, and against NVFP4 with activations of the same kind; undefined without them. */
  readonly percentOverFloat: number | undefined;
  readonly percentOverNvfp4: number | undefined;
  /** Of the linear layers in blocks, scales included. */
  readonly bitsPerWeight: number;
  /** Of all weights. */
  readonly weightBytes: number;
  readonly prefillTokensPerSecond: number;
  readonly decodeTokensPerSecond: number | undefined;
  readonly batch: number;
  /** Those that the products of the perplexity were computed with. */
  readonly kernels: readonly string[];
  /** Getting the model ready in this format, the measurement, and decoding. */
  readonly prepareSeconds: number;
  readonly seconds: number;
  readonly lossPerSequence: readonly number[];
}

interface Summary {
  readonly model: string;
  readonly adapter: string;
  readonly storedAs: string;
  readonly sequences: number;
  readonly length: number;
  readonly predictedTokens: number;
  readonly precision: 'f32' | 'f16';
  readonly keep: readonly string[];
  readonly rows: readonly PerplexityRow[];
}

export async function perplexity(model: string, options: PerplexityCommandOptions): Promise<void> {
  const configurations = chooseConfigurations(options);
  await runInterruptible({
    unit: 'sequences',
    left: 'nothing was printed',
    run: (signal, bar) => run(model, configurations, options, signal, bar),
    print: (summary: Summary) => (options.json ? JSON.stringify(summary, null, 2) : formatTable(summary)),
  });
}

/** What is asked for, in its order and once each, behind what it is compared with. */
export function chooseConfigurations({
  formats = [],
  activations = [],
  table = [],
  baselines,
}: Pick<PerplexityCommandOptions, 'formats' | 'activations' | 'table' | 'baselines'>): Configuration[] {
  const texts = table.flatMap((name) => {
    if (!Object.hasOwn(TABLES, name)) {
      throw new InvalidArgumentError(
        'perplexity',
        `unknown table ${name}; there are ${Object.keys(TABLES).join(', ')}`,
      );
    }
    return TABLES[name as keyof typeof TABLES];
  });
  const asked = [
    ...texts.map((text) => parseConfiguration(text)),
    ...formats.flatMap((text) =>
      (activations.length && !text.includes('/') ? activations : [undefined]).map((x) =>
        parseConfiguration(text, x),
      ),
    ),
  ];
  if (!asked.length) {
    throw new InvalidArgumentError(
      'perplexity',
      'nothing to measure; name --formats, or a --table: w4a16, w4a4',
    );
  }
  const references = asked.map(nvfp4Reference).filter((reference) => reference !== undefined);
  const float: Configuration = { weights: 'float', activations: 'float' };
  const all = baselines ? [float, ...references, ...asked] : asked;
  return [...new Map(all.map((configuration) => [nameOf(configuration), configuration])).values()];
}

const nameOf = ({ weights, activations }: Configuration) =>
  `${weightsName(weights)}/${activationsName(activations, weights)}`;

/** NVFP4 with activations of the same kind: FP4 ones are NVFP4 beside it. */
function nvfp4Reference({ weights, activations }: Configuration): Configuration | undefined {
  if (weights === 'float') return undefined;
  const kind = typeof activations === 'string' ? activations : activations.kind;
  return {
    weights: { format: 'nvfp4' },
    activations: kind === 'float' || kind === 'int8' ? kind : 'nvfp4',
  };
}

async function run(
  model: string,
  configurations: readonly Configuration[],
  options: PerplexityCommandOptions,
  signal: AbortSignal,
  bar: ProgressBar,
): Promise<Summary> {
  await using folder = await openLlamaFolder(model);
  const { config, storedAs } = folder;
  const length = options.length ?? config.maxPositions;
  const tokens = await readTokens(options, config.vocabulary, length);
  const sequences = tokens.length / length;
  using gpu = await openGpu(options);
  const source = keepingMatrices(folder);
  const shared = await uploadShared(gpu, source);
  bar.start(configurations.length * sequences);
  const results: Measured[] = [];
  try {
    for (const [i, configuration] of configurations.entries()) {
      const onProgress = (done: number) => bar.update(i * sequences + done, nameOf(configuration));
      onProgress(0);
      results.push(
        await measure(gpu, source, configuration, { ...options, shared, tokens, length, signal, onProgress }),
      );
    }
  } finally {
    shared.destroy();
  }
  return {
    model,
    adapter: adapterName(gpu),
    storedAs,
    sequences,
    length,
    predictedTokens: sequences * (length - 1),
    precision: options.precision,
    keep: options.keep ?? [],
    rows: toRows(results),
  };
}

interface Measured {
  readonly configuration: Configuration;
  readonly llama: Pick<Llama, 'bitsPerWeight' | 'storedBytes'>;
  readonly result: Perplexity;
  readonly prepareSeconds: number;
  readonly decodeTokensPerSecond: number | undefined;
}

async function measure(
  gpu: Gpu,
  source: LlamaSource,
  configuration: Configuration,
  options: Pick<PerplexityCommandOptions, 'keep' | 'precision' | 'batch' | 'decode'> & {
    readonly shared: Awaited<ReturnType<typeof uploadShared>>;
    readonly tokens: Uint32Array;
    readonly length: number;
    readonly signal: AbortSignal;
    readonly onProgress: (done: number) => void;
  },
): Promise<Measured> {
  const { keep, precision, batch, decode, shared, tokens, length, signal, onProgress } = options;
  const start = performance.now();
  using llama = await createLlama(gpu, source, { ...configuration, keep, precision, shared, signal });
  await gpu.device.queue.onSubmittedWorkDone();
  const prepareSeconds = (performance.now() - start) / 1000;
  const result = await measurePerplexity(llama, tokens, {
    sequenceLength: length,
    batch,
    signal,
    onProgress,
  });
  const decodeTokensPerSecond = decode ? await decodeSpeed(llama, tokens, decode, signal) : undefined;
  const { bitsPerWeight, storedBytes } = llama;
  return {
    configuration,
    llama: { bitsPerWeight, storedBytes },
    result,
    prepareSeconds,
    decodeTokensPerSecond,
  };
}

/** Of the prompt that decoding begins with. */
const PROMPT = 16;

/** Tokens a second, one after another, of the longest text that fits, after the first ones have been made. */
async function decodeSpeed(
  llama: Llama,
  tokens: Uint32Array,
  wanted: number,
  signal: AbortSignal,
): Promise<number | undefined> {
  const warmUp = 4;
  const prompt = tokens.subarray(0, Math.min(PROMPT, llama.config.maxPositions - warmUp - 1));
  const maxTokens = Math.min(warmUp + wanted, llama.config.maxPositions - prompt.length);
  let given = 0;
  let start = 0;
  for await (const _ of generate(llama, prompt, { maxTokens, endTokens: [], signal })) {
    if (++given === warmUp) start = performance.now();
  }
  return given > warmUp ? (given - warmUp) / ((performance.now() - start) / 1000) : undefined;
}

function toRows(results: readonly Measured[]): PerplexityRow[] {
  const found = new Map(
    results.map(({ configuration, result }) => [nameOf(configuration), result.perplexity]),
  );
  const percentOver = (own: number, reference: Configuration | undefined) => {
    const other = reference && found.get(nameOf(reference));
    return other === undefined ? undefined : (own / other - 1) * 100;
  };
  return results.map(({ configuration, llama, result, prepareSeconds, decodeTokensPerSecond }) => ({
    weights: weightsName(configuration.weights),
    activations: activationsName(configuration.activations, configuration.weights),
    perplexity: result.perplexity,
    loss: result.loss,
    percentOverFloat: percentOver(result.perplexity, { weights: 'float', activations: 'float' }),
    percentOverNvfp4: percentOver(result.perplexity, nvfp4Reference(configuration)),
    bitsPerWeight: llama.bitsPerWeight,
    weightBytes: llama.storedBytes,
    prefillTokensPerSecond: result.tokensPerSecond,
    decodeTokensPerSecond,
    batch: result.batch,
    kernels: result.kernels,
    prepareSeconds,
    seconds: result.seconds,
    lossPerSequence: [...result.lossPerSequence],
  }));
}

/** @throws CheckpointError for a file that cannot be read; InvalidArgumentError for one that is no such list of tokens */
export async function readTokens(
  { tokens: path, tokenType, sequences }: TokenOptions,
  vocabulary: number,
  length: number,
): Promise<Uint32Array> {
  const bytes = await readFile(path).catch((cause) => {
    throw diskError(path, cause, 'read');
  });
  const type = tokenType ?? (/\.u32$/.test(path) || vocabulary > 2 ** 16 ? 'u32' : 'u16');
  const size = type === 'u16' ? 2 : 4;
  const fail = (problem: string): never => {
    throw new InvalidArgumentError('perplexity', `${path}: ${problem}`);
  };
  if (bytes.length % size) fail(`${bytes.length} bytes are no whole number of ${type}; see --token-type`);
  const count = bytes.length / size;
  const wanted = sequences === undefined ? count : sequences * length;
  if (wanted > count) fail(`has ${count} tokens; ${sequences} sequences of ${length} are ${wanted}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Uint32Array.from({ length: wanted }, (_, i) =>
    size === 2 ? view.getUint16(2 * i, true) : view.getUint32(4 * i, true),
  );
}

function formatTable(summary: Summary): string {
  const { model, adapter, storedAs, sequences, length, predictedTokens, keep, rows } = summary;
  const head = [
    'weights',
    'activations',
    'perplexity',
    `% over ${storedAs}`,
    '% over NVFP4',
    'bits/weight',
    'weights',
    'prefill tokens/s',
    'decode tokens/s',
  ];
  const table = new Table({
    colAligns: ['left', 'left', ...head.slice(2).map(() => 'right' as const)],
    style: { head: [], border: [], compact: true },
  });
  const line = (content: string) => table.push([{ colSpan: head.length, content, hAlign: 'left' }]);
  line(`adapter: ${adapter}`);
  line(`model: ${model}, ${sequences} sequences of ${length} tokens`);
  if (keep.length) line(`kept as they are: ${keep.join(', ')}`);
  table.push(head);
  const percent = (value: number | undefined) => (value === undefined ? '' : value.toFixed(2));
  for (const row of rows) {
    table.push([
      row.weights === 'float' ? storedAs : row.weights,
      row.activations,
      row.perplexity.toFixed(4),
      percent(row.percentOverFloat),
      percent(row.percentOverNvfp4),
      Number(row.bitsPerWeight.toFixed(4)),
      megabytes(row.weightBytes),
      row.prefillTokensPerSecond.toFixed(0),
      row.decodeTokensPerSecond?.toFixed(1) ?? '',
    ]);
  }
  return `${table}\nover ${predictedTokens} predicted tokens; NVFP4 of the same kind: with float activations, or all FP4`;
}
