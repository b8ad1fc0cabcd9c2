/**
 * What each producer stores of a matrix, from its codes and scales as numbers. See checkpoint-files.ts: nothing of the
 * loaders is used here.
 */
import type { QuantizedMatrix } from '../../src/matrix/quantized-matrix.js';
import { Random } from '../../src/random.js';
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
  u32,
} from './checkpoint-files.js';

/** A matrix before anyone has stored it: codes[row][col], scale bytes[row][block]. */
export interface Logical {
  readonly format: 'mxfp4' | 'nvfp4';
  readonly blockSize: number;
  readonly codes: number[][];
  readonly scales: number[][];
  /** What nvfp4 values are multiplied by. */
  readonly globalScale: number;
}

export interface Fixture {
  readonly producer: string;
  readonly matrix: string;
  /** One, or one an expert. */
  readonly logical: Logical | Logical[];
  readonly tensors: FileTensors;
  readonly metadata?: Record<string, string>;
  /** What a matrix has beyond its logical values. */
  readonly extra?: Partial<QuantizedMatrix>;
}

export const fileOf = ({ tensors, metadata }: Fixture) => safetensorsFile(tensors, metadata);

/** Random codes, -0 among them, and random scales of the format's range. */
export function randomLogical(
  format: 'mxfp4' | 'nvfp4',
  rows: number,
  cols: number,
  seed: number,
  { blockSize = format === 'mxfp4' ? 32 : 16, scales = [0, format === 'mxfp4' ? 254 : 126] } = {},
): Logical {
  const random = new Random(seed);
  const grid = (width: number, low: number, high: number) =>
    Array.from({ length: rows }, () => Array.from({ length: width }, () => random.integer(low, high)));
  return {
    format,
    blockSize,
    codes: grid(cols, 0, 15),
    scales: grid(cols / blockSize, scales[0]!, scales[1]!),
    // A power of two, whose reciprocal is exact.
    globalScale: format === 'mxfp4' ? 1 : 2 ** -random.integer(1, 20),
  };
}

/** Two codes to the byte, the first in the low nibble. */
const lowFirst = ({ codes }: Logical) =>
  codes.flatMap((row) => row.filter((_, i) => i % 2 === 0).map((code, i) => code + 16 * row[2 * i + 1]!));
const flatScales = ({ scales }: Logical) => scales.flat();
const sizes = ({ codes }: Logical) => [codes.length, codes[0]!.length] as const;

/** What the matrix must be once loaded. */
export function expectedMatrix(logical: Logical, extra: Partial<QuantizedMatrix> = {}): QuantizedMatrix {
  const [rows, cols] = sizes(logical);
  const { format, blockSize, globalScale } = logical;
  return {
    format,
    rows,
    cols,
    blockSize,
    codes: Uint8Array.from(lowFirst(logical)),
    scales: Uint8Array.from(flatScales(logical)),
    globalScale,
    hadamard: false,
    ...extra,
  };
}

const VALUES = [0, 0.5, 1, 1.5, 2, 3, 4, 6];

/** The value at a row and column, from the definitions of the formats. */
export function logicalValue(logical: Logical, row: number, col: number): number {
  const code = logical.codes[row]![col]!;
  const byte = logical.scales[row]![Math.floor(col / logical.blockSize)]!;
  const exponent = Math.floor(byte / 8);
  const e4m3Value = exponent === 0 ? (byte % 8) / 512 : (1 + (byte % 8) / 8) * 2 ** (exponent - 7);
  const scale = logical.format === 'mxfp4' ? 2 ** (byte - 127) : e4m3Value;
  return (code < 8 ? 1 : -1) * VALUES[code % 8]! * scale * logical.globalScale;
}

export function gptOss(logical: Logical[], original = false): Fixture {
  const [rows, cols] = sizes(logical[0]!);
  const name = original ? 'block.0.mlp.mlp1_weight' : 'model.layers.0.mlp.experts.gate_up_proj';
  const mark = original ? '.' : '_';
  return {
    producer: 'gpt-oss',
    matrix: name,
    logical,
    tensors: {
      [`${original ? 'block.0.mlp.mlp1' : name}_bias`]: bf16(
        [logical.length, rows],
        new Array(logical.length * rows).fill(1),
      ),
      [`${name}${mark}blocks`]: u8([logical.length, rows, cols / 32, 16], logical.flatMap(lowFirst)),
      [`${name}${mark}scales`]: u8([logical.length, rows, cols / 32], logical.flatMap(flatScales)),
    },
  };
}

export function ctNvfp4(logical: Logical): Fixture {
  const [rows, cols] = sizes(logical);
  return {
    producer: 'compressed-tensors',
    matrix: 'model.layers.0.self_attn.q_proj.weight',
    logical,
    tensors: {
      'model.layers.0.self_attn.q_proj.input_global_scale': f32([1], [1234]),
      'model.layers.0.self_attn.q_proj.weight_global_scale': f32([1], [1 / logical.globalScale]),
      'model.layers.0.self_attn.q_proj.weight_packed': u8([rows, cols / 2], lowFirst(logical)),
      'model.layers.0.self_attn.q_proj.weight_scale': e4m3([rows, cols / 16], flatScales(logical)),
    },
  };
}

export function ctMxfp4(logical: Logical): Fixture {
  const [rows, cols] = sizes(logical);
  return {
    producer: 'compressed-tensors',
    matrix: 'model.layers.0.mlp.experts.3.gate_proj.weight',
    logical,
    tensors: {
      'model.layers.0.mlp.experts.3.gate_proj.weight_packed': u8([rows, cols / 2], lowFirst(logical)),
      'model.layers.0.mlp.experts.3.gate_proj.weight_scale': u8([rows, cols / 32], flatScales(logical)),
    },
  };
}

export function modelOptNvfp4(logical: Logical): Fixture {
  const [rows, cols] = sizes(logical);
  return {
    producer: 'modelopt',
    matrix: 'model.layers.0.mlp.down_proj.weight',
    logical,
    tensors: {
      'model.layers.0.mlp.down_proj.input_scale': f32([], [0.01]),
      'model.layers.0.mlp.down_proj.weight': u8([rows, cols / 2], lowFirst(logical)),
      'model.layers.0.mlp.down_proj.weight_scale': e4m3([rows, cols / 16], flatScales(logical)),
      'model.layers.0.mlp.down_proj.weight_scale_2': f32([], [logical.globalScale]),
    },
  };
}

/** [experts, cols/2, rows]: pairs of values of a row are a byte, and bytes of a column lie together. */
export function modelOptExperts(logical: Logical[], scalesEach = true): Fixture {
  const [rows, cols] = sizes(logical[0]!);
  const codes: number[] = [];
  const scales: number[] = [];
  for (const expert of logical) {
    for (let k = 0; k < cols; k += 2) {
      for (let row = 0; row < rows; row++)
        codes.push(expert.codes[row]![k]! + 16 * expert.codes[row]![k + 1]!);
    }
    for (let block = 0; block < cols / 16; block++) {
      for (let row = 0; row < rows; row++) scales.push(expert.scales[row]![block]!);
    }
  }
  const name = 'model.layers.0.feed_forward.experts.gate_up_proj';
  const globals = logical.map(({ globalScale }) => globalScale);
  return {
    producer: 'modelopt',
    matrix: name,
    logical,
    tensors: {
      [name]: u8([logical.length, cols / 2, rows], codes),
      [`${name}_weight_scale`]: e4m3([logical.length, cols / 16, rows], scales),
      [`${name}_weight_scale_2`]: scalesEach ? f32([logical.length, 1, 1], globals) : f32([], [globals[0]!]),
      [`${name}_input_scale`]: f32([], [0.5]),
    },
  };
}

/** Quark, and ModelOpt's MXFP4. */
export function weightScaleMxfp4(logical: Logical): Fixture {
  const [rows, cols] = sizes(logical);
  return {
    producer: 'quark',
    matrix: 'model.layers.1.mlp.up_proj.weight',
    logical,
    tensors: {
      'model.layers.1.mlp.up_proj.weight': u8([rows, cols / 2], lowFirst(logical)),
      'model.layers.1.mlp.up_proj.weight_scale': u8([rows, cols / 32], flatScales(logical)),
    },
  };
}

/** Eight codes to the word, the first in the lowest bits. */
const words = ({ codes }: Logical) =>
  codes.flatMap((row) =>
    Array.from({ length: row.length / 8 }, (_, word) =>
      row.slice(8 * word, 8 * word + 8).reduce((sum, code, i) => sum + code * 16 ** i, 0),
    ),
  );

export function mlx(logical: Logical | Logical[]): Fixture {
  const all = [logical].flat();
  const [rows, cols] = sizes(all[0]!);
  const experts = Array.isArray(logical) ? [all.length] : [];
  const { format, blockSize } = all[0]!;
  const module = experts.length
    ? 'model.layers.0.mlp.switch_mlp.gate_proj'
    : 'model.layers.0.self_attn.o_proj';
  return {
    producer: 'mlx',
    matrix: `${module}.weight`,
    logical,
    tensors: {
      [`${module}.weight`]: u32([...experts, rows, cols / 8], all.flatMap(words)),
      [`${module}.scales`]: u8([...experts, rows, cols / blockSize], all.flatMap(flatScales)),
      [`${module}.bias`]: bf16([...experts, rows], new Array(all.length * rows).fill(0.5)),
    },
    metadata: { format: 'mlx' },
    // No tensor scale is stored.
    ...(format === 'nvfp4' && { extra: { globalScale: 1 } }),
  };
}

export function deepSeek(logical: Logical): Fixture {
  const [rows, cols] = sizes(logical);
  return {
    producer: 'deepseek',
    matrix: 'layers.3.ffn.experts.7.w2.weight',
    logical,
    tensors: {
      'layers.3.ffn.experts.7.w2.weight': i8([rows, cols / 2], lowFirst(logical)),
      'layers.3.ffn.experts.7.w2.scale': e8m0([rows, cols / 32], flatScales(logical)),
    },
  };
}

/**
 * Scales in tiles of 128 rows × 4 blocks, each as 32 rows of 4 groups of 4: what reshaping [R/128, 4, 32, C/4, 4] so
 * that the order is [R/128, C/4, 32, 4, 4] gives. Padding is NaN, which must not be looked at.
 */
export function swizzled({ scales }: Logical, padding = 0x7f): number[] {
  const out: number[] = [];
  for (let top = 0; top < scales.length; top += 128) {
    for (let left = 0; left < scales[0]!.length; left += 4) {
      for (let low = 0; low < 32; low++) {
        for (let group = 0; group < 4; group++) {
          for (let c = 0; c < 4; c++) out.push(scales[top + 32 * group + low]?.[left + c] ?? padding);
        }
      }
    }
  }
  return out;
}

const up = (value: number, to: number) => Math.ceil(value / to) * to;

/** Sizes have to be multiples of 16 already. */
export function comfy(logical: Logical, mark: 'tensor' | 'metadata' | 'none' = 'tensor'): Fixture {
  const [rows, cols] = sizes(logical);
  const layer = 'diffusion_model.blocks.0.attn.qkv';
  const highFirst = lowFirst(logical).map((byte) => (byte % 16) * 16 + Math.floor(byte / 16));
  return {
    producer: 'comfyui',
    matrix: `${layer}.weight`,
    logical,
    tensors: {
      [`${layer}.weight`]: u8([rows, cols / 2], highFirst),
      [`${layer}.weight_scale`]: e4m3([up(rows, 128), up(cols / 16, 4)], swizzled(logical)),
      [`${layer}.weight_scale_2`]: f32([], [logical.globalScale]),
      ...(mark === 'tensor' && { [`${layer}.comfy_quant`]: text('{"format": "nvfp4"}') }),
    },
    ...(mark === 'metadata' && {
      metadata: {
        _quantization_metadata: JSON.stringify({
          format_version: '1.0',
          layers: { [layer]: { format: 'nvfp4' } },
        }),
      },
    }),
  };
}

export function torchAo(logical: Logical | Logical[], isSwizzled: boolean, withGlobal = true): Fixture {
  const all = [logical].flat();
  const [rows, cols] = sizes(all[0]!);
  const { format, blockSize } = all[0]!;
  const experts = Array.isArray(logical) ? [all.length] : [];
  const blocks = cols / blockSize;
  const dtype = format === 'nvfp4' ? e4m3 : e8m0;
  const global = format === 'nvfp4' && withGlobal;
  return {
    producer: 'torchao',
    matrix: 'layers.0.proj.weight',
    logical,
    tensors: {
      'layers.0.proj._weight_qdata': u8([...experts, rows, cols / 2], all.flatMap(lowFirst)),
      'layers.0.proj._weight_scale': isSwizzled
        ? dtype(
            [...experts, up(rows, 128) / 4, up(blocks, 4) * 4],
            all.flatMap((one) => swizzled(one)),
          )
        : dtype([...experts, rows, blocks], all.flatMap(flatScales)),
      ...(global && {
        'layers.0.proj._weight_per_tensor_scale': f32(
          experts.length ? [all.length, 1, 1] : [],
          all.map(({ globalScale }) => globalScale),
        ),
      }),
    },
    metadata: {
      tensor_names: '["layers.0.proj.weight"]',
      'layers.0.proj.weight': JSON.stringify({
        _type: format === 'nvfp4' ? 'NVFP4Tensor' : 'MXTensor',
        _data: {
          block_size: blockSize,
          is_swizzled_scales: isSwizzled,
          orig_dtype: { _type: 'torch.dtype', _data: 'bfloat16' },
          ...(format === 'mxfp4' && { elem_dtype: { _type: 'torch.dtype', _data: 'float4_e2m1fn_x2' } }),
        },
        _tensor_data_names: ['qdata', 'scale', ...(global ? ['per_tensor_scale'] : [])],
      }),
    },
    ...(format === 'nvfp4' && !withGlobal && { extra: { globalScale: 1 } }),
  };
}

export function ours(
  logical: Logical,
  { macroSize = 0, hadamard = false }: { macroSize?: 0 | 32 | 64 | 128; hadamard?: boolean } = {},
): Fixture {
  const [rows, cols] = sizes(logical);
  const { format, blockSize } = logical;
  const macros = macroSize ? Math.ceil(cols / macroSize) : 0;
  const factors = Uint8Array.from({ length: rows * macros }, (_, i) => (i * 37) & 255);
  const dtype = format === 'nvfp4' ? e4m3 : e8m0;
  return {
    producer: 'fp4-webgpu',
    matrix: 'w',
    logical,
    tensors: {
      'w.fp4_codes': u8([rows, cols / 2], lowFirst(logical)),
      'w.fp4_scales': dtype([rows, cols / blockSize], flatScales(logical)),
      'w.fp4_layout': u8([4], [1, blockSize, macroSize, hadamard ? 16 : 0]),
      ...(macroSize && { 'w.fp4_macro_scales': u8([rows, macros], factors) }),
      ...(format === 'nvfp4' && { 'w.fp4_global_scale': f32([], [logical.globalScale]) }),
    },
    extra: { hadamard, ...(macroSize && { macroScales: factors, macroSize }) },
  };
}

/** Experts: each tensor stacked, a tensor scale each. */
export function oursExperts(logical: Logical[]): Fixture {
  const [rows, cols] = sizes(logical[0]!);
  const { format, blockSize } = logical[0]!;
  const count = logical.length;
  const dtype = format === 'nvfp4' ? e4m3 : e8m0;
  const globals = logical.map(({ globalScale }) => globalScale);
  return {
    producer: 'fp4-webgpu',
    matrix: 'experts',
    logical,
    tensors: {
      'experts.fp4_codes': u8([count, rows, cols / 2], logical.flatMap(lowFirst)),
      'experts.fp4_scales': dtype([count, rows, cols / blockSize], logical.flatMap(flatScales)),
      'experts.fp4_layout': u8([4], [1, blockSize, 0, 0]),
      ...(format === 'nvfp4' && { 'experts.fp4_global_scale': f32([count], globals) }),
    },
  };
}

const many = (count: number, make: (seed: number) => Logical) =>
  Array.from({ length: count }, (_, i) => make(i + 1));

/** One small file of every convention, and of the variants inside one. */
export const FIXTURES: Readonly<Record<string, () => Fixture>> = {
  'gpt-oss': () => gptOss(many(3, (seed) => randomLogical('mxfp4', 6, 96, seed))),
  'gpt-oss, original names': () =>
    gptOss(
      many(2, (seed) => randomLogical('mxfp4', 4, 96, seed)),
      true,
    ),
  'gpt-oss, tiny scales': () =>
    gptOss(many(2, (seed) => randomLogical('mxfp4', 4, 32, seed, { scales: [0, 3] }))),
  'compressed-tensors nvfp4': () => ctNvfp4(randomLogical('nvfp4', 5, 48, 1)),
  'compressed-tensors mxfp4': () => ctMxfp4(randomLogical('mxfp4', 3, 96, 2)),
  'ModelOpt nvfp4': () => modelOptNvfp4(randomLogical('nvfp4', 7, 48, 3)),
  'ModelOpt experts': () => modelOptExperts(many(3, (seed) => randomLogical('nvfp4', 10, 48, seed))),
  'Quark, ModelOpt mxfp4': () => weightScaleMxfp4(randomLogical('mxfp4', 4, 96, 4)),
  'MLX mxfp4': () => mlx(randomLogical('mxfp4', 3, 96, 5)),
  'MLX nvfp4': () => mlx(randomLogical('nvfp4', 3, 48, 6)),
  'MLX experts': () => mlx(many(3, (seed) => randomLogical('mxfp4', 2, 64, seed))),
  DeepSeek: () => deepSeek(randomLogical('mxfp4', 4, 96, 7)),
  'ComfyUI, marked by a tensor': () => comfy(randomLogical('nvfp4', 160, 80, 8)),
  'ComfyUI, marked by metadata': () => comfy(randomLogical('nvfp4', 16, 48, 9), 'metadata'),
  'TorchAO nvfp4': () => torchAo(randomLogical('nvfp4', 5, 48, 10), false),
  'TorchAO nvfp4, swizzled': () => torchAo(randomLogical('nvfp4', 130, 80, 11), true),
  'TorchAO nvfp4, one scale only': () => torchAo(randomLogical('nvfp4', 3, 32, 12), false, false),
  'TorchAO mxfp4, swizzled': () => torchAo(randomLogical('mxfp4', 4, 160, 13), true),
  'TorchAO experts, swizzled': () =>
    torchAo(
      many(2, (seed) => randomLogical('nvfp4', 4, 32, seed)),
      true,
    ),
  'ours mxfp4': () => ours(randomLogical('mxfp4', 4, 96, 14)),
  'ours mxfp4 16': () => ours(randomLogical('mxfp4', 4, 48, 15, { blockSize: 16 })),
  'ours mxfp4 MBS': () => ours(randomLogical('mxfp4', 3, 160, 16), { macroSize: 64 }),
  'ours mxfp4 MBS, one a row': () =>
    ours(randomLogical('mxfp4', 3, 64, 17), { macroSize: 64, hadamard: true }),
  'ours mxfp4 experts': () => oursExperts(many(3, (seed) => randomLogical('mxfp4', 4, 64, seed))),
  'ours nvfp4 experts': () => oursExperts(many(2, (seed) => randomLogical('nvfp4', 4, 48, seed))),
  'ours nvfp4, rotated': () => ours(randomLogical('nvfp4', 3, 48, 18), { hadamard: true }),
};
