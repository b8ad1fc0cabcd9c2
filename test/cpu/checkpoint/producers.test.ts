import { describe, expect, it } from 'vitest';
import type { FloatMatrix } from '../../../src/checkpoint/matrix-source.js';
import { openCheckpoint } from '../../../src/checkpoint/open.js';
import { matrixHeaders, matrixParts } from '../../../src/checkpoint/producers/canonical.js';
import { layoutSafetensors, writeSafetensors } from '../../../src/checkpoint/write-safetensors.js';
import { tensorsAs } from '../../../src/checkpoint/writers/index.js';
import {
  CheckpointError,
  type Fp4Error,
  InvalidArgumentError,
  UnsupportedError,
} from '../../../src/errors.js';
import {
  decodeMatrixF64,
  type QuantizedMatrix,
  selectRows,
  validateMatrix,
} from '../../../src/matrix/quantized-matrix.js';
import { quantize } from '../../../src/quantize/quantize.js';
import { Random } from '../../../src/random.js';
import {
  bf16,
  e4m3,
  e8m0,
  type FileTensor,
  type FileTensors,
  f32,
  i8,
  safetensorsFile,
  text,
  u8,
  u32,
} from '../../support/checkpoint-files.js';
import * as stored from '../../support/checkpoint-producers.js';
import {
  expectedMatrix,
  FIXTURES,
  type Fixture,
  fileOf,
  type Logical,
  logicalValue,
  randomLogical,
} from '../../support/checkpoint-producers.js';

const load = async (fixture: Fixture, expert?: number) => {
  const checkpoint = await openCheckpoint(fileOf(fixture));
  return (await checkpoint.matrix(fixture.matrix, { expert })) as QuantizedMatrix;
};

/** The typed error that the matrix of a fixture ends in. */
async function errorOf(fixture: Fixture, expert?: number): Promise<Fp4Error> {
  const error = await load(fixture, expert).then(
    () => expect.unreachable('it loads'),
    (e: Fp4Error) => e,
  );
  expect(error.module).toBe('checkpoint');
  return error;
}

const expectRefused = async (fixture: Fixture, message: string, expert?: number) => {
  const error = await errorOf(fixture, expert);
  expect(error.message).toContain(message);
  expect(error).toBeInstanceOf(UnsupportedError);
};

const expectBroken = async (fixture: Fixture, message: string, expert?: number) => {
  const error = await errorOf(fixture, expert);
  expect(error.message).toContain(message);
  expect(error).toBeInstanceOf(CheckpointError);
};

/** The fixture with tensors changed, added, or (undefined) left out. */
function change(fixture: Fixture, tensors: Record<string, FileTensor | undefined>): Fixture {
  const changed = Object.entries({ ...fixture.tensors, ...tensors }).filter(([, tensor]) => tensor);
  return { ...fixture, tensors: Object.fromEntries(changed) as FileTensors };
}

const firstExpert = ({ logical }: Fixture) => (Array.isArray(logical) ? 0 : undefined);

describe.each(Object.entries(FIXTURES))('%s', (_, make) => {
  const fixture = make();
  const all = [fixture.logical].flat();

  it('is listed from headers', async () => {
    const { matrices, refused } = await openCheckpoint(fileOf(fixture));
    expect(refused).toEqual([]);
    const info = matrices.find(({ name }) => name === fixture.matrix)!;
    const { format, blockSize, codes } = all[0]!;
    expect(info).toMatchObject({
      producer: fixture.producer,
      format,
      blockSize,
      shape: [codes.length, codes[0]!.length],
      experts: Array.isArray(fixture.logical) ? all.length : undefined,
    });
    const macroBits = fixture.extra?.macroSize ? 8 / fixture.extra.macroSize : 0;
    expect(info.bitsPerWeight).toBe(4 + 8 / blockSize + macroBits);
    // Nothing else is taken for a matrix but a bias an expert.
    expect(matrices.filter(({ name, producer }) => name !== fixture.matrix && producer !== 'float')).toEqual(
      [],
    );
    for (const { name } of matrices) if (name !== fixture.matrix) expect(name).toMatch(/bias$/);
  });

  it('loads as the codes and scales that were stored', async () => {
    for (const [expert, logical] of all.entries()) {
      const q = await load(fixture, Array.isArray(fixture.logical) ? expert : undefined);
      expect(q).toEqual(expectedMatrix(logical, fixture.extra));
      validateMatrix(q);
      if (q.macroScales || fixture.extra?.globalScale) continue;
      const values = decodeMatrixF64(q);
      for (let row = 0; row < q.rows; row++) {
        for (let col = 0; col < q.cols; col++) {
          const value = values[row * q.cols + col]!;
          if (!Object.is(value, logicalValue(logical, row, col))) {
            expect.unreachable(`[${row}, ${col}] is ${value}, not ${logicalValue(logical, row, col)}`);
          }
        }
      }
    }
  });
});

describe('traps', () => {
  it('gpt-oss: gate and up rows stay interleaved, K has a tail', async () => {
    // Even rows are all 1 (code 2), odd rows all 2 (code 4).
    const logical: Logical = {
      ...randomLogical('mxfp4', 4, 96, 1, { scales: [127, 127] }),
      codes: [2, 4, 2, 4].map((code) => new Array(96).fill(code)),
    };
    const values = decodeMatrixF64(await load(stored.gptOss([logical]), 0));
    expect([0, 96, 192, 288].map((at) => values[at])).toEqual([1, 2, 1, 2]);
  });

  it('gpt-oss: random checkpoints with scale bytes 0 to 3 keep their tiny values', async () => {
    const q = await load(FIXTURES['gpt-oss, tiny scales']!(), 1);
    expect(Math.max(...q.scales)).toBeLessThan(4);
    const largest = decodeMatrixF64(q).reduce((max, x) => Math.max(max, Math.abs(x)), 0);
    expect(largest).toBeLessThanOrEqual(6 * 2 ** -124);
    expect(largest).toBeGreaterThan(0);
  });

  it('scale byte 255 is an error in every MXFP4 convention', async () => {
    const broken = randomLogical('mxfp4', 4, 96, 1);
    broken.scales[2]![1] = 255;
    for (const make of [stored.ctMxfp4, stored.weightScaleMxfp4, stored.mlx, stored.deepSeek, stored.ours]) {
      await expectBroken(make(broken), 'scale byte 255 at row 2, block 1 is NaN in E8M0');
    }
    await expectBroken(stored.gptOss([broken]), 'scale byte 255', 0);
    await expectBroken(stored.torchAo(broken, true), 'scale byte 255');
  });

  it('another expert with byte 255 does not matter', async () => {
    const broken = randomLogical('mxfp4', 4, 96, 1);
    broken.scales[0]![0] = 255;
    const good = randomLogical('mxfp4', 4, 96, 2);
    expect(await load(stored.gptOss([broken, good]), 1)).toEqual(expectedMatrix(good));
  });

  it('NaN and negative E4M3 scales are errors in every NVFP4 convention', async () => {
    for (const [byte, what] of [
      [0x7f, 'NaN'],
      [0xff, 'NaN'],
      [0x80, 'negative'],
      [0xc4, 'negative'],
    ] as const) {
      const broken = randomLogical('nvfp4', 16, 48, 1);
      broken.scales[3]![2] = byte;
      const message = `scale byte ${byte} at row 3, block 2 is ${what} in E4M3`;
      for (const make of [stored.ctNvfp4, stored.modelOptNvfp4, stored.mlx, stored.ours, stored.comfy]) {
        await expectBroken(make(broken), message);
      }
      await expectBroken(stored.modelOptExperts([broken]), message, 0);
      await expectBroken(stored.torchAo(broken, true), message);
    }
  });

  it('global scales that are not positive and finite are errors', async () => {
    const logical = randomLogical('nvfp4', 16, 48, 1);
    for (const bad of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      const broken = { ...logical, globalScale: bad };
      for (const make of [stored.modelOptNvfp4, stored.ours, stored.comfy]) {
        await expectBroken(make(broken), `global scale ${bad} is not positive and finite`);
      }
    }
    const ct = stored.ctNvfp4(logical);
    const globalName = 'model.layers.0.self_attn.q_proj.weight_global_scale';
    for (const bad of [0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
      await expectBroken(change(ct, { [globalName]: f32([1], [bad]) }), 'is not positive and finite');
    }
    // Each expert has its own.
    const experts = stored.modelOptExperts([{ ...logical, globalScale: 0 }, logical]);
    await expectBroken(experts, 'global scale 0', 0);
    expect((await load(experts, 1)).globalScale).toBe(logical.globalScale);
  });

  it('compressed-tensors: the global scale divides; ModelOpt: it multiplies', async () => {
    const logical: Logical = { ...randomLogical('nvfp4', 2, 32, 1), globalScale: 2 ** -9 };
    const divided = stored.ctNvfp4(logical);
    const multiplied = stored.modelOptNvfp4(logical);
    expect(divided.tensors['model.layers.0.self_attn.q_proj.weight_global_scale']).toEqual(f32([1], [512]));
    expect(multiplied.tensors['model.layers.0.mlp.down_proj.weight_scale_2']).toEqual(f32([], [1 / 512]));
    expect((await load(divided)).globalScale).toBe(1 / 512);
    expect((await load(multiplied)).globalScale).toBe(1 / 512);
  });

  it('compressed-tensors: q and k with other global scales stay apart', async () => {
    const q = stored.ctNvfp4({ ...randomLogical('nvfp4', 2, 32, 1), globalScale: 2 ** -9 });
    const k = Object.fromEntries(
      Object.entries(
        stored.ctNvfp4({ ...randomLogical('nvfp4', 2, 32, 2), globalScale: 2 ** -8 }).tensors,
      ).map(([name, tensor]) => [name.replace('q_proj', 'k_proj'), tensor]),
    );
    const both = change(q, k);
    expect((await load(both)).globalScale).toBe(2 ** -9);
    expect((await load({ ...both, matrix: q.matrix.replace('q_proj', 'k_proj') })).globalScale).toBe(2 ** -8);
  });

  it('ModelOpt: zeros stored as -0 stay code 8', async () => {
    const logical: Logical = { ...randomLogical('mxfp4', 1, 32, 1), codes: [new Array(32).fill(8)] };
    const q = await load(stored.weightScaleMxfp4(logical));
    expect([...q.codes]).toEqual(new Array(16).fill(0x88));
    expect(Object.is(decodeMatrixF64(q)[0], -0)).toBe(true);
  });

  it('ModelOpt: experts with one global scale, experts not transposed', async () => {
    const all = [1, 2].map((seed) => ({ ...randomLogical('nvfp4', 10, 48, seed), globalScale: 0.25 }));
    expect(await load(stored.modelOptExperts(all, false), 1)).toEqual(expectedMatrix(all[1]!));
    // 24 rows of 48 values: byte shape [2, 24, 24] is square; the scales tell the order.
    const square = [3, 4].map((seed) => randomLogical('nvfp4', 24, 48, seed));
    const transposed = stored.modelOptExperts(square);
    expect(transposed.tensors[transposed.matrix]!.shape).toEqual([2, 24, 24]);
    expect(await load(transposed, 1)).toEqual(expectedMatrix(square[1]!));
    const plain = change(transposed, {
      [transposed.matrix]: u8(
        [2, 24, 24],
        square.flatMap((one) => [...expectedMatrix(one).codes]),
      ),
      [`${transposed.matrix}_weight_scale`]: e4m3(
        [2, 24, 3],
        square.flatMap(({ scales }) => scales.flat()),
      ),
    });
    expect(await load(plain, 1)).toEqual(expectedMatrix(square[1]!));
  });

  it('MLX: the first code is in the lowest bits of a word', async () => {
    const codes = [1, 2, 3, 4, 5, 6, 7, 8, ...new Array(24).fill(0)];
    const fixture = stored.mlx({ ...randomLogical('mxfp4', 1, 32, 1), codes: [codes] });
    expect(fixture.tensors[fixture.matrix]).toEqual(u32([1, 4], [0x87654321, 0, 0, 0]));
    expect([...(await load(fixture)).codes.subarray(0, 4)]).toEqual([0x21, 0x43, 0x65, 0x87]);
  });

  it('MLX: a global scale would be amax', async () => {
    const logical = { ...randomLogical('nvfp4', 2, 32, 1), globalScale: 2 ** -9 };
    const fixture = change(stored.mlx(logical), {
      'model.layers.0.self_attn.o_proj.global_scale': f32([1], [5.25]),
    });
    expect(await load(fixture)).toEqual(expectedMatrix(logical));
  });

  it('MLX: affine integers and 8-bit modes are not FP4', async () => {
    const fixture = stored.mlx(randomLogical('mxfp4', 3, 96, 5));
    const module = 'model.layers.0.self_attn.o_proj';
    const affine = {
      [`${module}.scales`]: bf16([3, 3], new Array(9).fill(1)),
      [`${module}.biases`]: bf16([3, 3], new Array(9).fill(1)),
    };
    await expectRefused(change(fixture, affine), 'affine integers, not FP4');
    const mxfp8 = { [`${module}.weight`]: u32([3, 24], new Array(72).fill(0)) };
    await expectRefused(change(fixture, mxfp8), 'neither mxfp4, one per 32, nor nvfp4, one per 16');
  });

  it('ComfyUI and ModelOpt have the same names and other bytes', async () => {
    // 128 rows and 4 blocks: no padding, so that even the shapes are the same.
    const logical = randomLogical('nvfp4', 128, 64, 1);
    const marked = stored.comfy(logical);
    const unmarked = stored.comfy(logical, 'none');
    expect(await load(marked)).toEqual(expectedMatrix(logical));
    const misread = await load(unmarked);
    expect(misread.codes).not.toEqual(expectedMatrix(logical).codes);
    const layer = 'diffusion_model.blocks.0.attn.qkv';
    const other = {
      'other.weight': unmarked.tensors[`${layer}.weight`],
      'other.weight_scale': unmarked.tensors[`${layer}.weight_scale`],
      'other.weight_scale_2': unmarked.tensors[`${layer}.weight_scale_2`],
    };
    await expectRefused({ ...change(marked, other), matrix: 'other.weight' }, 'could be in either order');
    const listed = stored.comfy(logical, 'metadata');
    await expectRefused({ ...change(listed, other), matrix: 'other.weight' }, 'could be in either order');
    // Without marks, padding gives it away.
    await expectBroken(
      stored.comfy(randomLogical('nvfp4', 16, 48, 1), 'none'),
      'need scales of [16, 3], one per 16',
    );
  });

  it('ComfyUI: marks of another format, with a rotation, or broken', async () => {
    const fixture = stored.comfy(randomLogical('nvfp4', 16, 48, 1));
    const name = 'diffusion_model.blocks.0.attn.qkv.comfy_quant';
    const refused = [
      ['{"format": "mxfp8"}', '"mxfp8", not "nvfp4"'],
      ['{}', 'says format nothing'],
      ['{"format": "nvfp4", "convrot": true}', 'rotated'],
    ];
    for (const [mark, message] of refused)
      await expectRefused(change(fixture, { [name]: text(mark!) }), message!);
    for (const mark of ['', '[]', '{"format": nvfp4}', '"nvfp4"']) {
      await expectBroken(change(fixture, { [name]: text(mark) }), '(comfyui)');
    }
    await expectBroken(change(fixture, { [name]: u8([2], [0xff, 0xfe]) }), 'not valid UTF-8');
    await expectBroken(change(fixture, { [name]: u8([70_000], new Uint8Array(70_000)) }), 'has 70000 bytes');
    await expectBroken(change(fixture, { [name]: f32([1], [1]) }), 'it must be U8');
    const listed = stored.comfy(randomLogical('nvfp4', 16, 48, 1), 'metadata');
    await expectBroken({ ...listed, metadata: { _quantization_metadata: '{' } }, '_quantization_metadata');
    const other = JSON.stringify({
      layers: { 'diffusion_model.blocks.0.attn.qkv': { format: 'float8_e4m3fn' } },
    });
    await expectRefused({ ...listed, metadata: { _quantization_metadata: other } }, 'not "nvfp4"');
  });

  it('ComfyUI: metadata is parsed once, however many matrices there are', async () => {
    // Once a matrix, a file of 5 MB would take minutes.
    const layers = Object.fromEntries(
      Array.from({ length: 20_000 }, (_, i) => [`l${i}`, { format: 'nvfp4' }]),
    );
    const tensors = Array.from({ length: 1000 }, (_, i) => [
      [`l${i}.weight`, u8([16, 8], new Uint8Array(128))],
      [`l${i}.weight_scale`, e4m3([128, 4], new Uint8Array(512))],
      [`l${i}.weight_scale_2`, f32([], [1])],
    ]).flat();
    const metadata = { _quantization_metadata: JSON.stringify({ layers }) };
    const file = safetensorsFile(Object.fromEntries(tensors) as FileTensors, metadata);
    const start = performance.now();
    const { matrices } = await openCheckpoint(file);
    expect(matrices.length).toBe(1000);
    // 0.1 s here; with one parse a matrix, 20 s.
    expect(performance.now() - start).toBeLessThan(4000);
  });

  it('TorchAO: without the metadata nothing says whether scales are swizzled', async () => {
    const { metadata, ...fixture } = stored.torchAo(randomLogical('nvfp4', 128, 64, 1), true);
    await expectRefused(fixture, 'no metadata says whether its scales are swizzled');
    const said = JSON.parse(metadata!['layers.0.proj.weight']!);
    const saying = (more: object, data: object = {}) => ({
      ...fixture,
      metadata: {
        'layers.0.proj.weight': JSON.stringify({ ...said, ...more, _data: { ...said._data, ...data } }),
      },
    });
    await expectRefused(saying({ _type: 'Float8Tensor' }), '"Float8Tensor", not NVFP4Tensor or MXTensor');
    await expectRefused(saying({}, { block_size: 32 }), 'block_size 32 of NVFP4Tensor');
    await expectRefused(saying({}, { block_size: undefined }), 'block_size nothing of NVFP4Tensor');
    await expectRefused(saying({ _type: null }), 'its metadata says null, not NVFP4Tensor');
    await expectBroken(saying({}, { is_swizzled_scales: 'yes' }), 'is_swizzled_scales is not true or false');
    await expectBroken(saying({}, { is_swizzled_scales: false }), 'need scales of [128, 4]');
    await expectBroken(
      saying({ _type: 'MXTensor' }, { block_size: 32, elem_dtype: 'fp4_e2m1' }),
      'it must be U8 or F8_E8M0',
    );
    await expectRefused(
      saying(
        { _type: 'MXTensor' },
        { block_size: 32, elem_dtype: { _type: 'torch.dtype', _data: 'float8_e4m3fn' } },
      ),
      'an MXTensor of "float8_e4m3fn"',
    );
    await expectBroken(
      { ...fixture, metadata: { 'layers.0.proj.weight': '{"_type": 1, "_type": 2}' } },
      'duplicate key',
    );
    const gone = change(
      { ...fixture, metadata: metadata! },
      { 'layers.0.proj._weight_per_tensor_scale': undefined },
    );
    await expectBroken(gone, '"layers.0.proj._weight_per_tensor_scale" is missing');
  });

  it('F4 as a dtype counts values, U8 bytes', async () => {
    const logical = randomLogical('nvfp4', 5, 48, 1);
    const fixture = stored.torchAo(logical, false);
    const name = 'layers.0.proj._weight_qdata';
    const asF4 = change(fixture, { [name]: { ...fixture.tensors[name]!, dtype: 'F4', shape: [5, 48] } });
    expect(await load(asF4)).toEqual(expectedMatrix(logical));
  });

  it('E5M3 scales and the 17-byte blocks of Quark are not taken for MXFP4', async () => {
    const fixture = stored.weightScaleMxfp4(randomLogical('mxfp4', 4, 96, 4));
    const e5m3 = change(fixture, { [`${fixture.matrix}_scale`]: u8([4, 6], new Array(24).fill(120)) });
    await expectRefused(e5m3, 'E5M3, it seems');
    const packed = stored.ctMxfp4(randomLogical('mxfp4', 4, 96, 4));
    const ue5m3 = change(packed, { [`${packed.matrix}_scale`]: u8([4, 6], new Array(24).fill(120)) });
    await expectRefused(ue5m3, 'E5M3, it seems');
    const { matrices, refused, matrix } = await openCheckpoint(
      safetensorsFile({ 'a.weight': u8([2, 34], new Array(68).fill(1)) }),
    );
    expect([matrices, refused]).toEqual([[], []]);
    await expect(matrix('a.weight')).rejects.toThrow('U8 [2, 34], is no matrix of a known convention');
  });
});

describe('refused by name', () => {
  it('pre_quant_scale (AWQ)', async () => {
    const modelOpt = stored.modelOptNvfp4(randomLogical('nvfp4', 2, 32, 1));
    const awq = (name: string) => ({ [name]: f32([32], new Array(32).fill(1)) });
    const layer = 'model.layers.0.mlp.down_proj';
    await expectRefused(change(modelOpt, awq(`${layer}.pre_quant_scale`)), 'AWQ');
    await expectRefused(change(modelOpt, awq(`${layer}.input_quantizer._pre_quant_scale`)), 'AWQ');
    const experts = stored.modelOptExperts([randomLogical('nvfp4', 2, 32, 1)]);
    await expectRefused(change(experts, awq(`${experts.matrix}_pre_quant_scale`)), 'AWQ', 0);
    const comfy = stored.comfy(randomLogical('nvfp4', 16, 32, 1));
    await expectRefused(change(comfy, awq('diffusion_model.blocks.0.attn.qkv.pre_quant_scale')), 'AWQ');
    const quark = stored.weightScaleMxfp4(randomLogical('mxfp4', 2, 32, 1));
    await expectRefused(change(quark, awq('model.layers.1.mlp.up_proj.pre_quant_scale')), 'AWQ');
  });

  it('weight_g_idx, weight_zero_point, packed integers', async () => {
    const fixture = stored.ctNvfp4(randomLogical('nvfp4', 2, 32, 1));
    const layer = 'model.layers.0.self_attn.q_proj';
    await expectRefused(
      change(fixture, { [`${layer}.weight_g_idx`]: u8([32], new Array(32).fill(0)) }),
      'weight_g_idx',
    );
    await expectRefused(
      change(fixture, { [`${layer}.weight_zero_point`]: u8([1], [0]) }),
      'weight_zero_point',
    );
    const int4: FileTensor = { dtype: 'I32', shape: [2, 4], bytes: new Uint8Array(32) };
    await expectRefused(
      change(fixture, { [`${layer}.weight_packed`]: int4 }),
      'integers (pack-quantized), not FP4',
    );
  });

  /** Opens a fixture with a config.json beside it. */
  const withConfig = (fixture: Fixture, config: object) =>
    openCheckpoint(fileOf(fixture), {
      open: async (name) => {
        expect(name).toBe('config.json');
        const { bytes } = text(JSON.stringify(config));
        return { name, byteLength: bytes.length, read: async (start, end) => bytes.slice(start, end) };
      },
    });
  const rotatable = {
    'compressed-tensors': stored.ctNvfp4(randomLogical('nvfp4', 2, 32, 1)),
    quark: stored.weightScaleMxfp4(randomLogical('mxfp4', 2, 32, 1)),
    modelopt: stored.modelOptNvfp4(randomLogical('nvfp4', 2, 32, 1)),
  };

  describe.each(Object.entries(rotatable))('rotations of x (%s)', (_, fixture) => {
    it.each([
      ['transform_config', { config_groups: { R4: { type: 'hadamard' } } }],
      ['algo_config', [{ name: 'awq' }, { name: 'rotation', r1: true, r4: true, online_r1_rotation: false }]],
      ['algo_config', { name: 'rotation', online_r1_rotation: true }],
      ['spinquant_config', { r1: true, r4: false, online_r1_rotation: true }],
      ['rotation_config', { hadamard_type: 'hadamard', block_size: 32 }],
    ])('by %s in config.json', async (key, rotation) => {
      for (const place of ['quantization_config', 'compression_config']) {
        const rotated = { [place]: { [key]: rotation } };
        for (const config of [rotated, { text_config: rotated }]) {
          const { matrices, refused, matrix } = await withConfig(fixture, config);
          expect([matrices.length, refused.length]).toEqual([0, 1]);
          expect(refused[0]!.error).toBeInstanceOf(UnsupportedError);
          await expect(matrix(fixture.matrix)).rejects.toThrow(`${place}.${key} in config.json`);
        }
      }
    });

    it.each([
      ['transform_config', null],
      ['transform_config', {}],
      ['transform_config', { config_groups: {} }],
      // Inside the weights, both of them.
      ['algo_config', [{ name: 'rotation', r1: true, r2: true, r4: false, online_r1_rotation: false }]],
      ['algo_config', [{ name: 'gptq', r4: true }]],
      ['algo_config', null],
      ['spinquant_config', { r1: true, r2: true }],
    ])('none by %s %j', async (key, value) => {
      const { matrices } = await withConfig(fixture, {
        quantization_config: { [key]: value },
        rope_theta: 1e6,
      });
      expect(matrices.length).toBe(1);
    });

    it.each(['input_rotation', 'spinquant_r1_type', 'spinquant_r4_type'])(
      'by %s beside it',
      async (suffix) => {
        const layer = fixture.matrix.slice(0, -'weight'.length);
        const scalar: FileTensor = { dtype: 'I32', shape: [], bytes: new Uint8Array(4) };
        await expectRefused(change(fixture, { [layer + suffix]: scalar }), `"${layer}${suffix}" rotates x`);
        // Of another layer: then the configuration speaks of that one.
        const other = change(fixture, { [`other.${suffix}`]: scalar });
        const config = { quantization_config: { spinquant_config: { online_r1_rotation: true } } };
        expect((await withConfig(other, config)).matrices.length).toBe(1);
      },
    );

    it('nowhere, when config.json cannot be opened', async () => {
      const missing = await openCheckpoint(fileOf(fixture), {
        open: () => Promise.reject(new Error('none')),
      });
      expect(missing.matrices.length).toBe(1);
    });
  });

  it("bitsandbytes' table, under whatever dtype its codes are", async () => {
    for (const kind of ['fp4', 'nf4']) {
      for (const codes of [u8([64, 1], new Array(64).fill(0)), bf16([32, 1], new Array(32).fill(0))]) {
        const fixture: Fixture = {
          producer: 'bitsandbytes',
          matrix: 'l.weight',
          logical: [],
          tensors: {
            'l.weight': codes,
            'l.weight.absmax': f32([2], [1, 1]),
            'l.weight.quant_map': f32([16], new Array(16).fill(0)),
            [`l.weight.quant_state.bitsandbytes__${kind}`]: text('{"quant_type":"fp4"}'),
          },
        };
        await expectRefused(fixture, 'another table than E2M1');
      }
    }
  });

  it('F8 with scales beside it (DeepSeek, ComfyUI, and others)', async () => {
    const fp8 = e4m3([2, 4], [1, 2, 3, 4, 5, 6, 7, 8]);
    for (const name of ['scale', 'weight_scale', 'weight_scale_inv', 'scale_weight', 'scales']) {
      const tensors = { 'a.weight': fp8, [`a.${name}`]: e8m0([1, 1], [127]) };
      const { matrices, refused } = await openCheckpoint(safetensorsFile(tensors));
      expect(matrices).toEqual([]);
      expect(refused[0]!.error.message).toContain(`F8_E4M3 with scales "a.${name}" beside it`);
    }
    const { matrix } = await openCheckpoint(safetensorsFile({ 'a.weight': fp8 }));
    expect(((await matrix('a.weight')) as FloatMatrix).values[0]).toBe(2 ** -9);
  });
});

describe('hostile siblings', () => {
  /** Tensors that belong to the fixture's matrix and have to be there. */
  const required: [string, Fixture, string][] = [
    ['gpt-oss', FIXTURES['gpt-oss']!(), 'model.layers.0.mlp.experts.gate_up_proj_scales'],
    [
      'compressed-tensors',
      FIXTURES['compressed-tensors nvfp4']!(),
      'model.layers.0.self_attn.q_proj.weight_scale',
    ],
    [
      'compressed-tensors',
      FIXTURES['compressed-tensors nvfp4']!(),
      'model.layers.0.self_attn.q_proj.weight_global_scale',
    ],
    [
      'compressed-tensors',
      FIXTURES['compressed-tensors mxfp4']!(),
      'model.layers.0.mlp.experts.3.gate_proj.weight_scale',
    ],
    ['modelopt', FIXTURES['ModelOpt nvfp4']!(), 'model.layers.0.mlp.down_proj.weight_scale'],
    ['modelopt', FIXTURES['ModelOpt nvfp4']!(), 'model.layers.0.mlp.down_proj.weight_scale_2'],
    [
      'modelopt',
      FIXTURES['ModelOpt experts']!(),
      'model.layers.0.feed_forward.experts.gate_up_proj_weight_scale_2',
    ],
    ['comfyui', FIXTURES['ComfyUI, marked by a tensor']!(), 'diffusion_model.blocks.0.attn.qkv.weight_scale'],
    [
      'comfyui',
      FIXTURES['ComfyUI, marked by a tensor']!(),
      'diffusion_model.blocks.0.attn.qkv.weight_scale_2',
    ],
    ['torchao', FIXTURES['TorchAO nvfp4']!(), 'layers.0.proj._weight_scale'],
    ['fp4-webgpu', FIXTURES['ours mxfp4']!(), 'w.fp4_scales'],
    ['fp4-webgpu', FIXTURES['ours mxfp4']!(), 'w.fp4_layout'],
    ['fp4-webgpu', FIXTURES['ours nvfp4, rotated']!(), 'w.fp4_global_scale'],
    ['fp4-webgpu', FIXTURES['ours mxfp4 MBS']!(), 'w.fp4_macro_scales'],
  ];

  it.each(required)('%s without %3$s', async (_, fixture, name) => {
    expect(fixture.tensors[name]).toBeDefined();
    const error = await errorOf(change(fixture, { [name]: undefined }), firstExpert(fixture));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(/missing|goes with nvfp4/);
  });

  it.each(required)('%s with %3$s of another rank, another dtype, another size', async (_, fixture, name) => {
    const { dtype, shape, bytes } = fixture.tensors[name]!;
    const variants: FileTensor[] = [
      { dtype, shape: [1, ...shape, 1, 1], bytes },
      {
        dtype: bytes.length % 2 ? 'F4' : 'I16',
        shape: [bytes.length % 2 ? 2 * bytes.length : bytes.length / 2],
        bytes,
      },
      { dtype, shape: [2, ...shape], bytes: Uint8Array.from([...bytes, ...bytes]) },
      { dtype, shape: [0, ...shape], bytes: new Uint8Array(0) },
    ];
    for (const variant of variants) {
      // A scalar with more dimensions of 1 is the same number.
      if (/global|scale_2/.test(name) && variant.bytes.length === bytes.length && variant.dtype === dtype)
        continue;
      const { shape: changed } = variant;
      const error = await errorOf(change(fixture, { [name]: variant }), firstExpert(fixture)).catch(
        (e: Error) => {
          throw new Error(`${variant.dtype} ${changed}: ${e.message}`);
        },
      );
      expect(error).not.toBeInstanceOf(InvalidArgumentError);
    }
  });

  it('DeepSeek and MLX without scales are no matrices at all', async () => {
    for (const key of ['DeepSeek', 'MLX mxfp4']) {
      const fixture = FIXTURES[key]!();
      const scales = Object.keys(fixture.tensors).find((name) => /scales?$/.test(name))!;
      const error = await errorOf(change(fixture, { [scales]: undefined }));
      expect(error).toBeInstanceOf(InvalidArgumentError);
      expect(error.message).toContain('is no matrix of a known convention');
    }
  });

  it('sizes of each convention that do not fit', async () => {
    const nvfp4 = randomLogical('nvfp4', 16, 48, 1);
    const comfy = stored.comfy(nvfp4);
    const layer = 'diffusion_model.blocks.0.attn.qkv';
    const plain = e4m3([16, 3], nvfp4.scales.flat());
    await expectBroken(
      change(comfy, { [`${layer}.weight_scale`]: plain }),
      'need swizzled scales of [128, 4]',
    );
    const unpadded = u8([15, 24], new Array(360).fill(0));
    await expectBroken(change(comfy, { [`${layer}.weight`]: unpadded }), 'not padded to multiples of 16');

    const torchAo = stored.torchAo(nvfp4, true);
    await expectBroken(
      change(torchAo, { 'layers.0.proj._weight_scale': plain }),
      'need 512 bytes of swizzled scales',
    );

    const blocks = (shape: number[]) => u8(shape, new Array(shape.reduce((a, b) => a * b)).fill(0));
    const gptOss = stored.gptOss([randomLogical('mxfp4', 6, 96, 1)]);
    const name = `${gptOss.matrix}_blocks`;
    await expectBroken(
      change(gptOss, { [name]: blocks([1, 6, 6, 8]) }),
      'blocks of 8 bytes; 32 values take 16',
      0,
    );
    await expectBroken(change(gptOss, { [name]: blocks([1, 3, 6, 16]) }), 'do not match', 0);
    await expectBroken(change(gptOss, { [name]: blocks([6, 3, 16]) }), 'it must have 2 dimensions');
    await expectBroken(change(gptOss, { [name]: blocks([18, 16]) }), 'it must have 3 or 4 dimensions');

    const experts = stored.modelOptExperts([randomLogical('nvfp4', 10, 48, 1)]);
    const globals = { [`${experts.matrix}_weight_scale_2`]: f32([3], [1, 1, 1]) };
    await expectBroken(change(experts, globals), 'is [3], for 1 matrices', 0);
    const twice = { [experts.matrix]: u8([2, 24, 10], new Array(480).fill(0)) };
    await expectBroken(change(experts, twice), 'differ in experts', 0);

    const macro = { 'w.fp4_macro_scales': u8([3, 4], new Array(12).fill(0)) };
    await expectBroken(change(FIXTURES['ours mxfp4 MBS']!(), macro), 'for no macro block of 128, 64, 32');
    await expectBroken(change(FIXTURES['ours nvfp4, rotated']!(), macro), 'goes with mxfp4');
  });

  it('codes with a size of zero', async () => {
    const tensors = {
      'a.weight': u8([0, 16], []),
      'a.weight_scale': e4m3([0, 2], []),
      'a.weight_scale_2': f32([], [1]),
    };
    const { refused } = await openCheckpoint(safetensorsFile(tensors));
    expect(refused[0]!.error.message).toContain('shape [0, 32] has no values');
    const deep = { 'a.weight': i8([2 ** 40, 0], []), 'a.scale': e8m0([2 ** 40, 0], []) };
    expect((await openCheckpoint(safetensorsFile(deep))).refused.length).toBe(1);
  });

  it('ratios of 64 and 8, a last dimension that is not whole', async () => {
    const codes = u8([2, 32], new Array(64).fill(0));
    for (const blocks of [1, 3, 8]) {
      const tensors = {
        'a.weight_packed': codes,
        'a.weight_scale': u8([2, blocks], new Array(2 * blocks).fill(127)),
      };
      const { refused } = await openCheckpoint(safetensorsFile(tensors));
      expect(refused[0]!.error.message).toContain(
        'codes of [2, 64] values need scales of [2, 2], one per 32',
      );
    }
    const odd = {
      'a.weight_packed': u8([2, 17], new Array(34).fill(0)),
      'a.weight_scale': u8([2, 1], [127, 127]),
    };
    expect((await openCheckpoint(safetensorsFile(odd))).refused.length).toBe(1);
  });

  it('two tensors that would be one matrix', async () => {
    const fixture = FIXTURES['compressed-tensors mxfp4']!();
    await expectBroken(
      change(fixture, { [fixture.matrix]: bf16([1, 1], [1]) }),
      'more than one of the tensors',
    );
  });
});

describe('our own files', () => {
  it('give back what quantize made, bit for bit', async () => {
    const values = new Random(1).normals(6 * 160);
    const options = [
      { format: 'mxfp4' },
      { format: 'mxfp4', blockSize: 16 },
      { format: 'mxfp4', macroScale: 'static', macroSize: 64 },
      { format: 'mxfp4', macroScale: 'dynamic', macroSize: 128, hadamard: true },
      { format: 'nvfp4', hadamard: true },
    ] as const;
    const matrices = options.map((more) => quantize(values, { rows: 6, cols: 160, ...more }));
    const file = writeSafetensors(
      matrices.flatMap((q, i) => tensorsAs('fp4-webgpu', `layers.${i}.weight`, q)),
    );
    const checkpoint = await openCheckpoint(file);
    expect(checkpoint.refused).toEqual([]);
    for (const [i, q] of matrices.entries()) expect(await checkpoint.matrix(`layers.${i}.weight`)).toEqual(q);
  });

  it('hold experts with macro factors, put together from some rows at a time', async () => {
    const [experts, rows, cols] = [3, 6, 160];
    const options = { format: 'mxfp4', macroScale: 'dynamic', macroSize: 64 } as const;
    const matrices = Array.from({ length: experts }, (_, i) =>
      quantize(new Random(i + 1).normals(rows * cols), { rows, cols, ...options }),
    );
    const headers = matrixHeaders('w', { ...matrices[0]!, experts });
    const { header, byteLength, ranges } = layoutSafetensors(headers);
    const file = new Uint8Array(byteLength);
    file.set(header);
    for (const [expert, q] of matrices.entries()) {
      for (let row = 0; row < rows; row += 2) {
        for (const { name, bytes, per } of matrixParts('w', selectRows(q, [row, row + 1]))) {
          const at = per === 'row' ? ((expert * rows + row) / 2) * bytes.length : 0;
          file.set(bytes, ranges.get(name)!.start + at);
        }
      }
    }
    const checkpoint = await openCheckpoint(file);
    expect(checkpoint.matrices).toMatchObject([{ producer: 'fp4-webgpu', experts, shape: [rows, cols] }]);
    for (const [expert, q] of matrices.entries()) {
      expect(await checkpoint.matrix('w', { expert })).toEqual(q);
    }
    const codes = checkpoint.tensors.find(({ name }) => name === 'w.fp4_codes')!;
    expect(await checkpoint.read(codes, { start: 480, end: 490 })).toEqual(matrices[1]!.codes.slice(0, 10));
  });

  it('say what they do not know', async () => {
    const fixture = FIXTURES['ours mxfp4']!();
    const layout = (...bytes: number[]) => change(fixture, { 'w.fp4_layout': u8([4], bytes) });
    await expectRefused(layout(2, 32, 0, 0), 'version 2');
    await expectRefused(layout(1, 32, 0, 32), 'a transform 32 wide');
    await expectBroken(layout(1, 16, 0, 0), 'says block 16');
    await expectBroken(layout(1, 32, 64, 0), 'says macro block 64; macro scales are missing');
  });

  it('are not written of what is no matrix', () => {
    const q = expectedMatrix(randomLogical('mxfp4', 2, 32, 1));
    expect(() => tensorsAs('fp4-webgpu', 'w', { ...q, cols: 64 })).toThrow(InvalidArgumentError);
    expect(() => tensorsAs('fp4-webgpu', '', q)).toThrow(InvalidArgumentError);
  });
});
