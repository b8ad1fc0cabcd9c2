/**
 * Writes GGUF files, version 3, as gguf.ts reads them: first where everything goes, then the bytes, in any order. The
 * same tensors and metadata give the same file. What the reference loader refuses is refused here.
 *
 * By hand, because it is the counterpart of that reader, whose rules it shares, and this library has no dependencies.
 */
import { InvalidArgumentError } from '../errors.js';
import { showShape } from './dtype.js';
import { GGML_TYPES_BY_NAME, type GgmlTypeName } from './ggml-types.js';
import {
  DEFAULT_ALIGNMENT,
  MAGIC,
  MAX_ALIGNMENT,
  MAX_DIMENSIONS,
  MAX_KEY_BYTES,
  MAX_NAME_BYTES,
  MAX_STRING_BYTES,
  padTo,
} from './gguf.js';
import { quote } from './strict-json.js';
import type { SafetensorsLayout } from './write-safetensors.js';

/** What a header says of a tensor to write. */
export interface GgufTensorHeader {
  readonly name: string;
  /** `F32`, `MXFP4`, …: a type as ggml calls it. */
  readonly dtype: GgmlTypeName;
  /** Sizes in elements, slowest first, unlike in the file; at most four, none of them 0. */
  readonly shape: readonly number[];
}

/** A tensor to write. */
export interface GgufTensor extends GgufTensorHeader {
  /** Exactly as many bytes as shape and type make. */
  readonly bytes: Uint8Array;
}

/** Types of single values by number; 9 is an array. */
const TYPES = 'u8 i8 u16 i16 u32 i32 f32 bool string array u64 i64 f64'.split(' ');

export type GgufItems =
  | { readonly type: 'u8' | 'i8' | 'u16' | 'i16' | 'u32' | 'i32' | 'f32' | 'f64'; readonly value: number }
  | { readonly type: 'u64' | 'i64'; readonly value: bigint }
  | { readonly type: 'bool'; readonly value: boolean }
  | { readonly type: 'string'; readonly value: string };

/** A value of the metadata. */
export type GgufValue =
  | GgufItems
  | {
      readonly type: 'array';
      readonly items: GgufItems['type'];
      readonly value: readonly GgufItems['value'][];
    }
  /** As another file has it: what `Checkpoint.storedValue` gives. */
  | { readonly type: 'stored'; readonly value: Uint8Array };

export type GgufMetadata = ReadonlyMap<string, GgufValue> | Readonly<Record<string, GgufValue>>;

/** As of a safetensors file. Between tensors and after the last one is padding, of zeros. */
export type GgufLayout = SafetensorsLayout;

/** @throws InvalidArgumentError naming the tensor or key, the value and the rule; as {@link layoutGguf} */
export function writeGguf(
  tensors: readonly GgufTensor[],
  metadata: GgufMetadata = {},
): Uint8Array<ArrayBuffer> {
  const { header, byteLength, ranges } = layoutGguf(tensors, metadata);
  for (const { name, dtype, shape, bytes } of tensors) {
    const { start, end } = ranges.get(name)!;
    if (bytes.length !== end - start) {
      fail(
        `tensor ${quote(name)}: ${bytes.length} bytes given; shape ${showShape(shape)} of ${dtype} needs ${end - start}`,
      );
    }
  }
  const file = new Uint8Array(byteLength);
  file.set(header);
  for (const { name, bytes } of tensors) file.set(bytes, ranges.get(name)!.start);
  return file;
}

/**
 * Where everything of a file goes, before any tensor's bytes are there: metadata and tensors in the order given, each
 * tensor from a multiple of the alignment on: the u32 `general.alignment` of the metadata, or 32.
 * @throws InvalidArgumentError naming the tensor or key, the value and the rule
 */
export function layoutGguf(tensors: readonly GgufTensorHeader[], metadata: GgufMetadata = {}): GgufLayout {
  const values = metadata instanceof Map ? [...metadata] : Object.entries(metadata as object);
  const alignment = alignmentOf(values);
  const out = new Pieces();
  out.u32(MAGIC);
  out.u32(3);
  out.u64(tensors.length);
  out.u64(values.length);
  for (const [key, value] of values) {
    if (key === '') fail('a key is empty');
    out.string(key, MAX_KEY_BYTES, `key ${quote(key)}`);
    writeValue(out, value, `the value of ${quote(key)}`);
  }

  const offsets = new Map<string, { offset: number; byteLength: number }>();
  let offset = 0;
  for (const { name, dtype, shape } of tensors) {
    if (offsets.has(name)) fail(`tensor ${quote(name)}: the name appears twice`);
    if (name.includes('\0')) fail(`tensor ${quote(name)}: the name holds a NUL`);
    const { id, byteLength } = sizeOf(name, dtype, shape);
    out.string(name, MAX_NAME_BYTES, `the name of tensor ${quote(name)}`);
    out.u32(shape.length);
    for (const size of shape.toReversed()) out.u64(size);
    out.u32(id);
    out.u64(offset);
    offsets.set(name, { offset, byteLength });
    offset = padTo(alignment, offset + byteLength);
    if (!Number.isSafeInteger(offset)) fail(`the tensors take ${offset} bytes, over 2^53 - 1`);
  }

  const start = padTo(alignment, out.byteLength);
  const header = out.join(start);
  const ranges = Array.from(offsets, ([name, at]) => {
    const begin = start + at.offset;
    return [name, { start: begin, end: begin + at.byteLength }] as const;
  });
  return { header, byteLength: start + offset, ranges: new Map(ranges) };
}

function fail(message: string): never {
  throw new InvalidArgumentError('gguf', message);
}

function sizeOf(name: string, dtype: string, shape: readonly number[]) {
  const refuse = (message: string): never => fail(`tensor ${quote(name)}: ${message}`);
  const type = GGML_TYPES_BY_NAME.get(dtype) ?? refuse(`${quote(dtype)} is no type of GGUF`);
  if (shape.length > MAX_DIMENSIONS)
    refuse(`${shape.length} dimensions; a GGUF tensor has ${MAX_DIMENSIONS} at most`);
  if (!shape.every((size) => Number.isSafeInteger(size) && size > 0)) {
    refuse(`shape ${showShape(shape)} is not all positive integers`);
  }
  if ((shape.at(-1) ?? 1) % type.blockSize) {
    refuse(
      `shape ${showShape(shape)} has rows of ${shape.at(-1)}, not a multiple of the ${dtype} block ${type.blockSize}`,
    );
  }
  const byteLength = (shape.reduce((a, b) => a * b, 1) / type.blockSize) * type.blockBytes;
  if (!Number.isSafeInteger(byteLength)) {
    refuse(`shape ${showShape(shape)} of ${dtype} overflows: over 2^53 - 1 bytes`);
  }
  return { id: type.id, byteLength };
}

function alignmentOf(values: readonly (readonly [string, GgufValue])[]): number {
  const key = 'general.alignment';
  const value = values.find(([candidate]) => candidate === key)?.[1];
  if (value === undefined) return DEFAULT_ALIGNMENT;
  const alignment = value.type === 'u32' ? value.value : fail(`${key} is of type ${value.type}; give a u32`);
  if (!(Number.isInteger(Math.log2(alignment)) && alignment >= 1 && alignment <= MAX_ALIGNMENT)) {
    fail(`${key} ${alignment} is not a power of two up to ${MAX_ALIGNMENT}`);
  }
  return alignment;
}

function writeValue(out: Pieces, value: GgufValue, what: string): void {
  if (value.type === 'stored') {
    checkStored(value.value, what);
    out.bytes(value.value);
    return;
  }
  out.u32(TYPES.indexOf(value.type));
  if (value.type !== 'array') {
    writeItem(out, value.type, value.value, what);
    return;
  }
  out.u32(TYPES.indexOf(value.items));
  out.u64(value.value.length);
  for (const item of value.value) writeItem(out, value.items, item, what);
}

function writeItem(out: Pieces, type: GgufItems['type'], value: GgufItems['value'], what: string): void {
  const refuse = (): never => fail(`${what}: ${String(value)} is no ${type}`);
  if (type === 'string') {
    out.string(typeof value === 'string' ? value : refuse(), MAX_STRING_BYTES, what);
    return;
  }
  const { bytes, js, set, get } = NUMBERS[type];
  const view = new DataView(new ArrayBuffer(bytes));
  // What does not fit comes back as something else.
  if (typeof value === js) set(view, value as never);
  if (!Object.is(get(view), value)) refuse();
  out.bytes(new Uint8Array(view.buffer));
}

/** Refuses bytes that are not one value: they would shift everything after them. */
function checkStored(bytes: Uint8Array, what: string): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = (type: number, at: number): number => {
    const name = TYPES[type];
    if (name === 'string') return at + 8 + Number(view.getBigUint64(at, true));
    if (name !== 'array') return at + NUMBERS[name as keyof typeof NUMBERS].bytes;
    const items = view.getUint32(at, true);
    const count = Number(view.getBigUint64(at + 4, true));
    let next = at + 12;
    for (let i = 0; i < count; i++) next = end(items, next);
    return next;
  };
  let length: number | undefined;
  try {
    length = end(view.getUint32(0, true), 4);
  } catch {
    // The bytes end early, or a type is unknown.
  }
  if (length !== bytes.length) fail(`${what}: its ${bytes.length} stored bytes are not one value`);
}

interface NumberType {
  readonly bytes: number;
  readonly js: 'number' | 'bigint' | 'boolean';
  set(view: DataView, value: never): void;
  get(view: DataView): number | bigint | boolean;
}

/** The getters and setters of a DataView have names that differ in this only. */
type Accessor =
  | 'Uint8'
  | 'Int8'
  | 'Uint16'
  | 'Int16'
  | 'Uint32'
  | 'Int32'
  | 'Float32'
  | 'Float64'
  | 'BigUint64'
  | 'BigInt64';

function number(bytes: number, js: NumberType['js'], accessor: Accessor): NumberType {
  return {
    bytes,
    js,
    set: (view, value) => view[`set${accessor}`](0, value, true),
    get: (view) => view[`get${accessor}`](0, true),
  };
}

const NUMBERS: Readonly<Record<Exclude<GgufItems['type'], 'string'>, NumberType>> = {
  u8: number(1, 'number', 'Uint8'),
  i8: number(1, 'number', 'Int8'),
  u16: number(2, 'number', 'Uint16'),
  i16: number(2, 'number', 'Int16'),
  u32: number(4, 'number', 'Uint32'),
  i32: number(4, 'number', 'Int32'),
  f32: number(4, 'number', 'Float32'),
  f64: number(8, 'number', 'Float64'),
  u64: number(8, 'bigint', 'BigUint64'),
  i64: number(8, 'bigint', 'BigInt64'),
  bool: {
    bytes: 1,
    js: 'boolean',
    set: (view, value) => view.setUint8(0, value ? 1 : 0),
    get: (view) => view.getUint8(0) === 1,
  },
};

const utf8 = new TextEncoder();

/** Bytes one after the other. */
class Pieces {
  byteLength = 0;
  readonly #pieces: Uint8Array[] = [];

  bytes(piece: Uint8Array): void {
    this.#pieces.push(piece);
    this.byteLength += piece.length;
  }

  u32(value: number): void {
    this.bytes(new Uint8Array(Uint32Array.of(value).buffer));
  }

  u64(value: number): void {
    this.bytes(new Uint8Array(BigUint64Array.of(BigInt(value)).buffer));
  }

  string(text: string, maxBytes: number, what: string): void {
    if (/\p{Surrogate}/u.test(text)) fail(`${what} holds half a surrogate pair`);
    const bytes = utf8.encode(text);
    if (bytes.length > maxBytes) fail(`${what} takes ${bytes.length} bytes; the limit is ${maxBytes}`);
    this.u64(bytes.length);
    this.bytes(bytes);
  }

  /** All of them in an array of `length` bytes, zeros at its end. */
  join(length: number): Uint8Array<ArrayBuffer> {
    const all = new Uint8Array(length);
    let at = 0;
    for (const piece of this.#pieces) {
      all.set(piece, at);
      at += piece.length;
    }
    return all;
  }
}
