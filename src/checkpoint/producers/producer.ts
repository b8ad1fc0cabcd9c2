/**
 * What a producer module is, and the case that most of them are: a tensor of codes and a tensor of scales beside it.
 * A module recognises its matrices by which tensors stand beside each other and by their dtypes. A configuration can
 * refuse a matrix, it never makes one.
 */
import { E4M3_NAN } from '../../formats/e4m3.js';
import { E8M0_NAN } from '../../formats/e8m0.js';
import { FORMATS, type Format, type MacroSize } from '../../formats/formats.js';
import { bitsPerValue, type MatrixHeader, type QuantizedMatrix } from '../../matrix/quantized-matrix.js';
import type { StoredTensor } from '../container.js';
import { type FloatDtype, showShape } from '../dtype.js';
import { type GlobalScaleConvention, globalMultiplier } from '../global-scale.js';
import type { FloatMatrix } from '../matrix-source.js';
import { type JsonValue, quote } from '../strict-json.js';

/** The tensors of a container, by name, and the texts that come with it. */
export interface Siblings {
  get(name: string): StoredTensor | undefined;
  /** Whether any tensor's name ends so. */
  hasSuffix(suffix: string): boolean;
  readonly metadata: ReadonlyMap<string, string>;
  /** config.json, where the caller could open one. */
  readonly config: JsonValue | undefined;
}

export interface Producer {
  /** As `MatrixInfo.producer` shows it. */
  readonly id: string;
  /** The matrix whose values are in `tensor`; undefined where that is not this producer's. Throws nothing. */
  detect(tensor: StoredTensor, siblings: Siblings): Claim | undefined;
}

export interface Claim {
  /** The name that the matrix would have in floats: `….weight` of `….weight_packed`. */
  readonly name: string;
  /** What belongs to the matrix, and is no matrix on its own. */
  readonly tensors: readonly (StoredTensor | undefined)[];
  /** Checks dtypes and shapes. @throws CheckpointError, UnsupportedError by `context` */
  resolve(context: Context): Layout;
}

/** Errors that name the file, the matrix and the producer. */
export interface Context {
  /** The file contradicts itself. */
  fail(message: string): never;
  /** The file is right, and this library does not do it. */
  refuse(message: string): never;
}

/** Bytes `start` to `end` of a tensor. They may alias the source. */
export type ReadPart = (tensor: StoredTensor, start: number, end: number) => Promise<Uint8Array>;

/** A matrix, or one an expert, as headers describe it. */
export interface Layout {
  readonly format: Format | FloatDtype;
  readonly blockSize?: number;
  readonly rows: number;
  readonly cols: number;
  /** How many matrices of that shape; undefined for a tensor without that dimension. */
  readonly experts: number | undefined;
  readonly bitsPerWeight: number;
  /** Stored bytes of all experts, padding included. */
  readonly bytes: number;
  /** Bytes that `load` reads. */
  readonly bytesPerExpert: number;
  /** Reads what there is beside codes and scales; absent for floats. */
  header?(read: ReadPart, expert: number): Promise<MatrixHeader>;
  load(read: ReadPart, expert: number): Promise<QuantizedMatrix | FloatMatrix>;
}

/** Values in an element of each dtype that holds codes. */
const CODES_PER_ELEMENT: Readonly<Record<string, number>> = { U8: 2, I8: 2, F4: 1, U32: 8 };
export const E8M0_DTYPES = ['U8', 'F8_E8M0'] as const;

/** @throws by `fail` unless the tensor is there and has one of the dtypes, and one of the ranks if given */
export function requireTensor(
  tensor: StoredTensor | undefined,
  name: string,
  dtypes: readonly string[],
  { fail }: Context,
  ranks?: readonly number[],
): StoredTensor {
  if (!tensor) return fail(`tensor ${quote(name)} is missing`);
  const what = `tensor ${quote(name)} is ${tensor.dtype} ${showShape(tensor.shape)}`;
  if (!dtypes.includes(tensor.dtype)) fail(`${what}; it must be ${dtypes.join(' or ')}`);
  if (ranks && !ranks.includes(tensor.shape.length)) {
    fail(`${what}; it must have ${ranks.join(' or ')} dimensions`);
  }
  return tensor;
}

/** The shape of a tensor of codes, in values. */
export function codeShape({ dtype, shape }: StoredTensor): number[] {
  return shape.map((size, i) => (i === shape.length - 1 ? size * CODES_PER_ELEMENT[dtype]! : size));
}

/** Shape [rows, cols] or [experts, rows, cols] by its parts. @throws by `fail` where a size is 0 */
export function matrixShape(shape: readonly number[], { fail }: Context) {
  if (shape.includes(0)) fail(`shape ${showShape(shape)} has no values`);
  const [rows, cols] = shape.slice(-2) as [number, number];
  return { rows, cols, experts: shape.length === 3 ? shape[0]! : undefined };
}

export interface GlobalScale {
  readonly tensor: StoredTensor;
  readonly convention: GlobalScaleConvention;
}

/** Codes and scales in any order, and how an expert's become canonical. */
export interface BlockLayout {
  readonly format: Format;
  readonly blockSize: number;
  readonly rows: number;
  readonly cols: number;
  readonly experts: number | undefined;
  readonly codes: StoredTensor;
  readonly scales: StoredTensor;
  readonly global?: GlobalScale | undefined;
  readonly macro?: { readonly tensor: StoredTensor; readonly size: MacroSize } | undefined;
  /** Canonical codes [rows, cols/2] and scales [rows, cols/blockSize] of an expert's bytes; as they are by default. */
  toCodes?(bytes: Uint8Array): Uint8Array;
  toScales?(bytes: Uint8Array): Uint8Array;
  /** What else has to be read before codes are; what it gives goes into the matrix. */
  describe?(read: ReadPart, expert: number): Promise<Partial<Pick<MatrixHeader, 'hadamard' | 'macroSize'>>>;
  /** Bytes that `describe` reads. */
  readonly describeBytes?: number;
}

/**
 * Gives how to read an expert's tensor scale as a multiplier.
 * @throws by `fail` unless it is F32, and one for all of `count` matrices or one for each
 */
export function globalScaleReader({ tensor, convention }: GlobalScale, count: number, context: Context) {
  requireTensor(tensor, tensor.name, ['F32'], context);
  // [] or [1] is one for all; [experts], [experts, 1, 1] one each.
  const [first = 1, ...rest] = tensor.shape;
  if (!(first === count || (first === 1 && rest.length === 0)) || rest.some((size) => size !== 1)) {
    context.fail(`global scale ${quote(tensor.name)} is ${showShape(tensor.shape)}, for ${count} matrices`);
  }
  return async (read: ReadPart, expert: number): Promise<number> => {
    const at = tensor.byteLength > 4 ? 4 * expert : 0;
    const stored = float32At(await read(tensor, at, at + 4));
    return globalMultiplier(stored, convention, context.fail);
  };
}

export function blockLayout(layout: BlockLayout, context: Context): Layout {
  const { format, blockSize, rows, cols, experts, codes, scales, global, macro } = layout;
  const count = experts ?? 1;
  const readGlobal = global && globalScaleReader(global, count, context);
  /** An expert's part of a tensor. */
  const part = async (read: ReadPart, tensor: StoredTensor, expert: number) => {
    const size = tensor.byteLength / count;
    return read(tensor, expert * size, (expert + 1) * size);
  };
  const stored = [codes, scales, ...(macro ? [macro.tensor] : [])];
  const header = async (read: ReadPart, expert: number): Promise<MatrixHeader> => {
    const more = await layout.describe?.(read, expert);
    const globalScale = (await readGlobal?.(read, expert)) ?? 1;
    const macroSize = macro && { macroSize: macro.size };
    return { format, rows, cols, blockSize, ...macroSize, globalScale, hadamard: false, ...more };
  };
  const bytes = stored.reduce((sum, tensor) => sum + tensor.byteLength, global?.tensor.byteLength ?? 0);
  return {
    format,
    blockSize,
    rows,
    cols,
    experts,
    bitsPerWeight: bitsPerValue({ format, blockSize, ...(macro && { macroSize: macro.size }) }),
    bytes,
    bytesPerExpert:
      (bytes - (global?.tensor.byteLength ?? 0)) / count + (global ? 4 : 0) + (layout.describeBytes ?? 0),
    header,
    async load(read, expert) {
      // The small tensors first: what is wrong with them is known before the codes are there.
      const known = await header(read, expert);
      const scaleBytes = await part(read, scales, expert);
      const canonicalScales = layout.toScales?.(scaleBytes) ?? scaleBytes;
      checkScales(canonicalScales, format, cols / blockSize, context);
      const macroScales = macro && { macroScales: await part(read, macro.tensor, expert) };
      const codeBytes = await part(read, codes, expert);
      const canonicalCodes = layout.toCodes?.(codeBytes) ?? codeBytes;
      return { ...known, codes: canonicalCodes, scales: canonicalScales, ...macroScales };
    },
  };
}

export interface RowMajor {
  readonly codes: StoredTensor;
  readonly scales: StoredTensor;
  readonly format: Format;
  readonly blockSize: number;
  readonly global?: GlobalScale | undefined;
}

/** Codes [(experts,) rows, cols/2] and scales [(experts,) rows, cols/blockSize], both with cols contiguous. */
export function rowMajorLayout(matrix: RowMajor, context: Context): Layout {
  const { codes, scales, blockSize } = matrix;
  const shape = codeShape(codes);
  const dimensions = matrixShape(shape, context);
  const expected = shape.map((size, i) => (i === shape.length - 1 ? size / blockSize : size));
  if (!sameShape(scales.shape, expected)) {
    context.fail(
      `codes of ${showShape(shape)} values need scales of ${showShape(expected)}, one per ${blockSize}; ` +
        `${quote(scales.name)} is ${showShape(scales.shape)}`,
    );
  }
  return blockLayout({ ...matrix, ...dimensions }, context);
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}

/** Refuses what is no non-negative number: NaN would spread over a row of y, and a sign is no producer's intent. */
function checkScales(scales: Uint8Array, format: Format, blocksPerRow: number, { fail }: Context): void {
  const { maxScaleByte, scaleFormat } = FORMATS[format];
  const bad = scales.findIndex((byte) => byte > maxScaleByte);
  if (bad < 0) return;
  const byte = scales[bad]!;
  const nan = format === 'mxfp4' ? byte === E8M0_NAN : (byte & 0x7f) === E4M3_NAN;
  fail(
    `scale byte ${byte} at row ${Math.floor(bad / blocksPerRow)}, block ${bad % blocksPerRow} ` +
      `is ${nan ? 'NaN' : 'negative'} in ${scaleFormat.toUpperCase()}`,
  );
}

function float32At(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getFloat32(0, true);
}

/**
 * Where tensors of a weight's scales stand: `P.weight` has `P.weight_scale`, but `P.gate_up_proj`, a parameter of
 * another name, has `P.gate_up_proj_weight_scale`.
 */
export function scalePrefix(name: string): string {
  return name === 'weight' || name.endsWith('.weight') ? name : `${name}_weight`;
}

/** `P.suffix` of a matrix `P.weight`. */
export function besideWeight(name: string, suffix: string): string {
  return name.slice(0, name.length - 'weight'.length) + suffix;
}

/** Whether a name is `weight` or ends in `.weight`, as those that `besideWeight` takes. */
export function isWeight(name: string): boolean {
  return name === 'weight' || name.endsWith('.weight');
}

/** Refuses weights whose inputs have to be scaled per channel first (AWQ of ModelOpt, also in ComfyUI files). */
export function refusePreQuantScale(name: string, siblings: Siblings, { refuse }: Context): void {
  const names = isWeight(name)
    ? ['pre_quant_scale', 'input_quantizer._pre_quant_scale'].map((suffix) => besideWeight(name, suffix))
    : [`${name}_pre_quant_scale`, `${name}_input_quantizer._pre_quant_scale`];
  const found = names.find((candidate) => siblings.get(candidate));
  if (found) {
    refuse(
      `${quote(found)} scales each channel of x before the product (AWQ); fold it into the layer before it`,
    );
  }
}

/** Refuses U8 scales that are one per 16 values: those are E5M3, of Quark and of compressed-tensors, and never E8M0. */
export function refuseE5m3(codes: StoredTensor, scales: StoredTensor, { refuse }: Context): void {
  if (scales.dtype === 'U8' && codeShape(codes).at(-1) === 16 * scales.shape.at(-1)!) {
    refuse(`${quote(scales.name)} has a U8 scale per 16 values: E5M3, it seems, not E8M0`);
  }
}

/** Beside a weight whose x has to be rotated: Quark's matrix, or what AutoRound makes one from. */
const ROTATIONS = ['input_rotation', 'spinquant_r1_type', 'spinquant_r4_type'];
/** Where models of several parts keep theirs. */
const CONFIG_PATHS = [
  ['quantization_config'],
  ['compression_config'],
  ['text_config', 'quantization_config'],
  ['text_config', 'compression_config'],
];

/**
 * Refuses weights that were rotated together with an x that has to be rotated each time, by a tensor beside them or by
 * config.json, which may be the only trace. Rotations that are wholly inside the weights (R1 and R2, offline) are none.
 */
export function refuseRotations(name: string, siblings: Siblings, { refuse }: Context): void {
  const prefix = isWeight(name) ? besideWeight(name, '') : `${name}_`;
  const found = ROTATIONS.map((suffix) => prefix + suffix).find((candidate) => siblings.get(candidate));
  if (found) refuse(`${quote(found)} rotates x before the product, which is not done`);
  for (const path of CONFIG_PATHS) {
    const config = path.reduce<JsonValue | undefined>(memberOf, siblings.config);
    const key = rotationKey(config, siblings);
    if (key) refuse(`${[...path, key].join('.')} in config.json asks for rotations of x, which are not done`);
  }
}

/** The member of a quantization configuration that says that x is rotated. */
function rotationKey(config: JsonValue | undefined, siblings: Siblings): string | undefined {
  // compressed-tensors: any transform.
  const transforms = memberOf(config, 'transform_config');
  if (transforms !== undefined && transforms !== null && !isEmptyConfig(transforms))
    return 'transform_config';
  // Quark: a list of algorithms.
  const algorithms = memberOf(config, 'algo_config');
  const list = Array.isArray(algorithms) ? algorithms : [algorithms];
  if (list.some((algorithm) => memberOf(algorithm, 'name') === 'rotation' && isOnline(algorithm))) {
    return 'algo_config';
  }
  // AutoRound: its tensors say which layers, and where there are any, the others are as they seem.
  if (ROTATIONS.some((suffix) => siblings.hasSuffix(`.${suffix}`))) return undefined;
  return ['spinquant_config', 'rotation_config', 'hadamard_config'].find((key) =>
    isOnline(memberOf(config, key)),
  );
}

function isOnline(rotation: JsonValue | undefined): boolean {
  const flags = ['r4', 'online_r1_rotation'].some((key) => memberOf(rotation, key) === true);
  return flags || memberOf(rotation, 'hadamard_type') !== undefined;
}

/** `{}`, or groups of none. */
function isEmptyConfig(transforms: JsonValue): boolean {
  if (!(transforms instanceof Map)) return false;
  const groups = transforms.get('config_groups');
  return transforms.size === 0 || (transforms.size === 1 && groups instanceof Map && groups.size === 0);
}

function memberOf(value: JsonValue | undefined, key: string): JsonValue | undefined {
  return value instanceof Map ? value.get(key) : undefined;
}
