import { realpath } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import packageJson from '../../package.json' with { type: 'json' };
import type { StoredTensor } from '../checkpoint/container.js';
import { copyTensor } from '../checkpoint/convert.js';
import type { Checkpoint } from '../checkpoint/open.js';
import { matrixParts } from '../checkpoint/producers/canonical.js';
import { CheckpointError, InvalidArgumentError, UnsupportedError } from '../errors.js';
import { isSoftware } from '../gpu/caps.js';
import type { Gpu } from '../gpu/gpu.js';
import { bitsPerValue } from '../matrix/quantized-matrix.js';
import { createModelWriter, type ModelFile, type ModelWriter, openCheckpointFile } from '../node.js';
import { addSums, type ErrorSums, NO_ERROR, sqnrOf } from '../quantize/metrics.js';
import type { QuantizeSpec } from '../quantize/options.js';
import { type GpuOptions, openGpu } from './gpu-options.js';
import { runInterruptible } from './interruptible.js';
import { CONFIG, type Config, filesDigest, listFolder, readConfig } from './model-folder.js';
import { Slots, settled } from './parallel.js';
import { megabytes } from './progress.js';
import {
  copiedHeader,
  isPlanned,
  type MatrixRules,
  type PlannedMatrix,
  planQuantization,
  type QuantizePlan,
} from './quantize-plan.js';
import { RowQuantizer } from './row-quantizer.js';

/** Where matrices are quantized. */
export interface QuantizeRunOptions extends GpuOptions {
  gpu?: 'auto' | 'off' | 'require';
  threads?: number;
}

export interface QuantizeCommandOptions extends QuantizeRunOptions {
  output: string;
  format: MatrixRules['format'];
  block?: number;
  scale?: string;
  macro?: string;
  macroSize?: number;
  tile?: string;
  rounding?: string;
  seed?: number;
  hadamard?: boolean;
  fourOverSixError?: string;
  keep?: string[];
  also?: string[];
  shardSize?: number;
  overwrite?: boolean;
}

/** What `--json` prints. */
export interface QuantizeSummary {
  readonly output: string;
  readonly device: string;
  readonly resumed: boolean;
  readonly format: string;
  readonly matrices: readonly { readonly name: string; readonly sqnr: number | null }[];
  readonly weights: number;
  readonly bitsPerWeight: number;
  /** In dB: of all weights together, the mean over matrices, and the worst of them; null where nothing is lost. */
  readonly sqnr: {
    readonly total: number | null;
    readonly mean: number | null;
    readonly worst: number | null;
  };
  readonly worst: string;
  /** Names by reason. */
  readonly kept: Readonly<Record<string, readonly string[]>>;
  /** Matrices that were FP4 before. */
  readonly alreadyQuantized: readonly string[];
  readonly onCpu: readonly string[];
  readonly bytes: { readonly before: number; readonly after: number };
  readonly files: { readonly written: readonly string[]; readonly leftOut: readonly string[] };
  readonly seconds: number;
  readonly peakMemory: number;
}

/** The command: reports on the terminal, and is interrupted by Ctrl-C. */
export async function quantize(model: string, options: QuantizeCommandOptions): Promise<void> {
  await runInterruptible({
    run: (signal, bar) =>
      quantizeModel(model, options, {
        signal,
        onStart: (device, total) => {
          if (!options.json) process.stderr.write(`quantizing on ${device}\n`);
          bar.start(total);
        },
        onProgress: (done, name) => bar.update(done, name),
      }),
    stopping: 'stopping …',
    left: 'the same command goes on after the last finished matrix',
    print: (summary) => (options.json ? JSON.stringify(summary, null, 2) : describe(summary)),
  });
}

export interface QuantizeRun {
  readonly signal?: AbortSignal | undefined;
  /** Before the first matrix; bytes of all tensors. */
  readonly onStart?: ((device: string, total: number) => void) | undefined;
  /** Bytes of tensors that are done, and whose those were. */
  readonly onProgress?: ((done: number, name: string) => void) | undefined;
}

/**
 * Quantizes a safetensors model into a folder, a stripe of rows at a time. Interrupted by the signal or anything else,
 * it goes on after the last finished matrix when called again.
 * @throws InvalidArgumentError, before anything is written, for options that do not go together, a folder that holds
 * something else, and an interrupted run with other options
 */
export async function quantizeModel(
  model: string,
  options: QuantizeCommandOptions,
  { signal, onStart, onProgress }: QuantizeRun = {},
): Promise<QuantizeSummary> {
  const began = performance.now();
  await using checkpoint = await openCheckpointFile(model);
  const source = dirname(checkpoint.name);
  await checkFolders(checkpoint, source, options.output);
  const config = await readConfig(source);
  const rules = rulesOf(options);
  const plan = planQuantization(
    checkpoint,
    { rules, keep: options.keep ?? [], also: options.also ?? [] },
    config.value,
  );
  const beside = await filesBeside(source, checkpoint, config, plan);

  using gpu = await chooseGpu(options);
  const stop = new AbortController();
  const signals = AbortSignal.any([stop.signal, ...(signal ? [signal] : [])]);
  const threads = options.threads ?? availableParallelism();
  const quantizer = new RowQuantizer({ gpu, threads, signal: signals });
  let writer: ModelWriter | undefined;
  try {
    writer = await createModelWriter(options.output, {
      tensors: plan.steps.flatMap((step) => (isPlanned(step) ? step.headers : [copiedHeader(step)])),
      metadata: checkpoint.metadata,
      maxShardBytes: options.shardSize,
      identity: await identityOf(checkpoint, source, plan.spec),
      overwrite: options.overwrite,
    });
    const total = checkpoint.tensors.reduce((sum, { byteLength }) => sum + byteLength, 0);
    onStart?.(quantizer.device, total);
    let done = 0;
    const tell = (bytes: number, name: string) => {
      done += bytes;
      onProgress?.(done, name);
    };
    const errors = await runSteps(plan, {
      checkpoint,
      writer,
      quantizer,
      threads,
      stop,
      signal: signals,
      tell,
    });
    await writer.complete(beside.files);
    return summarize({ checkpoint, plan, writer, quantizer, errors, beside, began, options });
  } finally {
    // What is finished stays; an error on the way is already being thrown.
    await writer?.close().catch(() => {});
    await quantizer.close();
  }
}

function rulesOf(o: QuantizeCommandOptions): MatrixRules {
  // Checked by `resolveOptions`, which names the value and the choices.
  return {
    format: o.format,
    blockSize: o.block,
    scaleRule: o.scale,
    macroScale: o.macro,
    macroSize: o.macroSize,
    tile: o.tile,
    rounding: o.rounding,
    seed: o.seed,
    hadamard: o.hadamard,
    fourOverSixError: o.fourOverSixError,
  } as MatrixRules;
}

async function checkFolders(checkpoint: Checkpoint, source: string, output: string): Promise<void> {
  if (checkpoint.container !== 'safetensors') {
    throw new UnsupportedError(
      'quantize',
      `${checkpoint.name}: quantizes safetensors models, and this is ${checkpoint.container}; quantize what it was made of`,
    );
  }
  // Of a folder that is not there yet, its path will do.
  const real = await realpath(output).catch(() => resolve(output));
  if (real === (await realpath(source))) {
    throw new InvalidArgumentError('quantize', `${output} is the model's own folder; name another`);
  }
}

/** The text of config.json with what was done; else left byte for byte as it is. */
function describeInConfig({ text, value }: Config, plan: QuantizePlan): string | undefined {
  if (text === undefined) return undefined;
  // A model that was quantized in part before keeps what its loaders look for.
  const key = 'quantization_config' in value ? 'fp4_webgpu_config' : 'quantization_config';
  if (key in value) {
    throw new CheckpointError('quantize', `${CONFIG}: has a ${key} already; remove that entry`);
  }
  const { format, blockSize, scaleRule, macroScale, macroSize, tile, rounding, seed, hadamard } = plan.spec;
  const entry = {
    quant_method: 'fp4-webgpu',
    version: packageJson.version,
    format,
    block_size: blockSize,
    scale_rule: scaleRule,
    macro_scale: macroScale,
    ...(macroScale !== 'none' && { macro_size: macroSize }),
    tile,
    rounding,
    ...(rounding === 'stochastic' && { seed }),
    hadamard,
    modules_to_not_convert: plan.kept.map(({ name }) => name.replace(/\.weight$/, '')),
  };
  const json = JSON.stringify(entry, null, 2).replaceAll('\n', '\n  ');
  const end = text.lastIndexOf('}');
  const head = text.slice(0, end).trimEnd();
  return `${head}${head.endsWith('{') ? '' : ','}\n  "${key}": ${json}\n${text.slice(end)}`;
}

interface FilesBeside {
  readonly files: ModelFile[];
  /** Names that are not copied. */
  readonly leftOut: string[];
}

/** Everything in the model's folder but weights, hidden files and folders. */
async function filesBeside(
  source: string,
  checkpoint: Checkpoint,
  config: Config,
  plan: QuantizePlan,
): Promise<FilesBeside> {
  const { copied, leftOut } = await listFolder(source, checkpoint);
  const files: ModelFile[] = copied.map((name) => ({ name, from: join(source, name) }));
  const text = describeInConfig(config, plan);
  if (text !== undefined) files.push({ name: CONFIG, from: new TextEncoder().encode(text) });
  files.sort((a, b) => (a.name < b.name ? -1 : 1));
  return { files, leftOut };
}

/** What the values that are written depend on. */
async function identityOf(
  checkpoint: Checkpoint,
  source: string,
  spec: QuantizeSpec,
): Promise<Record<string, string>> {
  const { rows, cols, ...rules } = spec;
  return {
    version: packageJson.version,
    'model, or its files were changed': await filesDigest(source, checkpoint),
    ...Object.fromEntries(Object.entries(rules).map(([name, value]) => [name, String(value)])),
  };
}

/** A GPU that is worth using. @throws UnsupportedError where one is asked for and there is none */
export async function chooseGpu(options: QuantizeRunOptions): Promise<Gpu | undefined> {
  if (options.gpu === 'off') return undefined;
  const isRequired =
    options.gpu === 'require' || options.backend !== undefined || options.adapter !== undefined;
  try {
    const gpu = await openGpu(options);
    // An adapter on the CPU is slower than the threads it would take away.
    if (isRequired || !isSoftware(gpu.adapterInfo)) return gpu;
    gpu.destroy();
  } catch (error) {
    if (isRequired || !(error instanceof UnsupportedError)) throw error;
  }
  return undefined;
}

interface Steps {
  readonly checkpoint: Checkpoint;
  readonly writer: ModelWriter;
  readonly quantizer: RowQuantizer;
  readonly threads: number;
  /** Aborted by the first error, so that others end soon. */
  readonly stop: AbortController;
  readonly signal: AbortSignal;
  tell(bytes: number, name: string): void;
}

/** Carries a plan out; gives the error of each matrix, by name. */
async function runSteps(plan: QuantizePlan, run: Steps): Promise<Map<string, ErrorSums>> {
  const { writer, threads, stop, signal } = run;
  const errors = new Map<string, ErrorSums>();
  // A few at a time: small matrices keep all threads busy, and what an interruption costs stays small.
  const slots = new Slots(threads + 1);
  const step = async (step: PlannedMatrix | StoredTensor) => {
    signal.throwIfAborted();
    const tensor = isPlanned(step) ? step.tensor : step;
    const names = isPlanned(step) ? step.headers.map(({ name }) => name) : [step.name];
    const note = names.map((name) => writer.finished.get(name)).find((found) => found !== undefined);
    if (note !== undefined) {
      if (isPlanned(step)) errors.set(tensor.name, note as ErrorSums);
      run.tell(tensor.byteLength, tensor.name);
    } else if (isPlanned(step)) {
      const error = await quantizeMatrix(step, run);
      await writer.finish(names, error);
      errors.set(tensor.name, error);
    } else {
      const copy = async (name: string, bytes: Uint8Array, offset: number) => {
        await writer.write(name, bytes, offset);
        run.tell(bytes.length, name);
      };
      await copyTensor(run.checkpoint, step, copy, { signal });
      await writer.finish(names);
    }
  };
  await settled(
    plan.steps.map((planned) =>
      slots.run(async () => {
        try {
          await step(planned);
        } catch (error) {
          stop.abort(error);
          throw error;
        }
      }),
    ),
  );
  return errors;
}

async function quantizeMatrix(
  { tensor, dtype, options, experts }: PlannedMatrix,
  { checkpoint, writer, quantizer, signal, tell }: Steps,
): Promise<ErrorSums> {
  const { rows } = options;
  const bytesPerRow = tensor.byteLength / (rows * (experts ?? 1));
  const sums = await settled(
    Array.from({ length: experts ?? 1 }, (_, expert) => {
      const above = expert * rows;
      const read = (start: number, end: number) =>
        checkpoint.read(tensor, {
          start: (above + start) * bytesPerRow,
          end: (above + end) * bytesPerRow,
          signal,
        });
      const name = experts === undefined ? tensor.name : `${tensor.name}, expert ${expert}`;
      return quantizer.quantize({ name, dtype, options, read }, async (q, firstRow) => {
        for (const part of matrixParts(tensor.name, q)) {
          const isFirst = firstRow === 0 && (part.per === 'expert' || expert === 0);
          const row = part.per === 'row' ? above + firstRow : part.per === 'expert' ? expert : 0;
          const bytesPer = part.per === 'row' ? part.bytes.length / q.rows : part.bytes.length;
          if (part.per === 'row' || isFirst) await writer.write(part.name, part.bytes, row * bytesPer);
        }
        tell(q.rows * bytesPerRow, tensor.name);
      });
    }),
  );
  return sums.reduce(addSums, NO_ERROR);
}

interface Outcome {
  readonly checkpoint: Checkpoint;
  readonly plan: QuantizePlan;
  readonly writer: ModelWriter;
  readonly quantizer: RowQuantizer;
  readonly errors: ReadonlyMap<string, ErrorSums>;
  readonly beside: FilesBeside;
  readonly began: number;
  readonly options: QuantizeCommandOptions;
}

function summarize(o: Outcome): QuantizeSummary {
  const { spec, steps, kept, alreadyQuantized } = o.plan;
  const planned = steps.filter(isPlanned);
  const matrices = planned.map(({ tensor }) => {
    return { name: tensor.name, sqnr: finite(sqnrOf(o.errors.get(tensor.name)!)) };
  });
  const lossy = matrices.filter((matrix): matrix is { name: string; sqnr: number } => matrix.sqnr !== null);
  lossy.sort((a, b) => a.sqnr - b.sqnr);
  const mean = lossy.reduce((sum, { sqnr }) => sum + sqnr, 0) / lossy.length;
  const total = sqnrOf([...o.errors.values()].reduce(addSums, NO_ERROR));
  const reasons = new Map<string, string[]>();
  for (const { name, reason } of kept) reasons.set(reason, [...(reasons.get(reason) ?? []), name]);
  const { macroSize, ...withoutMacro } = spec;
  return {
    output: o.options.output,
    device: o.quantizer.device,
    resumed: o.writer.resumed,
    format: formatOf(spec),
    matrices,
    weights: planned.reduce(
      (sum, { options, experts = 1 }) => sum + experts * options.rows * options.cols,
      0,
    ),
    bitsPerWeight: bitsPerValue(spec.macroScale === 'none' ? withoutMacro : spec),
    sqnr: { total: finite(total), mean: finite(mean), worst: lossy[0]?.sqnr ?? null },
    worst: lossy[0]?.name ?? '',
    kept: Object.fromEntries(reasons),
    alreadyQuantized: alreadyQuantized.map(({ name }) => name),
    onCpu: [...o.quantizer.leftToCpu],
    bytes: {
      before: o.checkpoint.tensors.reduce((sum, { byteLength }) => sum + byteLength, 0),
      after: o.writer.byteLength,
    },
    files: {
      written: [...o.writer.files, ...o.beside.files.map(({ name }) => name)],
      leftOut: o.beside.leftOut,
    },
    seconds: (performance.now() - o.began) / 1000,
    // Of the process, in bytes; the system counts in kB.
    peakMemory: process.resourceUsage().maxRSS * 1024,
  };
}

/** JSON has no Infinity. */
const finite = (decibels: number) => (Number.isFinite(decibels) ? decibels : null);

function formatOf(spec: QuantizeSpec): string {
  const { format, scaleRule, blockSize, macroScale, macroSize, tile, rounding, hadamard } = spec;
  return [
    `${format} ${scaleRule}, block ${blockSize}`,
    ...(macroScale === 'none' ? [] : [`macro ${macroScale} ${macroSize}`]),
    ...(tile === '2d' ? ['2d tiles'] : []),
    ...(rounding === 'stochastic' ? [`stochastic, seed ${spec.seed}`] : []),
    ...(hadamard ? ['rotated'] : []),
  ].join(', ');
}

/** Names that a line of the summary lists. */
const LISTED = 4;

function describe(s: QuantizeSummary): string {
  const decibels = (value: number | null) => (value === null ? 'nothing lost' : `${value.toFixed(2)} dB`);
  const names = (list: readonly string[]) =>
    `${list.slice(0, LISTED).join(', ')}${list.length > LISTED ? `, … (${list.length})` : ''}`;
  return [
    `${s.output}: ${s.matrices.length} matrices, ${s.weights.toLocaleString('en')} weights, in ${s.format}`,
    `bits a weight   ${s.bitsPerWeight}; all tensors ${megabytes(s.bytes.before)} before, ${megabytes(s.bytes.after)} now`,
    `SQNR            mean ${decibels(s.sqnr.mean)}, worst ${decibels(s.sqnr.worst)} (${s.worst}), all together ${decibels(s.sqnr.total)}`,
    ...Object.entries(s.kept).map(([reason, list]) => `kept            ${reason}: ${names(list)}`),
    ...(s.alreadyQuantized.length ? [`FP4 before      ${names(s.alreadyQuantized)}`] : []),
    `files           ${names(s.files.written)}`,
    ...(s.files.leftOut.length ? [`left out        ${names(s.files.leftOut)}`] : []),
    ...(s.onCpu.length ? [`on the CPU      for want of room on the GPU: ${names(s.onCpu)}`] : []),
    `${s.seconds.toFixed(1)} s on ${s.device}${s.resumed ? ', after an earlier run' : ''}; at most ${megabytes(s.peakMemory)} of memory`,
  ].join('\n');
}
