/** `sensitivity` of a model that is not run: errors of weights, or of outputs where there are inputs. */
import { availableParallelism } from 'node:os';
import { dirname } from 'node:path';
import type { Configuration } from '../../demo/lm/format-names.js';
import type { Checkpoint } from '../checkpoint/open.js';
import { InvalidArgumentError, UnsupportedError } from '../errors.js';
import { activationSpec, defaultActivations } from '../gemm/activations.js';
import { openCheckpointFile } from '../node.js';
import { addSums, type ErrorSums, NO_ERROR } from '../quantize/metrics.js';
import { dequantize, quantize } from '../quantize/quantize.js';
import { type ActivationSummary, MagnitudeStatistics } from '../sensitivity/activation-statistics.js';
import { type LayerError, layerError, outputErrorReport } from '../sensitivity/output-error.js';
import type { LayerBits } from '../sensitivity/recommend.js';
import { type Config, readConfig } from './model-folder.js';
import { settled } from './parallel.js';
import { chooseGpu, type QuantizeRunOptions } from './quantize.js';
import { isPlanned, type MatrixRules, type PlannedMatrix, planQuantization } from './quantize-plan.js';
import { RowQuantizer } from './row-quantizer.js';
import type { MatrixInputs } from './rows-task.js';
import { configurationName, fp4Bits, type Measured, type MeasuredFormat } from './sensitivity-measured.js';

export interface ErrorOptions extends QuantizeRunOptions {
  inputs?: string;
  keep?: string[];
  also?: string[];
}

export interface ErrorRun {
  readonly signal: AbortSignal;
  /** Before the first matrix; bytes of all, once a format. */
  readonly onStart?: ((total: number) => void) | undefined;
  readonly onProgress?: ((done: number, name: string) => void) | undefined;
}

/** A configuration and the matrices that it is for. */
interface Job {
  readonly configuration: Configuration;
  readonly rules: MatrixRules;
  readonly planned: readonly PlannedMatrix[];
}

/**
 * @throws InvalidArgumentError, before anything is quantized, for a configuration with float weights, or activations in FP4
 * without inputs, and for inputs that a layer lacks or that are of another width; UnsupportedError for int8
 */
export async function measureErrors(
  model: string,
  configurations: readonly Configuration[],
  options: ErrorOptions,
  { signal, onStart, onProgress }: ErrorRun,
): Promise<Measured> {
  await using checkpoint = await openCheckpointFile(model);
  const config = await readConfig(dirname(checkpoint.name));
  const jobs = configurations.map((configuration) => planJob(checkpoint, config, configuration, options));
  await using inputs = options.inputs === undefined ? undefined : await openInputs(options.inputs, jobs);

  using gpu = inputs ? undefined : await chooseGpu(options);
  const quantizer = new RowQuantizer({ gpu, threads: options.threads ?? availableParallelism(), signal });
  const seen = new Map<string, ActivationSummary>();
  const formats: MeasuredFormat[] = [];
  try {
    onStart?.(jobs.reduce((sum, { planned }) => sum + bytesOf(planned), 0));
    let done = 0;
    for (const job of jobs) {
      const errors: LayerError[] = [];
      for (const matrix of job.planned) {
        signal.throwIfAborted();
        const { name, byteLength } = matrix.tensor;
        let x: MatrixInputs | undefined;
        if (inputs) {
          const rows = await inputs.rows(matrix);
          if (!seen.has(name)) seen.set(name, summaryOf(rows));
          x = { x: rows, quantized: multipliedInputs(rows, matrix, job.configuration) };
        }
        const sums = await matrixError(checkpoint, matrix, quantizer, x);
        errors.push(layerError(name, weightsOf(matrix), sums));
        done += byteLength;
        onProgress?.(done, name);
      }
      formats.push(measuredFormat(job, errors, inputs !== undefined));
    }
  } finally {
    await quantizer.close();
  }
  const note = inputs
    ? 'how much of its output FP4 changes in each layer, not what the model makes of that; --tokens measures perplexity'
    : 'how much of its weights each layer loses; --inputs measures what becomes of outputs, --tokens perplexity';
  return { formats, ...(inputs && { inputs: seen }), note };
}

function planJob(
  checkpoint: Checkpoint,
  config: Config,
  configuration: Configuration,
  { inputs, keep = [], also = [] }: ErrorOptions,
): Job {
  const { weights: rules, activations } = configuration;
  const name = configurationName(configuration);
  if (rules === 'float') {
    throw new InvalidArgumentError(
      'sensitivity',
      `${name}: weights as they are lose nothing; name an FP4 format`,
    );
  }
  const kind = typeof activations === 'string' ? activations : activations.kind;
  if (kind === 'int8') {
    throw new UnsupportedError(
      'sensitivity',
      `${name}: int8 activations are made inside kernels; measure them with --tokens`,
    );
  }
  if (kind !== 'float' && inputs === undefined) {
    throw new InvalidArgumentError(
      'sensitivity',
      `${name}: what quantizing x costs depends on x; give rows of it with --inputs, or --tokens`,
    );
  }
  const { steps } = planQuantization(checkpoint, { rules, keep, also }, config.value);
  return { configuration, rules, planned: steps.filter(isPlanned) };
}

function measuredFormat({ configuration, rules, planned }: Job, errors: LayerError[], areOutputs: boolean) {
  const bits = fp4Bits(rules);
  const layers = new Map(
    planned.map((matrix): [string, LayerBits] => {
      const weights = weightsOf(matrix);
      return [matrix.tensor.name, { weights, bits, highBits: (8 * matrix.tensor.byteLength) / weights }];
    }),
  );
  const metric = areOutputs ? 'mean relative output error' : 'mean relative weight error';
  return {
    configuration,
    bitsPerWeight: bits,
    report: outputErrorReport(errors, { metric }),
    errors,
    layers,
  };
}

const bytesOf = (planned: readonly PlannedMatrix[]) =>
  planned.reduce((sum, { tensor }) => sum + tensor.byteLength, 0);

/** Of all experts of a tensor, which are one layer. */
const weightsOf = ({ options: { rows, cols }, experts = 1 }: PlannedMatrix) => experts * rows * cols;

function summaryOf(rows: Float32Array): ActivationSummary {
  const statistics = new MagnitudeStatistics();
  statistics.add(rows);
  return statistics.summary();
}

async function matrixError(
  checkpoint: Checkpoint,
  { tensor, dtype, options, experts }: PlannedMatrix,
  quantizer: RowQuantizer,
  inputs: MatrixInputs | undefined,
): Promise<ErrorSums> {
  const { rows } = options;
  const bytesPerRow = tensor.byteLength / (rows * (experts ?? 1));
  const sums = await settled(
    Array.from({ length: experts ?? 1 }, (_, expert) => {
      const above = expert * rows;
      const name = experts === undefined ? tensor.name : `${tensor.name}, expert ${expert}`;
      const read = (start: number, end: number) =>
        checkpoint.read(tensor, { start: (above + start) * bytesPerRow, end: (above + end) * bytesPerRow });
      const source = { name, dtype, options, read };
      return inputs ? quantizer.outputError(source, inputs) : quantizer.quantize(source, async () => {});
    }),
  );
  return sums.reduce(addSums, NO_ERROR);
}

/** What a layer multiplies: rows as they are, or as a product with FP4 activations would make them. */
function multipliedInputs(
  x: Float32Array,
  { options }: PlannedMatrix,
  { activations }: Configuration,
): Float32Array {
  const { format, cols, blockSize = 32, hadamard = false } = options;
  const made = defaultActivations(activations, format, blockSize);
  if (made.kind !== 'mxfp4' && made.kind !== 'nvfp4') return x;
  // A product with rotated weights rotates x as well, and quantizes it then.
  return dequantize(quantize(x, { ...activationSpec(made, x.length / cols, cols), hadamard }));
}

interface Inputs extends AsyncDisposable {
  /** f32[m, k], finite. */
  rows(matrix: PlannedMatrix): Promise<Float32Array>;
}

/** @throws InvalidArgumentError where a matrix has no inputs, or of another width; for experts of one tensor */
async function openInputs(path: string, jobs: readonly Job[]): Promise<Inputs> {
  const file = await openCheckpointFile(path);
  const fail = (message: string): never => {
    throw new InvalidArgumentError('sensitivity', `${path}: ${message}`);
  };
  try {
    const infos = new Map(file.matrices.map((info) => [info.name, info]));
    const names = new Map<string, string>();
    const missing = new Set<string>();
    for (const { tensor, options, experts } of jobs.flatMap(({ planned }) => planned)) {
      if (experts !== undefined) {
        fail(`${tensor.name} has ${experts} experts, each with inputs of its own; leave it out with --keep`);
      }
      const found = [tensor.name, tensor.name.replace(/\.weight$/, '')].find((name) => infos.has(name));
      if (found === undefined) {
        missing.add(tensor.name);
        continue;
      }
      const { producer, shape, experts: batches } = infos.get(found)!;
      if (producer !== 'float') fail(`inputs ${found} are no floats`);
      if (batches !== undefined) fail(`inputs ${found} have three dimensions; give them as [rows, k]`);
      if (shape[1] !== options.cols)
        fail(`inputs ${found} are ${shape[1]} wide, and the layer ${options.cols}`);
      names.set(tensor.name, found);
    }
    if (missing.size) {
      const [first] = missing;
      const more = missing.size > 1 ? ` and ${missing.size - 1} more` : '';
      fail(`no inputs for ${first}${more}; a tensor of that name has to hold rows of x, [m, k]`);
    }
    return {
      async rows({ tensor }) {
        const name = names.get(tensor.name)!;
        const matrix = await file.matrix(name);
        const values = 'values' in matrix ? matrix.values : dequantize(matrix);
        const bad = values.findIndex((value) => !Number.isFinite(value));
        if (bad >= 0) fail(`inputs ${name} have ${values[bad]} in row ${Math.floor(bad / matrix.cols)}`);
        return values;
      },
      [Symbol.asyncDispose]: () => file.close(),
    };
  } catch (error) {
    await file.close();
    throw error;
  }
}
