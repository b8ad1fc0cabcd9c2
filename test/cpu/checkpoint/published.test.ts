/**
 * What producers have published of their formats, value by value and byte by byte: vectors of their own tests, sizes of
 * their own models; and the traps of the formats that need no random matrix to be shown.
 */
import { expect, it, test } from 'vitest';
import type { ByteSource } from '../../../src/checkpoint/byte-source.js';
import { openCheckpoint } from '../../../src/checkpoint/open.js';
import { decodeMatrixF64, type QuantizedMatrix } from '../../../src/matrix/quantized-matrix.js';
import {
  bf16,
  e4m3,
  e8m0,
  type FileTensors,
  f32,
  i8,
  safetensorsFile,
  text,
  u8,
} from '../../support/checkpoint-files.js';
import * as stored from '../../support/checkpoint-producers.js';
import {
  expectedMatrix,
  type Fixture,
  fileOf,
  type Logical,
  randomLogical,
} from '../../support/checkpoint-producers.js';
import { ggufFile } from '../../support/gguf-writer.js';

const hex = (digits: string) =>
  Uint8Array.from(digits.match(/[0-9a-f]{2}/g)!, (byte) => Number.parseInt(byte, 16));

async function load(file: Uint8Array, name: string, expert?: number): Promise<QuantizedMatrix> {
  const { matrix } = await openCheckpoint(file);
  return (await matrix(name, { expert })) as QuantizedMatrix;
}

/** Values as the file has them, -0 apart from 0. */
const values = async (file: Uint8Array, name: string) => [...decodeMatrixF64(await load(file, name))];

test('compressed-tensors, test_pack_unpack: eight values a line, with both zeros', async () => {
  const file = safetensorsFile({
    'l.weight_packed': u8([2, 8], hex('f9b97a80 fa891108 fdc9b988 73982208')),
    'l.weight_scale': e4m3([2, 1], [0x38, 0x38]),
    'l.weight_global_scale': f32([1], [1]),
  });
  // biome-ignore format: as published
  expect(await values(file, 'l.weight')).toEqual([
    -0.5, -6, -0.5, -1.5, -1, 6, 0, -0,
    -1, -6, -0.5, -0, 0.5, 0.5, -0, 0,
    -3, -6, -0.5, -2, -0.5, -1.5, -0, -0,
    1.5, 6, -0, -0.5, 1, 1, -0, 0,
  ]);
});

test('compressed-tensors, test_decompress_decodes_mx_scales: groups of 0.25 and 0.5', async () => {
  const file = safetensorsFile({
    'l.weight_packed': u8([1, 32], hex('2143'.repeat(16))),
    'l.weight_scale': u8([1, 2], [125, 126]),
  });
  const group = [0.5, 1, 1.5, 2];
  expect(await values(file, 'l.weight')).toEqual(
    Array.from({ length: 64 }, (_, i) => group[i % 4]! * (i < 32 ? 0.25 : 0.5)),
  );
});

test('compressed-tensors, test_modelopt_nvfp4: weight_scale_2 of 4 is a weight_global_scale of 1/4', async () => {
  const logical: Logical = { ...randomLogical('nvfp4', 4, 32, 1), globalScale: 4 };
  const codes = expectedMatrix(logical).codes;
  const scales = e4m3([4, 2], logical.scales.flat());
  const modelOpt = safetensorsFile({
    'l.input_scale': f32([1], [2]),
    'l.weight': u8([4, 16], codes),
    'l.weight_scale': scales,
    'l.weight_scale_2': f32([1], [4]),
  });
  const converted = safetensorsFile({
    'l.input_global_scale': f32([1], [0.5]),
    'l.weight_packed': u8([4, 16], codes),
    'l.weight_scale': scales,
    'l.weight_global_scale': f32([1], [0.25]),
  });
  expect(await load(modelOpt, 'l.weight')).toEqual(expectedMatrix(logical));
  expect(await load(converted, 'l.weight')).toEqual(expectedMatrix(logical));
});

test('tinygrad, test_gguf: a block of GLM-4.7-Flash-MXFP4_MOE, and one of all codes, in a whole file', async () => {
  const file = ggufFile({
    tensors: [
      {
        name: 'a.weight',
        sizes: [32, 2],
        type: 39,
        bytes: hex('7a29ab61102102 4a15ca05019b390b0b1c 80 000102030405060708090a0b0c0d0e0f'),
      },
    ],
  });
  // biome-ignore format: as published, then the doubled table
  expect(await values(file, 'a.weight')).toEqual([
    -0.015625, -0.046875, 0.015625, 0, 0.015625, 0.03125, -0.03125, 0.09375,
    -0.03125, 0.09375, 0.015625, -0.046875, -0.015625, -0.046875, -0.046875, -0.0625,
    0.03125, -0.03125, 0.125, 0.015625, 0.03125, 0, 0.0625, 0.015625,
    -0.0625, 0, 0, -0.015625, 0.046875, 0, 0, 0.015625,
    0, 1, 2, 3, 4, 6, 8, 12, -0, -1, -2, -3, -4, -6, -8, -12,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
  ]);
});

/** A file of a model's size whose data nobody reads. */
function headerOnly(tensors: Record<string, [dtype: string, shape: number[]]>): ByteSource {
  let end = 0;
  const bytesOf: Record<string, number> = { F32: 4, BF16: 2 };
  const entries = Object.entries(tensors).map(([name, [dtype, shape]]) => {
    const begin = end;
    end += shape.reduce((a, b) => a * b, bytesOf[dtype] ?? 1);
    return [name, { dtype, shape, data_offsets: [begin, end] }];
  });
  const { bytes } = text(JSON.stringify(Object.fromEntries(entries)));
  const header = new Uint8Array(8 + bytes.length);
  new DataView(header.buffer).setUint32(0, bytes.length, true);
  header.set(bytes, 8);
  return {
    name: 'model.safetensors',
    byteLength: header.length + end,
    read: async (start, until) => {
      expect(until).toBeLessThanOrEqual(header.length);
      return header.slice(start, until);
    },
  };
}

test('gpt-oss-20b: 19 110 297 600 values in FP4 with 597 196 800 scales, k of 90 blocks', async () => {
  const tensors: Record<string, [string, number[]]> = {};
  for (let layer = 0; layer < 24; layer++) {
    const experts = `model.layers.${layer}.mlp.experts`;
    for (const [name, rows] of [
      ['gate_up_proj', 5760],
      ['down_proj', 2880],
    ] as const) {
      tensors[`${experts}.${name}_blocks`] = ['U8', [32, rows, 90, 16]];
      tensors[`${experts}.${name}_scales`] = ['U8', [32, rows, 90]];
      tensors[`${experts}.${name}_bias`] = ['BF16', [32, rows]];
    }
  }
  const { matrices, refused } = await openCheckpoint(headerOnly(tensors));
  const fp4 = matrices.filter(({ producer }) => producer === 'gpt-oss');
  expect([fp4.length, refused.length]).toEqual([48, 0]);
  const count = fp4.reduce((sum, { experts, shape: [rows, cols] }) => sum + experts! * rows * cols, 0);
  expect(count).toBe(19_110_297_600);
  // 17 bytes of every 32 values: the scales are one of them.
  expect(fp4.reduce((sum, { bytes }) => sum + bytes, 0) - count / 2).toBe(597_196_800);
  expect(fp4[0]).toMatchObject({ shape: [5760, 2880], experts: 32, blockSize: 32, bitsPerWeight: 4.25 });
});

test('DeepSeek-R1-0528-FP4: sizes and types of a down_proj as NVIDIA stores it', async () => {
  const layer = 'model.layers.0.mlp.down_proj';
  const source = headerOnly({
    [`${layer}.weight`]: ['U8', [7168, 9216]],
    [`${layer}.weight_scale`]: ['F8_E4M3', [7168, 1152]],
    [`${layer}.weight_scale_2`]: ['F32', []],
    [`${layer}.input_scale`]: ['F32', []],
    'model.layers.0.self_attn.k_proj.k_scale': ['F32', []],
    'model.layers.0.self_attn.v_proj.v_scale': ['F32', [1]],
  });
  const { matrices, refused } = await openCheckpoint(source);
  expect([matrices.length, refused.length]).toEqual([1, 0]);
  expect(matrices).toMatchObject([
    {
      name: `${layer}.weight`,
      producer: 'modelopt',
      format: 'nvfp4',
      blockSize: 16,
      shape: [7168, 18432],
      experts: undefined,
      bytes: 7168 * (9216 + 1152) + 4,
      bitsPerWeight: 4.5,
    },
  ]);
});

test("MLX's conversion of gpt-oss is the same bytes: blocks seen as words", async () => {
  const logical = [1, 2].map((seed) => randomLogical('mxfp4', 4, 96, seed));
  const { tensors, matrix } = stored.gptOss(logical);
  const converted = safetensorsFile({
    'm.weight': { dtype: 'U32', shape: [2, 4, 12], bytes: tensors[`${matrix}_blocks`]!.bytes },
    'm.scales': u8([2, 4, 3], tensors[`${matrix}_scales`]!.bytes),
  });
  for (const [expert, one] of logical.entries()) {
    expect(await load(converted, 'm.weight', expert)).toEqual(expectedMatrix(one));
  }
});

test('the first and last scales: 2^-127 and 2^127 of E8M0, 0, 2^-9 and 448 of E4M3', async () => {
  const codes = hex('22'.repeat(48)); // 1, everywhere
  const mx = { 'a.weight_packed': u8([1, 48], codes), 'a.weight_scale': u8([1, 3], [0, 127, 254]) };
  const mxValues = await values(safetensorsFile(mx), 'a.weight');
  expect([0, 32, 64].map((i) => mxValues[i])).toEqual([2 ** -127, 1, 2 ** 127]);

  const nv = {
    'a.weight_packed': u8([1, 48], codes),
    'a.weight_scale': e4m3([1, 6], [0x00, 0x01, 0x07, 0x08, 0x38, 0x7e]),
    'a.weight_global_scale': f32([1], [1]),
  };
  const nvValues = await values(safetensorsFile(nv), 'a.weight');
  expect([0, 16, 32, 48, 64, 80].map((i) => nvValues[i])).toEqual([0, 2 ** -9, 7 * 2 ** -9, 2 ** -6, 1, 448]);

  const blocks = (type: number, elements: number, head: string) =>
    ggufFile({
      tensors: [{ name: 'a', sizes: [elements, 1], type, bytes: hex(head + '22'.repeat(elements / 2)) }],
    });
  expect(new Set(await values(blocks(39, 32, '00'), 'a'))).toEqual(new Set([2 ** -127]));
  const ggufValues = await values(blocks(40, 64, '00017e38'), 'a');
  expect([0, 16, 32, 48].map((i) => ggufValues[i])).toEqual([0, 2 ** -9, 448, 1]);
});

/** Says the wrong thing of each of the fixtures. */
const MISLEADING = [
  {
    quantization_config: {
      quant_method: 'fp8',
      fmt: 'e4m3',
      scale_fmt: 'ue8m0',
      weight_block_size: [128, 128],
    },
  },
  {
    quantization_config: { quant_method: 'compressed-tensors', format: 'mixed-precision', config_groups: {} },
  },
  {
    quantization_config: {
      quant_method: 'compressed-tensors',
      format: 'int-quantized',
      config_groups: {
        group_0: {
          targets: ['re:(a+)+$'],
          weights: { num_bits: 8, type: 'int', strategy: 'group', group_size: 128 },
        },
      },
    },
  },
  { quantization: { group_size: 64, bits: 8, mode: 'affine' } },
  { quantization_config: { quant_method: 'bitsandbytes', bnb_4bit_quant_type: 'fp4' } },
];

it.each([
  ['compressed-tensors nvfp4', stored.ctNvfp4(randomLogical('nvfp4', 2, 48, 1))],
  ['compressed-tensors mxfp4', stored.ctMxfp4(randomLogical('mxfp4', 2, 96, 2))],
  ['ModelOpt', stored.modelOptNvfp4(randomLogical('nvfp4', 2, 48, 3))],
  ['Quark', stored.weightScaleMxfp4(randomLogical('mxfp4', 2, 96, 4))],
  ['MLX', stored.mlx(randomLogical('mxfp4', 2, 96, 5))],
  ['DeepSeek', stored.deepSeek(randomLogical('mxfp4', 2, 96, 6))],
] as [string, Fixture][])('%s: tensors tell the producer, no configuration', async (_, fixture) => {
  for (const config of MISLEADING) {
    const { bytes } = text(JSON.stringify(config));
    const open = async (name: string): Promise<ByteSource> => {
      return { name, byteLength: bytes.length, read: async (start, end) => bytes.slice(start, end) };
    };
    const { matrices, matrix } = await openCheckpoint(fileOf(fixture), { open });
    expect(matrices.filter(({ producer }) => producer !== 'float')).toMatchObject([
      { producer: fixture.producer },
    ]);
    expect(await matrix(fixture.matrix)).toEqual(expectedMatrix(fixture.logical as Logical));
  }
});

test('every producer in one file, and none takes what is another one’s', async () => {
  const fixtures = [
    stored.gptOss([randomLogical('mxfp4', 2, 32, 1)]),
    stored.ctNvfp4(randomLogical('nvfp4', 2, 32, 2)),
    stored.ctMxfp4(randomLogical('mxfp4', 2, 32, 3)),
    stored.modelOptNvfp4(randomLogical('nvfp4', 2, 32, 4)),
    stored.modelOptExperts([randomLogical('nvfp4', 2, 32, 5)]),
    stored.weightScaleMxfp4(randomLogical('mxfp4', 2, 32, 6)),
    stored.deepSeek(randomLogical('mxfp4', 2, 32, 7)),
    stored.torchAo(randomLogical('nvfp4', 2, 32, 8), false),
    stored.ours(randomLogical('mxfp4', 2, 32, 9), { macroSize: 32 }),
  ];
  const tensors = Object.assign({}, ...fixtures.map((fixture) => fixture.tensors)) as FileTensors;
  const metadata = Object.assign({}, ...fixtures.map((fixture) => fixture.metadata ?? {}));
  // And beside them what no producer of FP4 has: floats, F8 with scales, affine integers, a bias.
  Object.assign(tensors, {
    'norm.weight': bf16([2], [1, 1]),
    'lm_head.weight': bf16([1, 2], [1, 2]),
    'fp8.weight': e4m3([1, 2], [1, 2]),
    'fp8.scale': e8m0([1, 1], [127]),
    'int8.weight': i8([2, 2], [1, 2, 3, 4]),
  });
  const { matrices, refused, matrix } = await openCheckpoint(safetensorsFile(tensors, metadata));
  const quantized = matrices.filter(({ producer }) => producer !== 'float');
  expect(quantized.map(({ name, producer }) => [name, producer]).sort()).toEqual(
    fixtures.map((fixture) => [fixture.matrix, fixture.producer]).sort(),
  );
  expect(refused.map(({ name }) => name)).toEqual(['fp8.weight']);
  for (const { matrix: name, logical, extra } of fixtures) {
    const expert = Array.isArray(logical) ? 0 : undefined;
    expect(await matrix(name, { expert })).toEqual(expectedMatrix([logical].flat()[0]!, extra));
  }
});
