/**
 * A checkpoint in another convention: its matrices with their own codes and scales, everything else as it is. All that
 * headers say is looked at first, so that what cannot be done is known before anything is written; then one matrix at a
 * time is in memory.
 */
import { Fp4Error, UnsupportedError } from '../errors.js';
import { FORMATS, type Format } from '../formats/formats.js';
import type { MatrixHeader, QuantizedMatrix } from '../matrix/quantized-matrix.js';
import type { ReadOptions } from './byte-source.js';
import type { StoredTensor } from './container.js';
import { type Checkpoint, checkpointOver, type MatrixInfo } from './open.js';
import { sameShape } from './producers/producer.js';
import { quote } from './strict-json.js';
import { type GgufTensorHeader, layoutGguf } from './write-gguf.js';
import { layoutSafetensors, type TensorHeader } from './write-safetensors.js';
import { expertName, expertStacks } from './writers/experts.js';
import { type Convention, stackDifference, WRITERS } from './writers/index.js';
import type { MatrixWriter, WrittenHeader } from './writers/writer.js';

/** Takes bytes of a tensor, from byte `offset` of it on. */
export type WriteBytes = (tensor: string, bytes: Uint8Array, offset: number) => Promise<void>;

/** A tensor that is kept, or a matrix, or a stack of experts. */
export interface ConversionStep {
  /** What the matrix, or the stack, is called in the target; undefined for a tensor that is kept. */
  readonly matrix: string | undefined;
  /** Of the tensors that the step writes. */
  readonly tensors: readonly WrittenHeader<string>[];
  /** Bytes that it reads. */
  readonly bytes: number;
  /** @throws CheckpointError where what is read is not what headers said */
  run(write: WriteBytes, options?: ReadOptions): Promise<void>;
}

export interface Conversion {
  readonly to: Convention;
  /** In the order of the source. Any order does, and together they write every tensor once. */
  readonly steps: readonly ConversionStep[];
  /** The matrices by the names that they will be read under, each expert that is alone counted. */
  readonly matrices: ReadonlyMap<string, Format>;
  /** Matrices of floats that are kept. */
  readonly floats: readonly string[];
}

/** One or several matrices of the source that make up one of the target. */
interface Unit {
  readonly name: string;
  readonly stacked: boolean;
  readonly members: readonly Member[];
}

interface Member {
  readonly matrix: string;
  readonly expert: number | undefined;
  readonly header: MatrixHeader;
  readonly bytes: number;
}

/** Bytes of a tensor that is kept in memory at a time. */
const CHUNK_BYTES = 1 << 23;
/** Models have 1024 at most; a file may say of every block that it is an expert. */
const MAX_EXPERTS = 1 << 16;
/** Problems that an error lists; a model has thousands of matrices, all with the same one perhaps. */
const LISTED = 20;

/**
 * Plans a conversion from headers and tensor scales. Names stay, but for experts: a convention without stacks has them
 * under `expertName`, and `gpt-oss` has in one stack those that are alone elsewhere.
 * @throws UnsupportedError that lists every matrix and tensor that the convention cannot hold, and why
 */
export async function planConversion(
  checkpoint: Checkpoint,
  to: Convention,
  options: ReadOptions = {},
): Promise<Conversion> {
  const writer: MatrixWriter<string> = WRITERS[to];
  const matrices = checkpoint.matrices.filter(({ format }) => Object.hasOwn(FORMATS, format));
  const units: Unit[] = [];
  const problems = refusedOf(checkpoint);
  // One after the other: each reads a few bytes, of a file or by HTTP, and there may be thousands.
  for (const info of matrices) {
    const { name, experts = 1 } = info;
    if (experts <= MAX_EXPERTS) units.push(...(await unitsOf(checkpoint, info, writer, options)));
    else problems.push(`${quote(name)}: ${experts} experts; up to ${MAX_EXPERTS} are converted`);
  }
  const made = to === 'gpt-oss' ? joinExperts(units) : units;

  for (const { name, members } of made) {
    for (const reason of new Set(members.flatMap(({ header }) => writer.problems(header)))) {
      problems.push(`${quote(name)}: ${reason}`);
    }
  }
  const steps = problems.length ? [] : inOrder(checkpoint, matrices, made, writer);
  const tensors = storedTensors(to, steps, problems);
  if (problems.length === 0) problems.push(...misread(to, tensors, made));
  if (problems.length) refuse(checkpoint, to, problems);

  return {
    to,
    steps,
    matrices: new Map(made.map(({ name, members }) => [name, members[0]!.header.format])),
    floats: checkpoint.matrices
      .filter(({ name, producer }) => producer === 'float' && tensors.has(name))
      .map(({ name }) => name),
  };
}

/** What cannot be loaded cannot be converted. Only F8 with scales, which is as good as any other tensor, is kept. */
function refusedOf({ refused }: Checkpoint): string[] {
  return refused.filter(({ producer }) => producer !== 'float').map(({ error }) => error.message);
}

function refuse({ name }: Checkpoint, to: Convention, problems: readonly string[]): never {
  const listed = problems.slice(0, LISTED).map((problem) => `\n  ${problem}`);
  const more = problems.length > LISTED ? `\n  and ${problems.length - LISTED} more` : '';
  throw new UnsupportedError(
    'convert',
    `${name}: ${problems.length} of its matrices or tensors cannot be written as ${to}; nothing is written:${listed.join('')}${more}`,
  );
}

async function unitsOf(
  checkpoint: Checkpoint,
  { name, experts, bytes }: MatrixInfo,
  writer: MatrixWriter<string>,
  options: ReadOptions,
): Promise<Unit[]> {
  const member = async (expert: number | undefined): Promise<Member> => ({
    matrix: name,
    expert,
    header: await checkpoint.header(name, { ...options, expert }),
    bytes: bytes / (experts ?? 1),
  });
  if (experts === undefined) return [{ name, stacked: false, members: [await member(undefined)] }];
  const members: Member[] = [];
  for (let expert = 0; expert < experts; expert++) members.push(await member(expert));
  if (writer.stacks) return [{ name, stacked: true, members }];
  return members.map((one, i) => ({ name: expertName(name, i), stacked: false, members: [one] }));
}

/** gpt-oss has all experts in one tensor: those that are alone and alike are put into one. */
function joinExperts(units: readonly Unit[]): Unit[] {
  const alone = new Map(units.filter(({ stacked }) => !stacked).map((unit) => [unit.name, unit]));
  const joined = new Map<Unit, Unit>();
  for (const [name, names] of expertStacks(alone.keys())) {
    const parts = names.map((each) => alone.get(each)!);
    const members = parts.flatMap((part) => part.members);
    if (members.some(({ header }) => stackDifference(members[0]!.header, header))) continue;
    const stack = { name, stacked: true, members };
    for (const part of parts) joined.set(part, stack);
  }
  return [...new Set(units.map((unit) => joined.get(unit) ?? unit))];
}

/** Units where the first tensor of their matrices is, and between them what is kept. */
function inOrder(
  checkpoint: Checkpoint,
  matrices: readonly MatrixInfo[],
  units: readonly Unit[],
  writer: MatrixWriter<string>,
): ConversionStep[] {
  const unitsByMatrix = new Map<string, Set<Unit>>(matrices.map(({ name }) => [name, new Set()]));
  for (const unit of units) for (const { matrix } of unit.members) unitsByMatrix.get(matrix)!.add(unit);
  const unitsByTensor = new Map(
    matrices.flatMap(({ name, tensors }) => tensors.map((tensor) => [tensor, unitsByMatrix.get(name)!])),
  );
  const done = new Set<Unit>();
  return checkpoint.tensors.flatMap((tensor) => {
    const own = unitsByTensor.get(tensor.name);
    if (!own) return [keep(checkpoint, tensor)];
    const next = [...own].filter((unit) => !done.has(unit));
    for (const unit of next) done.add(unit);
    return next.map((unit) => writeUnit(checkpoint, unit, writer));
  });
}

function keep(checkpoint: Checkpoint, tensor: StoredTensor): ConversionStep {
  const { name, dtype, shape, byteLength } = tensor;
  return {
    matrix: undefined,
    tensors: [{ name, dtype, shape }],
    bytes: byteLength,
    run: (write, options) => copyTensor(checkpoint, tensor, write, options),
  };
}

/** Passes a tensor's stored bytes on, some at a time. */
export async function copyTensor(
  checkpoint: Checkpoint,
  tensor: StoredTensor,
  write: WriteBytes,
  options?: ReadOptions,
): Promise<void> {
  const { name, byteLength } = tensor;
  for (let start = 0; start < byteLength; start += CHUNK_BYTES) {
    const end = Math.min(start + CHUNK_BYTES, byteLength);
    await write(name, await checkpoint.read(tensor, { ...options, start, end }), start);
  }
}

function writeUnit(
  checkpoint: Checkpoint,
  { name, stacked, members }: Unit,
  writer: MatrixWriter<string>,
): ConversionStep {
  return {
    matrix: name,
    tensors: writer.headers(name, members[0]!.header, stacked ? members.length : undefined),
    bytes: members.reduce((sum, { bytes }) => sum + bytes, 0),
    async run(write, options) {
      for (const [i, { matrix, expert }] of members.entries()) {
        const q = (await checkpoint.matrix(matrix, { ...options, expert })) as QuantizedMatrix;
        for (const { name: tensor, bytes, per } of writer.parts(name, q)) {
          if (per !== 'tensor') await write(tensor, bytes, i * bytes.length);
          else if (i === 0) await write(tensor, bytes, 0);
        }
      }
    },
  };
}

/** All tensors as they will be stored. What the container cannot have, whatever else is in it, is a problem. */
function storedTensors(
  to: Convention,
  steps: readonly ConversionStep[],
  problems: string[],
): Map<string, StoredTensor> {
  const stored = new Map<string, StoredTensor>();
  for (const tensor of steps.flatMap((step) => step.tensors)) {
    const { name } = tensor;
    if (stored.has(name)) problems.push(`tensor ${quote(name)} would be there twice`);
    try {
      const { ranges } =
        to === 'gguf'
          ? layoutGguf([tensor as GgufTensorHeader])
          : layoutSafetensors([tensor as TensorHeader]);
      const { start, end } = ranges.get(name)!;
      stored.set(name, { ...tensor, byteLength: end - start, file: '' });
    } catch (error) {
      if (!(error instanceof Fp4Error)) throw error;
      problems.push(error.message);
    }
  }
  return stored;
}

/** Matrices that would not be read as they are written: a tensor that is kept may have the name of a part, say. */
function misread(
  to: Convention,
  tensors: ReadonlyMap<string, StoredTensor>,
  units: readonly Unit[],
): string[] {
  const { matrices, refused } = checkpointOver({
    kind: to === 'gguf' ? 'gguf' : 'safetensors',
    name: 'what is written',
    tensors,
    metadata: new Map(),
    read: () => Promise.reject(new Error('there are no bytes yet')),
  });
  const found = new Map(matrices.map((info) => [info.name, info]));
  return units.flatMap(({ name, stacked, members }) => {
    // compressed-tensors makes `X.weight` of every `X`.
    const info = found.get(name) ?? found.get(`${name}.weight`);
    const { rows, cols, format } = members[0]!.header;
    const experts = stacked ? members.length : undefined;
    if (
      info?.producer === to &&
      info.format === format &&
      info.experts === experts &&
      sameShape(info.shape, [rows, cols])
    ) {
      return [];
    }
    const error = refused.find((other) => other.name === name)?.error;
    return [
      `${quote(name)} would not be read as it is written: ${error?.message ?? 'other tensors are taken for it'}`,
    ];
  });
}
