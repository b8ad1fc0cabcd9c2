/** Writes safetensors files: quantized weights, samples, and the fixtures of this library's own tests. */
import { InvalidArgumentError } from '../errors.js';
import { DTYPES, type Dtype, isDtype, showShape, tensorByteLength } from './dtype.js';
import { LENGTH_BYTES, MAX_HEADER_BYTES, METADATA_KEY } from './safetensors.js';
import { quote } from './strict-json.js';

/** What a header says of a tensor to write. */
export interface TensorHeader {
  readonly name: string;
  readonly dtype: Dtype;
  /** Sizes in elements, slowest first; [] is a scalar. */
  readonly shape: readonly number[];
}

/** A tensor to write. */
export interface TensorData extends TensorHeader {
  /** Little-endian values, exactly as many bytes as shape and dtype make. */
  readonly bytes: Uint8Array;
}

/** A file whose tensors may be written in any order, and in parts: everything but their bytes. */
export interface SafetensorsLayout {
  /** The first bytes of the file: length word, JSON, padding. */
  readonly header: Uint8Array<ArrayBuffer>;
  /** Of the whole file. */
  readonly byteLength: number;
  /** Where each tensor lies, by name, in the order of the file: bytes `start` to `end`, counted from its first byte. */
  readonly ranges: ReadonlyMap<string, { readonly start: number; readonly end: number }>;
}

/** Strings for `__metadata__`. */
export type SafetensorsMetadata = ReadonlyMap<string, string> | Readonly<Record<string, string>>;

/**
 * A whole file, byte for byte what the reference implementation writes, in the order of `layoutSafetensors`.
 * @throws InvalidArgumentError naming the tensor and the rule
 */
export function writeSafetensors(
  tensors: readonly TensorData[],
  metadata?: SafetensorsMetadata,
): Uint8Array<ArrayBuffer> {
  const { header, byteLength, ranges } = layoutSafetensors(tensors, metadata);
  for (const { name, dtype, shape, bytes } of tensors) {
    const { start, end } = ranges.get(name)!;
    if (bytes.byteLength !== end - start) {
      failTensor(
        name,
        `${bytes.byteLength} bytes given; shape ${showShape(shape)} of ${dtype} needs ${end - start}`,
      );
    }
  }
  const file = new Uint8Array(byteLength);
  file.set(header);
  for (const { name, bytes } of tensors) file.set(bytes, ranges.get(name)!.start);
  return file;
}

/**
 * Where everything of a file goes, before any tensor's bytes are there, as the reference implementation has it (metadata
 * stands in the order given): tensors by dtype, the most aligned first, then by name, and a header padded with spaces to
 * 8 bytes, so that every tensor of 2-, 4- and 8-byte elements is aligned.
 * @throws InvalidArgumentError naming the tensor and the rule
 */
export function layoutSafetensors(
  tensors: readonly TensorHeader[],
  metadata?: SafetensorsMetadata,
): SafetensorsLayout {
  const ordered = checkTensors(tensors);
  ordered.sort(
    (a, b) => DTYPES.indexOf(b.dtype) - DTYPES.indexOf(a.dtype) || compareBytes(a.nameBytes, b.nameBytes),
  );

  // Put together by hand: an object literal would move names like "0" to the front.
  const members = metadata === undefined ? [] : [member(METADATA_KEY, metadataJson(metadata))];
  let end = 0;
  const offsets = ordered.map(({ name, dtype, shape, byteLength }) => {
    const begin = end;
    end += byteLength;
    members.push(member(name, JSON.stringify({ dtype, shape, data_offsets: [begin, end] })));
    return { name, begin, end };
  });
  if (!Number.isSafeInteger(end)) fail(`the tensors take ${end} bytes, over 2^53 - 1`);
  const json = utf8.encode(`{${members.join(',')}}`);
  const paddedLength = Math.ceil(json.length / LENGTH_BYTES) * LENGTH_BYTES;
  if (paddedLength > MAX_HEADER_BYTES) fail(`the header takes ${paddedLength} of ${MAX_HEADER_BYTES} bytes`);

  const header = new Uint8Array(LENGTH_BYTES + paddedLength).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(paddedLength), true);
  header.set(json, LENGTH_BYTES);
  return {
    header,
    byteLength: header.length + end,
    ranges: new Map(
      offsets.map((at) => [at.name, { start: header.length + at.begin, end: header.length + at.end }]),
    ),
  };
}

const utf8 = new TextEncoder();

/** The tensors with what the layout needs of each. */
function checkTensors(tensors: readonly TensorHeader[]) {
  const names = new Set<string>();
  return tensors.map(({ name, dtype, shape }) => {
    const refuse = (message: string): never => failTensor(name, message);
    if (name === METADATA_KEY) refuse('the name is reserved for the metadata');
    if (names.has(name)) refuse('the name appears twice');
    names.add(name);
    if (!isDtype(dtype)) refuse(`dtype ${quote(String(dtype))} is unknown`);
    if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
      refuse(`shape ${showShape(shape)} is not all non-negative integers`);
    }
    const byteLength = tensorByteLength(dtype, shape, refuse);
    return { name, dtype, shape, byteLength, nameBytes: utf8.encode(name) };
  });
}

function metadataJson(metadata: SafetensorsMetadata): string {
  const entries = metadata instanceof Map ? [...metadata] : Object.entries(metadata);
  const members = entries.map(([key, value]) => {
    if (typeof value !== 'string') {
      fail(`metadata ${quote(key)} is a ${typeof value}; only strings can be stored`);
    }
    return member(key, jsonString(value));
  });
  return `{${members.join(',')}}`;
}

function member(key: string, json: string): string {
  return `${jsonString(key)}:${json}`;
}

function jsonString(text: string): string {
  // UTF-8 has no half pairs, and `JSON.stringify` would write an escape that readers refuse.
  if (/\p{Surrogate}/u.test(text)) fail(`string ${quote(text)} holds half a surrogate pair`);
  return JSON.stringify(text);
}

/** Order of UTF-8 bytes, in which the reference sorts names; JavaScript's `<` compares UTF-16 units. */
function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
}

function failTensor(name: string, message: string): never {
  return fail(`tensor ${quote(name)}: ${message}`);
}

function fail(message: string): never {
  throw new InvalidArgumentError('safetensors', message);
}
