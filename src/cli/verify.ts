import Table from 'cli-table3';
import type { StoredTensor } from '../checkpoint/container.js';
import { FLOAT_DTYPES, type FloatDtype, showShape, toFloat32 } from '../checkpoint/dtype.js';
import type { Checkpoint, MatrixInfo } from '../checkpoint/open.js';
import { rowRange } from '../matrix/quantized-matrix.js';
import { addSums, type ErrorSums, errorSums, NO_ERROR, sqnrOf } from '../quantize/metrics.js';
import { dequantize } from '../quantize/quantize.js';
import { openModel } from './open-model.js';
import { ProgressBar } from './progress.js';

export interface VerifyCommandOptions {
  minSqnr?: number;
  json?: boolean;
}

/** Values compared at a time. */
const STRIPE_VALUES = 2 ** 20;

/** One tensor of both. */
interface Compared {
  readonly name: string;
  /** How each has it: producer and format. */
  readonly a: string;
  readonly b: string;
  readonly shape: readonly number[];
  /** In dB; Infinity where nothing is lost, NaN where a value of either is none. */
  readonly sqnr: number;
  readonly maxError: number;
}

/** A tensor that cannot be compared. */
interface Problem {
  readonly name: string;
  readonly problem: string;
}

/**
 * Prints how far the matrices of `b` are from those of `a`, the worst first. Sets the exit code where one is missing, has
 * another shape, cannot be loaded, or is below `minSqnr`.
 */
export async function verify(a: string, b: string, options: VerifyCommandOptions): Promise<void> {
  await using reference = await openModel(a);
  await using other = await openModel(b);
  const { pairs, problems } = pairUp(reference, other);
  const bar = new ProgressBar();
  const total = pairs.reduce((sum, { bytes }) => sum + bytes, 0);
  bar.start(total);
  const compared: Compared[] = [];
  try {
    let done = 0;
    for (const pair of pairs) {
      const { signal, noise, maxError } = await pair.compare();
      const { name, a, b, shape, bytes } = pair;
      compared.push({ name, a, b, shape, sqnr: sqnrOf({ signal, noise }), maxError });
      done += bytes;
      bar.update(done, name);
    }
  } finally {
    bar.stop();
  }
  // NaN first, as nothing is worse.
  const rank = ({ sqnr }: Compared) => (Number.isNaN(sqnr) ? Number.NEGATIVE_INFINITY : sqnr);
  compared.sort((x, y) => (rank(x) === rank(y) ? 0 : rank(x) - rank(y)));
  const { minSqnr = Number.NEGATIVE_INFINITY } = options;
  const below = compared.filter((tensor) => !(rank(tensor) >= minSqnr)).length;
  if (problems.length || below) process.exitCode = 1;
  print(compared, problems, below, options);
}

interface Pair extends Pick<Compared, 'name' | 'a' | 'b' | 'shape'> {
  readonly bytes: number;
  compare(): Promise<ErrorSums>;
}

/** What both have, and what only one has. */
function pairUp(a: Checkpoint, b: Checkpoint): { pairs: Pair[]; problems: Problem[] } {
  const pairs: Pair[] = [];
  const problems: Problem[] = [];
  const refusals = [a, b].map((one) => new Map(one.refused.map(({ name, error }) => [name, error.message])));
  const [ofA, ofB] = [a, b].map((one) => new Map(one.matrices.map((info) => [info.name, info])));
  const names = new Set([a, b].flatMap((one) => [...one.matrices, ...one.refused].map(({ name }) => name)));
  for (const name of names) {
    const [infoA, infoB] = [ofA!.get(name), ofB!.get(name)];
    if (infoA && infoB) {
      const [shapeA, shapeB] = [shapeOf(infoA), shapeOf(infoB)];
      if (String(shapeA) === String(shapeB)) pairs.push(matrixPair(a, infoA, b, infoB));
      else problems.push({ name, problem: `is ${showShape(shapeA)} in A and ${showShape(shapeB)} in B` });
    } else {
      const refused = refusals.map((messages) => messages.get(name)).find((message) => message !== undefined);
      problems.push({ name, problem: refused ?? `is missing in ${infoA ? 'B' : 'A'}` });
    }
  }

  const tensorsOfB = new Map(b.tensors.map((tensor) => [tensor.name, tensor]));
  for (const tensor of a.tensors.filter(isVector)) {
    const { name } = tensor;
    if (names.has(name)) continue;
    const found = tensorsOfB.get(name);
    if (!found) problems.push({ name, problem: 'is missing in B' });
    else if (!isVector(found) || String(found.shape) !== String(tensor.shape)) {
      const [before, after] = [tensor, found].map(({ dtype, shape }) => `${dtype} ${showShape(shape)}`);
      problems.push({ name, problem: `is ${before} in A and ${after} in B` });
    } else pairs.push(vectorPair(a, tensor, b, found));
  }
  return { pairs, problems };
}

const shapeOf = ({ experts, shape }: MatrixInfo) => (experts === undefined ? shape : [experts, ...shape]);
const labelOf = ({ producer, format }: MatrixInfo) =>
  producer === 'float' ? format : `${producer} ${format}`;

function matrixPair(a: Checkpoint, infoA: MatrixInfo, b: Checkpoint, infoB: MatrixInfo): Pair {
  const [rows, cols] = infoA.shape;
  return {
    name: infoA.name,
    a: labelOf(infoA),
    b: labelOf(infoB),
    shape: shapeOf(infoA),
    bytes: infoA.bytes + infoB.bytes,
    async compare() {
      let sums = NO_ERROR;
      const height = Math.max(1, Math.floor(STRIPE_VALUES / cols));
      for (let expert = 0; expert < (infoA.experts ?? 1); expert++) {
        const readA = await rowReader(a, infoA, expert);
        const readB = await rowReader(b, infoB, expert);
        for (let start = 0; start < rows; start += height) {
          const end = Math.min(rows, start + height);
          sums = addSums(sums, errorSums(await readA(start, end), await readB(start, end)));
        }
      }
      return sums;
    },
  };
}

/** Reads rows of a matrix as floats: of floats from the file, of FP4 from the codes, which fit in memory. */
async function rowReader(checkpoint: Checkpoint, info: MatrixInfo, expert: number) {
  const { name, experts, shape } = info;
  const tensor = checkpoint.tensors.find((stored) => stored.name === name);
  if (info.producer === 'float' && tensor) {
    const bytesPerRow = tensor.byteLength / ((experts ?? 1) * shape[0]);
    return async (start: number, end: number) => {
      const first = expert * shape[0];
      const range = { start: (first + start) * bytesPerRow, end: (first + end) * bytesPerRow };
      return toFloat32(await checkpoint.read(tensor, range), info.format as FloatDtype);
    };
  }
  const matrix = await checkpoint.matrix(name, experts === undefined ? {} : { expert });
  return async (start: number, end: number) =>
    'values' in matrix
      ? matrix.values.subarray(start * shape[1], end * shape[1])
      : dequantize(rowRange(matrix, start, end));
}

/** A norm or a bias: floats that are no matrix. Scales of quantized matrices have other names. */
function isVector({ name, dtype, shape, byteLength }: StoredTensor): boolean {
  const isFloat = (FLOAT_DTYPES as readonly string[]).includes(dtype);
  return isFloat && (shape.length < 2 || shape.length > 3) && byteLength > 0 && /\.(weight|bias)$/.test(name);
}

function vectorPair(a: Checkpoint, tensorA: StoredTensor, b: Checkpoint, tensorB: StoredTensor): Pair {
  return {
    name: tensorA.name,
    a: tensorA.dtype,
    b: tensorB.dtype,
    shape: tensorA.shape,
    bytes: tensorA.byteLength + tensorB.byteLength,
    async compare() {
      const values = [tensorA, tensorB].map(async (tensor, i) =>
        toFloat32(await (i ? b : a).read(tensor), tensor.dtype as FloatDtype),
      );
      return errorSums(await values[0]!, await values[1]!);
    },
  };
}

function print(
  compared: readonly Compared[],
  problems: readonly Problem[],
  below: number,
  { json, minSqnr }: VerifyCommandOptions,
): void {
  const lossy = compared.map(({ sqnr }) => sqnr).filter(Number.isFinite);
  const mean = lossy.reduce((sum, sqnr) => sum + sqnr, 0) / lossy.length;
  const exact = compared.filter(({ sqnr }) => sqnr === Number.POSITIVE_INFINITY).length;
  if (json) {
    // JSON has neither Infinity nor NaN: where `sqnr` is null, `exact` tells which.
    const tensors = compared.map((tensor) => ({
      ...tensor,
      exact: tensor.sqnr === Number.POSITIVE_INFINITY,
    }));
    const summary = { compared: compared.length, exact, mean, worst: compared[0]?.sqnr, below };
    console.log(JSON.stringify({ summary, problems, tensors }, null, 2));
    return;
  }
  const table = new Table({
    head: ['tensor', 'A', 'B', 'shape', 'SQNR dB', 'largest error'],
    colAligns: ['left', 'left', 'left', 'right', 'right', 'right'],
    style: { head: [], border: [], compact: true },
  });
  for (const { name, a, b, shape, sqnr, maxError } of compared) {
    const lost = sqnr !== Number.POSITIVE_INFINITY;
    table.push([
      name,
      a,
      b,
      shape.join(' × '),
      lost ? sqnr.toFixed(2) : 'exact',
      lost ? maxError.toPrecision(3) : '',
    ]);
  }
  if (compared.length) console.log(table.toString());
  for (const { name, problem } of problems) console.log(`${name}: ${problem}`);
  const worst = compared[0];
  console.log(
    [
      `${compared.length} tensors compared, ${exact} of them exact`,
      ...(lossy.length && worst
        ? [`SQNR mean ${mean.toFixed(2)} dB, worst ${worst.sqnr.toFixed(2)} dB (${worst.name})`]
        : []),
      ...(minSqnr === undefined ? [] : [`${below} below ${minSqnr} dB`]),
      ...(problems.length ? [`${problems.length} not compared`] : []),
    ].join('; '),
  );
}
