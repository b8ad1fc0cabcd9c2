/** Perplexity of a model in one format beside another: which are compared, how each is measured, and the rows of the table. */
import { InvalidArgumentError } from '../../src/index.js';
import {
  activationsName,
  type Configuration,
  configurationName,
  parseConfiguration,
  TABLES,
  weightsName,
} from './format-names.js';
import { generate } from './generate.js';
import type { Llama } from './llama.js';
import { type Perplexity, perplexity } from './perplexity.js';

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

export interface ConfigurationChoice {
  /** `WEIGHTS` or `WEIGHTS/ACTIVATIONS`, as `parseConfiguration` takes them. */
  readonly formats?: readonly string[];
  /** Of formats that name none. */
  readonly activations?: readonly string[];
  /** Names of `TABLES`. */
  readonly table?: readonly string[];
  /** Whether what formats are compared with is measured as well. */
  readonly baselines: boolean;
}

/**
 * What is asked for, in its order and once each, behind what it is compared with.
 * @throws InvalidArgumentError for a name that is none, and where nothing is asked for
 */
export function chooseConfigurations({
  formats = [],
  activations = [],
  table = [],
  baselines,
}: ConfigurationChoice): Configuration[] {
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
  const all = baselines ? [FLOAT, ...references, ...asked] : asked;
  return [...new Map(all.map((configuration) => [configurationName(configuration), configuration])).values()];
}

/** The weights as they are stored. */
export const FLOAT: Configuration = { weights: 'float', activations: 'float' };

/** NVFP4 with activations of the same kind: FP4 ones are NVFP4 beside it. */
function nvfp4Reference({ weights, activations }: Configuration): Configuration | undefined {
  if (weights === 'float') return undefined;
  const kind = typeof activations === 'string' ? activations : activations.kind;
  return {
    weights: { format: 'nvfp4' },
    activations: kind === 'float' || kind === 'int8' ? kind : 'nvfp4',
  };
}

export interface Measured {
  readonly configuration: Configuration;
  readonly llama: Pick<Llama, 'bitsPerWeight' | 'storedBytes'>;
  readonly result: Perplexity;
  readonly prepareSeconds: number;
  readonly decodeTokensPerSecond: number | undefined;
}

export interface MeasureOptions {
  /** Tokens of a sequence, and sequences at a time: see `perplexity`. */
  readonly length: number;
  readonly batch?: number | undefined;
  /** Tokens that are decoded for their speed; 0 for none. */
  readonly decode: number;
  readonly signal: AbortSignal;
  /** Called with the sequences that are done. */
  readonly onProgress: (done: number) => void;
}

/** @param prepareSeconds that the model took to get ready */
export async function measureLlama(
  configuration: Configuration,
  llama: Llama,
  tokens: Uint32Array,
  prepareSeconds: number,
  { length, batch, decode, signal, onProgress }: MeasureOptions,
): Promise<Measured> {
  const result = await perplexity(llama, tokens, { sequenceLength: length, batch, signal, onProgress });
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

export function toRows(results: readonly Measured[]): PerplexityRow[] {
  const found = new Map(
    results.map(({ configuration, result }) => [configurationName(configuration), result.perplexity]),
  );
  const percentOver = (own: number, reference: Configuration | undefined) => {
    const other = reference && found.get(configurationName(reference));
    return other === undefined ? undefined : (own / other - 1) * 100;
  };
  return results.map(({ configuration, llama, result, prepareSeconds, decodeTokensPerSecond }) => ({
    weights: weightsName(configuration.weights),
    activations: activationsName(configuration.activations, configuration.weights),
    perplexity: result.perplexity,
    loss: result.loss,
    percentOverFloat: percentOver(result.perplexity, FLOAT),
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
