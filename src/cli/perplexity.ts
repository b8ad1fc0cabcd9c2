/** `fp4-webgpu perplexity`: what a language model loses in each format. */
import { readFile } from 'node:fs/promises';
import Table from 'cli-table3';
import {
  chooseConfigurations,
  type Measured,
  measureLlama,
  type PerplexityRow,
  toRows,
} from '../../demo/lm/comparison.js';
import { type Configuration, configurationName } from '../../demo/lm/format-names.js';
import { createLlama, type InputType, type SharedWeights, uploadShared } from '../../demo/lm/llama.js';
import { openLlamaFolder } from '../../demo/lm/node.js';
import { keepingMatrices, type LlamaSource } from '../../demo/lm/source.js';
import { tokensOfBytes, tokenTypeOf } from '../../demo/lm/tokens.js';
import { diskError } from '../checkpoint/disk.js';
import { InvalidArgumentError } from '../errors.js';
import type { Gpu } from '../gpu/gpu.js';
import { adapterName, type GpuOptions, openGpu } from './gpu-options.js';
import { runInterruptible } from './interruptible.js';
import { megabytes, type ProgressBar } from './progress.js';

export { chooseConfigurations, type PerplexityRow };

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
  inputType: InputType;
  decode: number;
  /** False with --no-baselines. */
  baselines: boolean;
}

interface Summary {
  readonly model: string;
  readonly adapter: string;
  readonly storedAs: string;
  readonly sequences: number;
  readonly length: number;
  readonly predictedTokens: number;
  readonly precision: 'f32' | 'f16';
  readonly inputType: InputType;
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
      const onProgress = (done: number) => bar.update(i * sequences + done, configurationName(configuration));
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
    inputType: options.inputType,
    keep: options.keep ?? [],
    rows: toRows(results),
  };
}

async function measure(
  gpu: Gpu,
  source: LlamaSource,
  configuration: Configuration,
  options: Pick<PerplexityCommandOptions, 'keep' | 'precision' | 'inputType' | 'batch' | 'decode'> & {
    readonly shared: SharedWeights;
    readonly tokens: Uint32Array;
    readonly length: number;
    readonly signal: AbortSignal;
    readonly onProgress: (done: number) => void;
  },
): Promise<Measured> {
  const { keep, precision, inputType, shared, tokens, signal } = options;
  const start = performance.now();
  using llama = await createLlama(gpu, source, {
    ...configuration,
    ...{ keep, precision, inputType, shared, signal },
  });
  await gpu.device.queue.onSubmittedWorkDone();
  const prepareSeconds = (performance.now() - start) / 1000;
  return await measureLlama(configuration, llama, tokens, prepareSeconds, options);
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
  const type = tokenType ?? tokenTypeOf(path, vocabulary);
  const all = tokensOfBytes(path, bytes, type);
  const wanted = sequences === undefined ? all.length : sequences * length;
  if (wanted > all.length) {
    throw new InvalidArgumentError(
      'perplexity',
      `${path}: has ${all.length} tokens; ${sequences} sequences of ${length} are ${wanted}`,
    );
  }
  return all.slice(0, wanted);
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
