import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import { type ByteSource, blobSource } from '../../../src/checkpoint/byte-source.js';
import type { FloatMatrix } from '../../../src/checkpoint/matrix-source.js';
import { openCheckpoint } from '../../../src/checkpoint/open.js';
import { CheckpointError, InvalidArgumentError } from '../../../src/errors.js';
import type { QuantizedMatrix } from '../../../src/matrix/quantized-matrix.js';
import { openCheckpointFile } from '../../../src/node.js';
import { bf16, f32, safetensorsFile, u8 } from '../../support/checkpoint-files.js';
import { SUBJECTS, type Subject } from '../../support/checkpoint-mutants.js';
import {
  ctNvfp4,
  expectedMatrix,
  FIXTURES,
  fileOf,
  gptOss,
  type Logical,
  modelOptExperts,
  randomLogical,
} from '../../support/checkpoint-producers.js';
import { watchedSource } from '../../support/watched-source.js';

const floats = {
  'embed.weight': bf16([2, 3], [1, -2, 3, 4, 5, 0.5]),
  'experts.w': f32([2, 1, 2], [1, 2, 3, 4]),
  'norm.weight': bf16([3], [1, 1, 1]),
  'conv.weight': f32([1, 1, 1, 1], [1]),
};

describe('openCheckpoint', () => {
  it('takes bytes, buffers, blobs and sources', async () => {
    const fixture = FIXTURES['MLX mxfp4']!();
    const file = fileOf(fixture);
    for (const source of [
      file,
      file.buffer,
      new Blob([file]),
      new File([file], 'a'),
      blobSource(new Blob([file])),
    ]) {
      const { matrix } = await openCheckpoint(source);
      expect(await matrix(fixture.matrix)).toEqual(expectedMatrix(fixture.logical as Logical));
    }
  });

  it('lists tensors, metadata and matrices of floats', async () => {
    const checkpoint = await openCheckpoint(safetensorsFile(floats, { format: 'pt' }));
    expect(checkpoint.container).toBe('safetensors');
    expect(checkpoint.tensors.map(({ name }) => name)).toEqual(Object.keys(floats));
    expect([...checkpoint.metadata]).toEqual([['format', 'pt']]);
    const common = { producer: 'float', blockSize: undefined };
    expect(checkpoint.matrices).toEqual([
      {
        ...common,
        name: 'embed.weight',
        format: 'BF16',
        shape: [2, 3],
        experts: undefined,
        bytes: 12,
        bitsPerWeight: 16,
        tensors: ['embed.weight'],
      },
      {
        ...common,
        name: 'experts.w',
        format: 'F32',
        shape: [1, 2],
        experts: 2,
        bytes: 16,
        bitsPerWeight: 32,
        tensors: ['experts.w'],
      },
    ]);
    expect(await checkpoint.matrix('embed.weight')).toEqual({
      name: 'embed.weight',
      rows: 2,
      cols: 3,
      values: Float32Array.of(1, -2, 3, 4, 5, 0.5),
    });
    expect(((await checkpoint.matrix('experts.w', { expert: 1 })) as FloatMatrix).values).toEqual(
      Float32Array.of(3, 4),
    );
    await expect(checkpoint.header('embed.weight')).rejects.toThrow(
      'checkpoint: bytes: matrix "embed.weight" is of BF16; only quantized ones have a header',
    );
    expect(checkpoint.storedValue).toBeUndefined();
  });

  it('counts the bytes and bits of FP4', async () => {
    const fixture = gptOss([1, 2, 3].map((seed) => randomLogical('mxfp4', 6, 96, seed)));
    const { matrices } = await openCheckpoint(fileOf(fixture));
    expect(matrices.find(({ name }) => name === fixture.matrix)).toEqual({
      name: fixture.matrix,
      producer: 'gpt-oss',
      format: 'mxfp4',
      blockSize: 32,
      shape: [6, 96],
      experts: 3,
      bytes: 3 * 6 * (48 + 3),
      bitsPerWeight: 4.25,
      tensors: [`${fixture.matrix}_blocks`, `${fixture.matrix}_scales`],
    });
  });

  it('names near matrices, and what a tensor of that name is', async () => {
    const { matrix } = await openCheckpoint(safetensorsFile(floats));
    const unknown = await matrix('embd.weight').catch((e: unknown) => e);
    expect(unknown).toBeInstanceOf(InvalidArgumentError);
    expect((unknown as Error).message).toBe(
      'checkpoint: bytes: no matrix "embd.weight"; near it: "embed.weight"',
    );
    await expect(matrix('norm.weight')).rejects.toThrow(
      'tensor "norm.weight", BF16 [3], is no matrix of a known',
    );
    await expect(matrix('__proto__')).rejects.toThrow(InvalidArgumentError);
  });

  it('wants an expert where there are experts, and only there', async () => {
    const { matrix } = await openCheckpoint(safetensorsFile(floats));
    await expect(matrix('experts.w')).rejects.toThrow('has 2 experts; pass expert, 0 to 1');
    await expect(matrix('embed.weight', { expert: 0 })).rejects.toThrow('has no experts; leave expert out');
    for (const expert of [-1, 2, 0.5, Number.NaN]) {
      await expect(matrix('experts.w', { expert })).rejects.toThrow(InvalidArgumentError);
    }
  });

  it('keeps what is wrong with one matrix from the others', async () => {
    const fixture = FIXTURES['Quark, ModelOpt mxfp4']!();
    const { 'model.layers.0.self_attn.q_proj.weight_scale': _, ...broken } = ctNvfp4(
      randomLogical('nvfp4', 2, 32, 1),
    ).tensors;
    const { matrices, refused, matrix } = await openCheckpoint(
      safetensorsFile({ ...fixture.tensors, ...broken }),
    );
    expect(matrices.map(({ name }) => name)).toEqual([fixture.matrix]);
    expect(refused.map(({ name, producer }) => [name, producer])).toEqual([
      ['model.layers.0.self_attn.q_proj.weight', 'compressed-tensors'],
    ]);
    await expect(matrix(refused[0]!.name)).rejects.toBe(refused[0]!.error);
    expect(refused[0]!.error).toBeInstanceOf(CheckpointError);
  });

  it('refuses other files, and an index without open', async () => {
    for (const text of ['', '{', 'GGUF\x03\0\0\0rest', 'PK\x03\x04zip file', '#!/bin/sh\n\n\n']) {
      await expect(openCheckpoint(new TextEncoder().encode(text))).rejects.toThrow(CheckpointError);
    }
    const index = openCheckpoint(new TextEncoder().encode('{"weight_map": {}}'));
    await expect(index).rejects.toThrow(InvalidArgumentError);
    await expect(index).rejects.toThrow('pass open, which opens them');
  });
});

describe('reads', () => {
  const many = (count: number) =>
    [...Array(count).keys()].map((seed) => randomLogical('nvfp4', 20, 96, seed));

  it('opening reads the header, and a matrix no more than its bytes', async () => {
    for (const [key, make] of Object.entries(FIXTURES)) {
      const fixture = make();
      const file = fileOf(fixture);
      const source = watchedSource(file);
      const { matrices, matrix } = await openCheckpoint(source);
      const headerEnd = 8 + file[0]! + 256 * file[1]! + 65536 * file[2]!;
      expect(Math.max(...source.reads.map(([, end]) => end)), key).toBe(headerEnd);
      const info = matrices.find(({ name }) => name === fixture.matrix)!;
      const before = source.total;
      await matrix(fixture.matrix, { expert: info.experts && 0 });
      // With a tensor scale an expert at most, and a mark.
      expect(source.total - before, key).toBeLessThanOrEqual(info.bytes / (info.experts ?? 1) + 4 + 32);
    }
  });

  it('an expert reads its own bytes', async () => {
    const all = many(8);
    for (const fixture of [
      modelOptExperts(all),
      gptOss(all.map((_, seed) => randomLogical('mxfp4', 20, 96, seed))),
    ]) {
      const source = watchedSource(fileOf(fixture));
      const { matrices, matrix } = await openCheckpoint(source);
      const { bytes } = matrices.find(({ name }) => name === fixture.matrix)!;
      const before = source.total;
      await matrix(fixture.matrix, { expert: 5 });
      expect(source.total - before).toBe(bytes / 8);
    }
  });

  it('scales that are wrong are known before codes are read', async () => {
    const broken = randomLogical('nvfp4', 20, 96, 1);
    broken.scales[0]![0] = 0x7f;
    const source = watchedSource(fileOf(ctNvfp4(broken)));
    const { matrix } = await openCheckpoint(source);
    const before = source.total;
    await expect(matrix('model.layers.0.self_attn.q_proj.weight')).rejects.toThrow('NaN');
    expect(source.total - before).toBe(4 + 20 * 6);
  });

  it('tell their progress, in chunks where it is much', async () => {
    const fixture = {
      big: f32([3, 1 << 20], new Array(3 << 20).fill(0)),
      ...FIXTURES['ours nvfp4, rotated']!().tensors,
    };
    const checkpoint = await openCheckpoint(safetensorsFile(fixture));
    const seen: number[] = [];
    const onProgress = ({ done, total, unit }: { done: number; total: number; unit: string }) => {
      expect(unit).toBe('bytes');
      seen.push(done / total);
    };
    const { values } = (await checkpoint.matrix('big', { onProgress })) as FloatMatrix;
    expect(values.length).toBe(3 << 20);
    expect(seen).toEqual([8 / 12, 1]);
    seen.length = 0;
    await checkpoint.matrix('w', { onProgress });
    expect(seen.at(-1)).toBe(1);
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
  });

  it.each(Object.entries(FIXTURES))('tell of as many bytes as there are: %s', async (_, make) => {
    const fixture = make();
    const { matrices, matrix } = await openCheckpoint(fileOf(fixture));
    const info = matrices.find(({ name }) => name === fixture.matrix)!;
    const seen: { done: number; total: number }[] = [];
    await matrix(fixture.matrix, { expert: info.experts && 0, onProgress: (step) => seen.push(step) });
    const { done, total } = seen.at(-1)!;
    expect(done).toBe(total);
    // Every step but the last is short of it: nothing is counted twice.
    for (const step of seen.slice(0, -1)) expect(step.done).toBeLessThan(total);
  });

  it('stop at a signal', async () => {
    const checkpoint = await openCheckpoint(safetensorsFile(floats));
    const signal = AbortSignal.abort(new Error('user left'));
    await expect(checkpoint.matrix('embed.weight', { signal })).rejects.toThrow('user left');
    await expect(openCheckpoint(safetensorsFile(floats), { signal })).rejects.toThrow('user left');
    const controller = new AbortController();
    const big = await openCheckpoint(safetensorsFile({ big: f32([3, 1 << 20], new Array(3 << 20).fill(0)) }));
    const reading = big.matrix('big', {
      signal: controller.signal,
      onProgress: () => controller.abort(new Error('user left')),
    });
    await expect(reading).rejects.toThrow('user left');
  });
});

describe('an abort at any read', () => {
  /** Opens and loads all of a subject's matrices, aborting while read `at` is under way; how many reads there were. */
  async function runUntil({ original: { files, entry }, matrices }: Subject, at: number) {
    const controller = new AbortController();
    const { signal } = controller;
    let reads = 0;
    const open = async (name: string): Promise<ByteSource> => {
      const bytes = files[name];
      if (!bytes) throw new Error('no such file');
      return {
        name,
        byteLength: bytes.length,
        // As a caller's own might be: it knows nothing of signals.
        async read(start, end) {
          if (reads++ === at) controller.abort(new Error('user left'));
          return bytes.slice(start, end);
        },
      };
    };
    const checkpoint = await openCheckpoint(await open(entry), { open, signal });
    for (const { name, expert } of matrices) await checkpoint.matrix(name, { expert, signal });
    return reads;
  }

  it.each(SUBJECTS.map((subject) => [subject.name, subject] as const))('%s', async (_, subject) => {
    const reads = await runUntil(subject, -1);
    expect(reads).toBeGreaterThan(2);
    for (let at = 0; at < reads; at++) await expect(runUntil(subject, at)).rejects.toThrow('user left');
  });
});

/** A checkpoint of two files, with scales away from their codes. */
function sharded() {
  const fixture = FIXTURES['compressed-tensors nvfp4']!();
  const entries = Object.entries(fixture.tensors);
  const [a, b] = [entries.slice(0, 3), entries.slice(3)];
  const weightMap = Object.fromEntries([
    ...a.map(([name]) => [name, 'model-00001-of-00002.safetensors']),
    ...b.map(([name]) => [name, 'model-00002-of-00002.safetensors']),
  ]);
  return {
    fixture,
    files: {
      'model-00001-of-00002.safetensors': safetensorsFile(Object.fromEntries(a)),
      'model-00002-of-00002.safetensors': safetensorsFile(Object.fromEntries(b)),
      'model.safetensors.index.json': new TextEncoder().encode(JSON.stringify({ weight_map: weightMap })),
    } as Record<string, Uint8Array<ArrayBuffer>>,
  };
}

const ROTATED = new TextEncoder().encode(
  '{"quantization_config": {"transform_config": {"config_groups": {"R4": {}}}}}',
);

describe('over HTTP', () => {
  it('opens an index and what it names, beside it, with its query', async () => {
    const { fixture, files } = sharded();
    const asked: string[] = [];
    const server = createServer((request, response) => {
      const url = new URL(request.url!, 'http://host');
      asked.push(url.pathname + url.search);
      const bytes = files[url.pathname.slice('/repo/'.length)];
      if (!bytes) return void response.writeHead(404).end();
      const [first, last] = /(\d+)-(\d+)/.exec(request.headers.range!)!.slice(1).map(Number) as [
        number,
        number,
      ];
      const end = Math.min(last + 1, bytes.length);
      response.writeHead(206, { 'Content-Range': `bytes ${first}-${end - 1}/${bytes.length}` });
      response.end(bytes.subarray(first, end));
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    try {
      const { port } = server.address() as AddressInfo;
      const url = new URL(`http://127.0.0.1:${port}/repo/model.safetensors.index.json?download=true`);
      const { matrix } = await openCheckpoint(url);
      expect(await matrix(fixture.matrix)).toEqual(expectedMatrix(fixture.logical as Logical));
      expect(asked.sort()).toEqual(
        [...Object.keys(files), 'config.json'].map((name) => `/repo/${name}?download=true`).sort(),
      );
      files['config.json'] = ROTATED;
      expect((await openCheckpoint(url)).refused.length).toBe(1);
    } finally {
      server.closeAllConnections();
      server.close();
    }
  });
});

describe('openCheckpointFile', () => {
  const inDirectory = async (
    files: Record<string, Uint8Array>,
    test: (directory: string) => Promise<void>,
  ) => {
    const directory = await mkdtemp(join(tmpdir(), 'checkpoint-'));
    try {
      for (const [name, bytes] of Object.entries(files)) await writeFile(join(directory, name), bytes);
      await test(directory);
    } finally {
      await rm(directory, { recursive: true });
    }
  };

  it('opens a directory with an index, the index, a URL of it', async () => {
    const { fixture, files } = sharded();
    await inDirectory(files, async (directory) => {
      const index = join(directory, 'model.safetensors.index.json');
      for (const path of [directory, index, pathToFileURL(index)]) {
        await using checkpoint = await openCheckpointFile(path);
        expect(await checkpoint.matrix(fixture.matrix)).toEqual(expectedMatrix(fixture.logical as Logical));
      }
      const closed = await openCheckpointFile(directory);
      await closed.close();
      await closed.close();
      await expect(closed.matrix(fixture.matrix)).rejects.toThrow('read after close()');
    });
  });

  it('looks into config.json beside it', async () => {
    const { files } = sharded();
    await inDirectory({ ...files, 'config.json': ROTATED }, async (directory) => {
      await using checkpoint = await openCheckpointFile(directory);
      expect(checkpoint.refused.length).toBe(1);
    });
    await inDirectory({ ...files, 'config.json': u8([1], [0x7b]).bytes }, async (directory) => {
      await expect(openCheckpointFile(directory)).rejects.toThrow(CheckpointError);
    });
  });

  it('opens a file, and a directory with just one', async () => {
    const fixture = FIXTURES.DeepSeek!();
    await inDirectory({ 'a.safetensors': fileOf(fixture) }, async (directory) => {
      for (const path of [directory, join(directory, 'a.safetensors')]) {
        await using checkpoint = await openCheckpointFile(path);
        const q = (await checkpoint.matrix(fixture.matrix)) as QuantizedMatrix;
        expect(q).toEqual(expectedMatrix(fixture.logical as Logical));
      }
      await writeFile(join(directory, 'b.safetensors'), fileOf(fixture));
      await expect(openCheckpointFile(directory)).rejects.toThrow(
        'holds 2 files of checkpoints and no index',
      );
    });
  });

  it('says what is not there', async () => {
    await inDirectory({}, async (directory) => {
      await expect(openCheckpointFile(directory)).rejects.toThrow(InvalidArgumentError);
      await expect(openCheckpointFile(join(directory, 'none'))).rejects.toThrow('no such file');
    });
    const { 'model-00002-of-00002.safetensors': _, ...rest } = sharded().files;
    await inDirectory(rest, async (directory) => {
      await expect(openCheckpointFile(directory)).rejects.toThrow('which cannot be opened');
    });
  });
});
