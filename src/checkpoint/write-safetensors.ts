/** Writes safetensors files: quantized weights, samples, and the fixtures of this library's own tests. */
import { InvalidArgumentError } from '../errors.js';
import { DTYPES, type Dtype, isDtype, showShape, tensorByteLength } from './dtype.js';
import { LENGTH_BYTES, MAX_HEADER_BYTES, METADATA_KEY } from './safetensors.js';
import { quote } from './strict-json.js';

/** A tensor to write. */
export interface TensorData {
  readonly name: string;
  readonly dtype: Dtype;
  /** Sizes in elements, slowest first; [] is a scalar. */
  readonly shape: readonly number[];
  /** Little-endian values, exactly as many bytes as shape and dtype make. */
  readonly bytes: Uint8Array;
}

/** Strings for `__metadata__`. */
export type SafetensorsMetadata = ReadonlyMap<string, string> | Readonly<Record<string, string>>;

/**
 * A whole file, byte for byte what the reference implementation writes (metadata stands in the order given): tensors
 * by dtype, the most aligned first, then by name, and a header padded with spaces to 8 bytes, so that every tensor of
 * 2-, 4- and 8-byte elements is aligned.
 * @throws InvalidArgumentError naming the tensor and the rule
 */
export function writeSafetensors(
  tensors: readonly TensorData[],
  metadata?: SafetensorsMetadata,
): Uint8Array<ArrayBuffer> {
  checkTensors(tensors);
  const ordered = tensors.map((tensor) => ({ ...tensor, nameBytes: utf8.encode(tensor.name) }));
  ordered.sort(
    (a, b) => DTYPES.indexOf(b.dtype) - DTYPES.indexOf(a.dtype) || compareBytes(a.nameBytes, b.nameBytes),
  );

  // Put together by hand: an object literal would move names like "0" to the front.
  const members = metadata === undefined ? [] : [member(METADATA_KEY, metadataJson(metadata))];
  let end = 0;
  for (const { name, dtype, shape, bytes } of ordered) {
    const begin = end;
    end += bytes.byteLength;
    members.push(member(name, JSON.stringify({ dtype, shape, data_offsets: [begin, end] })));
  }
  const header = utf8.encode(`{${members.join(',')}}`);
  const paddedLength = Math.ceil(header.length / LENGTH_BYTES) * LENGTH_BYTES;
  if (paddedLength > MAX_HEADER_BYTES) fail(`the header takes ${paddedLength} of ${MAX_HEADER_BYTES} bytes`);

  const file = new Uint8Array(LENGTH_BYTES + paddedLength + end);
  new DataView(file.buffer).setBigUint64(0, BigInt(paddedLength), true);
  file.fill(0x20, LENGTH_BYTES, LENGTH_BYTES + paddedLength);
  file.set(header, LENGTH_BYTES);
  let at = LENGTH_BYTES + paddedLength;
  for (const { bytes } of ordered) {
    file.set(bytes, at);
    at += bytes.byteLength;
  }
  return file;
}

const utf8 = new TextEncoder();

function checkTensors(tensors: readonly TensorData[]): void {
  const names = new Set<string>();
  for (const { name, dtype, shape, bytes } of tensors) {
    const failTensor = (message: string): never => fail(`tensor ${quote(name)}: ${message}`);
    if (name === METADATA_KEY) failTensor('the name is reserved for the metadata');
    if (names.has(name)) failTensor('the name appears twice');
    names.add(name);
    if (!isDtype(dtype)) failTensor(`dtype ${quote(String(dtype))} is unknown`);
    if (!shape.every((size) => Number.isSafeInteger(size) && size >= 0)) {
      failTensor(`shape ${showShape(shape)} is not all non-negative integers`);
    }
    const needed = tensorByteLength(dtype, shape, failTensor);
    if (bytes.byteLength !== needed) {
      failTensor(`${bytes.byteLength} bytes given; shape ${showShape(shape)} of ${dtype} needs ${needed}`);
    }
  }
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

function fail(message: string): never {
  throw new InvalidArgumentError('safetensors', message);
}
