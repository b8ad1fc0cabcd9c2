/** What of a reader's files is taken for a model, and how its matrices are kept. */
import { describe, expect, test } from 'vitest';
import { keepingMatrices, type LlamaSource } from '../../../demo/lm/source.js';
import { modelFolder, type PlacedFile } from '../../../demo/lm-files.js';
import { CheckpointError, type FloatMatrix } from '../../../src/index.js';

const INDEX = 'model.safetensors.index.json';

/** Files by their paths, each with a content. */
const placed = (contents: Record<string, string>): PlacedFile[] =>
  Object.entries(contents).map(([path, content]) => ({
    path,
    file: new File([content], path.slice(path.lastIndexOf('/') + 1)),
  }));

const index = (...shards: string[]) =>
  JSON.stringify({ weight_map: Object.fromEntries(shards.map((shard, i) => [`tensor${i}`, shard])) });

describe('modelFolder', () => {
  test('takes the files beside the config.json that is least deep, and no others', async () => {
    const folder = await modelFolder(
      placed({
        'llama/config.json': '{}',
        'llama/model.safetensors': '12345',
        'llama/tokenizer.json': '{}',
        'llama/original/config.json': '{}',
        'llama/original/consolidated.safetensors': '123',
        'llama/onnx/model.onnx': '',
      }),
    );
    expect(folder).toMatchObject({ name: 'llama', weightBytes: 5, hasTokenizer: true });
    expect(folder.files.map(({ name }) => name)).toEqual([
      'config.json',
      'model.safetensors',
      'tokenizer.json',
    ]);
  });

  test('takes files that were chosen one by one, in shards', async () => {
    const shards = ['model-1-of-2.safetensors', 'model-2-of-2.safetensors'] as const;
    const files = { 'config.json': '{}', [INDEX]: index(...shards), [shards[0]]: '12', [shards[1]]: '345' };
    expect(await modelFolder(placed(files))).toMatchObject({
      name: 'files',
      weightBytes: 5,
      hasTokenizer: false,
    });
    const { [shards[1]]: _, ...rest } = files;
    await expect(modelFolder(placed(rest))).rejects.toThrow(
      'files: model-2-of-2.safetensors is missing; choose all files',
    );
  });

  test.each<[string, Record<string, string>, RegExp]>([
    ['nothing', {}, /no files/],
    ['no model', { 'a/notes.txt': '' }, /a: config.json and a safetensors file are missing; choose/],
    [
      'other weights',
      { 'a/config.json': '', 'a/pytorch_model.bin': '' },
      /a: a safetensors file is missing \(pytorch_model.bin is not read here\)/,
    ],
    [
      'shards without an index',
      { 'a/config.json': '', 'a/1.safetensors': '', 'a/2.safetensors': '' },
      /a: model.safetensors.index.json, which tells what is in 2 safetensors files, is missing/,
    ],
    [
      'several models',
      { 'all/a/config.json': '', 'all/b/config.json': '' },
      /all\/a\/, all\/b\/ have a config.json each; choose one of them/,
    ],
  ])('refuses %s', async (_, files, message) => {
    const opened = modelFolder(placed(files));
    await expect(opened).rejects.toThrow(message);
    await expect(opened).rejects.toThrow(CheckpointError);
  });
});

describe('keepingMatrices', () => {
  test.each([
    ['BF16', [1, -0, 0.5, -3.015625, 2 ** -130, Number.NaN]],
    ['others', [1, 0.1, -0, 2 ** -149, Number.POSITIVE_INFINITY, 3]],
  ])('reads a matrix of %s once and gives its bits each time', async (_, values) => {
    let reads = 0;
    const source = {
      matrix: async (name: string, rows: number, cols: number): Promise<FloatMatrix> => {
        reads++;
        return { name, rows, cols, values: Float32Array.from(values) };
      },
    } as unknown as LlamaSource;
    const kept = keepingMatrices(source);
    const bits = new Uint32Array(Float32Array.from(values).buffer);
    for (let i = 0; i < 3; i++) {
      const matrix = (await kept.matrix('w', 2, 3)) as FloatMatrix;
      expect(matrix).toMatchObject({ name: 'w', rows: 2, cols: 3 });
      expect(new Uint32Array(matrix.values.slice().buffer)).toEqual(bits);
    }
    expect(reads).toBe(1);
  });

  test('asks again for what could not be read', async () => {
    let reads = 0;
    const matrix = async () => {
      if (reads++ === 0) throw new Error('not now');
      return { name: 'w', rows: 1, cols: 1, values: Float32Array.of(2) };
    };
    const kept = keepingMatrices({ matrix } as unknown as LlamaSource);
    await expect(kept.matrix('w', 1, 1)).rejects.toThrow('not now');
    expect(await kept.matrix('w', 1, 1)).toMatchObject({ values: Float32Array.of(2) });
  });
});
