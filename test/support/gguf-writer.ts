/** GGUF files byte by byte, right and wrong ones. Shares nothing with the loader but the format's description. */

type Size = number | bigint;

/** Numbers of value types. */
export const VALUE = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;

export type ValueName = keyof typeof VALUE;

export function concat(...pieces: Uint8Array[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

function number(bytes: number, write: (view: DataView) => void): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(bytes));
  write(view);
  return new Uint8Array(view.buffer);
}

export const u8 = (value: number) => Uint8Array.of(value);
export const u16 = (value: number) => number(2, (view) => view.setUint16(0, value, true));
export const u32 = (value: number) => number(4, (view) => view.setUint32(0, value, true));
export const u64 = (value: Size) => number(8, (view) => view.setBigUint64(0, BigInt(value), true));
export const f32 = (value: number) => number(4, (view) => view.setFloat32(0, value, true));
export const f64 = (value: number) => number(8, (view) => view.setFloat64(0, value, true));

/** A length and the bytes; `length` tells a wrong one. */
export function string(text: string | Uint8Array, length?: Size): Uint8Array<ArrayBuffer> {
  const bytes = typeof text === 'string' ? new TextEncoder().encode(text) : text;
  return concat(u64(length ?? bytes.length), bytes);
}

/** The bytes of a value without its type. */
function payload(type: ValueName, value: unknown): Uint8Array<ArrayBuffer> {
  switch (type) {
    case 'u8':
    case 'i8':
      return u8((value as number) & 0xff);
    case 'bool':
      return u8(Number(value));
    case 'u16':
    case 'i16':
      return u16((value as number) & 0xffff);
    case 'u32':
    case 'i32':
      return u32((value as number) >>> 0);
    case 'f32':
      return f32(value as number);
    case 'f64':
      return f64(value as number);
    case 'u64':
    case 'i64':
      return u64(BigInt.asUintN(64, value as bigint));
    case 'string':
      return string(value as string | Uint8Array);
    case 'array':
      return value as Uint8Array<ArrayBuffer>;
  }
}

/** What follows the type of an array: type of items, count, items; `count` tells a wrong one. */
export function items(type: ValueName, values: readonly unknown[], count?: Size): Uint8Array<ArrayBuffer> {
  return concat(
    u32(VALUE[type]),
    u64(count ?? values.length),
    ...values.map((value) => payload(type, value)),
  );
}

/** A key with its value. */
export function pair(
  key: string | Uint8Array,
  type: ValueName | number,
  value: unknown,
): Uint8Array<ArrayBuffer> {
  if (typeof type === 'number') return concat(string(key), u32(type), value as Uint8Array);
  return concat(string(key), u32(VALUE[type]), payload(type, value));
}

export interface TensorSpec {
  readonly name: string | Uint8Array;
  /** As in the file: fastest first. */
  readonly sizes: readonly Size[];
  readonly type: number;
  readonly bytes: Uint8Array;
  /** Told apart from the running sum only in wrong files. */
  readonly offset?: Size;
  readonly rank?: number;
}

export interface GgufSpec {
  readonly version?: number;
  readonly magic?: string;
  readonly pairs?: readonly Uint8Array[];
  readonly tensors?: readonly TensorSpec[];
  /** Where padding ends; the file does not say it unless a pair does. */
  readonly alignment?: number;
  readonly tensorCount?: Size;
  readonly pairCount?: Size;
  /** False leaves the last tensor without padding. */
  readonly lastPadding?: boolean;
}

export function ggufFile(spec: GgufSpec): Uint8Array<ArrayBuffer> {
  const { version = 3, magic = 'GGUF', pairs = [], tensors = [], alignment = 32 } = spec;
  const pad = (length: number) => new Uint8Array((alignment - (length % alignment)) % alignment);
  const data: Uint8Array[] = [];
  const infos: Uint8Array[] = [];
  let at = 0;
  tensors.forEach((tensor, i) => {
    infos.push(
      string(tensor.name),
      u32(tensor.rank ?? tensor.sizes.length),
      ...tensor.sizes.map(u64),
      u32(tensor.type),
      u64(tensor.offset ?? at),
    );
    const last = i === tensors.length - 1 && spec.lastPadding === false;
    const padded = last ? tensor.bytes : concat(tensor.bytes, pad(tensor.bytes.length));
    data.push(padded);
    at += padded.length;
  });
  const header = concat(
    new TextEncoder().encode(magic),
    u32(version),
    u64(spec.tensorCount ?? tensors.length),
    u64(spec.pairCount ?? pairs.length),
    ...pairs,
    ...infos,
  );
  return concat(header, pad(header.length), ...data);
}
