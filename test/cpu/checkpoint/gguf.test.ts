import { describe, expect, it } from 'vitest';
import { type ByteSource, blobSource, bytesSource } from '../../../src/checkpoint/byte-source.js';
import type { Container } from '../../../src/checkpoint/container.js';
import { toFloat32 } from '../../../src/checkpoint/dtype.js';
import { fromGgufBlocks } from '../../../src/checkpoint/ggml-blocks.js';
import { GGML_TYPES } from '../../../src/checkpoint/ggml-types.js';
import { openGguf } from '../../../src/checkpoint/gguf.js';
import {
  CheckpointError,
  type Fp4Error,
  InvalidArgumentError,
  UnsupportedError,
} from '../../../src/errors.js';
import { decodeMatrix } from '../../../src/matrix/quantized-matrix.js';
import { MX_VALUES, NV_VALUES, SPLIT_1, SPLIT_2, WHOLE } from '../../support/gguf-samples.js';
import {
  concat,
  f32,
  type GgufSpec,
  ggufFile,
  items,
  pair,
  string,
  type TensorSpec,
  u8,
  u32,
  u64,
  VALUE,
} from '../../support/gguf-writer.js';
import { watchedSource } from '../../support/watched-source.js';

const open = (bytes: Uint8Array, name = 'model.gguf') => openGguf([bytesSource(bytes, name)]);

type ErrorClass = new (...args: never[]) => Fp4Error;

/** The message of the error that opening ends in, without module and file. */
async function problemOf(bytes: Uint8Array, kind: ErrorClass = CheckpointError): Promise<string> {
  const error = await open(bytes).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(kind);
  const { module, message } = error as Fp4Error;
  expect(module).toBe('gguf');
  expect(message).toMatch(/^gguf: model\.gguf: /);
  return message.slice('gguf: model.gguf: '.length);
}

/** Bytes 1, 2, 3, … */
const counting = (length: number) => Uint8Array.from({ length }, (_, i) => i + 1);

const F32 = 0;
const MXFP4 = 39;
const NVFP4 = 40;

const tensor = (name: string | Uint8Array, more: Partial<TensorSpec> = {}): TensorSpec => ({
  name,
  sizes: [4],
  type: F32,
  bytes: counting(16),
  ...more,
});

const fileOf = (tensors: TensorSpec[], more: GgufSpec = {}) => ggufFile({ tensors, ...more });
const withPairs = (...pairs: Uint8Array[]) => ggufFile({ pairs, tensors: [tensor('w')] });

async function allOf(container: Container, name: string): Promise<Uint8Array> {
  return Uint8Array.from(await container.read(container.tensors.get(name)!));
}

describe('files that are right', () => {
  it.each([2, 3])('version %d: tensors, slowest size first', async (version) => {
    const mxfp4 = counting(2 * 3 * 17);
    const nvfp4 = counting(2 * 36);
    const container = await open(
      ggufFile({
        version,
        tensors: [
          tensor('norm'),
          tensor('experts', { sizes: [32, 3, 2], type: MXFP4, bytes: mxfp4 }),
          tensor('nv', { sizes: [64, 2], type: NVFP4, bytes: nvfp4 }),
          tensor('scalar', { sizes: [], bytes: f32(2) }),
        ],
      }),
    );
    expect(container.kind).toBe('gguf');
    expect(container.name).toBe('model.gguf');
    const file = 'model.gguf';
    expect([...container.tensors.values()]).toEqual([
      { name: 'norm', dtype: 'F32', shape: [4], byteLength: 16, file },
      { name: 'experts', dtype: 'MXFP4', shape: [2, 3, 32], byteLength: 102, file },
      { name: 'nv', dtype: 'NVFP4', shape: [2, 64], byteLength: 72, file },
      { name: 'scalar', dtype: 'F32', shape: [], byteLength: 4, file },
    ]);
    expect(await allOf(container, 'norm')).toEqual(counting(16));
    expect(await allOf(container, 'experts')).toEqual(mxfp4);
    expect(await allOf(container, 'nv')).toEqual(nvfp4);
    expect(toFloat32(await allOf(container, 'scalar'), 'F32')).toEqual(Float32Array.of(2));
  });

  it('no tensors and no values', async () => {
    const container = await open(ggufFile({}));
    expect(container.tensors.size).toBe(0);
    expect(container.metadata.size).toBe(0);
    // Without tensors there is nothing to pad for.
    expect((await open(ggufFile({}).subarray(0, 24))).tensors.size).toBe(0);
  });

  it('every type of value as text', async () => {
    const { metadata } = await open(
      withPairs(
        pair('u8', 'u8', 255),
        pair('i8', 'i8', -128),
        pair('u16', 'u16', 65535),
        pair('i16', 'i16', -2),
        pair('u32', 'u32', 2 ** 32 - 1),
        pair('i32', 'i32', -(2 ** 31)),
        pair('f32', 'f32', 0.1),
        pair('yes', 'bool', true),
        pair('no', 'bool', false),
        pair('string', 'string', 'café \u{1F600}\n'),
        pair('empty', 'string', ''),
        pair('u64', 'u64', 2n ** 64n - 1n),
        pair('i64', 'i64', -(2n ** 63n)),
        pair('f64', 'f64', 1e-300),
        pair('nan', 'f64', Number.NaN),
        pair('numbers', 'array', items('i16', [1, -2, 3])),
        pair('words', 'array', items('string', ['a', 'b"c', ''])),
        pair('none', 'array', items('u64', [])),
        pair(
          'nested',
          'array',
          items('array', [items('u8', [1, 2]), items('string', ['x']), items('u8', [])]),
        ),
      ),
    );
    expect([...metadata]).toEqual([
      ['u8', '255'],
      ['i8', '-128'],
      ['u16', '65535'],
      ['i16', '-2'],
      ['u32', '4294967295'],
      ['i32', '-2147483648'],
      ['f32', `${Math.fround(0.1)}`],
      ['yes', 'true'],
      ['no', 'false'],
      ['string', 'café \u{1F600}\n'],
      ['empty', ''],
      ['u64', '18446744073709551615'],
      ['i64', '-9223372036854775808'],
      ['f64', '1e-300'],
      ['nan', 'NaN'],
      ['numbers', '[1, -2, 3]'],
      ['words', '["a", "b\\"c", ""]'],
      ['none', '[]'],
      ['nested', '[[1, 2], ["x"], []]'],
    ]);
  });

  it('the beginning of long arrays and of long strings in them', async () => {
    const long = 'é'.repeat(1000);
    const { metadata, tensors } = await open(
      withPairs(
        pair('numbers', 'array', items('u32', [...counting(40)])),
        pair('words', 'array', items('string', [long, ...new Array(8).fill('w'), long])),
        pair('bools', 'array', items('bool', new Array(9).fill(true))),
        pair('nested', 'array', items('array', new Array(10).fill(items('array', [items('string', ['a'])])))),
        pair('after', 'u8', 7),
      ),
    );
    expect(metadata.get('numbers')).toBe('[1, 2, 3, 4, 5, 6, 7, 8, … 32 more]');
    expect(metadata.get('words')).toBe(`["${'é'.repeat(80)}…", ${'"w", '.repeat(7)}… 2 more]`);
    expect(metadata.get('bools')).toBe(`[${'true, '.repeat(8)}… 1 more]`);
    expect(metadata.get('nested')).toBe(`[${'[["a"]], '.repeat(8)}… 2 more]`);
    expect(metadata.get('after')).toBe('7');
    expect(tensors.size).toBe(1);
  });

  it('words that are not UTF-8, which vocabularies hold', async () => {
    const { metadata } = await open(
      withPairs(pair('words', 'array', items('string', [Uint8Array.of(0xc3)]))),
    );
    expect(metadata.get('words')).toBe('["\uFFFD"]');
  });

  it('names that are special in JavaScript, a byte order mark among them', async () => {
    const names = ['__proto__', 'constructor', 'hasOwnProperty', '', '0', '\uFEFFw'];
    const { tensors, metadata } = await open(
      ggufFile({
        tensors: names.map((name) => tensor(name)),
        pairs: names.filter((name) => name !== '').map((name) => pair(name, 'string', name)),
      }),
    );
    expect([...tensors.keys()]).toEqual(names);
    expect(tensors.get('toString')).toBeUndefined();
    expect([...metadata.values()]).toEqual(names.filter((name) => name !== ''));
  });

  it('names of 63 bytes', async () => {
    const name = `${'é'.repeat(31)}w`;
    expect([...(await open(fileOf([tensor(name)]))).tensors.keys()]).toEqual([name]);
  });

  it('sizes of zero, before others at the same offset', async () => {
    const none = new Uint8Array(0);
    const { tensors } = await open(
      fileOf([
        tensor('a', { sizes: [0, 5], bytes: none }),
        tensor('b', { sizes: [32, 0], type: MXFP4, bytes: none }),
        tensor('c'),
        tensor('d', { sizes: [0], bytes: none }),
      ]),
    );
    expect(Array.from(tensors.values(), ({ shape, byteLength }) => [shape, byteLength])).toEqual([
      [[5, 0], 0],
      [[0, 32], 0],
      [[4], 16],
      [[0], 0],
    ]);
  });

  it.each([1, 8, 64, 4096, 1 << 20])('an alignment of %d', async (alignment) => {
    const container = await open(
      ggufFile({
        alignment,
        pairs: [pair('general.alignment', 'u32', alignment)],
        tensors: [tensor('a', { sizes: [5], type: 24, bytes: counting(5) }), tensor('b')],
      }),
    );
    expect(await allOf(container, 'a')).toEqual(counting(5));
    expect(await allOf(container, 'b')).toEqual(counting(16));
  });

  it('a last tensor without padding, and bytes after it', async () => {
    const file = fileOf([tensor('w')], { lastPadding: false });
    expect(await allOf(await open(file), 'w')).toEqual(counting(16));
    expect(await allOf(await open(concat(file, counting(99))), 'w')).toEqual(counting(16));
  });

  it.each([...GGML_TYPES.values()])('type $name', async ({ id, name, blockSize, blockBytes }) => {
    const bytes = new Uint8Array(2 * 3 * blockBytes);
    const { tensors } = await open(
      fileOf([tensor('w', { sizes: [3 * blockSize, 2], type: id, bytes }), tensor('after')]),
    );
    expect(tensors.get('w')).toMatchObject({
      dtype: name,
      shape: [2, 3 * blockSize],
      byteLength: bytes.length,
    });
  });

  it('out of a Blob', async () => {
    const container = await openGguf([blobSource(new File([WHOLE], 'w.gguf'))]);
    expect(container.name).toBe('w.gguf');
    expect(container.tensors.get('norm')?.file).toBe('w.gguf');
  });
});

/** A header, and zeros up to `byteLength`: a file larger than memory. */
function sparseSource(header: Uint8Array, byteLength: number): ByteSource {
  return {
    name: 'large.gguf',
    byteLength,
    async read(start, end) {
      const bytes = new Uint8Array(end - start);
      bytes.set(header.subarray(start, end));
      return bytes;
    },
  };
}

it('tensors beyond 4 GiB', async () => {
  const none = new Uint8Array(0);
  const gibi = 2 ** 30;
  const header = fileOf([
    tensor('a', { sizes: [5 * gibi + 1], type: 24, bytes: none }),
    tensor('b', { sizes: [32, 3 * gibi], type: MXFP4, bytes: none, offset: 5 * gibi + 32 }),
    tensor('c', { bytes: none, offset: 56 * gibi + 32 }),
  ]);
  const source = sparseSource(header, header.length + 56 * gibi + 32 + 16);
  const container = await openGguf([source]);
  expect(container.tensors.get('b')?.byteLength).toBe(51 * gibi);
  expect(await allOf(container, 'c')).toEqual(new Uint8Array(16));
  const shorter = sparseSource(header, source.byteLength - 1);
  await expect(openGguf([shorter])).rejects.toThrow('tensor "c": 16 bytes of F32 [4] at offset 60129542176;');
});

describe('files that gguf-py wrote', () => {
  async function expectSample(container: Container): Promise<void> {
    expect(Array.from(container.tensors.values(), ({ name, dtype, shape }) => [name, dtype, shape])).toEqual([
      ['norm', 'F32', [3]],
      ['mx.weight', 'MXFP4', [2, 64]],
      ['nv.weight', 'NVFP4', [2, 64]],
    ]);
    expect([...toFloat32(await allOf(container, 'norm'), 'F32')]).toEqual([1, -2, 0.5]);
    const mx = fromGgufBlocks('mxfp4', 2, 64, await allOf(container, 'mx.weight'));
    const nv = fromGgufBlocks('nvfp4', 2, 64, await allOf(container, 'nv.weight'));
    const common = { rows: 2, cols: 64, globalScale: 1, hadamard: false };
    const mxValues = decodeMatrix({ format: 'mxfp4', blockSize: 32, ...common, ...mx });
    const nvValues = decodeMatrix({ format: 'nvfp4', blockSize: 16, ...common, ...nv });
    // It knows no -0.
    expect(Array.from(mxValues, (value) => value + 0)).toEqual(MX_VALUES);
    expect(Array.from(nvValues, (value) => value + 0)).toEqual(NV_VALUES);
  }

  it('one file', async () => {
    const container = await open(WHOLE);
    await expectSample(container);
    expect([...container.metadata]).toEqual([
      ['general.architecture', 'demo'],
      ['demo.u32', '7'],
      ['demo.f32', '0.5'],
      ['demo.bool', 'true'],
      ['demo.words', '["a", "é", "<s>"]'],
      ['demo.ints', '[0, 1, 2, 3, 4, 5, 6, 7, … 12 more]'],
      ['demo.i8', '-5'],
      ['demo.u64', '18446744073709551615'],
      ['demo.f64', '1e-300'],
    ]);
  });

  it.each([
    ['in order', [0, 1]],
    ['the other way round', [1, 0]],
  ])('two files, %s', async (_, order) => {
    const sources = [bytesSource(SPLIT_1, 'w-1.gguf'), bytesSource(SPLIT_2, 'w-2.gguf')];
    const container = await openGguf(order.map((i) => sources[i]!));
    await expectSample(container);
    expect(container.name).toBe('w-1.gguf and 1 more');
    expect(Array.from(container.tensors.values(), ({ file }) => file)).toEqual([
      'w-1.gguf',
      'w-1.gguf',
      'w-2.gguf',
    ]);
    expect(container.metadata.get('general.architecture')).toBe('demo');
  });
});

describe('read', () => {
  it('takes a range of a tensor', async () => {
    const container = await open(fileOf([tensor('a'), tensor('b', { bytes: counting(32), sizes: [8] })]));
    const b = container.tensors.get('b')!;
    expect([...(await container.read(b, { start: 3, end: 6 }))]).toEqual([4, 5, 6]);
    expect((await container.read(b, { start: 30 })).length).toBe(2);
    expect((await container.read(b, { end: 0 })).length).toBe(0);
  });

  it('refuses ranges outside it, even where the file goes on', async () => {
    const container = await open(fileOf([tensor('a'), tensor('b')]));
    const a = container.tensors.get('a')!;
    const inside = 'is not inside its 16 bytes';
    await expect(container.read(a, { end: 17 })).rejects.toThrow(
      `byte-source: model.gguf: tensor "a": range 0..17 ${inside}`,
    );
    for (const range of [{ start: -1 }, { start: 9, end: 8 }, { start: 0.5 }, { end: Number.NaN }]) {
      await expect(container.read(a, range)).rejects.toThrow(CheckpointError);
    }
  });

  it('refuses tensors of other containers', async () => {
    const a = await open(fileOf([tensor('w')]));
    const b = await open(fileOf([tensor('w')]));
    await expect(a.read(b.tensors.get('w')!)).rejects.toThrow(InvalidArgumentError);
    await expect(a.read(b.tensors.get('w')!)).rejects.toThrow(
      'gguf: model.gguf: tensor "w" is not one of this container\'s; take it from `tensors`',
    );
  });

  it('stops at an abort, as opening does', async () => {
    const container = await open(WHOLE);
    const signal = AbortSignal.abort(new Error('user left'));
    await expect(container.read(container.tensors.get('norm')!, { signal })).rejects.toThrow('user left');
    await expect(openGguf([bytesSource(WHOLE)], { signal })).rejects.toThrow('user left');
  });

  it('does not ask the source for more than it was told there is', async () => {
    const container = await open(WHOLE);
    const shorter: ByteSource = { name: 'cut', byteLength: 768, read: async () => new Uint8Array(3) };
    await expect(openGguf([shorter])).rejects.toThrow('cut: 3 bytes came back for 0..768, which holds 768');
    expect(container.tensors.size).toBe(3);
  });
});

describe('beginnings that are wrong', () => {
  it('the magic', async () => {
    expect(await problemOf(new Uint8Array(0))).toBe(
      'the magic "GGUF" takes 4 bytes at 0; the file ends after 0',
    );
    expect(await problemOf(ggufFile({ magic: 'tjgg' }))).toBe(
      'begins with bytes 74 6a 67 67, not with "GGUF" (47 47 55 46)',
    );
  });

  it('the version', async () => {
    const version = (number: number) => problemOf(ggufFile({ version: number }), UnsupportedError);
    expect(await problemOf(ggufFile({ version: 0 }))).toBe('version 0; there is none');
    expect(await version(1)).toBe(
      'version 1, whose counts have 32 bits and which ggml dropped too; convert the model again',
    );
    expect(await version(4)).toBe('version 4; 2 and 3 are known');
    expect(await version(0x03000000)).toBe(
      'big-endian, by its version; its tensors would have to be swapped; convert it first',
    );
  });

  it('counts', async () => {
    const counts = (tensorCount: bigint, pairCount: bigint) =>
      problemOf(ggufFile({ tensorCount, pairCount }));
    const left = '8 are left';
    expect(await counts(2n ** 64n - 1n, 0n)).toBe(
      'the number of tensors is 18446744073709551615, above 2^53 - 1',
    );
    expect(await counts(0n, 2n ** 53n)).toBe('the number of values is 9007199254740992, above 2^53 - 1');
    expect(await counts(1n, 0n)).toBe(`1 tensors and 0 values take at least 24 bytes; ${left}`);
    expect(await counts(0n, 1n)).toBe(`0 tensors and 1 values take at least 14 bytes; ${left}`);
    expect(await counts(2n ** 53n - 1n, 2n ** 53n - 1n)).toContain(left);
    // Of a file that has the bytes for them.
    const large = (spec: GgufSpec) => openGguf([sparseSource(ggufFile(spec), 2 ** 40)]);
    await expect(large({ tensorCount: 2 ** 20 + 1 })).rejects.toThrow(
      'gguf: large.gguf: 1048577 tensors; more than 1048576 are not read',
    );
    await expect(large({ pairCount: 65_537 })).rejects.toThrow('65537 values; more than 65536 are not read');
  });
});

describe('values that are wrong', () => {
  const problem = (...pairs: Uint8Array[]) => problemOf(withPairs(...pairs));
  const bytesLeft = (message: string) => message.replace(/\d+ are left$/, 'N are left');

  it('keys', async () => {
    expect(await problem(pair('', 'u8', 1))).toBe('key 0 is empty');
    expect(await problem(pair('a', 'u8', 1), pair('b', 'u8', 1), pair('a', 'u8', 1))).toBe(
      'duplicate key "a"',
    );
    expect(await problem(pair('__proto__', 'u8', 1), pair('__proto__', 'u8', 1))).toBe(
      'duplicate key "__proto__"',
    );
    expect(await problem(pair(Uint8Array.of(0x61, 0xff), 'u8', 1))).toBe(
      'key 0, 2 bytes at 32, is not valid UTF-8',
    );
    expect(await problem(pair('k'.repeat(65536), 'u8', 1))).toBe('key 0 has 65536 bytes; the limit is 65535');
    expect(await problem(string('k', 2n ** 40n))).toBe('key 0 has 1099511627776 bytes; the limit is 65535');
    expect(await problem(string('k', 2n ** 63n))).toBe(
      'the length of key 0 is 9223372036854775808, above 2^53 - 1',
    );
    expect(await problem(string('k', 5000n))).toMatch(
      /^key 0 takes 5000 bytes at 32; the file ends after \d+$/,
    );
  });

  it('types', async () => {
    expect(await problem(pair('k', 13, u8(1)))).toBe('the value of "k" has type 13; known are 0 to 12');
    expect(await problem(pair('k', 2 ** 32 - 1, u8(1)))).toBe(
      'the value of "k" has type 4294967295; known are 0 to 12',
    );
    expect(await problem(pair('k', VALUE.array, concat(u32(99), u64(1))))).toBe(
      'the value of "k" has type 99; known are 0 to 12',
    );
  });

  it('bools', async () => {
    expect(await problem(pair('k', VALUE.bool, u8(2)))).toBe('the value of "k" is 2; a bool is 0 or 1');
    expect(await problem(pair('k', 'array', items('bool', [1, 255])))).toBe(
      'the value of "k" is 255; a bool is 0 or 1',
    );
  });

  it('strings', async () => {
    expect(await problem(pair('k', 'string', Uint8Array.of(0xed, 0xa0, 0x80)))).toBe(
      'the value of "k", 3 bytes at 45, is not valid UTF-8',
    );
    expect(await problem(pair('k', VALUE.string, string('v', 2n ** 26n + 1n)))).toBe(
      'the value of "k" has 67108865 bytes; the limit is 67108864',
    );
    expect(await problem(pair('k', VALUE.string, string('v', 2n ** 64n - 1n)))).toBe(
      'the length of the value of "k" is 18446744073709551615, above 2^53 - 1',
    );
    expect(await problem(pair('k', VALUE.string, string('v', 9999)))).toMatch(
      /^the value of "k" takes 9999 bytes at 45; the file ends after \d+$/,
    );
  });

  it('arrays', async () => {
    expect(bytesLeft(await problem(pair('k', 'array', items('u64', [1n], 2n ** 40n))))).toBe(
      'the value of "k" has 1099511627776 items of u64, at least 8796093022208 bytes; N are left',
    );
    expect(bytesLeft(await problem(pair('k', 'array', items('string', ['a'], 2n ** 32n))))).toBe(
      'the value of "k" has 4294967296 items of string, at least 34359738368 bytes; N are left',
    );
    expect(bytesLeft(await problem(pair('k', 'array', items('array', [], 2n ** 32n))))).toBe(
      'the value of "k" has 4294967296 items of array, at least 51539607552 bytes; N are left',
    );
    expect(await problem(pair('k', 'array', items('u8', [], 2n ** 64n - 1n)))).toBe(
      'the length of the value of "k" is 18446744073709551615, above 2^53 - 1',
    );
    const words = (length: bigint, before: number) =>
      problem(
        pair(
          'k',
          VALUE.array,
          concat(u32(8), u64(before + 1), ...new Array(before).fill(string('w')), string('v', length)),
        ),
      );
    expect(await words(2n ** 64n - 1n, 0)).toBe(
      'the length of a string in the value of "k" is 18446744073709551615, above 2^53 - 1',
    );
    // Among those that are shown, and after them.
    for (const before of [0, 20]) {
      expect(await words(5000n, before)).toMatch(
        /^the value of "k" takes \d+ bytes at \d+; the file ends after \d+$/,
      );
    }
  });

  it('arrays in arrays', async () => {
    let nested = items('u8', [1]);
    for (let depth = 2; depth <= 4; depth++) nested = items('array', [nested]);
    expect((await open(withPairs(pair('k', 'array', nested)))).metadata.get('k')).toBe('[[[[1]]]]');
    const deeper = 'the value of "k" nests arrays more than 4 deep';
    expect(await problem(pair('k', 'array', items('array', [nested])))).toBe(deeper);
    // Where they are not shown, too.
    const hidden = [...new Array(9).fill(items('u8', [])), nested];
    expect(await problem(pair('k', 'array', items('array', hidden)))).toBe(deeper);
    let deep = items('u8', []);
    for (let depth = 0; depth < 2000; depth++) deep = concat(u32(9), u64(1), deep);
    expect(await problem(pair('k', 'array', deep))).toBe(deeper);
  });

  it.each([0, 3, 33, 48, 2 ** 21, 2 ** 32 - 1])('an alignment of %d', async (alignment) => {
    expect(await problem(pair('general.alignment', 'u32', alignment))).toBe(
      `general.alignment ${alignment} is not a power of two up to 1048576`,
    );
  });

  it('an alignment of another type', async () => {
    expect(await problem(pair('general.alignment', 'string', '32'))).toBe(
      'general.alignment is of type string; it must be u32',
    );
    expect(await problem(pair('general.alignment', 'u64', 32n))).toBe(
      'general.alignment is of type u64; it must be u32',
    );
  });
});

describe('tensors that are wrong', () => {
  const problem = (...tensors: TensorSpec[]) => problemOf(fileOf(tensors));
  const unsupported = (...tensors: TensorSpec[]) => problemOf(fileOf(tensors), UnsupportedError);

  it('names', async () => {
    expect(await problem(tensor('w'), tensor('v'), tensor('w'))).toBe('duplicate tensor "w"');
    expect(await problem(tensor('__proto__'), tensor('__proto__'))).toBe('duplicate tensor "__proto__"');
    expect(await problem(tensor('w'.repeat(64)))).toBe('name of tensor 0 has 64 bytes; the limit is 63');
    expect(await problem(tensor('é'.repeat(32)))).toBe('name of tensor 0 has 64 bytes; the limit is 63');
    expect(await problem(tensor('w'), tensor(Uint8Array.of(0x80)))).toMatch(
      /^name of tensor 1, 1 bytes at \d+, is not valid UTF-8$/,
    );
    expect(await problem(tensor('a\0b'))).toBe('name of tensor 0, "a\\u0000b", holds a NUL');
  });

  it('ranks', async () => {
    expect(await problem(tensor('w', { sizes: [1, 1, 1, 1, 4] }))).toBe(
      'tensor "w": 5 dimensions; the limit is 4',
    );
    expect(await problem(tensor('w', { rank: 2 ** 32 - 1 }))).toBe(
      'tensor "w": 4294967295 dimensions; the limit is 4',
    );
  });

  it('sizes', async () => {
    expect(await problem(tensor('w', { sizes: [1, 2n ** 63n] }))).toBe(
      'size 1 of tensor "w" is 9223372036854775808, above 2^53 - 1',
    );
    expect(await problem(tensor('w', { sizes: [2 ** 30, 2 ** 30] }))).toBe(
      'tensor "w": shape [1073741824, 1073741824] of F32 overflows: over 2^53 - 1 elements or bytes',
    );
    // 2^32 · 2^32 is 0 in 64 bits.
    expect(await problem(tensor('w', { sizes: [2n ** 32n, 2n ** 32n] }))).toContain('overflows');
    expect(await problem(tensor('w', { sizes: [2n ** 52n] }))).toBe(
      'tensor "w": shape [4503599627370496] of F32 overflows: over 2^53 - 1 elements or bytes',
    );
    expect(await problem(tensor('w', { sizes: [33, 2], type: MXFP4 }))).toBe(
      'tensor "w": shape [2, 33] has rows of 33, not a multiple of the MXFP4 block 32',
    );
    expect(await problem(tensor('w', { sizes: [32, 2], type: NVFP4 }))).toBe(
      'tensor "w": shape [2, 32] has rows of 32, not a multiple of the NVFP4 block 64',
    );
    expect(await problem(tensor('w', { sizes: [], type: MXFP4 }))).toBe(
      'tensor "w": shape [] has rows of 1, not a multiple of the MXFP4 block 32',
    );
  });

  it('types', async () => {
    expect(await unsupported(tensor('w', { type: 43 }))).toBe(
      'tensor "w": type 43 is unknown; the last known is 42',
    );
    expect(await unsupported(tensor('w', { type: 2 ** 32 - 1 }))).toContain('type 4294967295 is unknown');
    expect(await unsupported(tensor('w', { type: 31 }))).toBe(
      'tensor "w": type 31 (Q4_0_4_4), which ggml has removed; convert the model again',
    );
    expect(await unsupported(tensor('w', { type: 4 }))).toContain('type 4 (Q4_2)');
  });

  it('offsets', async () => {
    const second = (offset: number | bigint) => problem(tensor('a'), tensor('b', { offset }));
    expect(await second(40)).toBe('tensor "b": offset 40 is not a multiple of the alignment 32');
    expect(await second(0)).toBe('tensor "b": offset 0 overlaps the tensor before; it must be 32');
    expect(await second(64)).toBe('tensor "b": offset 64 leaves 32 bytes to no tensor; it must be 32');
    expect(await second(2n ** 64n - 32n)).toBe(
      'the offset of tensor "b" is 18446744073709551584, above 2^53 - 1',
    );
    expect(await problem(tensor('a', { offset: 32 }))).toBe(
      'tensor "a": offset 32 leaves 32 bytes to no tensor; it must be 0',
    );
    // Each in its place, but not in the order of the header.
    expect(await problem(tensor('a', { offset: 32 }), tensor('b', { offset: 0 }))).toContain(
      'leaves 32 bytes',
    );
  });

  it('data that the file does not have', async () => {
    const file = fileOf([tensor('a'), tensor('b')], { lastPadding: false });
    expect(await problemOf(file.subarray(0, -1))).toBe(
      'tensor "b": 16 bytes of F32 [4] at offset 32; the file has 47 bytes of data',
    );
    expect(await problem(tensor('w', { sizes: [2 ** 40] }))).toBe(
      'tensor "w": 4398046511104 bytes of F32 [1099511627776] at offset 0; the file has 32 bytes of data',
    );
    // Cut in the padding before the data.
    const empty = fileOf([tensor('a', { sizes: [0], bytes: new Uint8Array(0) })]);
    expect(await problemOf(empty.subarray(0, -1))).toBe(
      'tensor "a": 0 bytes of F32 [0] at offset 0; the file ends before the data',
    );
  });
});

describe('splits', () => {
  const part = (no: number, count: number, total: number, names: string[], ...more: Uint8Array[]) =>
    ggufFile({
      pairs: [
        ...more,
        pair('split.no', 'u16', no),
        pair('split.count', 'u16', count),
        pair('split.tensors.count', 'i32', total),
      ],
      tensors: names.map((name) => tensor(name)),
    });
  const openAll = (...files: Uint8Array[]) =>
    openGguf(files.map((file, i) => bytesSource(file, `${'abcdef'[i]}.gguf`)));
  const problem = async (...files: Uint8Array[]) => {
    const error = await openAll(...files).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(CheckpointError);
    return (error as Error).message;
  };

  it('in any order, with the metadata of all', async () => {
    const files = [
      part(0, 3, 4, ['a', 'b'], pair('general.name', 'string', 'm')),
      part(1, 3, 4, ['c'], pair('general.name', 'string', 'm'), pair('extra', 'u8', 1)),
      part(2, 3, 4, ['d']),
    ];
    const container = await openAll(files[2]!, files[0]!, files[1]!);
    expect([...container.tensors.keys()]).toEqual(['a', 'b', 'c', 'd']);
    expect(container.name).toBe('b.gguf and 2 more');
    expect([...container.metadata]).toEqual([
      ['general.name', 'm'],
      ['split.no', '0'],
      ['split.count', '3'],
      ['split.tensors.count', '4'],
      ['extra', '1'],
    ]);
    for (const name of 'abcd') expect(await allOf(container, name)).toEqual(counting(16));
  });

  it('of one file, and what merging leaves', async () => {
    for (const count of [0, 1]) expect((await openAll(part(0, count, 9, ['a']))).tensors.size).toBe(1);
  });

  it('each with an alignment of its own', async () => {
    const aligned = ggufFile({
      alignment: 64,
      pairs: [
        pair('general.alignment', 'u32', 64),
        pair('split.no', 'u16', 1),
        pair('split.count', 'u16', 2),
        pair('split.tensors.count', 'i32', 3),
      ],
      tensors: [tensor('b'), tensor('c')],
    });
    const container = await openAll(part(0, 2, 3, ['a']), aligned);
    expect(await allOf(container, 'c')).toEqual(counting(16));
  });

  it('refused: parts missing, given twice or of other models', async () => {
    const [a, b] = [part(0, 2, 2, ['a']), part(1, 2, 2, ['b'])];
    expect(await problem(b)).toBe(
      'gguf: a.gguf: one of 2 files of a split; missing are those with split.no 0',
    );
    expect(await problem(part(3, 40, 2, ['a']))).toContain('split.no 0, 1, 2, 4, 5, 6, 7, 8, …');
    expect(await problem(a, a)).toBe('gguf: b.gguf: split.no 0 is that of a.gguf too');
    expect(await problem(a, b, b)).toBe('gguf: c.gguf: split.no 1 is that of b.gguf too');
    expect(await problem(a, part(1, 3, 2, ['b']))).toBe('gguf: b.gguf: split.count is 3; a.gguf has 2');
    expect(await problem(a, part(2, 2, 2, ['b']))).toBe(
      'gguf: b.gguf: split.no 2 is not below split.count 2',
    );
    expect(await problem(a, part(1, 2, 2, ['a']))).toBe('gguf: b.gguf: tensor "a" is in a.gguf too');
    expect(await problem(a, part(1, 2, 2, ['b', 'c']))).toBe(
      'gguf: a.gguf: split.tensors.count is 2; the 2 files have 3 tensors',
    );
    expect(await problem(part(0, 2, 3, ['a']), b)).toBe(
      'gguf: a.gguf: split.tensors.count is 3; the 2 files have 2 tensors',
    );
    expect(
      await problem(
        part(0, 2, 2, ['a'], pair('general.name', 'string', 'm')),
        part(1, 2, 2, ['b'], pair('general.name', 'string', 'other')),
      ),
    ).toBe('gguf: b.gguf: "general.name" is "other"; in another file of the split it is "m"');
  });

  it('refused: whole models together, keys missing or of another type', async () => {
    const whole = fileOf([tensor('w')]);
    expect(await problem(whole, whole)).toBe(
      'gguf: a.gguf: is a whole model by its split.count; give it alone',
    );
    expect(await problem(part(0, 2, 2, ['a']), whole)).toBe(
      'gguf: b.gguf: is a whole model by its split.count; give it alone',
    );
    const count = pair('split.count', 'u16', 2);
    expect(await problem(ggufFile({ pairs: [count] }))).toBe('gguf: a.gguf: has no split.no');
    expect(await problem(ggufFile({ pairs: [pair('split.count', 'u32', 2)] }))).toBe(
      'gguf: a.gguf: split.count is of type u32; it must be u16',
    );
    const parts = [0, 1].map((no) => ggufFile({ pairs: [count, pair('split.no', 'u16', no)] }));
    expect(await problem(...parts)).toBe('gguf: a.gguf: has no split.tensors.count');
  });

  it('no sources', async () => {
    await expect(openGguf([])).rejects.toThrow(InvalidArgumentError);
    await expect(openGguf([])).rejects.toThrow('gguf: no sources; give at least one file');
  });
});

describe('what is read', () => {
  it('is the header, in few pieces, and never the data', async () => {
    const data = new Uint8Array(1 << 23);
    const source = watchedSource(fileOf([tensor('w', { sizes: [data.length / 4], bytes: data })]));
    const container = await openGguf([source]);
    expect(source.reads.length).toBe(1);
    expect(source.total).toBe(1 << 16);
    await container.read(container.tensors.get('w')!, { start: 8, end: 16 });
    expect(source.total).toBe((1 << 16) + 8);
  });

  it('leaves out the numbers of long arrays', async () => {
    const array = concat(u32(VALUE.f32), u64(1 << 21), new Uint8Array(1 << 23));
    const source = watchedSource(withPairs(pair('scores', VALUE.array, array), pair('after', 'u8', 7)));
    const { metadata } = await openGguf([source]);
    expect(metadata.get('scores')).toBe(`[${'0, '.repeat(8)}… 2097144 more]`);
    expect(metadata.get('after')).toBe('7');
    expect(source.total).toBeLessThan(1 << 18);
  });

  it('of a vocabulary is itself, in pieces of at most 4 MiB', async () => {
    const word = string('tokens of 24 bytes each.');
    const count = 400_000;
    const words = new Uint8Array(count * word.length);
    for (let i = 0; i < count; i++) words.set(word, i * word.length);
    const file = withPairs(pair('words', VALUE.array, concat(u32(VALUE.string), u64(count), words)));
    const source = watchedSource(file);
    const { metadata } = await openGguf([source]);
    expect(metadata.get('words')?.length).toBeLessThan(400);
    expect(source.largest).toBeLessThanOrEqual(1 << 22);
    expect(source.reads.length).toBeLessThan(12);
    expect(source.total).toBeLessThan(file.length + 1000);
  });

  it('of a string longer than a piece is not much more than itself', async () => {
    const text = 'x'.repeat(3_000_000);
    const source = watchedSource(
      withPairs(
        pair('a', 'string', text),
        pair('b', 'string', text),
        pair('c', 'array', items('string', [text])),
      ),
    );
    const { metadata } = await openGguf([source]);
    expect(metadata.get('b')).toBe(text);
    expect(source.total).toBeLessThan(1.5 * source.byteLength);
  });

  it('is little where a file claims much', async () => {
    // 1.5 MiB of zeros is half a million empty strings, and a third as many empty arrays.
    const zeros = new Uint8Array(3 << 19);
    const claims = [
      concat(u32(VALUE.string), u64(zeros.length / 8), zeros),
      concat(u32(VALUE.array), u64(zeros.length / 12), zeros),
      concat(u32(VALUE.string), u64(2 ** 50), zeros),
    ];
    for (const claim of claims) {
      const source = watchedSource(withPairs(pair('k', VALUE.array, claim)));
      await openGguf([source]).catch((error: unknown) => expect(error).toBeInstanceOf(CheckpointError));
      expect(source.total).toBeLessThan(1.2 * source.byteLength);
    }
  });
});
