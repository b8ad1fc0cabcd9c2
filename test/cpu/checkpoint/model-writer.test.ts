/** A model written in parts: interrupted after every step and at every operation of the disk, it is the same in the end. */
import * as fs from 'node:fs/promises';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  createModelWriter,
  type ModelFile,
  type ModelWriter,
  type ModelWriterOptions,
} from '../../../src/checkpoint/model-writer.js';
import { CheckpointError, InvalidArgumentError } from '../../../src/errors.js';
import { openCheckpointFile } from '../../../src/node.js';
import { safetensorsFile, u8 } from '../../support/checkpoint-files.js';
import { rejection } from '../../support/rejection.js';

/** Operations of the disk until one fails; counted in everything that changes something. */
const disk = vi.hoisted(() => ({ left: Number.POSITIVE_INFINITY, code: 'ENOSPC' }));
const counted = vi.hoisted(() => {
  return <Args extends unknown[], Result>(operation: (...args: Args) => Promise<Result>) =>
    function (this: unknown, ...args: Args): Promise<Result> {
      if (--disk.left === 0) return Promise.reject(Object.assign(new Error(disk.code), { code: disk.code }));
      return operation.apply(this, args);
    };
});
vi.mock('node:fs/promises', async (load) => {
  const real = await load<typeof fs>();
  const names = ['copyFile', 'mkdir', 'open', 'rename', 'rm', 'writeFile'] as const;
  const failing = names.map((name) => [name, counted(real[name] as () => Promise<unknown>)]);
  return { ...real, ...Object.fromEntries(failing) };
});

let folder: string;
let out: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fp4-writer-'));
  out = join(folder, 'out');
  await writeFile(join(folder, 'tokenizer.json'), '{"tokens": []}');
  const handle = await fs.open(join(folder, 'tokenizer.json'));
  const prototype = Object.getPrototypeOf(handle);
  await handle.close();
  for (const name of ['write', 'datasync', 'truncate', 'appendFile']) {
    const real = prototype[name];
    vi.spyOn(prototype, name).mockImplementation(counted(real));
  }
});

afterEach(async () => {
  disk.left = Number.POSITIVE_INFINITY;
  vi.restoreAllMocks();
  await rm(folder, { recursive: true });
});

/** Bytes that differ from tensor to tensor and place to place. */
const bytesOf = (seed: number, length: number) =>
  Uint8Array.from({ length }, (_, i) => (seed * 89 + i * 7) & 255);

const TENSORS = [
  { name: 'a', dtype: 'U8', shape: [30] },
  { name: 'b', dtype: 'F32', shape: [5] },
  { name: 'empty', dtype: 'F32', shape: [0, 3] },
  { name: 'c', dtype: 'U8', shape: [2, 50] },
  { name: '10', dtype: 'BF16', shape: [4] },
] as const;
const BYTES = new Map<string, Uint8Array>(
  [30, 20, 0, 100, 8].map((length, i) => [TENSORS[i]!.name, bytesOf(i, length)]),
);

const OPTIONS: ModelWriterOptions = {
  tensors: TENSORS,
  metadata: { format: 'pt' },
  maxShardBytes: 60,
  identity: { format: 'mxfp4', source: 'somewhere' },
};
const files = (): ModelFile[] => [
  { name: 'config.json', from: new TextEncoder().encode('{}') },
  { name: 'tokenizer.json', from: join(folder, 'tokenizer.json') },
];

/** Every step of writing the model. */
const STEPS: ((writer: ModelWriter) => Promise<void>)[] = [
  ...TENSORS.flatMap(({ name }) => {
    const bytes = BYTES.get(name)!;
    const half = bytes.length >> 1;
    return [
      // The end first: order is the caller's.
      (writer: ModelWriter) => writer.write(name, bytes.subarray(half), half),
      (writer: ModelWriter) => writer.write(name, bytes.subarray(0, half)),
      (writer: ModelWriter) => writer.finish([name], { of: name }),
    ];
  }),
];

async function run(directory: string, options = OPTIONS): Promise<ModelWriter> {
  const writer = await createModelWriter(directory, options);
  try {
    for (const [i, step] of STEPS.entries()) {
      if (!writer.finished.has(TENSORS[Math.floor(i / 3)]!.name)) await step(writer);
    }
    await writer.complete(files());
    return writer;
  } finally {
    await writer.close().catch(() => {});
  }
}

async function contents(directory: string): Promise<Map<string, string>> {
  const names = (await readdir(directory)).sort();
  return new Map(
    await Promise.all(
      names.map(async (name) => [name, (await readFile(join(directory, name))).toString('latin1')] as const),
    ),
  );
}

async function expectModel(directory: string): Promise<void> {
  const found = await contents(directory);
  expect([...found.keys()]).toEqual([
    'config.json',
    'model-00001-of-00003.safetensors',
    'model-00002-of-00003.safetensors',
    'model-00003-of-00003.safetensors',
    'model.safetensors.index.json',
    'tokenizer.json',
  ]);
  expect(JSON.parse(found.get('model.safetensors.index.json')!)).toEqual({
    metadata: { total_size: 158 },
    weight_map: {
      '10': 'model-00003-of-00003.safetensors',
      a: 'model-00001-of-00003.safetensors',
      b: 'model-00001-of-00003.safetensors',
      c: 'model-00002-of-00003.safetensors',
      empty: 'model-00001-of-00003.safetensors',
    },
  });
  await using checkpoint = await openCheckpointFile(directory);
  expect(checkpoint.metadata).toEqual(new Map([['format', 'pt']]));
  expect(checkpoint.tensors.length).toBe(TENSORS.length);
  for (const tensor of checkpoint.tensors) {
    expect(tensor).toMatchObject(TENSORS.find(({ name }) => name === tensor.name)!);
    expect(Buffer.from(await checkpoint.read(tensor))).toEqual(Buffer.from(BYTES.get(tensor.name)!));
  }
}

describe('a model in parts', () => {
  it('is what was written, in files of the size asked for, with an index', async () => {
    const writer = await run(out);
    expect(writer.resumed).toBe(false);
    await expectModel(out);
  });

  it('is one file without an index where one is enough', async () => {
    await run(out, { ...OPTIONS, maxShardBytes: undefined });
    const found = await contents(out);
    expect([...found.keys()]).toEqual(['config.json', 'model.safetensors', 'tokenizer.json']);
  });

  it('has no name before it is complete', async () => {
    const writer = await createModelWriter(out, OPTIONS);
    for (const step of STEPS) await step(writer);
    await writer.close();
    expect((await readdir(out)).filter((name) => /\.(safetensors|json)$/.test(name))).toEqual([]);
    await rejection(openCheckpointFile(out));
  });

  it('goes on after what was finished, wherever it was cut off', { timeout: 60_000 }, async () => {
    for (let cut = 0; cut <= STEPS.length; cut++) {
      for (const how of ['closed', 'killed'] as const) {
        const first = join(folder, `${cut}-${how}`);
        const writer = await createModelWriter(first, OPTIONS);
        for (const step of STEPS.slice(0, cut)) await step(writer);
        // What a process that is killed leaves is what is there now: batches that were not journaled yet are lost.
        const second = join(folder, `${cut}-${how}-resumed`);
        if (how === 'closed') await writer.close();
        await cp(first, second, { recursive: true });
        await writer.close();
        const resumed = await run(second);
        expect(resumed.resumed).toBe(true);
        await expectModel(second);
        if (how === 'closed') continue;
        // Nothing half-written counts.
        const again = await createModelWriter(first, OPTIONS);
        const done = Math.floor(cut / 3);
        expect([...again.finished]).toEqual(TENSORS.slice(0, done).map(({ name }) => [name, { of: name }]));
        await again.close();
      }
    }
  });

  it.each(['ENOSPC', 'EIO'])(
    'goes on after any operation of the disk has failed with %s',
    { timeout: 60_000 },
    async (code) => {
      disk.code = code;
      let failures = 0;
      for (let operation = 1; ; operation++) {
        const directory = join(folder, `${operation}`);
        disk.left = operation;
        const error = await run(directory).then(
          () => undefined,
          (thrown: unknown) => thrown,
        );
        const reached = disk.left <= 0;
        disk.left = Number.POSITIVE_INFINITY;
        if (!reached) break;
        // Everything is counted but what tidies up after a failure.
        expect(error, `operation ${operation}`).toBeInstanceOf(CheckpointError);
        expect((error as Error).message).toContain(code === 'ENOSPC' ? 'make room and run it again' : 'EIO');
        await run(directory);
        await expectModel(directory);
        failures++;
      }
      expect(failures).toBeGreaterThan(30);
    },
  );

  it('drops a line of the journal that was not written to its end', async () => {
    const writer = await createModelWriter(out, OPTIONS);
    for (const step of STEPS.slice(0, 6)) await step(writer);
    await writer.close();
    const journal = join(out, 'fp4-webgpu.journal');
    await truncate(journal, (await stat(journal)).size - 3);
    const again = await createModelWriter(out, OPTIONS);
    expect([...again.finished.keys()]).toEqual(['a']);
    await again.close();
    await run(out);
    await expectModel(out);
    // Nor does a first line, of a run that was cut off before it wrote anything.
    const other = join(folder, 'other');
    await mkdir(other);
    await writeFile(join(other, 'fp4-webgpu.journal'), '{"journal":1,');
    expect((await run(other)).resumed).toBe(false);
    await expectModel(other);
  });
});

describe('refused before anything is written', () => {
  const snapshot = () => contents(out);

  it('a folder with other files', async () => {
    await mkdir(out);
    await writeFile(join(out, 'thesis.txt'), 'all of it');
    const error = await rejection(createModelWriter(out, OPTIONS));
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error.message).toMatch(/model-writer: .*out is not empty; name another folder, or overwrite it/);
    expect(await snapshot()).toEqual(new Map([['thesis.txt', 'all of it']]));
  });

  it('a complete model', async () => {
    await run(out);
    const before = await snapshot();
    expect((await rejection(run(out))).message).toContain('is not empty');
    expect(await snapshot()).toEqual(before);
  });

  it('a file', async () => {
    await writeFile(out, '');
    expect((await rejection(run(out))).message).toContain('is not a folder');
  });

  it.each<[string, Partial<ModelWriterOptions>, RegExp]>([
    [
      'other options',
      { identity: { format: 'nvfp4', source: 'somewhere' } },
      /another format: "mxfp4" there, "nvfp4" now/,
    ],
    ['an option more', { identity: { ...OPTIONS.identity, seed: '1' } }, /another seed: none there, "1" now/],
    ['an option less', { identity: { format: 'mxfp4' } }, /another source: "somewhere" there, none now/],
    ['other tensors', { tensors: TENSORS.slice(1) }, /another tensors/],
    ['other files', { maxShardBytes: 1000 }, /another tensors/],
    ['other metadata', { metadata: {} }, /another tensors/],
  ])('an interrupted run with %s', async (_, change, message) => {
    const writer = await createModelWriter(out, OPTIONS);
    for (const step of STEPS.slice(0, 5)) await step(writer);
    await writer.close();
    const before = await snapshot();
    const error = await rejection(createModelWriter(out, { ...OPTIONS, ...change }));
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error.message).toMatch(message);
    expect(await snapshot()).toEqual(before);
    await run(out);
    await expectModel(out);
  });

  it.each<[string, Partial<ModelWriterOptions>, string]>([
    ['a tensor twice', { tensors: [TENSORS[0], TENSORS[3], TENSORS[0]] }, 'tensor "a" appears twice'],
    ['a tensor of no size', { tensors: [{ name: 'a', dtype: 'U8', shape: [-1] }] }, 'shape [-1]'],
    ['files of no size', { maxShardBytes: 0 }, 'maxShardBytes = 0'],
    ['files of NaN bytes', { maxShardBytes: Number.NaN }, 'maxShardBytes = NaN'],
    [
      'too many files',
      {
        maxShardBytes: 1,
        tensors: Array.from({ length: 10_001 }, (_, i) => ({ name: `${i}`, dtype: 'U8', shape: [1] })),
      },
      '10001 files are over 10000',
    ],
  ])('%s', async (_, change, message) => {
    const error = await rejection(createModelWriter(out, { ...OPTIONS, ...change }));
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error.message).toContain(message);
    await expect(stat(out)).rejects.toThrow('ENOENT');
  });

  it('more than the disk has room for', async () => {
    const tensors = [{ name: 'w', dtype: 'U8', shape: [2 ** 49] }] as const;
    const error = await rejection(createModelWriter(join(out, 'deep'), { tensors }));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(
      /the model takes 562949953421312 bytes more, and the disk has \d+; make room/,
    );
    await expect(stat(out)).rejects.toThrow('ENOENT');
  });

  it('what an interrupted run left, where it is damaged', async () => {
    const writer = await createModelWriter(out, OPTIONS);
    for (const step of STEPS.slice(0, 12)) await step(writer);
    await writer.close();
    const journal = join(out, 'fp4-webgpu.journal');
    const lines = await readFile(journal, 'utf8');
    const partial = join(out, 'model-00001-of-00003.safetensors.fp4-partial');
    const refuse = async (message: string) => {
      const error = await rejection(createModelWriter(out, OPTIONS));
      expect(error).toBeInstanceOf(CheckpointError);
      expect(error.message).toContain(message);
    };
    await writeFile(journal, lines.replace('"note"', 'note'));
    await refuse('line 2 is not JSON');
    await writeFile(journal, '{}\n');
    await refuse('is not a journal');
    await writeFile(journal, lines.replace('["b"]', '["x"]'));
    await refuse('lists "x", which is none of the tensors');
    await writeFile(journal, lines.replace('["b"]', '["a"]'));
    await refuse('lists "a" twice');
    await writeFile(journal, lines);
    await truncate(partial, 5);
    await refuse('which has 5 bytes instead of');
    await rm(partial);
    await refuse('"model-00001-of-00003.safetensors", which is gone; remove the folder and begin again');
  });
});

describe('overwrite', () => {
  it('replaces a model and leaves other files', async () => {
    await mkdir(out);
    const old = safetensorsFile({ old: u8([1], [1]) });
    for (const name of ['model-00001-of-00009.safetensors', 'model.safetensors', 'adapter.safetensors']) {
      await writeFile(join(out, name), old);
    }
    await writeFile(join(out, 'model.safetensors.index.json'), '{}');
    await writeFile(join(out, 'notes.txt'), 'mine');
    const options = { ...OPTIONS, overwrite: true };
    const writer = await createModelWriter(out, options);
    for (const step of STEPS) await step(writer);
    await writer.close();
    // Until then the old model is there.
    expect((await readFile(join(out, 'model.safetensors'))).equals(old)).toBe(true);
    // Going on needs no second permission.
    await run(out);
    for (const name of ['adapter.safetensors', 'notes.txt']) await rm(join(out, name));
    await expectModel(out);
  });

  it('drops an interrupted run with other options', async () => {
    const writer = await createModelWriter(out, { ...OPTIONS, identity: {} });
    for (const step of STEPS.slice(0, 12)) await step(writer);
    await writer.close();
    const again = await run(out, { ...OPTIONS, overwrite: true });
    expect(again.resumed).toBe(false);
    await expectModel(out);
  });
});

describe('a caller', () => {
  it.each<[string, (writer: ModelWriter) => Promise<unknown>, string]>([
    ['names an unknown tensor', (w) => w.write('x', new Uint8Array(1)), '"x" is none of the tensors'],
    [
      'writes past the end',
      (w) => w.write('a', new Uint8Array(31)),
      'bytes 0..31 of tensor "a" are not inside its 30',
    ],
    ['writes at no place', (w) => w.write('a', new Uint8Array(1), -1), 'bytes -1..0'],
    ['writes at half a place', (w) => w.write('a', new Uint8Array(1), 0.5), 'not inside'],
    [
      'finishes what is not written',
      (w) => w.finish(['a']),
      '0 bytes of tensor "a" were written, which has 30',
    ],
    [
      'finishes half of it',
      (w) => w.write('a', new Uint8Array(15)).then(() => w.finish(['a'])),
      '15 bytes of tensor "a"',
    ],
    [
      'finishes twice',
      async (w) => {
        for (const step of STEPS.slice(0, 3)) await step(w);
        await w.finish(['a']);
      },
      'tensor "a" is finished',
    ],
    ['completes half a model', (w) => w.complete(), '5 of 5 tensors are not written, "b" first'],
  ])('who %s is told', async (_, act, message) => {
    await using writer = await createModelWriter(out, OPTIONS);
    const error = await rejection(act(writer));
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error.message).toContain(message);
  });
});
