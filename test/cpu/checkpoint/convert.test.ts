import { describe, expect, it } from 'vitest';
import { bytesSource } from '../../../src/checkpoint/byte-source.js';
import { planConversion } from '../../../src/checkpoint/convert.js';
import {
  ggufMetadata,
  ggufMetadataFile,
  safetensorsMetadata,
} from '../../../src/checkpoint/convert-metadata.js';
import { openGguf } from '../../../src/checkpoint/gguf.js';
import type { FloatMatrix } from '../../../src/checkpoint/matrix-source.js';
import { type Checkpoint, openCheckpoint } from '../../../src/checkpoint/open.js';
import {
  type GgufTensorHeader,
  type GgufValue,
  layoutGguf,
  writeGguf,
} from '../../../src/checkpoint/write-gguf.js';
import { layoutSafetensors, type TensorHeader } from '../../../src/checkpoint/write-safetensors.js';
import { type Convention, tensorsAs, WRITERS } from '../../../src/checkpoint/writers/index.js';
import { UnsupportedError } from '../../../src/errors.js';
import type { QuantizedMatrix } from '../../../src/matrix/quantized-matrix.js';
import { bf16, type FileTensors, f32, safetensorsFile, u8 } from '../../support/checkpoint-files.js';
import {
  comfy,
  ctNvfp4,
  deepSeek,
  FIXTURES,
  fileOf,
  gptOss,
  mlx,
  modelOptNvfp4,
  ours,
  randomLogical,
  torchAo,
  weightScaleMxfp4,
} from '../../support/checkpoint-producers.js';
import { SPLIT_1, SPLIT_2, WHOLE } from '../../support/gguf-samples.js';

const CONVENTIONS = Object.keys(WRITERS) as Convention[];

/** A conversion carried out in memory; every byte that is no header is seen to be written once. */
async function convert(
  source: Checkpoint | Uint8Array<ArrayBuffer>,
  to: Convention,
  metadata?: ReadonlyMap<string, GgufValue>,
): Promise<Uint8Array<ArrayBuffer>> {
  const checkpoint = source instanceof Uint8Array ? await openCheckpoint(source) : source;
  const { steps } = await planConversion(checkpoint, to);
  const headers = steps.flatMap(({ tensors }) => tensors);
  const { header, byteLength, ranges } =
    to === 'gguf'
      ? layoutGguf(headers as GgufTensorHeader[], metadata)
      : layoutSafetensors(headers as TensorHeader[], safetensorsMetadata(checkpoint));
  const file = new Uint8Array(byteLength);
  const written = new Uint8Array(byteLength);
  file.set(header);
  for (const step of steps) {
    const own = new Set(step.tensors.map(({ name }) => name));
    await step.run(async (tensor, bytes, offset) => {
      expect(own).toContain(tensor);
      const at = ranges.get(tensor)!.start + offset;
      expect(at + bytes.length).toBeLessThanOrEqual(ranges.get(tensor)!.end);
      file.set(bytes, at);
      for (let i = at; i < at + bytes.length; i++) written[i]!++;
    });
  }
  for (const { start, end } of ranges.values()) {
    expect(written.subarray(start, end).every((count) => count === 1)).toBe(true);
  }
  return file;
}

/** All FP4 matrices, experts one by one, in the order of their names. */
async function allMatrices(file: Uint8Array<ArrayBuffer>): Promise<QuantizedMatrix[]> {
  const checkpoint = await openCheckpoint(file);
  expect(checkpoint.refused).toEqual([]);
  const fp4 = checkpoint.matrices.filter(({ producer }) => producer !== 'float');
  const sorted = fp4.toSorted((a, b) => a.name.localeCompare(b.name, 'en', { numeric: true }));
  const matrices: QuantizedMatrix[] = [];
  for (const { name, experts } of sorted) {
    for (let i = 0; i < (experts ?? 1); i++) {
      const options = experts === undefined ? {} : { expert: i };
      matrices.push((await checkpoint.matrix(name, options)) as QuantizedMatrix);
    }
  }
  return matrices;
}

const messageOf = (promise: Promise<unknown>): Promise<string> =>
  promise.then(
    () => expect.unreachable('it is converted'),
    (error: unknown) => {
      expect(error).toBeInstanceOf(UnsupportedError);
      return (error as Error).message;
    },
  );

/** What the conventions cannot hold, by the fixture. */
const CANNOT: Readonly<Record<Convention, RegExp>> = {
  'fp4-webgpu': /^$/,
  'compressed-tensors': /MBS|mxfp4 16|rotated/,
  'gpt-oss': /nvfp4|ModelOpt experts|ComfyUI|TorchAO experts|MBS|mxfp4 16|rotated/i,
  // Four blocks of 16 make one of NVFP4.
  gguf: /MBS|mxfp4 16|rotated|nvfp4|ModelOpt experts|ComfyUI|TorchAO experts/i,
};

describe.each(Object.entries(FIXTURES))('%s', (title, make) => {
  const fixture = make();
  const source = fileOf(fixture);

  it('has a header that is the matrix without its arrays', async () => {
    const { header, matrix } = await openCheckpoint(source);
    const experts = Array.isArray(fixture.logical) ? fixture.logical.length : undefined;
    for (let i = 0; i < (experts ?? 1); i++) {
      const options = experts === undefined ? {} : { expert: i };
      const q = (await matrix(fixture.matrix, options)) as QuantizedMatrix;
      const { codes: _, scales: __, macroScales: ___, ...expected } = q;
      expect(await header(fixture.matrix, options)).toEqual(expected);
    }
  });

  it.each(CONVENTIONS)('as %s keeps codes and scales', async (to) => {
    if (CANNOT[to].test(title)) {
      expect(await messageOf(convert(source, to))).toContain(`cannot be written as ${to}`);
      return;
    }
    const file = await convert(source, to);
    expect(await allMatrices(file)).toEqual(await allMatrices(source));
    const { matrices } = await openCheckpoint(file);
    for (const { producer } of matrices) expect([to, 'float']).toContain(producer);
  });

  it.each(CONVENTIONS.flatMap((a) => CONVENTIONS.map((b) => [a, b] as const)))(
    'as %s, from there as %s and back is the same',
    async (a, b) => {
      if (CANNOT[a].test(title) || CANNOT[b].test(title)) return;
      const first = await convert(source, a);
      const back = await convert(await convert(first, b), a);
      expect(await allMatrices(back)).toEqual(await allMatrices(first));
      // compressed-tensors gives other names to matrices that are no module's weight, and takes experts apart.
      const { matrix: name } = fixture;
      const returns = Array.isArray(fixture.logical)
        ? a === 'gpt-oss' && /\.experts\.\w+$/.test(name)
        : name.endsWith('.weight');
      // GGUF files have tensors in the order of the source.
      if (a !== 'gguf' && (b !== 'compressed-tensors' || returns)) expect(back).toEqual(first);
    },
  );
});

const many = (count: number, make: (seed: number) => ReturnType<typeof randomLogical>) =>
  Array.from({ length: count }, (_, i) => make(i + 1));

/** Several fixtures' tensors in a file, with more. */
const model = (tensors: FileTensors, ...fixtures: { tensors: FileTensors }[]) =>
  safetensorsFile(Object.assign({}, tensors, ...fixtures.map((fixture) => fixture.tensors)));

const KEPT = {
  'model.norm.weight': bf16([3], [1, 2, 3]),
  'model.embed_tokens.weight': f32([2, 3], [1, 2, 3, 4, 5, 6]),
  'model.ids': { dtype: 'I64', shape: [2], bytes: Uint8Array.from({ length: 16 }, (_, i) => i) },
  'a.input_scale': f32([], [0.5]),
} satisfies FileTensors;

describe('a model', () => {
  const wide = randomLogical('nvfp4', 4, 128, 3);
  const source = model(KEPT, modelOptNvfp4(wide), weightScaleMxfp4(randomLogical('mxfp4', 4, 96, 4)));

  it.each(['fp4-webgpu', 'compressed-tensors', 'gguf'] as const)(
    'as %s keeps all other tensors',
    async (to) => {
      const before = await openCheckpoint(source);
      const after = await openCheckpoint(await convert(source, to));
      for (const name of [...Object.keys(KEPT), 'model.layers.0.mlp.down_proj.input_scale']) {
        const [a, b] = [before, after].map((checkpoint) => checkpoint.tensors.find((t) => t.name === name)!);
        expect(b).toMatchObject({ name, dtype: a!.dtype, shape: a!.shape });
        expect(await after.read(b!)).toEqual(await before.read(a!));
      }
      const embedding = (await after.matrix('model.embed_tokens.weight')) as FloatMatrix;
      expect([...embedding.values]).toEqual([1, 2, 3, 4, 5, 6]);
    },
  );

  it('says what it will do before it does', async () => {
    const { steps, matrices, floats, to } = await planConversion(
      await openCheckpoint(source),
      'compressed-tensors',
    );
    expect(to).toBe('compressed-tensors');
    expect([...matrices]).toEqual([
      ['model.layers.0.mlp.down_proj.weight', 'nvfp4'],
      ['model.layers.1.mlp.up_proj.weight', 'mxfp4'],
    ]);
    expect(floats).toEqual(['model.embed_tokens.weight']);
    expect(steps.map(({ matrix, bytes }) => [matrix, bytes])).toEqual([
      [undefined, 6],
      [undefined, 24],
      [undefined, 16],
      [undefined, 4],
      [undefined, 4],
      ['model.layers.0.mlp.down_proj.weight', 256 + 32 + 4],
      ['model.layers.1.mlp.up_proj.weight', 192 + 12],
    ]);
  });

  it('experts that are alone become one stack of gpt-oss, those that differ do not', async () => {
    const experts = many(3, (seed) => randomLogical('mxfp4', 4, 64, seed));
    const rename = (tensors: FileTensors, to: string) =>
      Object.fromEntries(
        Object.entries(tensors).map(([name, t]) => [name.replace('layers.3.ffn.experts.7.w2', to), t]),
      );
    const alike = experts.map((logical, i) => ({
      tensors: rename(deepSeek(logical).tensors, `layers.3.ffn.experts.${i}.w2`),
    }));
    const unlike = [64, 32].map((cols, i) => ({
      tensors: rename(deepSeek(randomLogical('mxfp4', 2, cols, 9)).tensors, `layers.3.ffn.experts.${i}.w1`),
    }));
    const file = await convert(model({}, ...alike.toReversed(), ...unlike), 'gpt-oss');
    const { matrices, matrix } = await openCheckpoint(file);
    expect(matrices.map(({ name, experts: count }) => [name, count]).toSorted()).toEqual([
      ['layers.3.ffn.experts.0.w1.weight', undefined],
      ['layers.3.ffn.experts.1.w1.weight', undefined],
      ['layers.3.ffn.experts.w2', 3],
    ]);
    for (const [expert, logical] of experts.entries()) {
      const alone = await openCheckpoint(fileOf(deepSeek(logical)));
      expect(await matrix('layers.3.ffn.experts.w2', { expert })).toEqual(
        await alone.matrix('layers.3.ffn.experts.7.w2.weight'),
      );
    }
  });
});

describe('what is refused, before anything is written', () => {
  it('every matrix that the convention cannot hold, with its reasons', async () => {
    const source = model(
      KEPT,
      ours(randomLogical('mxfp4', 2, 64, 1), { macroSize: 32, hadamard: true }),
      modelOptNvfp4(randomLogical('nvfp4', 2, 48, 1)),
    );
    expect(await messageOf(convert(source, 'gguf'))).toBe(
      `convert: bytes: 3 of its matrices or tensors cannot be written as gguf; nothing is written:
  "w": GGUF has no Macro Block Scaling factors
  "w": GGUF cannot say that values are rotated (hadamard)
  "model.layers.0.mlp.down_proj.weight": GGUF has NVFP4 in blocks of 64; 48 columns are no multiple`,
    );
  });

  it('lists twenty', async () => {
    const matrices = many(25, (seed) => randomLogical('nvfp4', 1, 64, seed)).map((logical, i) => ({
      tensors: Object.fromEntries(
        Object.entries(modelOptNvfp4(logical).tensors).map(([name, t]) => [name.replace('.0.', `.${i}.`), t]),
      ),
    }));
    const message = await messageOf(convert(model({}, ...matrices), 'gpt-oss'));
    expect(message.split('\n')).toHaveLength(22);
    expect(message).toMatch(/: 25 of its matrices .*\n {2}and 5 more$/s);
  });

  it('a tensor scale without a divisor', async () => {
    const logical = { ...randomLogical('nvfp4', 2, 64, 1), globalScale: 2 - 2 ** -23 };
    expect(await messageOf(convert(fileOf(modelOptNvfp4(logical)), 'compressed-tensors'))).toContain(
      'no f32 has the tensor scale 1.9999998807907104 as its reciprocal',
    );
    // Read as a divisor, it has one.
    const { tensors } = ctNvfp4(randomLogical('nvfp4', 2, 64, 1));
    const stored = safetensorsFile({
      ...tensors,
      'model.layers.0.self_attn.q_proj.weight_global_scale': f32([1], [1.7]),
    });
    const [q] = await allMatrices(stored);
    expect(await allMatrices(await convert(stored, 'compressed-tensors'))).toEqual([q]);
  });

  it('matrices that cannot be loaded, but for F8 with scales, which is kept', async () => {
    const broken = { ...modelOptNvfp4(randomLogical('nvfp4', 2, 64, 1)).tensors };
    broken['model.layers.0.mlp.down_proj.pre_quant_scale'] = f32([64], new Array(64).fill(1));
    expect(await messageOf(convert(safetensorsFile(broken), 'fp4-webgpu'))).toContain('(AWQ)');
    const scaled = {
      'f.weight': { dtype: 'F8_E4M3', shape: [2, 2], bytes: Uint8Array.of(1, 2, 3, 4) },
      'f.weight_scale_inv': f32([1, 1], [2]),
    };
    const after = await openCheckpoint(
      await convert(model(scaled, deepSeek(randomLogical('mxfp4', 4, 96, 7))), 'compressed-tensors'),
    );
    expect(after.tensors.filter(({ name }) => name.startsWith('f.')).map(({ dtype }) => dtype)).toEqual([
      'F32',
      'F8_E4M3',
    ]);
    expect(after.refused.map(({ name, producer }) => [name, producer])).toEqual([['f.weight', 'float']]);
  });

  it('tensors that GGUF has no type, no dimensions or no name for', async () => {
    const long = 'x'.repeat(64);
    const source = model(
      {
        ...KEPT,
        bytes: u8([2], [1, 2]),
        empty: f32([0], []),
        five: f32([1, 1, 1, 1, 1], [1]),
        [long]: f32([1], [1]),
      },
      mlx(randomLogical('mxfp4', 2, 64, 1)),
    );
    const message = await messageOf(convert(source, 'gguf'));
    expect(message).toContain('tensor "bytes": "U8" is no type of GGUF');
    expect(message).toContain('tensor "empty": shape [0] is not all positive integers');
    expect(message).toContain('tensor "five": 5 dimensions');
    expect(message).toContain(`takes 64 bytes; the limit is 63`);
    expect(message.split('\n')).toHaveLength(5);
  });

  it("GGUF's other quantized types, but to GGUF", async () => {
    const q8 = {
      name: 'q.weight',
      dtype: 'Q8_0',
      shape: [1, 32],
      bytes: new Uint8Array(34).fill(7),
    } as const;
    const file = writeGguf([q8]);
    expect(await messageOf(convert(file, 'fp4-webgpu'))).toContain('"Q8_0" is unknown');
    expect(await convert(file, 'gguf')).toEqual(file);
  });

  it('a tensor that would be taken for a part of a matrix', async () => {
    const quark = weightScaleMxfp4(randomLogical('mxfp4', 2, 32, 1));
    const message = await messageOf(
      convert(model({ 'model.layers.1.mlp.up_proj.scale': f32([1], [2]) }, quark), 'gguf'),
    );
    expect(message).toContain('"model.layers.1.mlp.up_proj.weight" would not be read as it is written');
    const modelOpt = modelOptNvfp4(randomLogical('nvfp4', 2, 64, 1));
    expect(
      await messageOf(
        convert(model({ 'model.layers.0.mlp.down_proj.scale': f32([1], [2]) }, modelOpt), 'gguf'),
      ),
    ).toContain('tensor "model.layers.0.mlp.down_proj.scale" would be there twice');
  });

  it('more experts than models have', async () => {
    const shape = [65537, 1, 1];
    const tensors = {
      x_blocks: u8([...shape, 16], new Uint8Array(65537 * 16)),
      x_scales: u8(shape, new Uint8Array(65537)),
    };
    expect(await messageOf(convert(safetensorsFile(tensors), 'fp4-webgpu'))).toContain(
      '"x": 65537 experts; up to 65536 are converted',
    );
  });

  it('an abort', async () => {
    const checkpoint = await openCheckpoint(fileOf(gptOss([randomLogical('mxfp4', 2, 32, 1)])));
    await expect(planConversion(checkpoint, 'gguf', { signal: AbortSignal.abort() })).rejects.toThrow(
      'abort',
    );
    const { steps } = await planConversion(checkpoint, 'gguf');
    const run = steps.at(-1)!.run(async () => expect.unreachable(), { signal: AbortSignal.abort() });
    await expect(run).rejects.toThrow('abort');
  });
});

describe('metadata', () => {
  it('of GGUF is kept with its types, by safetensors and a file beside them', async () => {
    const source = await openCheckpoint(WHOLE);
    const values = await ggufMetadata(source, undefined, 'unused');
    const direct = await convert(source, 'gguf', values);
    // NVFP4 without a tensor scale gets the one that it has meant.
    const q = (await source.matrix('nv.weight')) as QuantizedMatrix;
    expect(q.globalScale).toBe(1);
    const copies = await openCheckpoint(direct);
    expect(copies.tensors.map(({ name }) => name)).toEqual(['norm', 'mx.weight', 'nv.weight', 'nv.scale']);
    expect([...copies.metadata]).toEqual([...source.metadata]);
    for (const key of source.metadata.keys()) {
      expect(await copies.storedValue!(key)).toEqual(await source.storedValue!(key));
    }

    const own = await openCheckpoint(await convert(source, 'fp4-webgpu'));
    const beside = await openGguf([bytesSource(await ggufMetadataFile(source))]);
    const back = await openCheckpoint(await convert(own, 'gguf', await ggufMetadata(own, beside, 'unused')));
    expect([...back.metadata]).toEqual([...source.metadata, ['safetensors.format', 'pt']]);
    for (const key of source.metadata.keys()) {
      expect(await back.storedValue!(key)).toEqual(await source.storedValue!(key));
    }
  });

  it('of a split is that of one file', async () => {
    const split = await openCheckpoint(new File([SPLIT_1], 'a-00001-of-00002.gguf'), {
      open: async () => bytesSource(SPLIT_2),
    });
    const values = await ggufMetadata(split, undefined, 'unused');
    expect([...values.keys()]).toEqual(['general.architecture', 'demo.u32']);
    const whole = await openCheckpoint(await convert(split, 'gguf', values));
    expect(whole.tensors.map(({ name }) => name)).toEqual(['norm', 'mx.weight', 'nv.weight', 'nv.scale']);
  });

  it('of an alignment that is not the usual one', async () => {
    const file = writeGguf([], {
      'general.alignment': { type: 'u32', value: 64 },
      a: { type: 'u8', value: 1 },
    });
    const checkpoint = await openCheckpoint(file);
    expect(await convert(checkpoint, 'gguf', await ggufMetadata(checkpoint, undefined, 'x'))).toEqual(file);
    expect(await ggufMetadataFile(checkpoint)).toEqual(file);
  });

  it('of safetensors goes to GGUF and back; descriptions of how matrices are stored do not', async () => {
    const fixtures = [
      comfy(randomLogical('nvfp4', 16, 64, 1), 'metadata'),
      torchAo(randomLogical('mxfp4', 4, 64, 2), false),
    ];
    const source = safetensorsFile(
      Object.assign({}, ...fixtures.map(({ tensors }) => tensors)),
      Object.assign({ author: 'a "name"', format: 'np' }, ...fixtures.map((fixture) => fixture.metadata)),
    );
    const checkpoint = await openCheckpoint(source);
    const gguf = await convert(checkpoint, 'gguf', await ggufMetadata(checkpoint, undefined, 'llama'));
    const there = await openCheckpoint(gguf);
    expect([...there.metadata]).toEqual([
      ['general.architecture', 'llama'],
      ['general.quantization_version', '2'],
      ['safetensors.author', 'a "name"'],
      ['safetensors.format', 'np'],
    ]);
    expect([...safetensorsMetadata(there)]).toEqual([
      ['author', 'a "name"'],
      ['format', 'pt'],
    ]);
    expect([...(await openGguf([bytesSource(await ggufMetadataFile(there))])).metadata.keys()]).toEqual([
      'general.architecture',
      'general.quantization_version',
    ]);
  });
});

it('writes matrices of one that is in memory like those of a file', async () => {
  const [q] = await allMatrices(fileOf(FIXTURES['MLX mxfp4']!()));
  const file = await convert(fileOf(FIXTURES['MLX mxfp4']!()), 'gpt-oss');
  const { tensors, read } = await openCheckpoint(file);
  for (const { name, bytes } of tensorsAs('gpt-oss', 'model.layers.0.self_attn.o_proj.weight', q!)) {
    expect(await read(tensors.find((t) => t.name === name)!)).toEqual(bytes);
  }
});
