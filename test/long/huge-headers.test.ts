/**
 * Headers of a hundred megabytes, each made of whatever takes the most memory or time once it is read. All are refused or
 * read, within the seconds and the memory that files of that size warrant; none ends the process.
 */
import { expect, it } from 'vitest';
import { bytesSource } from '../../src/checkpoint/byte-source.js';
import { MAX_TENSORS } from '../../src/checkpoint/container.js';
import { openCheckpoint } from '../../src/checkpoint/open.js';
import { CheckpointError } from '../../src/errors.js';

const SIZE = 100_000_000;
/** Five times what the slowest takes on two cores. */
const MAX_SECONDS = 120;
/** Of the process, the file and its text (twice as long in UTF-16) and the test runner among them. */
const MAX_BYTES = 2.5e9;

/** Five characters that count. */
const id = (i: number) => i.toString(36).padStart(5, '0');

/** The same piece again and again between a head and a tail, in about a hundred megabytes. */
function filled(head: string, piece: string, tail: string): Buffer {
  const count = Math.floor((SIZE - 100) / piece.length);
  return Buffer.concat([Buffer.from(head), Buffer.alloc(count * piece.length, piece), Buffer.from(tail)]);
}

/** Pieces between a head and a tail, until the text has `size` bytes or there are `count` pieces. */
function repeated(
  head: string,
  piece: (i: number) => string,
  tail: string,
  { size = SIZE, count = Number.POSITIVE_INFINITY } = {},
): Buffer {
  const bytes = Buffer.alloc(size, ' ');
  let at = bytes.write(head, 'latin1');
  for (let i = 0; i < count; i++) {
    const next = (i > 0 ? ',' : '') + piece(i);
    if (at + next.length + tail.length > size) break;
    at += bytes.write(next, at, 'latin1');
  }
  at += bytes.write(tail, at, 'latin1');
  return bytes.subarray(0, at);
}

function file(header: Buffer, dataLength = 0): Uint8Array {
  const bytes = new Uint8Array(8 + header.length + dataLength);
  new DataView(bytes.buffer).setUint32(0, header.length, true);
  bytes.set(header, 8);
  return bytes;
}

const entry = (name: string, more = '"shape":[0],"data_offsets":[0,0]') => `"${name}":{"dtype":"U8",${more}}`;

function ggufTensors(count: number): Uint8Array {
  const bytes = new Uint8Array(24 + 37 * count + 32);
  const view = new DataView(bytes.buffer);
  bytes.set([0x47, 0x47, 0x55, 0x46, 3]);
  view.setUint32(8, count, true);
  for (let i = 0, at = 24; i < count; i++, at += 37) {
    // Name, rank 1, size 0, type I8, offset 0.
    bytes[at] = 5;
    new TextEncoder().encodeInto(id(i), bytes.subarray(at + 8));
    bytes[at + 13] = 1;
    bytes[at + 25] = 24;
  }
  return bytes;
}

const cases: Record<string, [() => Uint8Array, string | { tensors: number; refused?: number }]> = {
  'empty objects': [() => file(filled('{"w":[', '{},', '0]}')), 'more than 1048576 values in "w"'],
  'members that are empty objects': [
    () => file(repeated('{"w":{', (i) => `"${id(i)}":{}`, '}}')),
    'more than 1048576 values in "w"',
  ],
  'a shape of fifty million': [
    () =>
      file(
        repeated('{"w":{"dtype":"U8","data_offsets":[0,1],"shape":[', () => '1', ']}}'),
        1,
      ),
    'more than 1048576 values in "w"."shape"',
  ],
  'millions of metadata': [
    () => file(repeated('{"__metadata__":{', (i) => `"${id(i)}":""`, '}}')),
    'more than 1048576 values in "__metadata__"',
  ],
  'arrays in arrays': [() => file(Buffer.alloc(SIZE, '[')), 'more than 32 nested objects and arrays'],
  whitespace: [() => file(Buffer.alloc(SIZE, ' ').fill('{}', SIZE - 2)), { tensors: 0 }],
  'one string': [() => file(filled('{"__metadata__":{"a":"', 'x', '"}}')), { tensors: 0 }],
  'one string of escapes': [() => file(filled('{"__metadata__":{"a":"', '\\u0061', '"}}')), { tensors: 0 }],
  'too many tensors': [
    () => file(repeated('{', (i) => entry(id(i)), '}')),
    'more than 1048576 tensors; so many are not read',
  ],
  'as many tensors as may be': [
    () => file(repeated('{', (i) => entry(id(i)), '}', { count: MAX_TENSORS })),
    { tensors: MAX_TENSORS },
  ],
  'as many tensors, each a matrix that is refused': [
    () => file(repeated('{', (i) => entry(`${id(i)}.weight_packed`), '}', { count: MAX_TENSORS })),
    { tensors: MAX_TENSORS, refused: MAX_TENSORS },
  ],
  'an index of too many tensors': [
    () => repeated('{"weight_map":{', (i) => `"${id(i)}":"f"`, '}}', { count: MAX_TENSORS + 1 }),
    'lists 1048577 tensors; more than 1048576 are not read',
  ],
  'an index of objects': [
    () => repeated('{"weight_map":{', (i) => `"${id(i)}":{}`, '}}', { size: 2 * SIZE }),
    'more than 2097152 values in "weight_map"',
  ],
  'GGUF: as many tensors as may be': [() => ggufTensors(MAX_TENSORS), { tensors: MAX_TENSORS }],
};

it.each(Object.entries(cases))('%s', async (_, [make, expected]) => {
  const bytes = make();
  const start = performance.now();
  const open = async (name: string) => {
    if (name !== 'config.json') expect.unreachable(`opens ${name}`);
    throw new Error('no such file');
  };
  const outcome = await openCheckpoint(bytesSource(bytes), { open }).catch((error: unknown) => error);
  const seconds = (performance.now() - start) / 1000;
  if (typeof expected === 'string') {
    expect(outcome).toBeInstanceOf(CheckpointError);
    expect((outcome as Error).message).toContain(expected);
    expect((outcome as Error).message.length).toBeLessThan(500);
  } else {
    if (outcome instanceof Error) throw outcome;
    const { tensors, refused, matrix } = outcome as Awaited<ReturnType<typeof openCheckpoint>>;
    expect([tensors.length, refused.length]).toEqual([expected.tensors, expected.refused ?? 0]);
    if (refused.length > 0)
      await expect(matrix(refused.at(-1)!.name)).rejects.toThrow('it must have 2 dimensions');
  }
  expect(seconds).toBeLessThan(MAX_SECONDS);
  expect(process.resourceUsage().maxRSS * 1024).toBeLessThan(MAX_BYTES);
});
