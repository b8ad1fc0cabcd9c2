/** `sensitivity` of a model that is run: perplexity with layers kept in turn. */
import { createHash } from 'node:crypto';
import type { Configuration } from '../../demo/lm/format-names.js';
import { WatchedLlama } from '../../demo/lm/input-statistics.js';
import { createLlama, type Llama, type SharedWeights, uploadShared } from '../../demo/lm/llama.js';
import { mixLlamas } from '../../demo/lm/mix.js';
import { openLlamaFolder } from '../../demo/lm/node.js';
import { perplexity } from '../../demo/lm/perplexity.js';
import { fp4Layers } from '../../demo/lm/quantized-layers.js';
import { keepingMatrices } from '../../demo/lm/source.js';
import { InvalidArgumentError } from '../errors.js';
import { openCheckpointFile, tuneFile } from '../node.js';
import type { ActivationSummary } from '../sensitivity/activation-statistics.js';
import { leaveOneOut } from '../sensitivity/leave-one-out.js';
import type { LayerBits } from '../sensitivity/recommend.js';
import type { SubjectKind } from '../sensitivity/report.js';
import { adapterName, type GpuOptions, openGpu } from './gpu-options.js';
import { filesDigest } from './model-folder.js';
import { readTokens, type TokenOptions } from './perplexity.js';
import { configurationName, type Measured, type MeasuredFormat } from './sensitivity-measured.js';

export interface LossOptions extends GpuOptions, TokenOptions {
  keep?: string[];
  kinds?: SubjectKind[];
  length?: number;
  batch?: number;
  precision?: 'f32' | 'f16';
  /** Where perplexities are kept, so that an interrupted run goes on. */
  resume?: string;
}

export interface LossRun {
  readonly signal: AbortSignal;
  /** Names of layers to keep together, which is evaluated as well. */
  readonly recommend?: ((format: MeasuredFormat) => readonly string[]) | undefined;
  /** Before the first evaluation; sequences of all. */
  readonly onStart?: ((total: number) => void) | undefined;
  readonly onProgress?: ((done: number, name: string) => void) | undefined;
}

/**
 * Runs a Llama on the GPU, all of it in FP4 but one component, block or part of a block. Layers are on the GPU in both
 * forms, so that nothing is loaded or quantized twice.
 * @throws InvalidArgumentError for configurations with float weights, patterns that match nothing and no layer left in FP4;
 * as `createLlama` and `perplexity`
 */
export async function measureLosses(
  model: string,
  configurations: readonly Configuration[],
  options: LossOptions,
  { signal, recommend, onStart, onProgress }: LossRun,
): Promise<Measured> {
  const { keep, kinds, batch, precision = 'f32' } = options;
  for (const configuration of configurations) {
    if (configuration.weights !== 'float') continue;
    const name = configurationName(configuration);
    throw new InvalidArgumentError(
      'sensitivity',
      `${name}: weights as they are lose nothing; name an FP4 format`,
    );
  }
  await using folder = await openLlamaFolder(model);
  const length = options.length ?? folder.config.maxPositions;
  const tokens = await readTokens(options, folder.config.vocabulary, length);
  const sequences = tokens.length / length;
  const storage = options.resume === undefined ? undefined : tuneFile(options.resume);
  const identity = storage && (await identityOf(model, tokens, { keep, length, batch, precision }));

  using gpu = await openGpu(options);
  const source = keepingMatrices(folder);
  const shared = await uploadShared(gpu, source);
  try {
    using float = await createLlama(gpu, source, { shared, precision, signal });
    const run = (llama: Llama, onSequences?: (done: number) => void) =>
      perplexity(llama, tokens, { sequenceLength: length, batch, signal, onProgress: onSequences });
    const lossOf = async (llama: Llama) => (await run(llama)).perplexity;
    const inputs = await watchInputs(float, shared, lossOf);
    const formats: MeasuredFormat[] = [];
    let before = 0;
    for (const configuration of configurations) {
      using quantized = await createLlama(gpu, source, { ...configuration, keep, shared, precision, signal });
      const layers = fp4Layers(quantized, float, configuration, keep);
      const name = configurationName(configuration);
      const adapter = adapterName(gpu);
      let total = 0;
      let done = 0;
      const report = await leaveOneOut({
        layers: [...layers.keys()],
        metric: 'perplexity',
        kinds,
        storage,
        identity: identity && JSON.stringify([identity, adapter, name]),
        signal,
        evaluate: async (isKept, { id }) => {
          const mixed = mixLlamas(quantized, float, shared, isKept);
          const result = await run(mixed, (sequence) =>
            onProgress?.(before + done * sequences + sequence, `${name} ${id}`),
          );
          return { logSamples: result.lossPerSequence };
        },
        onStart: (count) => {
          // Other formats have as many: their layers are the same.
          if (total === 0 && before === 0) onStart?.(count * configurations.length * sequences);
          total = count;
        },
        onProgress: (progress) => {
          done = progress.done;
          onProgress?.(before + done * sequences, `${name} ${progress.id}`);
        },
      });
      before += total * sequences;
      const format: MeasuredFormat = { configuration, bitsPerWeight: bitsOf(layers), report, layers };
      const kept = new Set(recommend?.(format));
      const together = kept.size
        ? { recommendedLoss: await lossOf(mixLlamas(quantized, float, shared, (layer) => kept.has(layer))) }
        : {};
      formats.push({ ...format, ...together });
    }
    const note = `perplexity over ${sequences * (length - 1)} predicted tokens; inputs are those of the model as it is stored`;
    return { formats, inputs, note, adapter: adapterName(gpu) };
  } finally {
    shared.destroy();
  }
}

/** Of the model as it is stored. */
async function watchInputs(
  llama: Llama,
  shared: SharedWeights,
  lossOf: (llama: Llama) => Promise<number>,
): Promise<Map<string, ActivationSummary>> {
  using watched = new WatchedLlama(llama, shared);
  await lossOf(watched.llama);
  return await watched.read();
}

function bitsOf(layers: ReadonlyMap<string, LayerBits>): number {
  const all = [...layers.values()];
  const weights = all.reduce((sum, layer) => sum + layer.weights, 0);
  return all.reduce((sum, layer) => sum + layer.weights * layer.bits, 0) / weights;
}

/** What perplexities hold for, but for the format and the adapter. */
async function identityOf(
  model: string,
  tokens: Uint32Array,
  how: Readonly<Record<string, unknown>>,
): Promise<string> {
  await using checkpoint = await openCheckpointFile(model);
  const digest = createHash('sha256').update(new Uint8Array(tokens.buffer)).digest('hex').slice(0, 16);
  return JSON.stringify([await filesDigest(model, checkpoint), digest, how]);
}
