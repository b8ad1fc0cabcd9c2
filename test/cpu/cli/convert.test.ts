/** `fp4-webgpu convert` on files and folders. What conversions do to matrices is tested in checkpoint/convert.test.ts. */
import { mkdir, mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type ConvertOptions, convert, convertModel } from '../../../src/cli/convert.js';
import { jsonMembers, jsonObject } from '../../../src/cli/json-members.js';
import { ProgressBar } from '../../../src/cli/progress.js';
import { CheckpointError, InvalidArgumentError, UnsupportedError } from '../../../src/errors.js';
import { createGgufWriter, openCheckpointFile } from '../../../src/node.js';
import { bf16, type FileTensors, safetensorsFile } from '../../support/checkpoint-files.js';
import {
  deepSeek,
  type Fixture,
  fileOf,
  gptOss,
  modelOptNvfp4,
  ours,
  randomLogical,
  weightScaleMxfp4,
} from '../../support/checkpoint-producers.js';
import { SPLIT_1, SPLIT_2, WHOLE } from '../../support/gguf-samples.js';

let folder: string;
const at = (...names: string[]) => join(folder, ...names);

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fp4-convert-'));
  await mkdir(at('model'));
});

afterEach(async () => {
  vi.restoreAllMocks();
  await rm(folder, { recursive: true });
});

const CONFIG = {
  model_type: 'llama',
  rope_theta: 1e6,
  quantization_config: { quant_method: 'modelopt' },
  text_config: { hidden_size: 64, quantization_config: { quant_method: 'modelopt', quant_algo: 'NVFP4' } },
};

const FIXTURES: readonly Fixture[] = [
  modelOptNvfp4(randomLogical('nvfp4', 4, 64, 1)),
  weightScaleMxfp4(randomLogical('mxfp4', 4, 96, 2)),
];
const FLOATS = {
  'model.embed_tokens.weight': bf16([2, 2], [1, 2, 3, 4]),
  'model.norm.weight': bf16([2], [1, 1]),
};
const TENSORS: FileTensors = Object.assign({}, FLOATS, ...FIXTURES.map(({ tensors }) => tensors));

/** A folder as models have them, in two shards. */
async function writeModel(): Promise<void> {
  const names = Object.keys(TENSORS);
  const shards = [names.slice(0, 4), names.slice(4)].map((part, i) => {
    const tensors = Object.fromEntries(part.map((name) => [name, TENSORS[name]!]));
    return { name: `model-0000${i + 1}-of-00002.safetensors`, tensors };
  });
  for (const { name, tensors } of shards) await writeFile(at('model', name), safetensorsFile(tensors));
  const map = shards.flatMap(({ name, tensors }) => Object.keys(tensors).map((tensor) => [tensor, name]));
  const index = { metadata: {}, weight_map: Object.fromEntries(map) };
  await writeFile(at('model', 'model.safetensors.index.json'), JSON.stringify(index));
  await writeFile(at('model', 'config.json'), JSON.stringify(CONFIG).replace('1000000', '1000000.0'));
  await writeFile(at('model', 'tokenizer.json'), '{"x":1}');
  await writeFile(at('model', 'hf_quant_config.json'), '{}');
  await writeFile(at('model', 'pytorch_model.bin'), 'weights');
  await writeFile(at('model', '.gitattributes'), '');
  await mkdir(at('model', 'original'));
}

const readJson = async (...names: string[]) => JSON.parse(await readFile(at(...names), 'utf8'));

async function expectSameMatrices(before: string, after: string): Promise<void> {
  await using a = await openCheckpointFile(before);
  await using b = await openCheckpointFile(after);
  for (const { name, experts } of a.matrices) {
    const options = experts === undefined ? {} : { expert: experts - 1 };
    expect(await b.matrix(name, options)).toEqual(await a.matrix(name, options));
  }
  expect(b.matrices.map(({ name }) => name).toSorted()).toEqual(
    a.matrices.map(({ name }) => name).toSorted(),
  );
}

describe('a folder', () => {
  beforeEach(writeModel);

  it('goes with its configuration, tokenizer and whatever else is no weight', async () => {
    const options = { output: at('out'), to: 'compressed-tensors' } as const;
    const told: unknown[] = [];
    const summary = await convertModel(at('model'), options, {
      onStart: (total) => told.push(total),
      onProgress: (done, name) => told.push(done, name),
    });
    await expectSameMatrices(at('model'), at('out'));
    expect((await readdir(at('out'))).toSorted()).toEqual([
      'config.json',
      'model.safetensors',
      'tokenizer.json',
    ]);
    expect(await readFile(at('out', 'tokenizer.json'), 'utf8')).toBe('{"x":1}');
    // Python tells 1000000 from it.
    expect(await readFile(at('out', 'config.json'), 'utf8')).toContain('"rope_theta": 1000000.0,');
    expect(await readJson('out', 'config.json')).toEqual({
      model_type: 'llama',
      rope_theta: 1e6,
      source_quantization: { quantization_config: CONFIG.quantization_config },
      text_config: {
        hidden_size: 64,
        source_quantization: { quantization_config: CONFIG.text_config.quantization_config },
      },
      quantization_config: expect.objectContaining({
        quant_method: 'compressed-tensors',
        format: 'mixed-precision',
        ignore: ['model.embed_tokens'],
      }),
    });
    expect(summary).toMatchObject({
      output: at('out'),
      to: 'compressed-tensors',
      resumed: false,
      matrices: 2,
      kept: 3,
      files: {
        copied: ['tokenizer.json'],
        leftOut: ['.gitattributes', 'hf_quant_config.json', 'original', 'pytorch_model.bin'],
      },
      notes: ['scales of activations stay as they are; the configuration is for weights alone'],
    });
    expect([told[0], told.at(-2), told.at(-1)]).toEqual([
      summary.bytes,
      summary.bytes,
      'model.layers.1.mlp.up_proj.weight',
    ]);
  });

  it('goes into shards, and from there on', async () => {
    await convertModel(at('model'), { output: at('own'), to: 'fp4-webgpu', shardSize: 200 });
    expect(await readdir(at('own'))).toContain('model.safetensors.index.json');
    await convertModel(at('own'), { output: at('ct'), to: 'compressed-tensors' });
    await convertModel(at('ct'), { output: at('again'), to: 'fp4-webgpu', shardSize: 200 });
    await expectSameMatrices(at('model'), at('again'));
    for (const name of await readdir(at('own'))) {
      expect([name, await readFile(at('again', name))]).toEqual([name, await readFile(at('own', name))]);
    }
  });

  it('as GGUF is one file', async () => {
    const summary = await convertModel(at('model'), { output: at('new', 'a.gguf'), to: 'gguf' }).catch(
      (e) => e,
    );
    expect(summary).toMatchObject({ files: { copied: [] }, notes: [expect.stringContaining('llama.cpp')] });
    expect(await readdir(at('new'))).toEqual(['a.gguf']);
    await expectSameMatrices(at('model'), at('new', 'a.gguf'));
    await using checkpoint = await openCheckpointFile(at('new'));
    expect([...checkpoint.metadata]).toEqual([
      ['general.architecture', 'llama'],
      ['general.quantization_version', '2'],
    ]);
  });

  it('refuses all of it where one matrix cannot be held', async () => {
    const conversion = convertModel(at('model'), { output: at('out'), to: 'gpt-oss' });
    await expect(conversion).rejects.toThrow(UnsupportedError);
    await expect(conversion).rejects.toThrow('down_proj.weight": gpt-oss files have MXFP4, not NVFP4');
    expect(await readdir(folder)).toEqual(['model']);
  });

  it('does not write over itself, or over anything without being told', async () => {
    const refuse = async (options: Partial<ConvertOptions>, message: string) => {
      const conversion = convertModel(at('model'), { output: at('out'), to: 'fp4-webgpu', ...options });
      await expect(conversion).rejects.toThrow(InvalidArgumentError);
      await expect(conversion).rejects.toThrow(message);
    };
    const before = await readdir(at('model'));
    await refuse({ output: at('model'), overwrite: true }, 'is where the source is; name another');
    await refuse({ output: at('model', 'tokenizer.json', '..'), overwrite: true }, 'is where the source is');
    await refuse({ output: at('out.safetensors') }, 'name a folder, not a file');
    await refuse({ to: 'gguf' }, 'name a file that ends in .gguf');
    await mkdir(at('out'));
    await writeFile(at('out', 'model.safetensors'), 'precious');
    await refuse({}, 'is not empty');
    await writeFile(at('out.gguf'), 'precious');
    await refuse({ output: at('out.gguf'), to: 'gguf' }, 'is there already; name another, or overwrite it');
    await mkdir(at('folder.gguf'));
    await refuse({ output: at('folder.gguf'), to: 'gguf', overwrite: true }, 'is no file');
    expect(await readFile(at('out', 'model.safetensors'), 'utf8')).toBe('precious');
    expect(await readFile(at('out.gguf'), 'utf8')).toBe('precious');
    expect(await readdir(at('model'))).toEqual(before);

    await convertModel(at('model'), { output: at('out'), to: 'fp4-webgpu', overwrite: true });
    await expectSameMatrices(at('model'), at('out'));
    await convertModel(at('model'), { output: at('out.gguf'), to: 'gguf', overwrite: true });
    await expectSameMatrices(at('model'), at('out.gguf'));
  });

  it('goes on where it was interrupted, while the source is the same', async () => {
    const options = { output: at('out'), to: 'fp4-webgpu' } as const;
    const interrupt = () =>
      convertModel(at('model'), options, {
        onProgress(done) {
          if (done > 20) throw new Error('interrupted');
        },
      });
    await expect(interrupt()).rejects.toThrow('interrupted');
    await expect(openCheckpointFile(at('out'))).rejects.toThrow('no checkpoint');
    await utimes(at('model', 'model-00001-of-00002.safetensors'), 1, 1);
    await expect(convertModel(at('model'), options)).rejects.toThrow('or its files were changed');
    await expect(convertModel(at('model'), { ...options, to: 'compressed-tensors' })).rejects.toThrow(
      'interrupted run',
    );
    await rm(at('out'), { recursive: true });

    await expect(interrupt()).rejects.toThrow('interrupted');
    expect(await convertModel(at('model'), options)).toMatchObject({ resumed: true });
    await expectSameMatrices(at('model'), at('out'));
  });

  it('names a configuration that is none', async () => {
    await writeFile(at('model', 'config.json'), '[]');
    const conversion = convertModel(at('model'), { output: at('out'), to: 'fp4-webgpu' });
    await expect(conversion).rejects.toThrow(CheckpointError);
    await expect(conversion).rejects.toThrow('config.json: is no JSON object');
  });
});

describe('a file', () => {
  it('is converted without what else is in its folder', async () => {
    const fixture = gptOss([1, 2].map((seed) => randomLogical('mxfp4', 4, 64, seed)));
    await writeFile(at('model', 'a.safetensors'), fileOf(fixture));
    await writeFile(at('model', 'letter.txt'), 'private');
    await convertModel(at('model', 'a.safetensors'), { output: at('own'), to: 'fp4-webgpu' });
    expect(await readdir(at('own'))).toEqual(['model.safetensors']);
    await expectSameMatrices(at('model'), at('own'));
    await convertModel(at('own', 'model.safetensors'), { output: at('oss'), to: 'gpt-oss' });
    expect(await readJson('oss', 'config.json')).toEqual({
      quantization_config: { quant_method: 'mxfp4', modules_to_not_convert: [] },
    });
    await convertModel(at('own'), { output: at('ct'), to: 'compressed-tensors' });
    await convertModel(at('ct'), { output: at('back'), to: 'gpt-oss' });
    expect(await readFile(at('back', 'model.safetensors'))).toEqual(
      await readFile(at('oss', 'model.safetensors')),
    );
  });

  it('of GGUF keeps its values on the way through safetensors', async () => {
    await writeFile(at('model', 'a.gguf'), WHOLE);
    await convertModel(at('model'), { output: at('own'), to: 'fp4-webgpu' });
    expect((await readdir(at('own'))).toSorted()).toEqual(['gguf-metadata', 'model.safetensors']);
    const { files } = await convertModel(at('own'), { output: at('b.gguf'), to: 'gguf' });
    expect(files).toEqual({ copied: [], leftOut: [] });
    await expectSameMatrices(at('model'), at('b.gguf'));
    await using a = await openCheckpointFile(at('model'));
    await using b = await openCheckpointFile(at('b.gguf'));
    for (const key of a.metadata.keys()) expect(await b.storedValue!(key)).toEqual(await a.storedValue!(key));
    // Also by way of another convention, whose folder it is copied to.
    await convertModel(at('own'), { output: at('ct'), to: 'compressed-tensors' });
    expect(await readdir(at('ct'))).toContain('gguf-metadata');
  });

  it('of a split becomes one', async () => {
    await writeFile(at('model', 'm-00001-of-00002.gguf'), SPLIT_1);
    await writeFile(at('model', 'm-00002-of-00002.gguf'), SPLIT_2);
    await convertModel(at('model'), { output: at('one.gguf'), to: 'gguf' });
    await expectSameMatrices(at('model'), at('one.gguf'));
  });

  it('without FP4 matrices is not for this command', async () => {
    await writeFile(at('model', 'a.safetensors'), safetensorsFile(FLOATS));
    const conversion = convertModel(at('model'), { output: at('out'), to: 'fp4-webgpu' });
    await expect(conversion).rejects.toThrow(InvalidArgumentError);
    await expect(conversion).rejects.toThrow('holds no FP4 matrix; quantize it instead');
    expect(await readdir(folder)).toEqual(['model']);
  });

  it('that is damaged leaves no file', async () => {
    const bad = randomLogical('mxfp4', 4, 96, 1);
    bad.scales[3]![2] = 255;
    await writeFile(at('model', 'a.safetensors'), fileOf(deepSeek(bad)));
    const conversion = convertModel(at('model'), { output: at('out.gguf'), to: 'gguf' });
    await expect(conversion).rejects.toThrow('scale byte 255 at row 3, block 2 is NaN');
    expect(await readdir(folder)).toEqual(['model']);
  });
});

describe('the command', () => {
  it('tells what it did', async () => {
    await writeModel();
    const printed = vi.spyOn(console, 'log').mockImplementation(() => {});
    await convert(at('model'), { output: at('out.gguf'), to: 'gguf' });
    expect(printed.mock.calls[0]![0]).toMatch(
      /out\.gguf: 2 FP4 matrices as gguf, 3 other tensors as they were\nleft out {2}\.gitattributes, .*tokenizer\.json\nnote {6}names are .*\n0\.0 MB in \d/s,
    );
    await convert(at('model'), { output: at('out'), to: 'fp4-webgpu', json: true });
    expect(JSON.parse(printed.mock.calls[1]![0])).toMatchObject({ to: 'fp4-webgpu', matrices: 2 });
  });

  it('is interrupted by Ctrl-C', async () => {
    await writeModel();
    vi.spyOn(console, 'log').mockImplementation(() => {});
    const told = vi.spyOn(process.stderr, 'write').mockImplementation(() => true);
    vi.spyOn(ProgressBar.prototype, 'update').mockImplementationOnce(() => void process.emit('SIGINT'));
    try {
      await convert(at('model'), { output: at('out.gguf'), to: 'gguf' });
      expect(told.mock.lastCall).toEqual(['interrupted; nothing is left of it\n']);
      expect(process.exitCode).toBe(130);
      expect(await readdir(folder)).toEqual(['model']);
    } finally {
      process.exitCode = undefined;
    }
  });

  it('says why it does not', async () => {
    await writeFile(
      at('model', 'a.safetensors'),
      fileOf(ours(randomLogical('mxfp4', 2, 64, 1), { macroSize: 32 })),
    );
    const conversion = convert(at('model'), { output: at('out'), to: 'compressed-tensors' });
    await expect(conversion).rejects.toThrow('"w": compressed-tensors has no Macro Block Scaling factors');
  });
});

describe('JSON in parts', () => {
  it.each(['{}', '{"a":1}', '{ "a" : [1, {"b": "}\\"]"}], "c,:{" : -1.50e3 ,"d":{}, "\\u00e9": null }'])(
    '%s',
    (json) => {
      const members = jsonMembers(json);
      expect(JSON.parse(jsonObject(members))).toEqual(JSON.parse(json));
      expect([...members.keys()]).toEqual(Object.keys(JSON.parse(json)));
    },
  );

  it('keeps numbers as they are written', () => {
    expect(jsonMembers('{"x": 1.0, "n": 100000000000000000001}')).toEqual(
      new Map([
        ['x', '1.0'],
        ['n', '100000000000000000001'],
      ]),
    );
  });
});

describe('createGgufWriter', () => {
  const tensors = [
    { name: 'a', dtype: 'F32', shape: [2] },
    { name: 'b', dtype: 'F16', shape: [1] },
  ] as const;

  it('needs every byte, and takes none twice the size', async () => {
    await using writer = await createGgufWriter(at('a.gguf'), { tensors });
    await writer.write('b', new Uint8Array(2));
    await writer.write('a', Uint8Array.of(1, 2, 3, 4), 4);
    await expect(writer.complete()).rejects.toThrow('4 bytes of tensor "a" were written, which has 8');
    await expect(writer.write('a', new Uint8Array(5), 4)).rejects.toThrow(
      'bytes 4..9 of tensor "a" are not inside its 8',
    );
    await expect(writer.write('a', new Uint8Array(1), -1)).rejects.toThrow(InvalidArgumentError);
    await expect(writer.write('c', new Uint8Array(1))).rejects.toThrow('"c" is none of the tensors');
    expect(await readdir(folder)).toEqual(['a.gguf.fp4-partial', 'model']);
    await writer.write('a', new Uint8Array(4));
    await writer.complete();
    await writer.close();
    expect(await readdir(folder)).toEqual(['a.gguf', 'model']);
    const bytes = await readFile(at('a.gguf'));
    expect([...bytes.subarray(-64, -54)]).toEqual([0, 0, 0, 0, 1, 2, 3, 4, 0, 0]);
  });

  it('leaves nothing where it is not completed', async () => {
    const writer = await createGgufWriter(at('a.gguf'), { tensors });
    await writer.close();
    await writer.close();
    expect(await readdir(folder)).toEqual(['model']);
    await expect(createGgufWriter(at('model', 'x\0.gguf'), { tensors })).rejects.toThrow(CheckpointError);
  });
});
