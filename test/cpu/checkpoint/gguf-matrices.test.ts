/** Matrices of GGUF files, by openCheckpoint: what gguf-py wrote, tensor scales, experts, splits. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type ByteSource, bytesSource } from '../../../src/checkpoint/byte-source.js';
import { CheckpointError, UnsupportedError } from '../../../src/errors.js';
import { openCheckpoint } from '../../../src/index.js';
import { decodeMatrix, type QuantizedMatrix } from '../../../src/matrix/quantized-matrix.js';
import { openCheckpointFile } from '../../../src/node.js';
import { MX_VALUES, NV_VALUES, SPLIT_1, SPLIT_2, WHOLE } from '../../support/gguf-samples.js';
import { f32, ggufFile, type TensorSpec } from '../../support/gguf-writer.js';

const values = async (
  checkpoint: Awaited<ReturnType<typeof openCheckpoint>>,
  name: string,
  expert?: number,
) => [...decodeMatrix((await checkpoint.matrix(name, { expert })) as QuantizedMatrix)];

const F32 = 0;
const MXFP4 = 39;
const NVFP4 = 40;

/** Blocks of NVFP4: scales of one (0x38), and in every sixteen the codes 0 … 15 in order. */
const nvBlocks = (blocks: number): Uint8Array =>
  Uint8Array.from({ length: 36 * blocks }, (_, i) => {
    const at = i % 36;
    const j = (at - 4) % 8;
    return at < 4 ? 0x38 : j | ((j + 8) << 4);
  });
const E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6, -0, -0.5, -1, -1.5, -2, -3, -4, -6];

const tensor = (name: string, type: number, sizes: number[], bytes: Uint8Array): TensorSpec => ({
  name,
  type,
  sizes,
  bytes,
});
const scale = (name: string, ...scales: number[]) =>
  tensor(name, F32, [scales.length], Uint8Array.from(scales.flatMap((value) => [...f32(value)])));

test('a file of gguf-py has the values that its dequantize gives', async () => {
  const checkpoint = await openCheckpoint(WHOLE);
  expect(checkpoint.container).toBe('gguf');
  expect(checkpoint.matrices).toMatchObject([
    {
      name: 'mx.weight',
      producer: 'gguf',
      format: 'mxfp4',
      blockSize: 32,
      shape: [2, 64],
      bitsPerWeight: 4.25,
    },
    {
      name: 'nv.weight',
      producer: 'gguf',
      format: 'nvfp4',
      blockSize: 16,
      shape: [2, 64],
      bitsPerWeight: 4.5,
    },
  ]);
  expect((await values(checkpoint, 'mx.weight')).map((value) => value + 0)).toEqual(MX_VALUES);
  expect((await values(checkpoint, 'nv.weight')).map((value) => value + 0)).toEqual(NV_VALUES);
});

test.each(['a.scale', 'a.weight.scale'])('%s multiplies a.weight', async (name) => {
  const file = ggufFile({ tensors: [tensor('a.weight', NVFP4, [64, 1], nvBlocks(1)), scale(name, 0.25)] });
  const checkpoint = await openCheckpoint(file);
  expect(checkpoint.matrices).toHaveLength(1);
  const expected = Array.from({ length: 64 }, (_, i) => E2M1[i % 16]! / 4);
  expect(await values(checkpoint, 'a.weight')).toEqual(expected);
});

test('each expert has its own scale, and only its bytes are read', async () => {
  const blocks = nvBlocks(6);
  const file = ggufFile({
    tensors: [tensor('e.weight', NVFP4, [64, 2, 3], blocks), scale('e.scale', 1, 2, 4)],
  });
  const checkpoint = await openCheckpoint(file);
  expect(checkpoint.matrices).toMatchObject([{ shape: [2, 64], experts: 3, bytes: 6 * 36 + 12 }]);
  const expected = Array.from({ length: 128 }, (_, i) => E2M1[i % 16]! * 4);
  expect(await values(checkpoint, 'e.weight', 2)).toEqual(expected);
});

test('wrong scales of a tensor, and scales where none belong, refuse that matrix alone', async () => {
  const mx = Uint8Array.from({ length: 17 }, (_, i) => (i ? 0x22 : 127));
  const file = ggufFile({
    tensors: [
      tensor('a.weight', NVFP4, [64, 1], nvBlocks(1)),
      scale('a.scale', 1, 1),
      tensor('b.weight', MXFP4, [32, 1], mx),
      scale('b.scale', 1),
      tensor('c.weight', NVFP4, [64, 1], nvBlocks(1)),
      scale('c.scale', -1),
      tensor('d.weight', MXFP4, [32, 1], mx),
    ],
  });
  const checkpoint = await openCheckpoint(file);
  expect(checkpoint.matrices.map(({ name }) => name)).toEqual(['c.weight', 'd.weight']);
  await expect(checkpoint.matrix('a.weight')).rejects.toThrow(/"a.scale" is \[2\], for 1 matrices/);
  await expect(checkpoint.matrix('b.weight')).rejects.toThrow(UnsupportedError);
  await expect(checkpoint.matrix('c.weight')).rejects.toThrow(CheckpointError);
  expect(await values(checkpoint, 'd.weight')).toEqual(Array(32).fill(1));
});

test('splits are found beside each other, from any of them, and by the directory', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'fp4-gguf-'));
  try {
    const paths = [1, 2].map((i) => join(folder, `model-0000${i}-of-00002.gguf`));
    await writeFile(paths[0]!, SPLIT_1);
    await writeFile(paths[1]!, SPLIT_2);
    for (const path of [...paths, folder]) {
      await using checkpoint = await openCheckpointFile(path);
      expect((await values(checkpoint, 'nv.weight')).map((value) => value + 0)).toEqual(NV_VALUES);
    }
    await rm(paths[1]!);
    await expect(openCheckpointFile(paths[0]!)).rejects.toThrow(/model-00002-of-00002\.gguf: no such file/);
  } finally {
    await rm(folder, { recursive: true });
  }
});

/** The samples by their names in a split, and how many are being opened at once at most. */
function splitOpener(files: Record<string, Uint8Array>) {
  const seen = { asked: [] as string[], most: 0 };
  let now = 0;
  const open = async (name: string): Promise<ByteSource> => {
    seen.asked.push(name);
    seen.most = Math.max(seen.most, ++now);
    await new Promise((done) => setTimeout(done));
    now--;
    if (!files[name]) throw new Error('HTTP 404');
    return bytesSource(files[name], name);
  };
  return { open, seen };
}

const SPLITS = { 'm-00001-of-00002.gguf': SPLIT_1, 'm-00002-of-00002.gguf': SPLIT_2 };

test('splits come from open, and tell their progress', async () => {
  const { open } = splitOpener(SPLITS);
  const progress: unknown[] = [];
  const checkpoint = await openCheckpoint(bytesSource(SPLIT_2, 'm-00002-of-00002.gguf'), {
    open,
    onProgress: (step) => progress.push(step),
  });
  expect((await values(checkpoint, 'nv.weight')).map((value) => value + 0)).toEqual(NV_VALUES);
  expect(progress).toEqual([{ done: 2, total: 2, unit: 'files' }]);
});

test('a split that open cannot open is a CheckpointError, and ends the others', async () => {
  const { open, seen } = splitOpener({});
  const name = 'm-00001-of-99999.gguf';
  const error = await openCheckpoint(bytesSource(SPLIT_1, name), { open }).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(CheckpointError);
  expect((error as Error).message).toBe(
    `checkpoint: ${name}: one of 99999 files, and "m-00002-of-99999.gguf" cannot be opened (HTTP 404)`,
  );
  // A name alone does not send a hundred thousand requests.
  expect(seen.asked.length).toBeLessThanOrEqual(8);
  expect(seen.most).toBeGreaterThan(1);
});

test.each(['m-00000-of-00002.gguf', 'm-00003-of-00002.gguf', 'm-00000-of-00000.gguf'])(
  '%s is no name of a split',
  async (name) => {
    const { open, seen } = splitOpener(SPLITS);
    const opening = openCheckpoint(bytesSource(SPLIT_1, name), { open });
    await expect(opening).rejects.toThrow(CheckpointError);
    await expect(opening).rejects.toThrow('numbers begin at 1');
    expect(seen.asked).toEqual([]);
  },
);

test('splits stop at a signal', async () => {
  const controller = new AbortController();
  const open = async () => {
    controller.abort(new Error('user left'));
    throw new Error('the request was cancelled');
  };
  const source = bytesSource(SPLIT_1, 'm-00001-of-00002.gguf');
  await expect(openCheckpoint(source, { open, signal: controller.signal })).rejects.toThrow('user left');
});

test('a split without its siblings says what is missing', async () => {
  const source = new File([SPLIT_1], 'model-00001-of-00002.gguf');
  await expect(openCheckpoint(source)).rejects.toThrow(/one of 2 files of a model; pass open/);
});
