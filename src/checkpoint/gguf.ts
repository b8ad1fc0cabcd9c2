/**
 * The GGUF container, versions 2 and 3, little-endian: "GGUF", u32 version, u64 tensors, u64 values; the values (key,
 * u32 type, value), then the tensors (name, u32 rank, u64 sizes from the fastest to the slowest, u32 type, u64 offset);
 * padding to `general.alignment`; the data, each tensor padded likewise. A string is a u64 length and its bytes. A model
 * may be split into files, which `split.no`, `split.count` and `split.tensors.count` tell apart.
 *
 * What the reference loader checks is checked here, and before anything is allocated: counts and lengths against the
 * bytes that are left, and that the tensors tile the data in order. Bytes after the last tensor are allowed, as there.
 * Source: ggml (`gguf.cpp`, `docs/gguf.md`), llama.cpp (`llama-model-loader.cpp`). Stricter than they in these: names
 * are UTF-8 without NUL, a bool is 0 or 1, sizes stay below 2^53; more lenient in one: arrays may nest, as documented.
 *
 * Not `@huggingface/gguf`: of a browser's sources it reads URLs only, it checks neither offsets, overlap, file size,
 * block multiples nor duplicate names, and it would be this library's only runtime dependency.
 */
import { CheckpointError, InvalidArgumentError, UnsupportedError } from '../errors.js';
import { inBatches } from './batches.js';
import { ByteReader } from './byte-reader.js';
import { type ByteSource, checkRange, type ReadOptions, readExactly } from './byte-source.js';
import { type Container, MAX_TENSORS, type StoredTensor } from './container.js';
import { showShape } from './dtype.js';
import { GGML_TYPES, type GgmlType, REMOVED_GGML_TYPES } from './ggml-types.js';
import type { ShardOptions } from './shards.js';
import { quote } from './strict-json.js';

export const MAGIC = 0x46554747; // "GGUF" as a little-endian u32
export const DEFAULT_ALIGNMENT = 32;
export const MAX_DIMENSIONS = 4;

// Limits of the reference loader; that of keys is the documentation's.
export const MAX_ALIGNMENT = 1 << 20;
export const MAX_KEY_BYTES = 0xffff;
export const MAX_NAME_BYTES = 63;
export const MAX_STRING_BYTES = 1 << 26;
// Models have a hundred.
const MAX_VALUES = 1 << 16;

/** Fewest bytes that a value takes (a key of one letter, type, one byte), and a tensor (no name, no dimension). */
const MIN_VALUE_BYTES = 8 + 1 + 4 + 1;
const MIN_TENSOR_BYTES = 8 + 4 + 4 + 8;

/** How much of an array its text shows. A vocabulary's would take more memory than the rest of the header. */
const SHOWN_ITEMS = 8;
/** Enough for the 80 characters that an item shows. */
const SHOWN_ITEM_BYTES = 512;
const MAX_ARRAY_DEPTH = 4;

type Fail = (message: string) => never;

/** A metadata value: the name of its type, what it says, and which bytes of the file it is, its type first. */
interface Value {
  readonly type: string;
  readonly text: string;
  readonly begin: number;
  readonly end: number;
}

/** A tensor as the header lists it: its offset counts from the first byte of data. */
interface TensorEntry {
  readonly name: string;
  readonly type: GgmlType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  readonly offset: number;
}

interface Place {
  readonly source: ByteSource;
  readonly byteOffset: number;
}

/** One file, checked on its own. */
interface GgufFile {
  readonly source: ByteSource;
  readonly values: ReadonlyMap<string, Value>;
  readonly tensors: ReadonlyMap<StoredTensor, Place>;
}

/**
 * Reads and checks the header of a model, in one file or in all files of a split, given in any order; no tensor is read.
 * Metadata is text: strings as they are, numbers in decimal, `true` or `false`, arrays as `[1, 2, … 30 more]`.
 * @throws CheckpointError naming the file, the tensor or key, the value and the rule it breaks
 * @throws UnsupportedError for version 1 and versions to come, big-endian files, and types of tensors that ggml dropped
 * or that came after this library
 */
export async function openGguf(sources: readonly ByteSource[], options?: ShardOptions): Promise<Container> {
  if (sources.length === 0) throw new InvalidArgumentError('gguf', 'no sources; give at least one file');
  const total = sources.length;
  const files = orderSplits(
    await inBatches(
      sources,
      (source) => readFile(source, options),
      (done) => options?.onProgress?.({ done, total, unit: 'files' }),
    ),
  );

  const tensors = new Map<string, StoredTensor>();
  const places = new Map<StoredTensor, Place>();
  for (const file of files) {
    for (const [tensor, place] of file.tensors) {
      const other = tensors.get(tensor.name);
      if (other) failIn(file.source, `tensor ${quote(tensor.name)} is in ${other.file} too`);
      if (tensors.size === MAX_TENSORS)
        failIn(file.source, `brings more than ${MAX_TENSORS} tensors together`);
      tensors.set(tensor.name, tensor);
      places.set(tensor, place);
    }
  }
  checkTensorCount(files, tensors.size);

  const first = files[0]!.source.name;
  const name = files.length === 1 ? first : `${first} and ${files.length - 1} more`;
  return {
    kind: 'gguf',
    name,
    tensors,
    metadata: mergeMetadata(files),
    async read(tensor, { start = 0, end = tensor.byteLength, ...readOptions } = {}) {
      const place = places.get(tensor);
      if (!place) {
        throw new InvalidArgumentError(
          'gguf',
          `${name}: tensor ${quote(tensor.name)} is not one of this container's; take it from \`tensors\``,
        );
      }
      checkRange(
        { name: `${tensor.file}: tensor ${quote(tensor.name)}`, byteLength: tensor.byteLength },
        start,
        end,
      );
      const { source, byteOffset } = place;
      return readExactly(source, byteOffset + start, byteOffset + end, readOptions);
    },
    async storedValue(key, readOptions) {
      const file = files.find(({ values }) => values.has(key));
      if (!file) throw new InvalidArgumentError('gguf', `${name}: no value of key ${quote(key)}`);
      const { begin, end } = file.values.get(key)!;
      return readExactly(file.source, begin, end, readOptions);
    },
  };
}

function failIn(source: ByteSource, message: string): never {
  throw new CheckpointError('gguf', `${source.name}: ${message}`);
}

function refuse(source: ByteSource, message: string): never {
  throw new UnsupportedError('gguf', `${source.name}: ${message}`);
}

async function readFile(source: ByteSource, options?: ReadOptions): Promise<GgufFile> {
  const fail: Fail = (message) => failIn(source, message);
  const reader = new ByteReader(source, fail, options);
  await readVersion(source, reader, fail);
  const tensorCount = await reader.size('the number of tensors');
  const valueCount = await reader.size('the number of values');
  const least = tensorCount * MIN_TENSOR_BYTES + valueCount * MIN_VALUE_BYTES;
  if (least > reader.left) {
    fail(
      `${tensorCount} tensors and ${valueCount} values take at least ${least} bytes; ${reader.left} are left`,
    );
  }

  for (const [count, limit, what] of [
    [tensorCount, MAX_TENSORS, 'tensors'],
    [valueCount, MAX_VALUES, 'values'],
  ] as const) {
    if (count > limit) fail(`${count} ${what}; more than ${limit} are not read`);
  }

  const values = new Map<string, Value>();
  for (let i = 0; i < valueCount; i++) {
    const key = await readName(reader, `key ${i}`, MAX_KEY_BYTES, fail);
    if (key === '') fail(`key ${i} is empty`);
    if (values.has(key)) fail(`duplicate key ${quote(key)}`);
    values.set(key, await readValue(reader, `the value of ${quote(key)}`, fail));
  }
  const alignment = alignmentOf(values, fail);

  const entries = new Map<string, TensorEntry>();
  for (let i = 0; i < tensorCount; i++) {
    const name = await readName(reader, `name of tensor ${i}`, MAX_NAME_BYTES, fail);
    if (name.includes('\0')) fail(`name of tensor ${i}, ${quote(name)}, holds a NUL`);
    if (entries.has(name)) fail(`duplicate tensor ${quote(name)}`);
    entries.set(name, await readTensorEntry(reader, source, name));
  }

  const dataStart = padTo(alignment, reader.position);
  checkLayout(entries.values(), alignment, source.byteLength - dataStart, fail);
  const tensors = new Map<StoredTensor, Place>();
  for (const { name, type, shape, byteLength, offset } of entries.values()) {
    const tensor = { name, dtype: type.name, shape, byteLength, file: source.name };
    tensors.set(tensor, { source, byteOffset: dataStart + offset });
  }
  return { source, values, tensors };
}

async function readVersion(source: ByteSource, reader: ByteReader, fail: Fail): Promise<void> {
  const magic = await reader.view(4, 'the magic "GGUF"');
  if (magic.getUint32(0, true) !== MAGIC) {
    const found = Array.from({ length: 4 }, (_, i) => magic.getUint8(i).toString(16).padStart(2, '0'));
    fail(`begins with bytes ${found.join(' ')}, not with "GGUF" (47 47 55 46)`);
  }
  const version = await reader.u32('the version');
  if (version === 0) fail('version 0; there is none');
  if ((version & 0xffff) === 0) {
    refuse(source, 'big-endian, by its version; its tensors would have to be swapped; convert it first');
  }
  if (version === 1) {
    refuse(
      source,
      'version 1, whose counts have 32 bits and which ggml dropped too; convert the model again',
    );
  }
  if (version > 3) refuse(source, `version ${version}; 2 and 3 are known`);
}

async function readName(reader: ByteReader, what: string, maxBytes: number, fail: Fail): Promise<string> {
  const length = await reader.size(`the length of ${what}`);
  if (length > maxBytes) fail(`${what} has ${length} bytes; the limit is ${maxBytes}`);
  const bytes = await reader.bytes(length, what);
  try {
    return utf8.decode(bytes);
  } catch {
    return fail(`${what}, ${length} bytes at ${reader.position - length}, is not valid UTF-8`);
  }
}

// A decoder left to its defaults drops a byte order mark and replaces what is malformed.
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
/** For items of arrays: vocabularies hold single bytes of longer characters. */
const lenientUtf8 = new TextDecoder('utf-8', { ignoreBOM: true });

/** Text of a number at the start of a view; undefined where the bytes are none of the type's values. */
type Show = (view: DataView) => string | undefined;

interface ValueType {
  readonly name: string;
  /** Bytes of an element; of strings and arrays, the fewest. */
  readonly bytes: number;
  /** Absent for strings and arrays. */
  readonly show?: Show;
}

const STRING = 8;
const ARRAY = 9;

/** By number. */
const VALUE_TYPES: readonly ValueType[] = [
  { name: 'u8', bytes: 1, show: (view) => `${view.getUint8(0)}` },
  { name: 'i8', bytes: 1, show: (view) => `${view.getInt8(0)}` },
  { name: 'u16', bytes: 2, show: (view) => `${view.getUint16(0, true)}` },
  { name: 'i16', bytes: 2, show: (view) => `${view.getInt16(0, true)}` },
  { name: 'u32', bytes: 4, show: (view) => `${view.getUint32(0, true)}` },
  { name: 'i32', bytes: 4, show: (view) => `${view.getInt32(0, true)}` },
  { name: 'f32', bytes: 4, show: (view) => `${view.getFloat32(0, true)}` },
  { name: 'bool', bytes: 1, show: (view) => ['false', 'true'][view.getUint8(0)] },
  { name: 'string', bytes: 8 },
  { name: 'array', bytes: 4 + 8 },
  { name: 'u64', bytes: 8, show: (view) => `${view.getBigUint64(0, true)}` },
  { name: 'i64', bytes: 8, show: (view) => `${view.getBigInt64(0, true)}` },
  { name: 'f64', bytes: 8, show: (view) => `${view.getFloat64(0, true)}` },
];

async function readValue(reader: ByteReader, what: string, fail: Fail): Promise<Value> {
  const begin = reader.position;
  const number = await readValueType(reader, what, fail);
  const type = VALUE_TYPES[number]!;
  const text = await (number === STRING
    ? readName(reader, what, MAX_STRING_BYTES, fail)
    : number === ARRAY
      ? readArray(reader, what, 1, true, fail)
      : readNumber(reader, type, what, fail));
  return { type: type.name, text, begin, end: reader.position };
}

async function readValueType(reader: ByteReader, what: string, fail: Fail): Promise<number> {
  const number = await reader.u32(`the type of ${what}`);
  if (number >= VALUE_TYPES.length) {
    fail(`${what} has type ${number}; known are 0 to ${VALUE_TYPES.length - 1}`);
  }
  return number;
}

async function readNumber(reader: ByteReader, type: ValueType, what: string, fail: Fail): Promise<string> {
  const view = await reader.view(type.bytes, what);
  return type.show!(view) ?? fail(`${what} is ${view.getUint8(0)}; a bool is 0 or 1`);
}

/** Goes past an array; its text where it is `shown`. */
async function readArray(
  reader: ByteReader,
  what: string,
  depth: number,
  shown: boolean,
  fail: Fail,
): Promise<string> {
  if (depth > MAX_ARRAY_DEPTH) fail(`${what} nests arrays more than ${MAX_ARRAY_DEPTH} deep`);
  const number = await readValueType(reader, what, fail);
  const type = VALUE_TYPES[number]!;
  const count = await reader.size(`the length of ${what}`);
  if (count * type.bytes > reader.left) {
    fail(
      `${what} has ${count} items of ${type.name}, at least ${count * type.bytes} bytes; ${reader.left} are left`,
    );
  }

  const items: string[] = [];
  while (shown && items.length < Math.min(count, SHOWN_ITEMS)) {
    items.push(
      await (number === STRING
        ? readItem(reader, what)
        : number === ARRAY
          ? readArray(reader, what, depth + 1, true, fail)
          : readNumber(reader, type, what, fail)),
    );
  }
  const rest = count - items.length;
  if (number === STRING) await reader.skipStrings(rest, what);
  else if (number === ARRAY) {
    for (let i = 0; i < rest; i++) await readArray(reader, what, depth + 1, false, fail);
  } else {
    reader.skip(rest * type.bytes, what);
  }
  return `[${[...items, ...(rest > 0 ? [`… ${rest} more`] : [])].join(', ')}]`;
}

/** A string in an array, as the array's text shows it. */
async function readItem(reader: ByteReader, what: string): Promise<string> {
  const length = await reader.size(`the length of a string in ${what}`);
  const bytes = await reader.bytes(Math.min(length, SHOWN_ITEM_BYTES), what);
  const text = lenientUtf8.decode(bytes);
  reader.skip(length - bytes.length, what);
  return quote(text);
}

async function readTensorEntry(reader: ByteReader, source: ByteSource, name: string): Promise<TensorEntry> {
  const tensor = `tensor ${quote(name)}`;
  const fail: Fail = (message) => failIn(source, `${tensor}: ${message}`);
  const rank = await reader.u32(`the rank of ${tensor}`);
  if (rank > MAX_DIMENSIONS) fail(`${rank} dimensions; the limit is ${MAX_DIMENSIONS}`);
  const shape: number[] = [];
  for (let i = 0; i < rank; i++) shape.unshift(await reader.size(`size ${i} of ${tensor}`));
  const type = typeOf(await reader.u32(`the type of ${tensor}`), (message) =>
    refuse(source, `${tensor}: ${message}`),
  );
  const offset = await reader.size(`the offset of ${tensor}`);

  const row = shape.at(-1) ?? 1;
  if (row % type.blockSize !== 0) {
    fail(
      `shape ${showShape(shape)} has rows of ${row}, not a multiple of the ${type.name} block ${type.blockSize}`,
    );
  }
  const product = (a: number, b: number): number => {
    if (Number.isSafeInteger(a * b)) return a * b;
    return fail(`shape ${showShape(shape)} of ${type.name} overflows: over 2^53 - 1 elements or bytes`);
  };
  const byteLength = product(shape.reduce(product, 1) / type.blockSize, type.blockBytes);
  return { name, type, shape, byteLength, offset };
}

function typeOf(id: number, refuse: Fail): GgmlType {
  const removed = REMOVED_GGML_TYPES.get(id);
  if (removed) refuse(`type ${id} (${removed}), which ggml has removed; convert the model again`);
  return (
    GGML_TYPES.get(id) ?? refuse(`type ${id} is unknown; the last known is ${[...GGML_TYPES.keys()].at(-1)}`)
  );
}

function alignmentOf(values: ReadonlyMap<string, Value>, fail: Fail): number {
  const key = 'general.alignment';
  if (!values.has(key)) return DEFAULT_ALIGNMENT;
  const alignment = numberOf(values, key, 'u32', fail);
  if (alignment === 0 || alignment > MAX_ALIGNMENT || (alignment & (alignment - 1)) !== 0) {
    fail(`${key} ${alignment} is not a power of two up to ${MAX_ALIGNMENT}`);
  }
  return alignment;
}

function numberOf(values: ReadonlyMap<string, Value>, key: string, type: string, fail: Fail): number {
  const value = values.get(key) ?? fail(`has no ${key}`);
  if (value.type !== type) fail(`${key} is of type ${value.type}; it must be ${type}`);
  return Number(value.text);
}

export function padTo(alignment: number, bytes: number): number {
  // Not with bit operations, which end at 2^32.
  return Math.ceil(bytes / alignment) * alignment;
}

/** Checks that the tensors tile the data in the order of the header, each padded to the alignment. */
function checkLayout(
  entries: Iterable<TensorEntry>,
  alignment: number,
  dataLength: number,
  fail: Fail,
): void {
  let next = 0;
  for (const { name, type, shape, byteLength, offset } of entries) {
    const failTensor: Fail = (message) => fail(`tensor ${quote(name)}: ${message}`);
    if (offset % alignment !== 0)
      failTensor(`offset ${offset} is not a multiple of the alignment ${alignment}`);
    if (offset !== next) {
      const problem =
        offset < next ? 'overlaps the tensor before' : `leaves ${offset - next} bytes to no tensor`;
      failTensor(`offset ${offset} ${problem}; it must be ${next}`);
    }
    if (offset + byteLength > dataLength) {
      const has =
        dataLength < 0 ? 'the file ends before the data' : `the file has ${dataLength} bytes of data`;
      failTensor(`${byteLength} bytes of ${type.name} ${showShape(shape)} at offset ${offset}; ${has}`);
    }
    next = padTo(alignment, offset + byteLength);
  }
}

const SPLIT_NO = 'split.no';
const SPLIT_COUNT = 'split.count';
const SPLIT_TENSORS = 'split.tensors.count';

/** The files in the order of their numbers, which must be all of one model's. */
function orderSplits(files: readonly GgufFile[]): readonly GgufFile[] {
  // A split of one, or of none as a merged file has it, is a file like any other.
  if (files.length === 1 && splitCount(files[0]!) <= 1) return files;
  const ordered: GgufFile[] = [];
  const count = splitCount(files[0]!);
  for (const file of files) {
    const fail: Fail = (message) => failIn(file.source, message);
    if (splitCount(file) <= 1) fail(`is a whole model by its ${SPLIT_COUNT}; give it alone`);
    if (splitCount(file) !== count) {
      fail(`${SPLIT_COUNT} is ${splitCount(file)}; ${files[0]!.source.name} has ${count}`);
    }
    const number = numberOf(file.values, SPLIT_NO, 'u16', fail);
    if (number >= count) fail(`${SPLIT_NO} ${number} is not below ${SPLIT_COUNT} ${count}`);
    if (ordered[number]) fail(`${SPLIT_NO} ${number} is that of ${ordered[number].source.name} too`);
    ordered[number] = file;
  }
  if (files.length !== count) {
    const missing = Array.from({ length: count }, (_, number) => number).filter((number) => !ordered[number]);
    const listed = missing.slice(0, SHOWN_ITEMS).join(', ') + (missing.length > SHOWN_ITEMS ? ', …' : '');
    failIn(
      files[0]!.source,
      `one of ${count} files of a split; missing are those with ${SPLIT_NO} ${listed}`,
    );
  }
  return ordered;
}

function splitCount({ source, values }: GgufFile): number {
  if (!values.has(SPLIT_COUNT)) return 1;
  return numberOf(values, SPLIT_COUNT, 'u16', (message) => failIn(source, message));
}

/** Every file of a split says how many tensors they have together. */
function checkTensorCount(files: readonly GgufFile[], count: number): void {
  if (files.length === 1) return;
  for (const { source, values } of files) {
    const fail: Fail = (message) => failIn(source, message);
    const claimed = numberOf(values, SPLIT_TENSORS, 'i32', fail);
    if (claimed !== count) {
      fail(`${SPLIT_TENSORS} is ${claimed}; the ${files.length} files have ${count} tensors`);
    }
  }
}

/** The values of all files. Only what counts the files may differ between them. */
function mergeMetadata(files: readonly GgufFile[]): Map<string, string> {
  const merged = new Map<string, string>();
  for (const { source, values } of files) {
    for (const [key, { text }] of values) {
      const other = merged.get(key);
      if (other === undefined) merged.set(key, text);
      else if (other !== text && key !== SPLIT_NO && key !== 'general.alignment') {
        failIn(source, `${quote(key)} is ${quote(text)}; in another file of the split it is ${quote(other)}`);
      }
    }
  }
  return merged;
}
