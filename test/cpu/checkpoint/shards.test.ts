import { describe, expect, it } from 'vitest';
import { type ByteSource, bytesSource } from '../../../src/checkpoint/byte-source.js';
import { openSafetensors, openShards } from '../../../src/checkpoint/shards.js';
import { CheckpointError, InvalidArgumentError } from '../../../src/errors.js';
import { safetensorsFile, u8 } from '../../support/checkpoint-files.js';

const A = 'model-00001-of-00002.safetensors';
const B = 'model-00002-of-00002.safetensors';
const fileA = safetensorsFile({ a: u8([2, 3], [1, 2, 3, 4, 5, 6]), shared: u8([1], [9]) }, { format: 'pt' });
const fileB = safetensorsFile({ b: u8([4], [7, 8, 9, 10]) }, { format: 'np', x: '1' });

const index = (weightMap: unknown, more: object = { metadata: { total_size: 1.1e1 } }) =>
  bytesSource(
    new TextEncoder().encode(JSON.stringify({ ...more, weight_map: weightMap })),
    'model.safetensors.index.json',
  );
const GOOD = { a: A, shared: A, b: B };

const opener =
  (files: Record<string, Uint8Array> = { [A]: fileA, [B]: fileB }) =>
  async (name: string): Promise<ByteSource> => {
    if (!Object.hasOwn(files, name)) throw new Error('no such file');
    return bytesSource(files[name]!, name);
  };

async function problemOf(weightMap: unknown, open = opener()): Promise<string> {
  const error = await openShards(index(weightMap), open).then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(CheckpointError);
  return (error as Error).message;
}

describe('an index and its files', () => {
  it('are one container', async () => {
    const progress: number[] = [];
    const container = await openShards(index(GOOD), opener(), {
      onProgress: ({ done, total, unit }) => progress.push(done, total) && expect(unit).toBe('files'),
    });
    expect(progress).toEqual([2, 2]);
    expect(container.name).toBe('model.safetensors.index.json');
    expect([...container.tensors.keys()]).toEqual(['a', 'shared', 'b']);
    const a = container.tensors.get('a')!;
    expect(a).toEqual({ name: 'a', dtype: 'U8', shape: [2, 3], byteLength: 6, file: A });
    expect([...(await container.read(a))]).toEqual([1, 2, 3, 4, 5, 6]);
    expect([...(await container.read(a, { start: 2, end: 4 }))]).toEqual([3, 4]);
    expect([...(await container.read(container.tensors.get('b')!, { start: 3 }))]).toEqual([10]);
    expect([...container.metadata]).toEqual([
      ['format', 'pt'],
      ['x', '1'],
    ]);
  });

  it('never read outside a tensor, nor a tensor of another container', async () => {
    const container = await openSafetensors(bytesSource(fileA, 'a.safetensors'));
    const a = container.tensors.get('a')!;
    expect(a.file).toBe('a.safetensors');
    for (const [start, end] of [
      [0, 7],
      [-1, 2],
      [3, 2],
      [Number.NaN, 2],
      [0.5, 2],
    ] as const) {
      await expect(container.read(a, { start, end })).rejects.toThrow(CheckpointError);
    }
    await expect(container.read({ ...a, byteLength: 100 })).rejects.toThrow(InvalidArgumentError);
  });

  it('stop at a signal', async () => {
    const signal = AbortSignal.abort(new Error('user left'));
    await expect(openShards(index(GOOD), opener(), { signal })).rejects.toThrow('user left');
  });
});

describe('contradictions', () => {
  it('a file that is not there, or is no safetensors file', async () => {
    expect(await problemOf(GOOD, opener({ [A]: fileA }))).toBe(
      `checkpoint: model.safetensors.index.json: names "${B}", which cannot be opened (no such file)`,
    );
    expect(await problemOf(GOOD, opener({ [A]: fileA, [B]: fileB.slice(0, -1) }))).toContain('safetensors: ');
  });

  it('a tensor that no file has, or another file than the index says', async () => {
    expect(await problemOf({ ...GOOD, c: B })).toContain(
      `puts tensor "c" into "${B}", which does not have it`,
    );
    expect(await problemOf({ a: A, shared: A, b: A }, opener())).toContain('"b"');
    expect(await problemOf({ ...GOOD, shared: B })).toContain(
      `puts tensor "shared" into "${B}", but "${A}" has it`,
    );
  });

  it('a tensor in two files', async () => {
    const both = safetensorsFile({ b: u8([1], [7]), shared: u8([1], [9]) });
    expect(await problemOf(GOOD, opener({ [A]: fileA, [B]: both }))).toContain(
      `puts tensor "shared" into "${A}", but "${B}" has it as well`,
    );
  });

  it('a tensor that the index leaves out', async () => {
    expect(await problemOf({ a: A, b: B })).toContain(`does not list tensor "shared", which "${A}" has`);
  });

  it('metadata that describes tensors in two ways', async () => {
    const open = opener({
      [A]: safetensorsFile({ a: u8([1], [1]) }, { q: '{"a": 1}' }),
      [B]: safetensorsFile({ b: u8([1], [1]) }, { q: '{"b": 1}' }),
    });
    expect(await problemOf({ a: A, b: B }, open)).toContain('metadata "q"');
  });
});

describe('hostile indices', () => {
  it.each([
    '../secret.safetensors',
    '/etc/passwd',
    'dir/model.safetensors',
    'dir\\model.safetensors',
    'https://host/x',
    'C:x',
    'a..b',
    '..',
    '.',
    '',
    'nul\0byte',
  ])('file name %j', async (file) => {
    const opened: string[] = [];
    const open = async (name: string) => {
      opened.push(name);
      return opener()(name);
    };
    expect(await problemOf({ ...GOOD, b: file }, open)).toContain('only files beside the index are opened');
    expect(opened).toEqual([]);
  });

  it.each([[undefined], [null], [[]], ['x'], [{ a: 1 }], [{ a: null }]])(
    'weight_map %j',
    async (weightMap) => {
      expect(await problemOf(weightMap)).toContain('checkpoint: model.safetensors.index.json: ');
    },
  );

  it('text that is not JSON, duplicate keys, names of Object.prototype', async () => {
    for (const text of ['', '{', '{"weight_map":{"a":"x","a":"y"}}', '\xff']) {
      const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
      await expect(openShards(bytesSource(bytes), opener())).rejects.toThrow(CheckpointError);
    }
    expect(await problemOf(JSON.parse('{"constructor": "toString", "__proto__": "valueOf"}'))).toContain(
      'cannot be opened',
    );
  });

  it('too many files, or too many bytes, before any of it is read', async () => {
    const many = Object.fromEntries(Array.from({ length: 10_001 }, (_, i) => [`t${i}`, `f${i}`]));
    expect(await problemOf(many)).toContain('names 10001 files; the limit is 10000');
    const huge: ByteSource = { name: 'huge', byteLength: 2e9, read: () => expect.unreachable('read') };
    await expect(openShards(huge, opener())).rejects.toThrow('an index of over 200000000 is not read');
  });
});
