import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ByteSource, blobSource, bytesSource, readExactly } from '../../src/checkpoint/byte-source.js';
import { openFile } from '../../src/checkpoint/file-source.js';
import { CheckpointError, UnsupportedError } from '../../src/errors.js';

const BYTES = Uint8Array.from({ length: 100 }, (_, i) => i * 7);

let directory: string;
let path: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'byte-source-'));
  path = join(directory, 'bytes.bin');
  await writeFile(path, BYTES);
});
afterAll(() => rm(directory, { recursive: true }));

const kinds: Record<string, () => ByteSource | Promise<ByteSource>> = {
  'an ArrayBuffer': () => bytesSource(BYTES.slice().buffer),
  'a Uint8Array inside a larger buffer': () => {
    const larger = new Uint8Array(120);
    larger.set(BYTES, 9);
    return bytesSource(larger.subarray(9, 109));
  },
  'a Node Buffer': () => bytesSource(Buffer.from(BYTES)),
  'a Blob': () => blobSource(new Blob([BYTES.slice(0, 33), BYTES.slice(33)])),
  'a File': () => blobSource(new File([BYTES], 'model.safetensors')),
  'a file on disk': () => openFile(path),
};

describe.each(Object.entries(kinds))('a source over %s', (_, make) => {
  it('reads ranges, the empty ones too', async () => {
    const source = await make();
    expect(source.byteLength).toBe(100);
    for (const [start, end] of [
      [0, 100],
      [0, 0],
      [100, 100],
      [33, 34],
      [17, 93],
    ] as const) {
      const bytes = await source.read(start, end);
      expect(bytes.constructor).toBe(Uint8Array);
      expect([...bytes]).toEqual([...BYTES.slice(start, end)]);
    }
  });

  it.each([
    [-1, 4],
    [4, 3],
    [0, 101],
    [101, 101],
    [0.5, 4],
    [0, 4.5],
    [0, Number.NaN],
    [0, Number.POSITIVE_INFINITY],
    [2 ** 53, 2 ** 53 + 2],
  ])('refuses the range %d..%d', async (start, end) => {
    const source = await make();
    const error = await source.read(start, end).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(CheckpointError);
    expect(String(error)).toContain(`${source.name}: range ${start}..${end} is not inside its 100 bytes`);
  });

  it('does not read for an aborted signal', async () => {
    const source = await make();
    const signal = AbortSignal.abort(new Error('user left'));
    await expect(source.read(0, 4, { signal })).rejects.toThrow('user left');
    await expect(source.read(0, 0, { signal })).rejects.toThrow('user left');
  });
});

describe.each(['a Blob', 'a file on disk'])('a source over %s', (kind) => {
  it('gives up when the signal comes during the read', async () => {
    const source = await kinds[kind]!();
    const controller = new AbortController();
    const reading = source.read(0, 100, { signal: controller.signal });
    controller.abort(new Error('user left'));
    await expect(reading).rejects.toThrow('user left');
  });
});

describe('names', () => {
  it('come from the file where there is one', async () => {
    expect(bytesSource(BYTES).name).toBe('bytes');
    expect(bytesSource(BYTES, 'shard 1').name).toBe('shard 1');
    expect(blobSource(new Blob()).name).toBe('blob');
    expect(blobSource(new File([], 'w.gguf')).name).toBe('w.gguf');
    await using file = await openFile(pathToFileURL(path));
    expect(file.name).toBe(path);
  });
});

describe('readExactly', () => {
  const answering = (length: number): ByteSource => ({
    name: 'remote',
    byteLength: 100,
    read: async () => new Uint8Array(length),
  });

  it.each([0, 9, 11])('refuses %d bytes for 10', async (length) => {
    await expect(readExactly(answering(length), 20, 30)).rejects.toThrow(CheckpointError);
    await expect(readExactly(answering(length), 20, 30)).rejects.toThrow(
      `remote: ${length} bytes came back for 20..30, which holds 10`,
    );
  });

  it('makes an UnsupportedError of a length that no array has', async () => {
    const endless: ByteSource = {
      name: 'remote',
      byteLength: 2 ** 50,
      read: async (start, end) => new Uint8Array(end - start),
    };
    const reading = readExactly(endless, 8, 2 ** 50);
    await expect(reading).rejects.toThrow(UnsupportedError);
    await expect(reading).rejects.toThrow(
      'byte-source: remote: the 1125899906842616 bytes at 8 are too many for one array here',
    );
    // Other errors are the source's own.
    const broken: ByteSource = { ...endless, read: () => Promise.reject(new TypeError('no network')) };
    await expect(readExactly(broken, 0, 8)).rejects.toThrow(TypeError);
  });

  it('checks the range and the signal before it asks the source', async () => {
    await expect(readExactly(answering(200), 0, 200)).rejects.toThrow('not inside its 100 bytes');
    const signal = AbortSignal.abort(new Error('user left'));
    await expect(readExactly(answering(10), 0, 10, { signal })).rejects.toThrow('user left');
  });
});

describe('blobSource', () => {
  it('turns a blob that can no longer be read into a CheckpointError', async () => {
    const blob = new Blob([BYTES]);
    blob.slice = () =>
      ({ arrayBuffer: () => Promise.reject(new Error('changed on disk')) }) as unknown as Blob;
    const error = await blobSource(blob, 'picked.bin')
      .read(0, 4)
      .catch((e: unknown) => e);
    expect(error).toBeInstanceOf(CheckpointError);
    expect((error as CheckpointError).message).toBe('byte-source: picked.bin: bytes 0..4 cannot be read');
    expect((error as CheckpointError).cause).toBeInstanceOf(Error);
  });
});

describe('openFile', () => {
  it('says that a file is missing', async () => {
    const missing = join(directory, 'missing.bin');
    await expect(openFile(missing)).rejects.toThrow(CheckpointError);
    await expect(openFile(missing)).rejects.toThrow(`file: ${missing}: no such file`);
  });

  it('refuses what is not a regular file', async () => {
    await expect(openFile(directory)).rejects.toThrow('a directory, not a regular file');
    if (process.platform !== 'win32') {
      await expect(openFile('/dev/null')).rejects.toThrow('a device or pipe, not a regular file');
    }
  });

  it('refuses to read after close(), which may be called twice', async () => {
    const file = await openFile(path);
    await file.close();
    await file.close();
    await expect(file.read(0, 4)).rejects.toThrow('read after close()');
  });

  it('closes by itself under await using', async () => {
    let file: Awaited<ReturnType<typeof openFile>>;
    {
      await using scoped = await openFile(path);
      file = scoped;
    }
    await expect(file.read(0, 4)).rejects.toThrow('read after close()');
  });

  it('notices a file that was cut while open', async () => {
    const cut = join(directory, 'cut.bin');
    await writeFile(cut, BYTES);
    await using file = await openFile(cut);
    await truncate(cut, 40);
    await expect(file.read(30, 60)).rejects.toThrow('ends at byte 40; it had 100 bytes when it was opened');
  });
});
