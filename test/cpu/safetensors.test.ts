import { existsSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ByteSource, blobSource, bytesSource } from '../../src/checkpoint/byte-source.js';
import { DTYPE_BITS, DTYPES, type Dtype } from '../../src/checkpoint/dtype.js';
import { openFile } from '../../src/checkpoint/file-source.js';
import { readMatrix } from '../../src/checkpoint/matrix-source.js';
import { readSafetensorsHeader, readTensorBytes } from '../../src/checkpoint/safetensors.js';
import {
  layoutSafetensors,
  type TensorData,
  writeSafetensors,
} from '../../src/checkpoint/write-safetensors.js';
import { CheckpointError, InvalidArgumentError, UnsupportedError } from '../../src/errors.js';

const SAMPLE = new URL('../../samples/dictionary-lm.layers.3.down_proj.safetensors', import.meta.url);
const MODEL = new URL('../../../shared/models/dictionary-lm/', import.meta.url);

/** A file with any header, right or wrong; `claimed` is the length it says its header has. */
function fileOf(header: string | Uint8Array, dataLength = 0, claimed?: bigint): Uint8Array<ArrayBuffer> {
  const headerBytes = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const file = new Uint8Array(8 + headerBytes.length + dataLength);
  new DataView(file.buffer).setBigUint64(0, claimed ?? BigInt(headerBytes.length), true);
  file.set(headerBytes, 8);
  return file;
}

/** A file whose bytes are the characters of a string, as the reference's tests write theirs. */
const literal = (text: string) => Uint8Array.from(text, (character) => character.charCodeAt(0));

const read = (file: Uint8Array) => readSafetensorsHeader(bytesSource(file, 'model.safetensors'));

/** The message of the CheckpointError that reading the file ends in. */
async function problemOf(file: Uint8Array): Promise<string> {
  const error = await read(file).then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(CheckpointError);
  const { module, message } = error as CheckpointError;
  expect(module).toBe('safetensors');
  expect(message).toMatch(/^safetensors: model\.safetensors: /);
  return message.slice('safetensors: model.safetensors: '.length);
}

const entry = (dtype: string, shape: string, offsets: string) =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;

describe('files that the reference implementation takes', () => {
  it('one F32 tensor', async () => {
    const header = '@\0\0\0\0\0\0\0{"attn.0":{"dtype":"F32","shape":[1,2,3],"data_offsets":[0,24]}}';
    const file = literal(`${header}\0\0\0\0\0\0\x80?\0\0\0@\0\0@@\0\0\x80@\0\0\xa0@`);
    const { tensors } = await read(file);
    expect([...tensors.values()]).toEqual([
      { name: 'attn.0', dtype: 'F32', shape: [1, 2, 3], byteOffset: 72, byteLength: 24 },
    ]);
  });

  it('one F4 tensor, two values to the byte', async () => {
    const file = literal('@\0\0\0\0\0\0\0{"attn.0":{"dtype":"F4","shape":[1,2],"data_offsets":[0,1]}}    \0');
    expect([...(await read(file)).tensors.values()]).toEqual([
      { name: 'attn.0', dtype: 'F4', shape: [1, 2], byteOffset: 72, byteLength: 1 },
    ]);
  });

  it('no tensors, with and without metadata', async () => {
    expect(await read(literal('\x08\0\0\0\0\0\0\0{}      '))).toEqual({
      tensors: new Map(),
      metadata: new Map(),
    });
    expect(await read(literal('(\0\0\0\0\0\0\0{"__metadata__":{"framework":"pt"}}     '))).toEqual({
      tensors: new Map(),
      metadata: new Map([['framework', 'pt']]),
    });
  });

  it('a scalar, and a tensor with a size of zero', async () => {
    const scalar = await read(
      literal('8\0\0\0\0\0\0\0{"test":{"dtype":"I32","shape":[],"data_offsets":[0,4]}}\0\0\0\0'),
    );
    expect(scalar.tensors.get('test')).toMatchObject({ shape: [], byteLength: 4 });
    const empty = await read(
      literal('<\0\0\0\0\0\0\0{"test":{"dtype":"I32","shape":[2,0],"data_offsets":[0, 0]}}'),
    );
    expect(empty.tensors.get('test')).toMatchObject({ shape: [2, 0], byteOffset: 68, byteLength: 0 });
  });

  it('JSON whitespace before and after the object', async () => {
    expect((await read(literal('\x06\0\0\0\0\0\0\0{}\r \t\n'))).tensors.size).toBe(0);
    expect((await read(literal('\x06\0\0\0\0\0\0\0\t\n{}\r '))).tensors.size).toBe(0);
  });

  it('entries in any order, empty tensors between others, keys in any order', async () => {
    const { tensors } = await read(
      fileOf(
        `{"last":${entry('U8', '[2]', '[9,11]')},
          "empty":${entry('F32', '[0,4]', '[8,8]')},
          "first":{"data_offsets":[0,8],"shape":[2,2],"dtype":"BF16"},
          "byte":${entry('I8', '[1]', '[8,9]')}}`,
        11,
      ),
    );
    expect([...tensors.keys()]).toEqual(['first', 'empty', 'byte', 'last']);
  });

  it.each(DTYPES)('dtype %s', async (dtype) => {
    const { tensors } = await read(
      fileOf(`{"w":${entry(dtype, '[4]', `[0,${DTYPE_BITS[dtype] / 2}]`)}}`, DTYPE_BITS[dtype] / 2),
    );
    expect(tensors.get('w')?.dtype).toBe(dtype);
  });

  it('names that are special in JavaScript', async () => {
    const names = ['__proto__', 'constructor', 'hasOwnProperty', '', '0'];
    const header = names.map((name, i) => `"${name}":${entry('U8', '[1]', `[${i},${i + 1}]`)}`);
    const { tensors } = await read(fileOf(`{${header}}`, names.length));
    expect([...tensors.keys()]).toEqual(names);
    expect(tensors.get('toString')).toBeUndefined();
  });
});

describe('header length', () => {
  it('needs eight bytes', async () => {
    expect(await problemOf(new Uint8Array(0))).toBe('has 0 bytes; the header length alone takes 8');
    expect(await problemOf(literal('\x02\0\0\0\0\0\0'))).toBe('has 7 bytes; the header length alone takes 8');
  });

  it('stays inside the file', async () => {
    const past = 'reaches past the end of the file, which has';
    expect(await problemOf(literal('<\0\0\0\0\0\0\0'))).toBe(`header length 60 ${past} 8 bytes`);
    expect(await problemOf(fileOf('{}', 0, 3n))).toBe(`header length 3 ${past} 10 bytes`);
    expect(await problemOf(fileOf('{}', 0, 100_000_000n))).toBe(`header length 100000000 ${past} 10 bytes`);
  });

  it.each([
    100_000_001n,
    2n ** 32n,
    2n ** 53n,
    2n ** 53n + 1n,
    2n ** 63n,
    2n ** 64n - 1n,
    0xffffff000000003cn,
  ])('%d is above the limit, however long the file says it is', async (claimed) => {
    const limit = `header length ${claimed} is above the limit of 100000000 bytes`;
    expect(await problemOf(fileOf('{}', 0, claimed))).toBe(limit);
    const endless = watched(fileOf('{}', 0, claimed), Number.MAX_SAFE_INTEGER);
    await expect(readSafetensorsHeader(endless)).rejects.toThrow(limit);
    expect(endless.reads).toEqual([[0, 8]]);
  });

  it('is checked before anything of that length is read', async () => {
    const source = watched(fileOf('{}', 0, 99_000_000n));
    await expect(readSafetensorsHeader(source)).rejects.toThrow('reaches past the end');
    expect(source.reads).toEqual([[0, 8]]);
  });

  it('is all that is read, with the header', async () => {
    const source = watched(fileOf(`{"w":${entry('U8', '[5000]', '[0,5000]')}}`, 5000));
    await readSafetensorsHeader(source);
    expect(source.reads).toEqual([
      [0, 8],
      [8, source.byteLength - 5000],
    ]);
  });

  it('of a source that ends early is a CheckpointError too', async () => {
    const file = fileOf('{}      ');
    await expect(readSafetensorsHeader(watched(file, 16, 12))).rejects.toThrow(CheckpointError);
    await expect(readSafetensorsHeader(watched(file, 16, 4))).rejects.toThrow('4 bytes came back for 0..8');
  });
});

describe('header text', () => {
  it('is UTF-8', async () => {
    expect(await problemOf(literal('\x01\0\0\0\0\0\0\0\xff'))).toBe(
      'header: its 1 bytes are not valid UTF-8',
    );
    // A lone continuation byte, a cut sequence, an overlong "/", a surrogate half, all inside a name.
    for (const bad of ['\x80', '\xe2\x82', '\xc0\xaf', '\xed\xa0\x80']) {
      const header = literal(`{"${bad}":${entry('U8', '[0]', '[0,0]')}}`);
      expect(await problemOf(fileOf(header))).toContain('not valid UTF-8');
    }
  });

  it('has no byte order mark', async () => {
    expect(await problemOf(fileOf('\uFEFF{}'))).toBe(
      'header: starts with a byte order mark; only JSON is allowed',
    );
  });

  it.each([
    ['', 'header: end of the text instead of a value at character 0'],
    ['{', 'header: end of the text instead of a key at character 1'],
    ['{}\0\0', 'header: "\\u0000" after the end of the document at character 2'],
    ['{"w":}', 'header: "}" instead of a value in "w" at character 5'],
    ['[]', 'header: is []; it must be a JSON object'],
    ['"{}"', 'header: is "{}"; it must be a JSON object'],
    ['null', 'header: is null; it must be a JSON object'],
    ['3', 'header: is 3; it must be a JSON object'],
    ['['.repeat(40), 'header: more than 32 nested objects and arrays at character 32'],
  ])('is a JSON object, not %j', async (header, problem) => {
    expect(await problemOf(fileOf(header))).toBe(problem);
  });
});

describe('duplicate keys', () => {
  const empty = entry('U8', '[0]', '[0,0]');

  it.each([
    [`{"w":${empty},"w":${empty}}`, 'header: duplicate key "w"'],
    [`{"w":${empty},"\\u0077":${empty}}`, 'header: duplicate key "w"'],
    [`{"__proto__":${empty},"__proto__":${empty}}`, 'header: duplicate key "__proto__"'],
    ['{"__metadata__":{},"__metadata__":{}}', 'header: duplicate key "__metadata__"'],
    ['{"__metadata__":{"a":"1","a":"2"}}', 'header: duplicate key "a" in "__metadata__"'],
    ['{"w":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}}', 'duplicate key "dtype" in "w"'],
    ['{"w":{"dtype":"U8","shape":[0],"shape":[0],"data_offsets":[0,0]}}', 'duplicate key "shape" in "w"'],
  ])('%s', async (header, problem) => {
    expect(await problemOf(fileOf(header))).toContain(problem);
  });
});

describe('metadata', () => {
  it('holds strings', async () => {
    const { metadata, tensors } = await read(
      fileOf('{"__metadata__":{"format":"pt","__proto__":"x","":"é"}}'),
    );
    expect([...metadata]).toEqual([
      ['format', 'pt'],
      ['__proto__', 'x'],
      ['', 'é'],
    ]);
    expect(tensors.size).toBe(0);
  });

  it.each([
    ['{"__metadata__":null}', 'header: __metadata__ is null; it must be an object of strings'],
    ['{"__metadata__":["pt"]}', 'header: __metadata__ is an array; it must be an object of strings'],
    ['{"__metadata__":{"step":3}}', 'header: __metadata__ "step" is 3; it must be a string'],
    ['{"__metadata__":{"a":{}}}', 'header: __metadata__ "a" is an object; it must be a string'],
  ])('%s', async (header, problem) => {
    expect(await problemOf(fileOf(header))).toBe(problem);
  });
});

describe('an entry', () => {
  it.each([
    ['3', 'is 3; it must be an object'],
    ['null', 'is null; it must be an object'],
    ['[]', 'is []; it must be an object'],
    ['{}', 'has no dtype'],
    ['{"dtype":"U8","shape":[4]}', 'has no data_offsets'],
    ['{"dtype":"U8","data_offsets":[0,4]}', 'has no shape'],
    [
      '{"dtype":"U8","shape":[4],"data_offsets":[0,4],"strides":[1]}',
      'unknown key "strides"; allowed are dtype, shape and data_offsets',
    ],
    [entry('F99', '[4]', '[0,4]'), `dtype "F99" is unknown; known are ${DTYPES.join(', ')}`],
    [entry('u8', '[4]', '[0,4]'), `dtype "u8" is unknown; known are ${DTYPES.join(', ')}`],
    [entry('constructor', '[4]', '[0,4]'), `dtype "constructor" is unknown; known are ${DTYPES.join(', ')}`],
    ['{"dtype":8,"shape":[4],"data_offsets":[0,4]}', `dtype 8 is unknown; known are ${DTYPES.join(', ')}`],
    [entry('U8', '4', '[0,4]'), 'shape 4 is not an array of non-negative integers'],
    [entry('U8', '["4"]', '[0,4]'), 'shape an array is not an array of non-negative integers'],
    [entry('U8', '[-2,-2]', '[0,4]'), 'shape [-2, -2] is not an array of non-negative integers'],
    [entry('U8', '[4]', '[0]'), 'data_offsets [0] are not two non-negative integers'],
    [entry('U8', '[4]', '[0,4,4]'), 'data_offsets [0, 4, 4] are not two non-negative integers'],
    [entry('U8', '[4]', '[-4,0]'), 'data_offsets [-4, 0] are not two non-negative integers'],
    [entry('U8', '[4]', '{"begin":0}'), 'data_offsets an object are not two non-negative integers'],
    [entry('U8', '[4]', '[4,0]'), 'data_offsets [4, 0] end before they begin'],
    [entry('U8', '[4]', '[0,3]'), 'data_offsets [0, 3] span 3 bytes; shape [4] of U8 needs 4'],
    [entry('I32', '[2,2]', '[0,4]'), 'data_offsets [0, 4] span 4 bytes; shape [2, 2] of I32 needs 16'],
    [entry('F32', '[]', '[0,0]'), 'data_offsets [0, 0] span 0 bytes; shape [] of F32 needs 4'],
    [entry('F4', '[1,2]', '[0,2]'), 'data_offsets [0, 2] span 2 bytes; shape [1, 2] of F4 needs 1'],
    [entry('F4', '[1,3]', '[0,2]'), 'shape [1, 3] of F4 is 12 bits, which is not a whole number of bytes'],
    [
      entry('U8', '[94906267,94906267]', '[0,4]'),
      'shape [94906267, 94906267] of U8 overflows: over 2^53 - 1 elements or bits',
    ],
    // 2^32 · 2^32 is 0 in 64 bits, and 4 more bytes would hide there.
    [
      entry('U8', '[4294967296,4294967296]', '[0,0]'),
      'shape [4294967296, 4294967296] of U8 overflows: over 2^53 - 1 elements or bits',
    ],
    [
      entry('U64', '[1125899906842624]', '[0,4]'),
      'shape [1125899906842624] of U64 overflows: over 2^53 - 1 elements or bits',
    ],
  ])('%s', async (value, problem) => {
    expect(await problemOf(fileOf(`{"h.0.w":${value}}`, 4))).toBe(`tensor "h.0.w": ${problem}`);
  });

  it.each([
    [entry('U8', '[4e0]', '[0,4]'), 'number 4e0 is not written as an integer in "h.0.w"."shape"'],
    [entry('U8', '[4.0]', '[0,4]'), 'number 4.0 is not written as an integer in "h.0.w"."shape"'],
    [entry('U8', '[4]', '[-0,4]'), 'number -0 is not written as an integer in "h.0.w"."data_offsets"'],
    [entry('U8', '[4]', '[0,9007199254740992]'), 'integer 9007199254740992 is beyond 2^53 - 1 in "h.0.w"'],
    [entry('I32', '[2,18446744073709551614]', '[0,16]'), 'integer 18446744073709551614 is beyond 2^53 - 1'],
    [entry('I32', '[2,9223372036854775807]', '[0,16]'), 'integer 9223372036854775807 is beyond 2^53 - 1'],
  ])('%s', async (value, problem) => {
    expect(await problemOf(fileOf(`{"h.0.w":${value}}`, 4))).toContain(`header: ${problem}`);
  });

  it('has no more than a million values, nor has the metadata', async () => {
    const many = (1 << 20) + 1;
    const shape = entry('U8', `[${'1,'.repeat(many)}1]`, '[0,1]');
    expect(await problemOf(fileOf(`{"w":${shape}}`, 1))).toContain(
      'header: more than 1048576 values in "w"."shape" at character',
    );
    const objects = `{"w":[${'{},'.repeat(many)}{}]}`;
    expect(await problemOf(fileOf(objects))).toContain(
      'header: more than 1048576 values in "w" at character',
    );
    // So large a shape as is read at all is a shape like any other.
    const long = entry('U8', `[${'1,'.repeat(1 << 19)}4]`, '[0,4]');
    expect((await read(fileOf(`{"w":${long}}`, 4))).tensors.get('w')?.byteLength).toBe(4);
  });

  it('of a hostile name is cut in the message', async () => {
    const problem = await problemOf(fileOf(`{"${'n'.repeat(1_000_000)}":3}`));
    expect(problem).toBe(`tensor "${'n'.repeat(80)}…": is 3; it must be an object`);
  });
});

describe('layout', () => {
  const two = (first: string, second: string) =>
    `{"a":${entry('U8', '[4]', first)},"b":${entry('U8', '[4]', second)}}`;

  it.each([
    [
      'a gap at the start',
      two('[1,5]', '[5,9]'),
      9,
      'tensor "a": data_offsets [1, 5] leave bytes 0..1 to no tensor',
    ],
    [
      'a gap between',
      two('[0,4]', '[6,10]'),
      10,
      'tensor "b": data_offsets [6, 10] leave bytes 4..6 to no tensor',
    ],
    ['an overlap', two('[0,4]', '[2,6]'), 6, 'tensor "b": data_offsets [2, 6] overlap the tensor before'],
    [
      'the same bytes twice',
      two('[0,4]', '[0,4]'),
      4,
      'tensor "b": data_offsets [0, 4] overlap the tensor before',
    ],
    [
      'an overlap, listed backwards',
      two('[2,6]', '[0,4]'),
      6,
      'tensor "a": data_offsets [2, 6] overlap the tensor',
    ],
    [
      'offsets past the end',
      two('[0,4]', '[4,8]'),
      7,
      `tensor "b": data_offsets [4, 8] reach past the file's 7 data`,
    ],
    [
      'no data at all',
      two('[0,4]', '[4,8]'),
      0,
      `tensor "a": data_offsets [0, 4] reach past the file's 0 data bytes`,
    ],
    [
      'trailing bytes',
      two('[0,4]', '[4,8]'),
      9,
      'has 9 data bytes, but its tensors end at 8; trailing bytes are not',
    ],
    [
      'data without tensors',
      '{}',
      3,
      'has 3 data bytes, but its tensors end at 0; trailing bytes are not allowed',
    ],
  ])('refuses %s', async (_, header, dataLength, problem) => {
    expect(await problemOf(fileOf(header, dataLength))).toContain(problem);
  });

  it('refuses an empty tensor inside another or after the end', async () => {
    const header = (at: number) =>
      `{"a":${entry('U8', '[4]', '[0,4]')},"e":${entry('U8', '[0]', `[${at},${at}]`)}}`;
    expect((await read(fileOf(header(0), 4))).tensors.size).toBe(2);
    expect((await read(fileOf(header(4), 4))).tensors.size).toBe(2);
    expect(await problemOf(fileOf(header(2), 4))).toContain('overlap the tensor before');
    expect(await problemOf(fileOf(header(5), 4))).toContain('leave bytes 4..5 to no tensor');
  });

  it("refuses the reference's attacks", async () => {
    const i32 = '{"test":{"dtype":"I32","shape":[2,2],"data_offsets":[0,16]}}';
    expect((await read(fileOf(i32, 16))).tensors.size).toBe(1);
    // Ten tensors over the same sixteen bytes; a second file behind the first; two bytes missing.
    const shared = Array.from({ length: 10 }, (_, i) => `"weight_${i}":${entry('F32', '[2,2]', '[0,16]')}`);
    expect(await problemOf(fileOf(`{${shared}}`, 16))).toContain('overlap the tensor before');
    expect(await problemOf(fileOf(i32, 16 + 'extra_bogus_data_for_polyglot_file'.length))).toContain(
      'trailing bytes',
    );
    expect(await problemOf(fileOf(i32, 14))).toContain("reach past the file's 14 data bytes");
  });
});

describe('every truncation of a valid file', () => {
  it('is a CheckpointError', async () => {
    const file = writeSafetensors([tensor('w', 'BF16', [3, 5]), tensor('b', 'F32', [3])], { format: 'pt' });
    for (let length = 0; length < file.length; length++) await problemOf(file.subarray(0, length));
  });
});

describe('layoutSafetensors', () => {
  const header = (name: string, dtype: Dtype, shape: number[]) => ({ name, dtype, shape });

  it('says where every tensor goes before there are bytes', async () => {
    const given = [
      tensor('codes', 'U8', [3, 7]),
      tensor('w', 'BF16', [4, 6]),
      tensor('empty', 'F32', [0, 5]),
    ];
    const headers = given.map(({ name, dtype, shape }) => header(name, dtype, [...shape]));
    const layout = layoutSafetensors(headers, { format: 'pt' });
    const file = new Uint8Array(layout.byteLength);
    file.set(layout.header);
    for (const { name, bytes } of given) {
      const { start, end } = layout.ranges.get(name)!;
      expect(end - start).toBe(bytes.length);
      file.set(bytes, start);
    }
    const source = blobSource(new Blob([file]));
    const back = await readSafetensorsHeader(source);
    expect([...layout.ranges.keys()]).toEqual([...back.tensors.keys()]);
    for (const { name, bytes } of given) {
      expect(await readTensorBytes(source, back.tensors.get(name)!)).toEqual(bytes);
    }
  });

  it('lays out terabytes, and refuses more bytes than numbers count', () => {
    const size = 2 ** 42;
    const { byteLength, ranges, header: bytes } = layoutSafetensors([header('w', 'F16', [size])]);
    expect(byteLength).toBe(bytes.length + 2 * size);
    expect(ranges.get('w')).toEqual({ start: bytes.length, end: byteLength });
    const many = Array.from({ length: 9 }, (_, i) => header(`w${i}`, 'U8', [2 ** 50 - 1]));
    expect(() => layoutSafetensors(many)).toThrow(InvalidArgumentError);
    expect(() => layoutSafetensors(many)).toThrow('safetensors: the tensors take');
  });
});

describe('writeSafetensors', () => {
  it('writes what the reference writes', async () => {
    const values = new Uint8Array(Float32Array.of(0, 1, 2, 3, 4, 5).buffer);
    const f32 = writeSafetensors([{ name: 'attn0', dtype: 'F32', shape: [1, 1, 2, 3], bytes: values }]);
    const header = 'H\0\0\0\0\0\0\0{"attn0":{"dtype":"F32","shape":[1,1,2,3],"data_offsets":[0,24]}}       ';
    expect(f32).toEqual(literal(`${header}\0\0\0\0\0\0\x80?\0\0\0@\0\0@@\0\0\x80@\0\0\xa0@`));

    const f4 = writeSafetensors([{ name: 'attn.0', dtype: 'F4', shape: [1, 2], bytes: Uint8Array.of(0) }]);
    expect(f4).toEqual(
      literal('@\0\0\0\0\0\0\0{"attn.0":{"dtype":"F4","shape":[1,2],"data_offsets":[0,1]}}    \0'),
    );

    expect(writeSafetensors([])).toEqual(literal('\x08\0\0\0\0\0\0\0{}      '));
    expect(writeSafetensors([], { framework: 'pt' })).toEqual(
      literal('(\0\0\0\0\0\0\0{"__metadata__":{"framework":"pt"}}     '),
    );
  });

  it('orders tensors by dtype, the most aligned first, then by the bytes of the name', async () => {
    // U+FF5E sorts after the emoji in UTF-16 and before it in UTF-8.
    const names = ['10', '9', 'b', 'a', '😀', '～'];
    const file = writeSafetensors([
      ...names.map((name) => tensor(name, 'BF16', [1])),
      ...DTYPES.map((dtype) => tensor(dtype, dtype, [8])),
    ]);
    const { tensors } = await read(file);
    const order = [...tensors.keys()];
    expect(order.filter((name) => names.includes(name))).toEqual(['10', '9', 'a', 'b', '～', '😀']);
    expect(order.filter((name) => !names.includes(name))).toEqual([...DTYPES].reverse());
    expect(headerOf(file).indexOf('"10"')).toBeLessThan(headerOf(file).indexOf('"9"'));
    for (const { dtype, byteOffset } of tensors.values()) {
      if (DTYPE_BITS[dtype] >= 16) expect(byteOffset % (DTYPE_BITS[dtype] / 8)).toBe(0);
    }
  });

  it('comes back as it was given', async () => {
    const given = [
      tensor('model.w"\\\n', 'BF16', [4, 6]),
      tensor('__proto__', 'F32', []),
      tensor('codes', 'U8', [3, 7]),
      tensor('empty', 'F16', [0, 5]),
      tensor('f4', 'F4', [3, 2]),
    ];
    const metadata = new Map([
      ['2', 'two'],
      ['1', 'one\u0007 é 😀'],
      ['__proto__', 'x'],
    ]);
    const file = writeSafetensors(given, metadata);
    const source = blobSource(new Blob([file]));
    const back = await readSafetensorsHeader(source);
    expect([...back.metadata]).toEqual([...metadata]);
    expect(back.tensors.size).toBe(given.length);
    for (const { name, dtype, shape, bytes } of given) {
      const info = back.tensors.get(name)!;
      expect(info).toMatchObject({ name, dtype, shape });
      expect(await readTensorBytes(source, info)).toEqual(bytes);
    }
    expect(writeSafetensors([...given].reverse(), back.metadata)).toEqual(file);
  });

  it.each<[string, TensorData[], Record<string, string>, string]>([
    [
      'a name twice',
      [tensor('w', 'U8', [1]), tensor('w', 'F32', [1])],
      {},
      'tensor "w": the name appears twice',
    ],
    ['the reserved name', [tensor('__metadata__', 'U8', [1])], {}, 'the name is reserved for the metadata'],
    [
      'too few bytes',
      [{ ...tensor('w', 'F32', [2]), shape: [3] }],
      {},
      '8 bytes given; shape [3] of F32 needs 12',
    ],
    ['half a byte', [{ ...tensor('w', 'F4', [2]), shape: [3] }], {}, 'not a whole number of bytes'],
    ['an overflow', [{ ...tensor('w', 'U8', [2]), shape: [2 ** 30, 2 ** 30] }], {}, 'overflows'],
    ['a negative size', [{ ...tensor('w', 'U8', [2]), shape: [-2, -1] }], {}, 'shape [-2, -1] is not all'],
    ['a broken size', [{ ...tensor('w', 'U8', [2]), shape: [0.5, 4] }], {}, 'shape [0.5, 4] is not all'],
    [
      'an unknown dtype',
      [{ ...tensor('w', 'U8', [2]), dtype: 'FP4' as Dtype }],
      {},
      'dtype "FP4" is unknown',
    ],
    ['half a surrogate pair', [tensor('\ud83d', 'U8', [1])], {}, 'half a surrogate pair'],
    [
      'metadata of numbers',
      [],
      { step: 3 as unknown as string },
      'metadata "step" is a number; only strings',
    ],
  ])('refuses %s', (_, tensors, metadata, problem) => {
    expect(() => writeSafetensors(tensors, metadata)).toThrow(InvalidArgumentError);
    expect(() => writeSafetensors(tensors, metadata)).toThrow(problem);
  });

  it('refuses a header that no reader would take', () => {
    const metadata = { long: 'x'.repeat(100_000_000) };
    expect(() => writeSafetensors([], metadata)).toThrow('the header takes 100000032 of 100000000 bytes');
  });
});

describe('readMatrix', () => {
  const bf16 = new Uint8Array(Uint16Array.of(0x3f80, 0xbf80, 0x4000, 0, 0x8000, 0x7f80).buffer);
  const file = writeSafetensors([
    { name: 'model.layers.0.mlp.down_proj.weight', dtype: 'BF16', shape: [2, 3], bytes: bf16 },
    {
      name: 'model.layers.0.mlp.up_proj.weight',
      dtype: 'F16',
      shape: [1, 2],
      bytes: Uint8Array.of(0, 0x3c, 0, 0xc0),
    },
    { name: 'model.norm.weight', dtype: 'BF16', shape: [6], bytes: bf16 },
    { name: 'codes', dtype: 'U8', shape: [2, 3], bytes: bf16.subarray(6) },
    { name: 'none', dtype: 'F32', shape: [0, 8], bytes: new Uint8Array(0) },
  ]);
  const matrix = async (name: string, signal?: AbortSignal) => {
    const source = bytesSource(file, 'model.safetensors');
    return readMatrix(source, await readSafetensorsHeader(source), name, { signal });
  };

  it('reads rank 2 as f32', async () => {
    expect(await matrix('model.layers.0.mlp.down_proj.weight')).toEqual({
      name: 'model.layers.0.mlp.down_proj.weight',
      rows: 2,
      cols: 3,
      values: Float32Array.of(1, -1, 2, 0, -0, Number.POSITIVE_INFINITY),
    });
    expect((await matrix('model.layers.0.mlp.up_proj.weight')).values).toEqual(Float32Array.of(1, -2));
    expect(await matrix('none')).toMatchObject({ rows: 0, cols: 8, values: new Float32Array(0) });
  });

  it('lists near names for one it does not have', async () => {
    const near =
      'no tensor "layers.0.mlp.down_proj"; near it: "model.layers.0.mlp.down_proj.weight", "model.layers.0';
    await expect(matrix('layers.0.mlp.down_proj')).rejects.toThrow(InvalidArgumentError);
    await expect(matrix('layers.0.mlp.down_proj')).rejects.toThrow(`checkpoint: model.safetensors: ${near}`);
    await expect(matrix('Q')).rejects.toThrow('no tensor "Q"; none of its 5 is near');
    await expect(matrix('constructor')).rejects.toThrow('no tensor "constructor"');
  });

  it('says the shape of what is not a matrix', async () => {
    await expect(matrix('model.norm.weight')).rejects.toThrow(InvalidArgumentError);
    await expect(matrix('model.norm.weight')).rejects.toThrow('has shape [6]; a matrix has two dimensions');
  });

  it('says which dtypes it takes, before it reads any data', async () => {
    await expect(matrix('codes')).rejects.toThrow(UnsupportedError);
    const source = watched(file);
    const header = await readSafetensorsHeader(source);
    await expect(readMatrix(source, header, 'codes')).rejects.toThrow(
      'U8 has no conversion to f32; F32, BF16',
    );
    expect(source.reads).toHaveLength(2);
  });

  it('stops for a signal', async () => {
    const signal = AbortSignal.abort(new Error('user left'));
    await expect(matrix('model.layers.0.mlp.down_proj.weight', signal)).rejects.toThrow('user left');
  });
});

describe('mutants', () => {
  const seeds: Uint8Array[] = [
    writeSafetensors([]),
    writeSafetensors([tensor('w', 'F32', [20, 4])]),
    writeSafetensors([tensor('a', 'BF16', [3]), tensor('b', 'U8', [5]), tensor('c', 'F4', [2])], {
      format: 'pt',
    }),
    fileOf(`{"e":${entry('I8', '[0]', '[0,0]')},"x":${entry('I8', '[12]', '[0,12]')}}`, 12),
  ];
  const snippets = [
    '0',
    '1',
    '9',
    '-',
    ',',
    '"',
    '[',
    ']',
    '{',
    '}',
    ' ',
    '0,',
    '1,',
    '[]',
    '\\u0061',
    'e0',
    '"a":',
    'U8',
    'I8',
  ];
  const where = fc.nat(999);
  const mutation = fc.oneof(
    fc.record({ kind: fc.constant('flip' as const), at: where, value: fc.integer({ min: 1, max: 255 }) }),
    fc.record({ kind: fc.constant('insert' as const), at: where, value: fc.constantFrom(...snippets) }),
    fc.record({ kind: fc.constant('replace' as const), at: where, value: fc.constantFrom(...snippets) }),
    fc.record({ kind: fc.constant('remove' as const), at: where, value: fc.integer({ min: 1, max: 9 }) }),
    fc.record({ kind: fc.constant('copy' as const), at: where, value: fc.integer({ min: 1, max: 60 }) }),
  );
  type Mutation = typeof mutation extends fc.Arbitrary<infer T> ? T : never;

  function mutate(bytes: Uint8Array, { kind, at, value }: Mutation): Uint8Array {
    const position = Math.floor((at / 1000) * bytes.length);
    const before = bytes.subarray(0, position);
    const rest = (skipped: number) => bytes.subarray(position + skipped);
    switch (kind) {
      case 'flip': {
        const flipped = bytes.slice();
        if (position < bytes.length) flipped[position]! ^= value;
        return flipped;
      }
      case 'insert':
        return concat(before, literal(value), rest(0));
      case 'replace':
        return concat(before, literal(value), rest(value.length));
      case 'remove':
        return concat(before, rest(value));
      case 'copy':
        return concat(before, bytes.subarray(position, position + value), rest(0));
    }
  }

  /** Checks an accepted file by other means: `JSON.parse`, bigints, and a mark for each byte of data. */
  async function expectConsistent(file: Uint8Array): Promise<void> {
    const source = bytesSource(file, 'model.safetensors');
    const { tensors, metadata } = await readSafetensorsHeader(source);
    const header = JSON.parse(headerOf(file)) as Record<string, { shape: number[]; data_offsets: number[] }>;
    const { __metadata__: claimed = {}, ...entries } = header;
    expect(Object.keys(entries).sort()).toEqual([...tensors.keys()].sort());
    expect(Object.fromEntries(metadata)).toEqual(claimed);

    const marks = new Uint8Array(file.length);
    for (const info of tensors.values()) {
      const bits = info.shape.reduce(
        (product, size) => product * BigInt(size),
        BigInt(DTYPE_BITS[info.dtype]),
      );
      expect(8n * BigInt(info.byteLength)).toBe(bits);
      expect(info.shape).toEqual(entries[info.name]!.shape);
      expect((await readTensorBytes(source, info)).length).toBe(info.byteLength);
      for (let i = 0; i < info.byteLength; i++) marks[info.byteOffset + i]!++;
    }
    const dataStart = 8 + Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
    expect([...marks]).toEqual(Array.from(marks, (_, i) => (i < dataStart ? 0 : 1)));
  }

  /** The file with its header changed and the length put right, so that the rules behind the length see mutants too. */
  function mutateHeader(file: Uint8Array, mutations: Mutation[]): Uint8Array {
    const headerEnd = 8 + Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
    const header = mutations.reduce(mutate, file.subarray(8, headerEnd));
    return concat(fileOf(header), file.subarray(headerEnd));
  }

  it('end in a CheckpointError or are consistent', { timeout: 5000 }, async () => {
    const mutants = fc
      .tuple(fc.constantFrom(...seeds), fc.array(mutation, { minLength: 1, maxLength: 2 }), fc.boolean())
      .map(([file, mutations, inHeader]) =>
        inHeader ? mutateHeader(file, mutations) : mutations.reduce(mutate, file),
      );
    let accepted = 0;
    let refused = 0;
    await fc.assert(
      fc.asyncProperty(mutants, async (mutant) => {
        try {
          await expectConsistent(mutant);
          accepted++;
        } catch (error) {
          if (!(error instanceof CheckpointError)) throw error;
          refused++;
        }
      }),
      { seed: 4, numRuns: 2000 },
    );
    // Neither side may be empty, or the test would show nothing.
    expect(refused).toBeGreaterThan(1000);
    expect(accepted).toBeGreaterThan(100);
  });
});

describe('real weights', () => {
  it('the committed sample is a trained matrix', async () => {
    await using source = await openFile(SAMPLE);
    const file = await readSafetensorsHeader(source);
    const name = 'model.layers.3.mlp.down_proj.weight';
    expect([...file.tensors.keys()]).toEqual([name]);
    expect(file.tensors.get(name)?.dtype).toBe('BF16');
    expect(file.metadata.get('license')).toBe('weights trained for this project on GCIDE and WordNet text');

    const { rows, cols, values } = await readMatrix(source, file, name);
    expect([rows, cols, values.length]).toEqual([384, 1024, 384 * 1024]);
    expect(values.every(Number.isFinite)).toBe(true);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const std = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
    expect(Math.abs(mean)).toBeLessThan(std / 10);
    expect(std).toBeGreaterThan(0.005);
    expect(std).toBeLessThan(0.2);
  });

  it('the shards of the whole model hold what its index says', async ({ skip }) => {
    if (!existsSync(MODEL)) {
      const note = `no model at ${MODEL.pathname}: its shards are not tested`;
      console.info(note);
      skip(note);
    }
    const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
    let parameters = 0;
    const names: string[] = [];
    for (const shard of shards) {
      await using source = await openFile(new URL(shard, MODEL));
      const { tensors } = await readSafetensorsHeader(source);
      for (const { dtype, byteLength } of tensors.values())
        parameters += (8 * byteLength) / DTYPE_BITS[dtype];
      names.push(...tensors.keys());
    }
    expect(parameters).toBe(12_587_904);
    expect(new Set(names).size).toBe(names.length);
    expect(names).toContain('model.layers.3.mlp.down_proj.weight');
  });
});

/** A tensor of the right length, filled with something recognizable. */
function tensor(name: string, dtype: Dtype, shape: number[]): TensorData {
  const bits = shape.reduce((product, size) => product * size, DTYPE_BITS[dtype]);
  return { name, dtype, shape, bytes: Uint8Array.from({ length: bits / 8 }, (_, i) => 17 * i + name.length) };
}

/** The header text that a well-formed file has, padding included. */
function headerOf(file: Uint8Array): string {
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  return new TextDecoder().decode(file.subarray(8, 8 + length));
}

/** A source that writes down what is asked of it, may lie about its length and may end early. */
function watched(
  file: Uint8Array,
  byteLength = file.length,
  end = byteLength,
): ByteSource & { reads: number[][] } {
  const reads: number[][] = [];
  return {
    name: 'model.safetensors',
    byteLength,
    reads,
    async read(from, to) {
      reads.push([from, to]);
      return file.subarray(from, Math.min(to, end));
    },
  };
}

function concat(...parts: Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}
