/**
 * Matrices of checkpoints read the plain way, to compare with: headers by `JSON.parse`, nothing checked, each value
 * fetched alone by the formula that its producer documents. Shares no code with the loaders.
 */
import { naiveGguf } from './naive-gguf.js';

export interface NaiveTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

export interface NaiveFile {
  readonly tensors: ReadonlyMap<string, NaiveTensor>;
  readonly metadata: ReadonlyMap<string, string>;
}

/** Functions of row and column, or row and block. */
export interface NaiveFp4 {
  readonly rows: number;
  readonly cols: number;
  readonly blockSize: number;
  code(row: number, col: number): number;
  scale(row: number, block: number): number;
  readonly globalScale: number;
  readonly macroSize?: number;
  macro?(row: number, macro: number): number;
  readonly hadamard?: boolean;
}

export interface NaiveFloats {
  readonly rows: number;
  readonly cols: number;
  value(row: number, col: number): number;
}

/** Bits of a dtype: the number in its name, or a byte. */
const bitsOf = (dtype: string) => (/^F8|^BOOL/.test(dtype) ? 8 : Number(/\d+/.exec(dtype)?.[0]));

/** @throws Error where the tensors do not tile the data, each as long as its shape */
export function naiveSafetensors(file: Uint8Array): NaiveFile {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const start = 8 + Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, start))) as object;
  const tensors = new Map<string, NaiveTensor>();
  let metadata: [string, string][] = [];
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') metadata = Object.entries(entry);
    else {
      const { dtype, shape, data_offsets } = entry;
      const bytes = file.subarray(start + data_offsets[0], start + data_offsets[1]);
      tensors.set(name, { dtype, shape, bytes });
    }
  }
  const spans = [...tensors.values()].map(({ dtype, shape, bytes }) => {
    const bits = shape.reduce((product, size) => product * BigInt(size), BigInt(bitsOf(dtype)));
    if (bits !== 8n * BigInt(bytes.length)) throw new Error(`${bytes.length} bytes of [${shape}]`);
    return [bytes.byteOffset, bytes.byteOffset + bytes.length] as const;
  });
  spans.sort(([a, b], [c, d]) => a - c || b - d);
  const end = spans.reduce((at, [begin, next]) => {
    if (begin !== at) throw new Error(`byte ${at} is in no tensor or in two`);
    return next;
  }, file.byteOffset + start);
  if (end !== file.byteOffset + file.length) throw new Error('bytes after the last tensor');
  return { tensors, metadata: new Map(metadata) };
}

/** The files that an index names, as one. */
export function naiveShards(index: Uint8Array, files: Readonly<Record<string, Uint8Array>>): NaiveFile {
  const { weight_map } = JSON.parse(new TextDecoder().decode(index));
  const tensors = new Map<string, NaiveTensor>();
  const metadata = new Map<string, string>();
  for (const name of new Set(Object.values(weight_map) as string[])) {
    const one = naiveSafetensors(files[name]!);
    for (const [key, tensor] of one.tensors) {
      if (tensors.has(key)) throw new Error(`${key} twice`);
      tensors.set(key, tensor);
    }
    for (const [key, value] of one.metadata) if (!metadata.has(key)) metadata.set(key, value);
  }
  return { tensors, metadata };
}

const GGUF_TYPES: Readonly<Record<number, readonly [name: string, elements: number, bytes: number]>> = {
  0: ['F32', 1, 4],
  1: ['F16', 1, 2],
  30: ['BF16', 1, 2],
  39: ['MXFP4', 32, 17],
  40: ['NVFP4', 64, 36],
};

/** The tensors of GGUF files whose types matter here. */
export function naiveGgufFiles(files: readonly Uint8Array[]): NaiveFile {
  const tensors = new Map<string, NaiveTensor>();
  for (const file of files) {
    for (const { name, type, sizes, begin } of naiveGguf(file).tensors) {
      const [dtype, elements, size] = GGUF_TYPES[type] ?? ['other', 1, 0];
      const shape = sizes.map(Number).reverse();
      if (tensors.has(name)) throw new Error(`${name} twice`);
      const length = (shape.reduce((a, b) => a * b, 1) / elements) * size;
      tensors.set(name, { dtype, shape, bytes: file.subarray(Number(begin), Number(begin) + length) });
    }
  }
  return { tensors, metadata: new Map() };
}

const float32 = (bytes: Uint8Array, index: number) =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getFloat32(4 * index, true);

const ELEMENTS: Readonly<Record<string, number>> = { U8: 2, I8: 2, F4: 1, U32: 8 };

/** Codes of a tensor with two to the byte, the even one in the low nibble, in the order of its elements. */
function lowFirst({ bytes }: NaiveTensor, index: number): number {
  return (bytes[Math.floor(index / 2)]! / (index % 2 ? 16 : 1)) & 15;
}

/** Where the scale of a row and a block stands among tiles of 128 × 4. */
const swizzled = (row: number, block: number, blocks: number) =>
  ((row >> 7) * Math.ceil(blocks / 4) + (block >> 2)) * 512 +
  (row & 31) * 16 +
  ((row >> 5) & 3) * 4 +
  (block & 3);

/** What the loader should make of matrix `name`, given whose it says it is. */
export function naiveMatrix(
  producer: string,
  name: string,
  expert: number,
  { tensors, metadata }: NaiveFile,
): NaiveFp4 | NaiveFloats {
  const get = (key: string) => tensors.get(key)!;
  const module = name.replace(/weight$/, '');
  switch (producer) {
    case 'gpt-oss': {
      const mark = tensors.has(`${name}_blocks`) ? '_' : '.';
      const blocks = get(`${name}${mark}blocks`);
      const scales = get(`${name}${mark}scales`);
      const [, rows, perRow] = blocks.shape as [number, number, number];
      return {
        rows,
        cols: 32 * perRow,
        blockSize: 32,
        code: (row, col) => lowFirst(blocks, ((expert * rows + row) * perRow + (col >> 5)) * 32 + (col & 31)),
        scale: (row, block) => scales.bytes[(expert * rows + row) * perRow + block]!,
        globalScale: 1,
      };
    }
    case 'compressed-tensors': {
      const global = tensors.get(`${name}_global_scale`);
      return plain(get(`${name}_packed`), get(`${name}_scale`), 0, {
        blockSize: global ? 16 : 32,
        globalScale: global ? Math.fround(1 / float32(global.bytes, 0)) : 1,
      });
    }
    case 'modelopt':
    case 'quark': {
      const prefix = /(^|\.)weight$/.test(name) ? name : `${name}_weight`;
      const global = tensors.get(`${prefix}_scale_2`);
      const more = {
        blockSize: producer === 'modelopt' ? 16 : 32,
        globalScale: producer === 'modelopt' ? float32(global!.bytes, perExpert(global!, expert)) : 1,
      };
      const codes = get(name);
      const scales = get(`${prefix}_scale`);
      const [, depth, rows] = codes.shape as [number, number, number];
      const transposed =
        codes.shape.length === 3 &&
        scales.shape[2] === rows &&
        scales.shape[1]! * more.blockSize === 2 * depth;
      if (!transposed) return plain(codes, scales, expert, more);
      // [experts, cols/2, rows]: a byte has two values of a column of x's weights.
      return {
        rows,
        cols: 2 * depth,
        code: (row, col) =>
          (codes.bytes[(expert * depth + (col >> 1)) * rows + row]! >> (4 * (col & 1))) & 15,
        scale: (row, block) => scales.bytes[(expert * scales.shape[1]! + block) * rows + row]!,
        ...more,
      };
    }
    case 'mlx': {
      const codes = get(name);
      const scales = get(`${module}scales`);
      const blockSize = (8 * codes.shape.at(-1)!) / scales.shape.at(-1)!;
      const amax = tensors.get(`${module}global_scale`);
      const globalScale = amax ? Math.fround(float32(amax.bytes, perExpert(amax, expert)) / 2688) : 1;
      return plain(codes, scales, expert, { blockSize, globalScale });
    }
    case 'deepseek':
      return plain(get(name), get(`${module}scale`), 0, { blockSize: 32, globalScale: 1 });
    case 'comfyui': {
      const codes = get(name);
      const scales = get(`${name}_scale`);
      const cols = 2 * codes.shape[1]!;
      return {
        rows: codes.shape[0]!,
        cols,
        blockSize: 16,
        // The first value is in the high nibble.
        code: (row, col) => lowFirst(codes, row * cols + (col ^ 1)),
        scale: (row, block) => scales.bytes[swizzled(row, block, cols / 16)]!,
        globalScale: float32(get(`${name}_scale_2`).bytes, 0),
      };
    }
    case 'torchao': {
      const at = name.lastIndexOf('.') + 1;
      const part = (end: string) => `${name.slice(0, at)}_${name.slice(at)}_${end}`;
      const { _type, _data } = JSON.parse(metadata.get(name)!);
      const codes = get(part('qdata'));
      const scales = get(part('scale'));
      const global = tensors.get(part('per_tensor_scale'));
      const matrix = plain(codes, scales, expert, {
        blockSize: _type === 'NVFP4Tensor' ? 16 : 32,
        globalScale: global ? float32(global.bytes, perExpert(global, expert)) : 1,
      });
      if (!_data.is_swizzled_scales) return matrix;
      const size = scales.bytes.length / (codes.shape.length === 3 ? codes.shape[0]! : 1);
      const blocks = matrix.cols / matrix.blockSize;
      return {
        ...matrix,
        scale: (row, block) => scales.bytes[expert * size + swizzled(row, block, blocks)]!,
      };
    }
    case 'fp4-webgpu': {
      const [, blockSize, macroSize, rotated] = get(`${name}.fp4_layout`).bytes;
      const macros = tensors.get(`${name}.fp4_macro_scales`);
      const global = tensors.get(`${name}.fp4_global_scale`);
      const matrix = plain(get(`${name}.fp4_codes`), get(`${name}.fp4_scales`), expert, {
        blockSize: blockSize!,
        globalScale: global ? float32(global.bytes, perExpert(global, expert)) : 1,
      });
      const { rows, cols } = matrix;
      return {
        ...matrix,
        hadamard: rotated !== 0,
        ...(macros && {
          macroSize: macroSize!,
          macro: (row, macro) => macros.bytes[(expert * rows + row) * Math.ceil(cols / macroSize!) + macro]!,
        }),
      };
    }
    case 'gguf': {
      const { dtype, shape, bytes } = get(name);
      const [rows, cols] = shape.slice(-2) as [number, number];
      const scale =
        (/(^|\.)weight$/.test(name) && tensors.get(`${module}scale`)) || tensors.get(`${name}.scale`);
      const mx = dtype === 'MXFP4';
      const elements = mx ? 32 : 64;
      const size = mx ? 17 : 36;
      const block = (row: number, col: number) =>
        size * (((expert * rows + row) * cols + col - (col % elements)) / elements);
      return {
        rows,
        cols,
        blockSize: mx ? 32 : 16,
        code(row, col) {
          const at = block(row, col);
          const i = col % elements;
          if (mx) return (bytes[at + 1 + (i % 16)]! >> (i < 16 ? 0 : 4)) & 15;
          return (bytes[at + 4 + 8 * (i >> 4) + (i % 8)]! >> (i % 16 < 8 ? 0 : 4)) & 15;
        },
        scale: (row, index) =>
          mx ? bytes[block(row, 32 * index)]! : bytes[block(row, 16 * index) + (index % 4)]! & 127,
        globalScale: scale ? float32(scale.bytes, perExpert(scale, expert)) : 1,
      };
    }
    default:
      return floats(get(name), expert);
  }
}

const perExpert = ({ bytes }: NaiveTensor, expert: number) => (bytes.length > 4 ? expert : 0);

/** Codes and scales row after row. */
function plain(
  codes: NaiveTensor,
  scales: NaiveTensor,
  expert: number,
  more: { blockSize: number; globalScale: number },
): NaiveFp4 {
  const rows = codes.shape.at(-2)!;
  const cols = codes.shape.at(-1)! * ELEMENTS[codes.dtype]!;
  const blocks = scales.shape.at(-1)!;
  return {
    rows,
    cols,
    code: (row, col) => lowFirst(codes, (expert * rows + row) * cols + col),
    scale: (row, block) => scales.bytes[(expert * rows + row) * blocks + block]!,
    ...more,
  };
}

function floats({ dtype, shape, bytes }: NaiveTensor, expert: number): NaiveFloats {
  const [rows, cols] = shape.slice(-2) as [number, number];
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const ieee = (code: number, exponentBits: number, mantissaBits: number) => {
    const mantissa = code % 2 ** mantissaBits;
    const exponent = Math.floor(code / 2 ** mantissaBits) % 2 ** exponentBits;
    const sign = code >= 2 ** (exponentBits + mantissaBits) ? -1 : 1;
    const bias = 2 ** (exponentBits - 1) - 1;
    if (exponent === 0) return sign * mantissa * 2 ** (1 - bias - mantissaBits);
    return sign * (1 + mantissa / 2 ** mantissaBits) * 2 ** (exponent - bias);
  };
  const top = (code: number, bits: number, low: number) =>
    code % 2 ** bits === low ? (code >= 2 ** bits ? -1 : 1) * Number.POSITIVE_INFINITY : Number.NaN;
  const at: Record<string, (i: number) => number> = {
    F32: (i) => view.getFloat32(4 * i, true),
    BF16: (i) => {
      const code = view.getUint16(2 * i, true);
      return code % 0x8000 >= 0x7f80 ? top(code, 15, 0x7f80) : ieee(code, 8, 7);
    },
    F16: (i) => {
      const code = view.getUint16(2 * i, true);
      return code % 0x8000 >= 0x7c00 ? top(code, 15, 0x7c00) : ieee(code, 5, 10);
    },
    F8_E5M2: (i) => (bytes[i]! % 128 >= 0x7c ? top(bytes[i]!, 7, 0x7c) : ieee(bytes[i]!, 5, 2)),
    // Finite up to 448; only the last code of each sign is NaN.
    F8_E4M3: (i) => (bytes[i]! % 128 === 127 ? Number.NaN : ieee(bytes[i]!, 4, 3)),
  };
  return { rows, cols, value: (row, col) => at[dtype]!((expert * rows + row) * cols + col) };
}
