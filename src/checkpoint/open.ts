/**
 * Checkpoints: any container, any producer, and out come matrices by name. FP4 stays the codes and scales of the file;
 * nothing is quantized again. Opening reads headers, a matrix reads its own bytes.
 */
import { CheckpointError, type Fp4Error, InvalidArgumentError, UnsupportedError } from '../errors.js';
import type { Format } from '../formats/formats.js';
import type { MatrixHeader, QuantizedMatrix } from '../matrix/quantized-matrix.js';
import { inBatches } from './batches.js';
import { type ByteSource, blobSource, bytesSource, type ReadOptions, readExactly } from './byte-source.js';
import type { Container, StoredTensor } from './container.js';
import { type FloatDtype, showShape } from './dtype.js';
import { openGguf } from './gguf.js';
import { type FloatMatrix, suggestNames } from './matrix-source.js';
import { PRODUCERS } from './producers/index.js';
import type { Context, Layout, ReadPart, Siblings } from './producers/producer.js';
import {
  messageOf,
  type OpenSibling,
  openSafetensors,
  openShards,
  type Progress,
  readJson,
} from './shards.js';
import { type JsonValue, quote } from './strict-json.js';
import { urlSource } from './url-source.js';

export interface OpenCheckpointOptions extends ReadOptions {
  /**
   * Opens another file of the checkpoint by its name: the shards of an index, and config.json, which may say that a
   * matrix needs more than its bytes. By default, for a URL, what that name is relative to it; else nothing.
   */
  readonly open?: OpenSibling | undefined;
  /** After each file whose header has been read. */
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

export interface MatrixOptions extends ReadOptions {
  /** Which one of a matrix of `experts`, from 0. */
  readonly expert?: number | undefined;
  /** While bytes arrive. */
  readonly onProgress?: ((progress: Progress) => void) | undefined;
}

/** What headers say of a matrix. */
export interface MatrixInfo {
  readonly name: string;
  /** Whose convention it is stored in: 'gpt-oss', 'modelopt', …; 'float' where it is not quantized. */
  readonly producer: string;
  /** 'mxfp4' or 'nvfp4', or the type of floats. */
  readonly format: Format | FloatDtype;
  /** Values per block scale; undefined for floats. */
  readonly blockSize: number | undefined;
  /** [rows, cols] of the matrix, or of each expert's. */
  readonly shape: readonly [rows: number, cols: number];
  /** How many there are in a tensor of experts; undefined elsewhere. */
  readonly experts: number | undefined;
  /** Stored bytes, scales, padding and all experts included. */
  readonly bytes: number;
  /** Scales included, padding and tensor scales not. */
  readonly bitsPerWeight: number;
  /** Names of the tensors that it is stored in. */
  readonly tensors: readonly string[];
}

/** A matrix that was recognised and cannot be loaded. */
export interface RefusedMatrix {
  readonly name: string;
  readonly producer: string;
  /** What `matrix(name)` throws. */
  readonly error: Fp4Error;
}

export interface Checkpoint {
  /** What error messages call it. */
  readonly name: string;
  readonly container: Container['kind'];
  readonly matrices: readonly MatrixInfo[];
  readonly refused: readonly RefusedMatrix[];
  /** All tensors as they are stored, in the order of the files. */
  readonly tensors: readonly StoredTensor[];
  readonly metadata: ReadonlyMap<string, string>;
  /**
   * Reads one matrix; of experts only the one asked for. The arrays of a QuantizedMatrix may alias a source in memory:
   * read them, do not write them.
   * @throws InvalidArgumentError when there is none of that name (near ones are listed), or `expert` is not one of it
   * @throws CheckpointError when its bytes are not what they should be, UnsupportedError when it is in `refused` for that
   */
  matrix(name: string, options?: MatrixOptions): Promise<QuantizedMatrix | FloatMatrix>;
  /**
   * A quantized matrix but for its codes and scales, which are not read.
   * @throws as `matrix`, and InvalidArgumentError for a matrix of floats
   */
  header(name: string, options?: MatrixOptions): Promise<MatrixHeader>;
  /** The stored bytes of one of `tensors`, or a part of them: as {@link Container.read}. */
  readonly read: Container['read'];
  /** A value of a GGUF file's metadata; absent elsewhere: as {@link Container.storedValue}. */
  readonly storedValue?: Container['storedValue'];
}

/** Between two of these, progress is told and an abort noticed. */
const CHUNK_BYTES = 1 << 23;
const CONFIG_NAME = 'config.json';
const MAX_CONFIG_BYTES = 1 << 24;

/**
 * Opens a safetensors file, or several by their index (`model.safetensors.index.json`), or a GGUF file with its splits, and
 * finds the matrices in them. A matrix that cannot be loaded does not keep the others from being: it is in `refused`.
 * @throws CheckpointError when a file is malformed, or the files contradict each other
 * @throws UnsupportedError for a kind of GGUF that is not read
 */
export async function openCheckpoint(
  source: ByteSource | URL | Blob | ArrayBuffer | Uint8Array,
  options: OpenCheckpointOptions = {},
): Promise<Checkpoint> {
  const { signal } = options;
  const open = options.open ?? (source instanceof URL ? besideUrl(source, signal) : undefined);
  const bytes = await asByteSource(source, signal);
  const container = await openContainer(bytes, { ...options, open });
  return checkpointOver(container, await readConfig(container, open, options));
}

async function asByteSource(
  source: ByteSource | URL | Blob | ArrayBuffer | Uint8Array,
  signal: AbortSignal | undefined,
): Promise<ByteSource> {
  if (source instanceof URL) return urlSource(source, { signal });
  if (source instanceof Blob) return blobSource(source);
  if (source instanceof Uint8Array || source instanceof ArrayBuffer) return bytesSource(source);
  return source;
}

function besideUrl(url: URL, signal: AbortSignal | undefined): OpenSibling {
  return (name) => {
    const sibling = new URL(encodeURIComponent(name), url);
    sibling.search = url.search;
    return urlSource(sibling, { signal });
  };
}

async function openContainer(source: ByteSource, options: OpenCheckpointOptions): Promise<Container> {
  const start = await readExactly(source, 0, Math.min(8, source.byteLength), options);
  if (startsWith(start, 'GGUF')) {
    return openGguf([source, ...(await openSplits(source, options))], options);
  }
  // A header length is below 2^32, and no JSON has a zero byte.
  const isSafetensors = start.length < 8 || start.subarray(4).every((byte) => byte === 0);
  if (isSafetensors || !/^[\s{]/.test(String.fromCharCode(start[0]!)))
    return openSafetensors(source, options);
  if (!options.open) {
    throw new InvalidArgumentError(
      'checkpoint',
      `${source.name}: an index names other files; pass open, which opens them`,
    );
  }
  return openShards(source, options.open, options);
}

/** The other files of a split model, by the names that all tools give them: `….gguf` of one file has none. */
async function openSplits(
  source: ByteSource,
  { open, signal }: OpenCheckpointOptions,
): Promise<ByteSource[]> {
  const match = /([^/\\]*-)(\d{5})-of-(\d{5})\.gguf(?:[?#].*)?$/.exec(source.name);
  if (!match) return [];
  const [, stem, own, count] = match as unknown as [string, string, string, string];
  if (Number(own) < 1 || Number(own) > Number(count)) {
    throw new CheckpointError(
      'checkpoint',
      `${source.name}: by its name number ${Number(own)} of ${Number(count)} files; numbers begin at 1`,
    );
  }
  if (!open) {
    throw new InvalidArgumentError(
      'checkpoint',
      `${source.name}: one of ${Number(count)} files of a model; pass open, which opens the others`,
    );
  }
  const numbers = Array.from({ length: Number(count) }, (_, i) => String(i + 1).padStart(5, '0'));
  const others = numbers.filter((number) => number !== own).map((no) => `${stem}${no}-of-${count}.gguf`);
  return inBatches(others, async (name) => {
    signal?.throwIfAborted();
    return open(name).catch((cause: unknown) => {
      signal?.throwIfAborted();
      throw new CheckpointError(
        'checkpoint',
        `${source.name}: one of ${Number(count)} files, and ${quote(name)} cannot be opened (${messageOf(cause)})`,
        { cause },
      );
    });
  });
}

function startsWith(bytes: Uint8Array, text: string): boolean {
  return [...text].every((character, i) => bytes[i] === character.charCodeAt(0));
}

/** config.json where it can be had and a producer asks for it. One that is there and malformed is an error. */
async function readConfig(
  container: Container,
  open: OpenSibling | undefined,
  options: ReadOptions,
): Promise<JsonValue | undefined> {
  const needed = [...container.tensors.keys()].some((name) => /weight_(packed|scale)$/.test(name));
  if (!open || !needed) return undefined;
  const source = await open(CONFIG_NAME).catch(() => {
    options.signal?.throwIfAborted();
    return undefined;
  });
  if (!source) return undefined;
  const fail = (message: string): never => {
    throw new CheckpointError('checkpoint', `${source.name}: ${message}`);
  };
  if (source.byteLength > MAX_CONFIG_BYTES)
    fail(`has ${source.byteLength} bytes; a configuration is shorter`);
  return readJson(source, fail, options);
}

interface Found {
  readonly info: MatrixInfo;
  readonly layout: Layout;
}

/** The matrices of a container whose headers have been read. */
export function checkpointOver(container: Container, config?: JsonValue): Checkpoint {
  const { found, refused } = findMatrices(container, config);
  /** Where a matrix is, and how to read parts of it. */
  const find = (name: string, options: MatrixOptions) => {
    options.signal?.throwIfAborted();
    const refusal = refused.get(name);
    if (refusal) throw refusal.error;
    const { info, layout } = found.get(name) ?? unknownMatrix(container, name, [...found.keys()]);
    const expert = checkExpert(container, info, options.expert);
    return { layout, expert, read: partReader(container, layout.bytesPerExpert, options) };
  };
  return {
    name: container.name,
    container: container.kind,
    matrices: [...found.values()].map(({ info }) => info),
    refused: [...refused.values()],
    tensors: [...container.tensors.values()],
    metadata: container.metadata,
    async matrix(name, options = {}) {
      const { layout, expert, read } = find(name, options);
      return layout.load(read, expert);
    },
    async header(name, options = {}) {
      const { layout, expert, read } = find(name, options);
      if (layout.header) return layout.header(read, expert);
      throw new InvalidArgumentError(
        'checkpoint',
        `${container.name}: matrix ${quote(name)} is of ${layout.format}; only quantized ones have a header`,
      );
    },
    read: (tensor, options) => container.read(tensor, options),
    ...(container.storedValue && { storedValue: container.storedValue }),
  };
}

type RefusalKind = typeof CheckpointError | typeof UnsupportedError;

/**
 * A refused matrix whose error is made when someone looks at it: a file can have a million of them, and an error, with the
 * stack that it keeps, takes most of the time and memory that opening such a file would.
 */
class Refusal implements RefusedMatrix {
  #error: Fp4Error | undefined;

  constructor(
    readonly name: string,
    readonly producer: string,
    private readonly Kind: RefusalKind,
    private readonly file: string,
    private readonly message: string,
  ) {}

  get error(): Fp4Error {
    const { name, producer, Kind, file, message } = this;
    this.#error ??= new Kind('checkpoint', `${file}: matrix ${quote(name)} (${producer}): ${message}`);
    return this.#error;
  }
}

function findMatrices(container: Container, config: JsonValue | undefined) {
  const siblings = siblingsOf(container, config);
  const found = new Map<string, Found>();
  const refused = new Map<string, RefusedMatrix>();
  const claims = Array.from(container.tensors.values(), (tensor) => {
    for (const producer of PRODUCERS) {
      const claim = producer.detect(tensor, siblings);
      if (claim) return { tensor, producer: producer.id, claim };
    }
    return undefined;
  }).filter((claimed) => claimed !== undefined);
  /** Tensors that belong to a matrix under another tensor: scales of F8, say, which would be floats on their own. */
  const parts = new Set(
    claims.flatMap(({ tensor, claim }) => claim.tensors.filter((part) => part !== tensor)),
  );

  for (const { tensor, producer, claim } of claims) {
    if (parts.has(tensor)) continue;
    const { name } = claim;
    let resolved = false;
    const raise = (Kind: RefusalKind, message: string): never => {
      const refusal = new Refusal(name, producer, Kind, container.name, message);
      throw resolved ? refusal.error : refusal;
    };
    const context: Context = {
      fail: (message) => raise(CheckpointError, message),
      refuse: (message) => raise(UnsupportedError, message),
    };
    try {
      if (found.has(name) || refused.has(name)) {
        context.fail('more than one of the tensors are a matrix of that name');
      }
      const layout = claim.resolve(context);
      resolved = true;
      const { format, blockSize, rows, cols, experts, bytes, bitsPerWeight } = layout;
      const info: MatrixInfo = {
        name,
        producer,
        format,
        blockSize,
        shape: [rows, cols],
        experts,
        bytes,
        bitsPerWeight,
        tensors: claim.tensors.flatMap((part) => part?.name ?? []),
      };
      found.set(name, { info, layout });
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      found.delete(name);
      refused.set(name, error);
    }
  }
  return { found, refused };
}

function siblingsOf({ tensors, metadata }: Container, config: JsonValue | undefined): Siblings {
  const suffixes = new Map<string, boolean>();
  return {
    metadata,
    config,
    get: (name) => tensors.get(name),
    hasSuffix(suffix) {
      const known = suffixes.get(suffix);
      if (known !== undefined) return known;
      const found = [...tensors.keys()].some((name) => name.endsWith(suffix));
      suffixes.set(suffix, found);
      return found;
    },
  };
}

function unknownMatrix(container: Container, name: string, names: readonly string[]): never {
  const tensor = container.tensors.get(name);
  const what = tensor
    ? `tensor ${quote(name)}, ${tensor.dtype} ${showShape(tensor.shape)}, is no matrix of a known convention`
    : `no matrix ${quote(name)}`;
  throw new InvalidArgumentError('checkpoint', `${container.name}: ${what}; ${suggestNames(name, names)}`);
}

function checkExpert(
  container: Container,
  { name, experts }: MatrixInfo,
  expert: number | undefined,
): number {
  const fail = (rule: string): never => {
    throw new InvalidArgumentError('checkpoint', `${container.name}: matrix ${quote(name)} ${rule}`);
  };
  if (experts === undefined) return expert === undefined ? 0 : fail(`has no experts; leave expert out`);
  if (expert === undefined) return fail(`has ${experts} experts; pass expert, 0 to ${experts - 1}`);
  if (!(Number.isInteger(expert) && expert >= 0 && expert < experts)) {
    fail(`has experts 0 to ${experts - 1}; expert ${expert} is none of them`);
  }
  return expert;
}

/** Reads parts of tensors; in chunks, where progress is told. */
function partReader(container: Container, total: number, { signal, onProgress }: MatrixOptions): ReadPart {
  let done = 0;
  const readChunk = async (tensor: StoredTensor, start: number, end: number) => {
    const bytes = await container.read(tensor, { start, end, signal });
    done += bytes.length;
    onProgress?.({ done: Math.min(done, total), total, unit: 'bytes' });
    return bytes;
  };
  return async (tensor, start, end) => {
    if (!onProgress || end - start <= CHUNK_BYTES) return readChunk(tensor, start, end);
    const bytes = allocate(end - start, tensor);
    for (let at = start; at < end; at += CHUNK_BYTES) {
      bytes.set(await readChunk(tensor, at, Math.min(at + CHUNK_BYTES, end)), at - start);
    }
    return bytes;
  };
}

function allocate(length: number, tensor: StoredTensor): Uint8Array {
  try {
    return new Uint8Array(length);
  } catch (cause) {
    const message = `${length} bytes of tensor ${quote(tensor.name)} are too many for one array here`;
    throw new UnsupportedError('checkpoint', message, { cause });
  }
}
