/**
 * Opens damaged checkpoints and loads every matrix in them. Each ends in a typed error, or gives what a plain reading of
 * the file by the formulas of its producer gives; and takes no more reads, memory and time than the file warrants.
 */
import type { ByteSource } from '../../src/checkpoint/byte-source.js';
import { toFloat32 } from '../../src/checkpoint/dtype.js';
import { type Checkpoint, type MatrixInfo, openCheckpoint } from '../../src/checkpoint/open.js';
import { Fp4Error } from '../../src/errors.js';
import { type QuantizedMatrix, validateMatrix } from '../../src/matrix/quantized-matrix.js';
import { Random } from '../../src/random.js';
import { withinAllocations } from './allocations.js';
import { BYSTANDER, type Mutant, SUBJECTS, type Subject } from './checkpoint-mutants.js';
import {
  type NaiveFile,
  type NaiveFp4,
  naiveGgufFiles,
  naiveMatrix,
  naiveSafetensors,
  naiveShards,
} from './naive-checkpoint.js';
import { type WatchedSource, watchedSource } from './watched-source.js';

/** Tables that are made once, and small arrays that no file asks for. */
const FEW_BYTES = 1 << 12;
/** What a mutant may take, on a machine that does other things as well. */
const MAX_SECONDS = 5;
/** A tensor beside a matrix that says what it is may be so long. */
const MAX_MARK_BYTES = 1 << 16;

export interface Outcome {
  /** Whether it opened. */
  readonly opened: boolean;
  /** FP4 matrices (experts counted apart) that loaded, and were compared. */
  readonly loaded: number;
}

export interface FuzzOptions {
  readonly seed: number;
  readonly from?: number;
  readonly to: number;
  /** Before each. */
  onMutant?(number: number): void;
}

/** @throws naming the seed, the number and the change of the first mutant that is neither right nor a typed error */
export async function fuzz({ seed, from = 0, to, onMutant }: FuzzOptions) {
  // Its table of all values of F16 is made once, and no file's doing.
  toFloat32(new Uint8Array(0), 'F16');
  const counts = { mutants: 0, opened: 0, loaded: 0 };
  for (let number = from; number < to; number++) {
    onMutant?.(number);
    const subject = SUBJECTS[number % SUBJECTS.length]!;
    const mutant = mutantOf(seed, number);
    const start = performance.now();
    try {
      const { opened, loaded } = await checkMutant(subject, mutant);
      counts.mutants++;
      counts.opened += Number(opened);
      counts.loaded += loaded;
      const seconds = (performance.now() - start) / 1000;
      if (seconds > MAX_SECONDS) throw new Error(`took ${seconds} s`);
    } catch (cause) {
      const what = mutant.what.length > 1000 ? `${mutant.what.slice(0, 1000)}…` : mutant.what;
      throw new Error(
        `seed ${seed}, mutant ${number} (${subject.name}: ${what}): ${cause}; ` +
          `again by FUZZ_SEED=${seed} FUZZ_ONLY=${number}`,
        { cause },
      );
    }
  }
  return counts;
}

/** The same for the same numbers, whatever came before. */
export function mutantOf(seed: number, number: number): Mutant {
  const random = new Random(Math.imul(seed, 0x9e3779b9) + number);
  return SUBJECTS[number % SUBJECTS.length]!.mutate(random);
}

export async function checkMutant(subject: Subject, mutant: Mutant): Promise<Outcome> {
  const { files, entry, fate } = mutant;
  const size = Object.values(files).reduce((sum, { length }) => sum + length, 0);
  const sources: WatchedSource[] = [];
  const asked: string[] = [];
  const open = async (name: string): Promise<ByteSource> => {
    asked.push(name);
    if (!Object.hasOwn(files, name)) throw new Error('no such file');
    const source = watchedSource(files[name]!, name);
    sources.push(source);
    return source;
  };
  const read = () => sources.reduce((sum, { total }) => sum + total, 0);

  const source = await open(entry);
  const checkpoint = await typed(withinAllocations(FEW_BYTES, () => openCheckpoint(source, { open })));
  // A file may be named more than once, and its first bytes are looked at before they are read.
  if (read() > 2 * size + 64) throw new Error(`opening read ${read()} of ${size} bytes`);
  const outside = asked.find((name) => /[/\\:]|\.\.|^\.?$/.test(name));
  if (outside !== undefined) throw new Error(`opens ${JSON.stringify(outside)}`);
  if (checkpoint instanceof Fp4Error) {
    if (fate === 'same') throw new Error('does not open', { cause: checkpoint });
    return { opened: false, loaded: 0 };
  }

  if (fate === 'refused') throw new Error('opens');
  const plain = readPlainly(subject, mutant);
  expectContainer(checkpoint, plain);
  let loaded = 0;
  for (const info of checkpoint.matrices) {
    const last = (info.experts ?? 1) - 1;
    const [rows, cols] = info.shape;
    if (info.bytes < ((last + 1) * rows * cols) / 2 || info.bytes > size) {
      throw new Error(`${info.name}: ${info.bytes} bytes for [${info.shape}]`);
    }
    for (const expert of new Set([0, last])) {
      loaded += Number(await checkMatrix(checkpoint, info, expert, plain, read));
    }
  }
  for (const { name, error } of checkpoint.refused) {
    requireTyped(error);
    const thrown = await checkpoint.matrix(name).catch((e: unknown) => e);
    if (thrown !== error)
      throw new Error(`${name}: refused for one reason, thrown another`, { cause: thrown });
  }
  const bystander = plain.tensors.get(BYSTANDER);
  const whole = bystander?.dtype === 'F32' && String(bystander.shape) === '2,2';
  if (whole && !checkpoint.matrices.some(({ name }) => name === BYSTANDER)) {
    throw new Error(`${BYSTANDER} is gone`);
  }
  if (fate === 'same') await expectUnchanged(subject, checkpoint);
  return { opened: true, loaded };
}

/** Whether it loaded; then it was right. */
async function checkMatrix(
  checkpoint: Checkpoint,
  info: MatrixInfo,
  expert: number,
  plain: NaiveFile,
  read: () => number,
): Promise<boolean> {
  const bytes = info.bytes / (info.experts ?? 1);
  const before = read();
  // Codes and scales in another order are a copy, floats up to four times their bytes, and those once more.
  const loading = withinAllocations(8 * bytes + FEW_BYTES, () =>
    checkpoint.matrix(info.name, { expert: info.experts && expert }),
  );
  const matrix = await typed(loading);
  const took = read() - before;
  if (took > bytes + MAX_MARK_BYTES) throw new Error(`${info.name}: read ${took}, has ${bytes}`);
  if (matrix instanceof Fp4Error) return false;
  if ('values' in matrix) {
    expectFloats(matrix.values, info, expert, plain);
    return false;
  }
  expectSame(matrix, info, naiveMatrix(info.producer, info.name, expert, plain) as NaiveFp4);
  return true;
}

/** What a promise gives, or the error of the library that it ends in. */
function typed<T>(promise: Promise<T>): Promise<T | Fp4Error> {
  return promise.catch((error: unknown) => requireTyped(error));
}

/** @throws what is none of the library's errors, or one whose message was made of nothing */
function requireTyped(error: unknown): Fp4Error {
  // One of `validateMatrix` is what a loader should have found.
  if (!(error instanceof Fp4Error) || error.module === 'matrix') throw error;
  const { message } = error;
  if (message.length > 1000 || /undefined|\[object /.test(message)) {
    throw new Error(`message of ${message.length} characters: ${message.slice(0, 1000)}`);
  }
  return error;
}

function readPlainly({ kind }: Subject, { files, entry }: Mutant): NaiveFile {
  if (kind === 'safetensors') return naiveSafetensors(files[entry]!);
  if (kind === 'shards') return naiveShards(files[entry]!, files);
  const splits = Object.keys(files).filter(
    (name) => name.replace(/\d{5}-of/, '') === entry.replace(/\d{5}-of/, ''),
  );
  return naiveGgufFiles(splits.map((name) => files[name]!));
}

function expectContainer({ tensors, metadata, container }: Checkpoint, plain: NaiveFile): void {
  const texts = (map: ReadonlyMap<string, string>) => JSON.stringify([...map].sort());
  if (container === 'safetensors' && texts(metadata) !== texts(plain.metadata)) {
    throw new Error(`metadata is ${texts(metadata)}, not ${texts(plain.metadata)}`);
  }
  if (tensors.length !== plain.tensors.size) {
    throw new Error(`${tensors.length} tensors; the file has ${plain.tensors.size}`);
  }
  for (const { name, dtype, shape, byteLength } of tensors) {
    const expected = plain.tensors.get(name);
    const known = container === 'safetensors' || (expected && expected.dtype !== 'other');
    const right =
      expected &&
      String(expected.shape) === String(shape) &&
      (!known || (expected.dtype === dtype && expected.bytes.length === byteLength));
    if (!right) throw new Error(`${name}: ${dtype} [${shape}] of ${byteLength} bytes is not in the file`);
  }
}

function expectSame(q: QuantizedMatrix, { shape, format, blockSize }: MatrixInfo, naive: NaiveFp4): void {
  validateMatrix(q);
  const differ = (what: string, actual: unknown, expected: unknown) => {
    if (!Object.is(actual, expected)) throw new Error(`${what} is ${actual}, not ${expected}`);
  };
  differ('format', q.format, format);
  differ('info.blockSize', blockSize, naive.blockSize);
  differ('blockSize', q.blockSize, naive.blockSize);
  differ('info.shape', String(shape), String([naive.rows, naive.cols]));
  differ('rows', q.rows, naive.rows);
  differ('cols', q.cols, naive.cols);
  differ('globalScale', q.globalScale, naive.globalScale);
  differ('hadamard', q.hadamard, naive.hadamard ?? false);
  differ('macroSize', q.macroSize, naive.macroSize);
  const blocks = q.cols / q.blockSize;
  const macros = q.macroSize ? Math.ceil(q.cols / q.macroSize) : 0;
  for (let row = 0; row < q.rows; row++) {
    for (let col = 0; col < q.cols; col += 2) {
      const byte = q.codes[(row * q.cols + col) / 2]!;
      const expected = naive.code(row, col) + 16 * naive.code(row, col + 1);
      if (byte !== expected) differ(`codes of [${row}, ${col}]`, byte, expected);
    }
    for (let block = 0; block < blocks; block++) {
      const byte = q.scales[row * blocks + block]!;
      if (byte !== naive.scale(row, block)) differ(`scale [${row}, ${block}]`, byte, naive.scale(row, block));
    }
    for (let macro = 0; macro < macros; macro++) {
      differ(
        `macro scale [${row}, ${macro}]`,
        q.macroScales![row * macros + macro],
        naive.macro!(row, macro),
      );
    }
  }
}

function expectFloats(
  values: Float32Array,
  { name, producer, shape }: MatrixInfo,
  expert: number,
  plain: NaiveFile,
) {
  const naive = naiveMatrix(producer, name, expert, plain);
  if (!('value' in naive)) throw new Error(`${name}: floats of ${producer}`);
  const [rows, cols] = shape;
  if (rows !== naive.rows || cols !== naive.cols || values.length !== rows * cols) {
    throw new Error(`${name}: ${values.length} values of [${shape}], not [${naive.rows}, ${naive.cols}]`);
  }
  for (let i = 0; i < values.length; i++) {
    const expected = naive.value(Math.floor(i / cols), i % cols);
    if (!Object.is(values[i], expected))
      throw new Error(`${name}: value ${i} is ${values[i]}, not ${expected}`);
  }
}

async function expectUnchanged({ matrices }: Subject, { matrix }: Checkpoint): Promise<void> {
  for (const { name, expert, expected } of matrices) {
    const q = (await matrix(name, { expert })) as QuantizedMatrix;
    const bytes = ({ codes, scales, macroScales }: QuantizedMatrix) => `${codes}/${scales}/${macroScales}`;
    const { codes, scales, macroScales, ...rest } = q;
    const { codes: c, scales: s, macroScales: m, ...expectedRest } = expected;
    if (bytes(q) !== bytes(expected)) throw new Error(`${name}: other bytes after a harmless change`);
    if (JSON.stringify(Object.entries(rest).sort()) !== JSON.stringify(Object.entries(expectedRest).sort())) {
      throw new Error(`${name}: ${JSON.stringify(rest)} after a harmless change`);
    }
  }
}
