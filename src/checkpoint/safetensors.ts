/**
 * The safetensors container: u64 little-endian N, N bytes of JSON, then the tensors' bytes without a gap.
 * `{"__metadata__": {string: string}, name: {"dtype": "BF16", "shape": [n, k], "data_offsets": [begin, end]}, …}`,
 * offsets counted from the first byte after the header. Values are little-endian, last dimension contiguous.
 *
 * A file says everything about its own layout, so nothing it says is believed before it is checked: what passes here
 * has tensors that tile the data exactly, each as long as its shape and dtype make it.
 * Source: github.com/huggingface/safetensors (README, `tensor.rs`). Stricter than it in these: duplicate and unknown
 * keys are refused, and so are sizes above 2^53 - 1 and more than a million tensors.
 */
import { CheckpointError } from '../errors.js';
import { type ByteSource, type ReadOptions, readExactly } from './byte-source.js';
import { MAX_TENSORS } from './container.js';
import { DTYPES, type Dtype, isDtype, showShape, tensorByteLength } from './dtype.js';
import { type JsonValue, parseStrictMembers, quote } from './strict-json.js';

/** Where a tensor lies in its file. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: Dtype;
  /** Sizes, slowest first; [] is a scalar, and a size may be 0. Counts elements, so two to the byte for F4. */
  readonly shape: readonly number[];
  /** First byte, counted from the start of the file. Not aligned to anything. */
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** What the header of a file says, checked. */
export interface SafetensorsFile {
  /** By name, in the order of their bytes. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  /** The strings under `__metadata__`; empty when there are none. */
  readonly metadata: ReadonlyMap<string, string>;
}

/** Largest header taken, the reference implementation's limit. */
export const MAX_HEADER_BYTES = 100_000_000;
/** Of a tensor's entry, which takes a handful, or of all metadata: some tools write a text a tensor. */
const MAX_MEMBER_VALUES = 1 << 20;
export const LENGTH_BYTES = 8;
export const METADATA_KEY = '__metadata__';

type Fail = (message: string) => never;

/** An entry, its offsets still relative to the data. */
interface Entry {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

/**
 * Reads and checks the header; no tensor is read.
 * @throws CheckpointError naming the file, the tensor, the value and the rule it breaks
 */
export async function readSafetensorsHeader(
  source: ByteSource,
  options?: ReadOptions,
): Promise<SafetensorsFile> {
  const fail: Fail = (message) => {
    throw new CheckpointError('safetensors', `${source.name}: ${message}`);
  };
  const fileLength = source.byteLength;
  if (fileLength < LENGTH_BYTES) {
    fail(`has ${fileLength} bytes; the header length alone takes ${LENGTH_BYTES}`);
  }
  const prefix = await readExactly(source, 0, LENGTH_BYTES, options);
  // Compared as a bigint: above 2^53 a number could round to one that passes.
  const claimed = new DataView(prefix.buffer, prefix.byteOffset).getBigUint64(0, true);
  if (claimed > MAX_HEADER_BYTES) {
    fail(`header length ${claimed} is above the limit of ${MAX_HEADER_BYTES} bytes`);
  }
  const dataStart = LENGTH_BYTES + Number(claimed);
  if (dataStart > fileLength) {
    fail(`header length ${claimed} reaches past the end of the file, which has ${fileLength} bytes`);
  }

  const text = decodeUtf8(await readExactly(source, LENGTH_BYTES, dataStart, options), fail);
  const failHeader: Fail = (message) => fail(`header: ${message}`);
  let metadata = new Map<string, string>();
  let count = 0;
  const header = parseStrictMembers(
    text,
    failHeader,
    (name, value) => {
      if (name === METADATA_KEY) {
        metadata = parseMetadata(value, failHeader);
        return undefined;
      }
      if (++count > MAX_TENSORS) fail(`has more than ${MAX_TENSORS} tensors; so many are not read`);
      return parseEntry(name, value, fail);
    },
    { maxValues: MAX_MEMBER_VALUES },
  );
  if (!(header instanceof Map)) return failHeader(`is ${describe(header)}; it must be a JSON object`);

  const entries = [...header.values()].filter((entry) => entry !== undefined);
  checkLayout(entries, fileLength - dataStart, fail);
  const infos = entries.map(({ name, dtype, shape, begin, end }): TensorInfo => {
    return { name, dtype, shape, byteOffset: dataStart + begin, byteLength: end - begin };
  });
  return { tensors: new Map(infos.map((info) => [info.name, info])), metadata };
}

/**
 * The bytes of one tensor, as they stand in the file. They may alias the source: read them, do not write them.
 * @throws CheckpointError when the source no longer has them
 */
export function readTensorBytes(
  source: ByteSource,
  info: TensorInfo,
  options?: ReadOptions,
): Promise<Uint8Array> {
  return readExactly(source, info.byteOffset, info.byteOffset + info.byteLength, options);
}

function decodeUtf8(bytes: Uint8Array, fail: Fail): string {
  let text: string;
  try {
    // A decoder left to its defaults drops a byte order mark and replaces what is malformed.
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return fail(`header: its ${bytes.byteLength} bytes are not valid UTF-8`);
  }
  if (text.startsWith('\uFEFF')) fail('header: starts with a byte order mark; only JSON is allowed');
  return text;
}

function parseMetadata(value: JsonValue, fail: Fail): Map<string, string> {
  if (!(value instanceof Map)) {
    return fail(`${METADATA_KEY} is ${describe(value)}; it must be an object of strings`);
  }
  return new Map(
    Array.from(value, ([key, item]) => {
      if (typeof item === 'string') return [key, item] as const;
      return fail(`${METADATA_KEY} ${quote(key)} is ${describe(item)}; it must be a string`);
    }),
  );
}

/** One entry on its own: its fields, and that its span is what its shape and dtype need. */
function parseEntry(name: string, value: JsonValue, fail: Fail): Entry {
  const failTensor: Fail = (message) => fail(`tensor ${quote(name)}: ${message}`);
  if (!(value instanceof Map)) return failTensor(`is ${describe(value)}; it must be an object`);
  const take = (key: string): JsonValue => {
    const item = value.get(key);
    if (item === undefined) return failTensor(`has no ${key}`);
    value.delete(key);
    return item;
  };
  const dtype = take('dtype');
  const shape = take('shape');
  const offsets = take('data_offsets');
  for (const key of value.keys())
    failTensor(`unknown key ${quote(key)}; allowed are dtype, shape and data_offsets`);

  if (!(typeof dtype === 'string' && isDtype(dtype))) {
    return failTensor(`dtype ${describe(dtype)} is unknown; known are ${DTYPES.join(', ')}`);
  }
  if (!isSizes(shape)) return failTensor(`shape ${describe(shape)} is not an array of non-negative integers`);
  if (!(isSizes(offsets) && offsets.length === 2)) {
    return failTensor(`data_offsets ${describe(offsets)} are not two non-negative integers`);
  }
  const [begin, end] = offsets as [number, number];
  if (end < begin) failTensor(`data_offsets [${begin}, ${end}] end before they begin`);
  const needed = tensorByteLength(dtype, shape, failTensor);
  if (end - begin !== needed) {
    failTensor(
      `data_offsets [${begin}, ${end}] span ${end - begin} bytes; shape ${showShape(shape)} of ${dtype} needs ${needed}`,
    );
  }
  return { name, dtype, shape, begin, end };
}

/** Sorts the entries by their bytes and checks that these tile the data: no gap, no overlap, nothing left over. */
function checkLayout(entries: Entry[], dataLength: number, fail: Fail): void {
  // By end as well, so that an empty tensor comes before the one that begins at the same byte.
  entries.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let next = 0;
  for (const { name, begin, end } of entries) {
    if (begin !== next) {
      const problem =
        begin < next ? 'overlap the tensor before' : `leave bytes ${next}..${begin} to no tensor`;
      fail(`tensor ${quote(name)}: data_offsets [${begin}, ${end}] ${problem}; they must begin at ${next}`);
    }
    if (end > dataLength) {
      fail(
        `tensor ${quote(name)}: data_offsets [${begin}, ${end}] reach past the file's ${dataLength} data bytes`,
      );
    }
    next = end;
  }
  if (next !== dataLength) {
    fail(`has ${dataLength} data bytes, but its tensors end at ${next}; trailing bytes are not allowed`);
  }
}

function isSizes(value: JsonValue): value is number[] {
  return Array.isArray(value) && value.every((size) => typeof size === 'number' && size >= 0);
}

function describe(value: JsonValue): string {
  if (value instanceof Map) return 'an object';
  if (typeof value === 'string') return quote(value);
  if (!Array.isArray(value)) return String(value);
  return value.every((item) => typeof item === 'number') ? showShape(value) : 'an array';
}
