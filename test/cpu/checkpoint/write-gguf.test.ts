import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { bytesSource } from '../../../src/checkpoint/byte-source.js';
import { openGguf } from '../../../src/checkpoint/gguf.js';
import { openCheckpoint } from '../../../src/checkpoint/open.js';
import {
  type GgufTensor,
  type GgufValue,
  layoutGguf,
  writeGguf,
} from '../../../src/checkpoint/write-gguf.js';
import { InvalidArgumentError } from '../../../src/errors.js';
import { WHOLE } from '../../support/gguf-samples.js';
import { ggufFile, items, pair, type TensorSpec } from '../../support/gguf-writer.js';

const bytes = (length: number) => Uint8Array.from({ length }, (_, i) => (i * 37) & 255);

const TENSORS: readonly GgufTensor[] = [
  { name: 'a.weight', dtype: 'F32', shape: [2, 3], bytes: bytes(24) },
  { name: 'b', dtype: 'F16', shape: [], bytes: bytes(2) },
  { name: 'c.weight', dtype: 'MXFP4', shape: [2, 1, 64], bytes: bytes(68) },
  { name: 'd.weight', dtype: 'BF16', shape: [5], bytes: bytes(10) },
];
const SPECS: readonly TensorSpec[] = [
  { name: 'a.weight', type: 0, sizes: [3, 2], bytes: bytes(24) },
  { name: 'b', type: 1, sizes: [], bytes: bytes(2) },
  { name: 'c.weight', type: 39, sizes: [64, 1, 2], bytes: bytes(68) },
  { name: 'd.weight', type: 30, sizes: [5], bytes: bytes(10) },
];

const VALUES: Readonly<Record<string, GgufValue>> = {
  'general.architecture': { type: 'string', value: 'lläma' },
  u8: { type: 'u8', value: 255 },
  i8: { type: 'i8', value: -128 },
  u16: { type: 'u16', value: 65535 },
  i16: { type: 'i16', value: -2 },
  u32: { type: 'u32', value: 2 ** 32 - 1 },
  i32: { type: 'i32', value: -(2 ** 31) },
  f32: { type: 'f32', value: 0.5 },
  no: { type: 'bool', value: false },
  yes: { type: 'bool', value: true },
  u64: { type: 'u64', value: 2n ** 64n - 1n },
  i64: { type: 'i64', value: -1n },
  f64: { type: 'f64', value: 0.1 },
  words: { type: 'array', items: 'string', value: ['a', '', 'é'] },
  ints: { type: 'array', items: 'i32', value: [1, -1] },
  none: { type: 'array', items: 'u8', value: [] },
};
const PAIRS = [
  pair('general.architecture', 'string', 'lläma'),
  pair('u8', 'u8', 255),
  pair('i8', 'i8', -128),
  pair('u16', 'u16', 65535),
  pair('i16', 'i16', -2),
  pair('u32', 'u32', 2 ** 32 - 1),
  pair('i32', 'i32', -(2 ** 31)),
  pair('f32', 'f32', 0.5),
  pair('no', 'bool', false),
  pair('yes', 'bool', true),
  pair('u64', 'u64', 2n ** 64n - 1n),
  pair('i64', 'i64', -1n),
  pair('f64', 'f64', 0.1),
  pair('words', 'array', items('string', ['a', '', 'é'])),
  pair('ints', 'array', items('i32', [1, -1])),
  pair('none', 'array', items('u8', [])),
];

describe('writeGguf', () => {
  it('writes, byte for byte, the file that the description gives', () => {
    expect(writeGguf(TENSORS, VALUES)).toEqual(ggufFile({ tensors: SPECS, pairs: PAIRS }));
    expect(writeGguf(TENSORS, new Map(Object.entries(VALUES)))).toEqual(writeGguf(TENSORS, VALUES));
    expect(writeGguf([])).toEqual(ggufFile({}));
  });

  it.each([1, 8, 64, 4096])('aligns to %d bytes', async (alignment) => {
    const file = writeGguf(TENSORS, { 'general.alignment': { type: 'u32', value: alignment } });
    const pairs = [pair('general.alignment', 'u32', alignment)];
    expect(file).toEqual(ggufFile({ tensors: SPECS, pairs, alignment }));
    const { tensors, read } = await openGguf([bytesSource(file)]);
    for (const tensor of TENSORS) expect(await read(tensors.get(tensor.name)!)).toEqual(tensor.bytes);
  });

  it("writes gguf-py's sample again from what is read of it", async () => {
    const { tensors, metadata, read, storedValue } = await openCheckpoint(WHOLE);
    const values = new Map<string, GgufValue>();
    for (const key of metadata.keys()) values.set(key, { type: 'stored', value: await storedValue!(key) });
    const copies = await Promise.all(
      tensors.map(async (tensor) => ({ ...(tensor as unknown as GgufTensor), bytes: await read(tensor) })),
    );
    expect(writeGguf(copies, values)).toEqual(WHOLE);
    await expect(storedValue!('no such')).rejects.toThrow('gguf: bytes: no value of key "no such"');
  });

  it('lays out terabytes, and refuses more bytes than numbers count', () => {
    const large = (name: string, k: number) => ({ name, dtype: 'NVFP4', shape: [2 ** 20, k] }) as const;
    const { header, byteLength, ranges } = layoutGguf([large('a', 2 ** 24), large('b', 64)]);
    const size = 2 ** 38 * 36;
    const start = header.length;
    expect(ranges.get('a')).toEqual({ start, end: start + size });
    expect(ranges.get('b')).toEqual({ start: start + size, end: start + size + 2 ** 20 * 36 });
    expect(byteLength).toBe(start + size + 2 ** 20 * 36);
    const many = Array.from({ length: 80 }, (_, i) => large(`${i}`, 2 ** 28));
    expect(() => layoutGguf(many)).toThrow(/over 2\^53 - 1/);
  });
});

describe('what no reader would take', () => {
  const f32 = { name: 'a', dtype: 'F32', shape: [2], bytes: bytes(8) } as const;
  const value = (v: unknown): Record<string, GgufValue> => ({ k: v as GgufValue });
  const text = (length: number) => 'x'.repeat(length);

  it.each<[string, () => unknown]>([
    ['tensor "a": the name appears twice', () => writeGguf([f32, f32])],
    ['tensor "a\\u0000": the name holds a NUL', () => writeGguf([{ ...f32, name: 'a\0' }])],
    ['the name of tensor', () => writeGguf([{ ...f32, name: text(64) }])],
    ['takes 64 bytes; the limit is 63', () => writeGguf([{ ...f32, name: text(64) }])],
    ['"F8_E4M3" is no type of GGUF', () => layoutGguf([{ ...f32, dtype: 'F8_E4M3' as never }])],
    ['5 dimensions; a GGUF tensor has 4 at most', () => layoutGguf([{ ...f32, shape: [1, 1, 1, 1, 1] }])],
    ['shape [0] is not all positive integers', () => layoutGguf([{ ...f32, shape: [0] }])],
    ['shape [1.5] is not all positive integers', () => layoutGguf([{ ...f32, shape: [1.5] }])],
    [
      'shape [3, 33] has rows of 33, not a multiple of the MXFP4 block 32',
      () => layoutGguf([{ name: 'm', dtype: 'MXFP4', shape: [3, 33] }]),
    ],
    ['overflows: over 2^53 - 1 bytes', () => layoutGguf([{ ...f32, shape: [2 ** 30, 2 ** 30] }])],
    ['tensor "a": 7 bytes given; shape [2] of F32 needs 8', () => writeGguf([{ ...f32, bytes: bytes(7) }])],
    ['a key is empty', () => layoutGguf([], { '': { type: 'u8', value: 1 } })],
    [
      'takes 65536 bytes; the limit is 65535',
      () => layoutGguf([], { [text(65536)]: { type: 'u8', value: 1 } }),
    ],
    [
      'key "\\ud800" holds half a surrogate pair',
      () => layoutGguf([], { '\ud800': { type: 'u8', value: 1 } }),
    ],
    ['the value of "k": 256 is no u8', () => layoutGguf([], value({ type: 'u8', value: 256 }))],
    ['the value of "k": -1 is no u32', () => layoutGguf([], value({ type: 'u32', value: -1 }))],
    ['the value of "k": 1.5 is no i32', () => layoutGguf([], value({ type: 'i32', value: 1.5 }))],
    ['the value of "k": 0.1 is no f32', () => layoutGguf([], value({ type: 'f32', value: 0.1 }))],
    ['the value of "k": 1 is no u64', () => layoutGguf([], value({ type: 'u64', value: 1 }))],
    [
      'the value of "k": 18446744073709551616 is no u64',
      () => layoutGguf([], value({ type: 'u64', value: 2n ** 64n })),
    ],
    ['the value of "k": 0 is no bool', () => layoutGguf([], value({ type: 'bool', value: 0 }))],
    ['the value of "k": 5 is no string', () => layoutGguf([], value({ type: 'string', value: 5 }))],
    [
      'the value of "k": x is no i8',
      () => layoutGguf([], value({ type: 'array', items: 'i8', value: [1, 'x'] })),
    ],
    [
      'the value of "k": its 5 stored bytes are not one value',
      () => layoutGguf([], value({ type: 'stored', value: Uint8Array.of(4, 0, 0, 0, 1) })),
    ],
    [
      'the value of "k": its 9 stored bytes are not one value',
      () => layoutGguf([], value({ type: 'stored', value: Uint8Array.of(4, 0, 0, 0, 1, 1, 1, 1, 1) })),
    ],
    [
      'stored bytes are not one value',
      () => layoutGguf([], value({ type: 'stored', value: Uint8Array.of(13, 0, 0, 0, 1) })),
    ],
    [
      'general.alignment 24 is not a power of two up to 1048576',
      () => layoutGguf([], { 'general.alignment': { type: 'u32', value: 24 } }),
    ],
    [
      'general.alignment is of type u64; give a u32',
      () => layoutGguf([], { 'general.alignment': { type: 'u64', value: 32n } }),
    ],
  ])('%s', (message, write) => {
    expect(write).toThrow(InvalidArgumentError);
    expect(write).toThrow(message);
  });
});

it('any names, shapes and values are read back', async () => {
  const tensor = fc
    .record({
      name: fc
        .string({ minLength: 1, maxLength: 15, unit: 'grapheme-composite' })
        .filter((n) => !n.includes('\0')),
      dtype: fc.constantFrom('F32', 'BF16', 'I8', 'MXFP4', 'NVFP4'),
      sizes: fc.array(fc.integer({ min: 1, max: 3 }), { maxLength: 3 }),
    })
    .map(({ name, dtype, sizes }): GgufTensor => {
      const [block, size] = { F32: [1, 4], BF16: [1, 2], I8: [1, 1], MXFP4: [32, 17], NVFP4: [64, 36] }[
        dtype
      ]!;
      const shape = [...sizes, 2 * block!];
      const elements = shape.reduce((a, b) => a * b, 1);
      return { name, dtype: dtype as GgufTensor['dtype'], shape, bytes: bytes((elements / block!) * size!) };
    })
    .filter(({ name }) => new TextEncoder().encode(name).length <= 63);
  const metadata = fc.dictionary(
    fc.string({ minLength: 1 }).filter((key) => key !== '__proto__'),
    fc.oneof(
      fc.string({ unit: 'grapheme' }).map((value): GgufValue => ({ type: 'string', value })),
      fc
        .bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })
        .map((value): GgufValue => ({ type: 'i64', value })),
      fc.float().map((value): GgufValue => ({ type: 'f32', value })),
    ),
  );
  await fc.assert(
    fc.asyncProperty(
      fc.uniqueArray(tensor, { selector: ({ name }) => name, maxLength: 6 }),
      metadata,
      async (tensors, values) => {
        const file = writeGguf(tensors, values);
        const container = await openGguf([bytesSource(file)]);
        expect([...container.tensors.keys()]).toEqual(tensors.map(({ name }) => name));
        for (const { name, dtype, shape, bytes: expected } of tensors) {
          const stored = container.tensors.get(name)!;
          expect(stored).toMatchObject({ dtype, shape });
          expect(await container.read(stored)).toEqual(expected);
        }
        const texts = Object.entries(values).map(([key, { value }]) => [key, String(value)]);
        expect([...container.metadata]).toEqual(texts);
      },
    ),
    { numRuns: 300 },
  );
});
