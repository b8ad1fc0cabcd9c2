/**
 * This library's own convention: the fields of a QuantizedMatrix as they are, beside each other. Of a matrix `X`:
 *
 * | tensor                | dtype | shape | |
 * |---|---|---|---|
 * | `X.fp4_codes`         | U8 | [rows, cols/2] | the first value in the low nibble |
 * | `X.fp4_scales`        | F8_E8M0 (mxfp4) or F8_E4M3 (nvfp4) | [rows, cols/block] | block 32 or 16; nvfp4 16 |
 * | `X.fp4_macro_scales`  | U8 | [rows, ceil(cols/macro)] | E0M8, with MBS |
 * | `X.fp4_global_scale`  | F32 | [] | nvfp4: a multiplier |
 * | `X.fp4_layout`        | U8 | [4] | 1, the version; block; macro, 0 without MBS; 16 where values were rotated by the Hadamard transform of that width, else 0 |
 *
 * Matrices of experts are stacked: each shape but the layout's has the number of experts in front.
 *
 * Nothing is left to metadata, which tools that merge or cut files lose, and `fp4_layout` notices a tensor that is gone.
 */
import { InvalidArgumentError } from '../../errors.js';
import { MACRO_SIZES, type MacroSize } from '../../formats/formats.js';
import type { QuantizedMatrix } from '../../matrix/quantized-matrix.js';
import type { StoredTensor } from '../container.js';
import { type Dtype, showShape } from '../dtype.js';
import { quote } from '../strict-json.js';
import type { TensorHeader } from '../write-safetensors.js';
import {
  blockLayout,
  type Context,
  codeShape,
  matrixShape,
  type Producer,
  type ReadPart,
  requireTensor,
  sameShape,
} from './producer.js';

const CODES = '.fp4_codes';
const VERSION = 1;
const HADAMARD_WIDTH = 16;

export const canonical: Producer = {
  id: 'fp4-webgpu',
  detect(tensor, siblings) {
    if (!tensor.name.endsWith(CODES)) return undefined;
    const name = tensor.name.slice(0, -CODES.length);
    const part = (suffix: string) => siblings.get(`${name}.fp4_${suffix}`);
    const scales = part('scales');
    const macro = part('macro_scales');
    const global = part('global_scale');
    const description = part('layout');
    return {
      name,
      tensors: [tensor, scales, macro, global, description],
      resolve(context) {
        const codes = requireTensor(tensor, tensor.name, ['U8'], context, [2, 3]);
        const checked = requireTensor(scales, `${name}.fp4_scales`, ['F8_E8M0', 'F8_E4M3'], context, [2, 3]);
        const format = checked.dtype === 'F8_E4M3' ? 'nvfp4' : 'mxfp4';
        const shape = codeShape(codes);
        const { rows, cols, experts } = matrixShape(shape, context);
        const perRow = (size: number) => [...shape.slice(0, -1), Math.ceil(cols / size)];
        const blockSize = [32, 16].find(
          (size) =>
            (format === 'mxfp4' || size === 16) &&
            cols % size === 0 &&
            sameShape(checked.shape, perRow(size)),
        );
        if (!blockSize) {
          return context.fail(
            `codes of ${showShape(shape)} values and ${format} scales of ${showShape(checked.shape)} do not match`,
          );
        }
        if ((global !== undefined) !== (format === 'nvfp4')) {
          context.fail(`${quote(`${name}.fp4_global_scale`)} goes with nvfp4, and with it always`);
        }
        if (macro && format === 'nvfp4') context.fail(`${quote(macro.name)} goes with mxfp4`);
        const described = requireTensor(description, `${name}.fp4_layout`, ['U8'], context, [1]);
        if (described.byteLength !== 4) context.fail(`${quote(described.name)} has no 4 bytes`);
        const macroSizes = macro && macroSizesOf(macro, perRow, context);
        return blockLayout(
          {
            format,
            blockSize,
            rows,
            cols,
            experts,
            codes,
            scales: checked,
            global: global && { tensor: global, convention: 'multiplier' },
            // The smallest is nearest to the bits that are stored; `fp4_layout` says which it is.
            macro: macroSizes && { tensor: macro, size: macroSizes.at(-1)! },
            describe: (read: ReadPart) => readLayout(described, read, blockSize, macroSizes, context),
            describeBytes: 4,
          },
          context,
        );
      },
    };
  },
};

/** The macro sizes that a shape fits, falling: more than one where a row is a single macro block. */
function macroSizesOf(
  macro: StoredTensor,
  perRow: (size: number) => number[],
  context: Context,
): MacroSize[] {
  requireTensor(macro, macro.name, ['U8'], context);
  const sizes = MACRO_SIZES.filter((size) => sameShape(macro.shape, perRow(size)));
  if (sizes.length === 0) {
    context.fail(
      `${quote(macro.name)} is ${showShape(macro.shape)}, for no macro block of ${MACRO_SIZES.join(', ')}`,
    );
  }
  return sizes;
}

async function readLayout(
  tensor: StoredTensor,
  read: ReadPart,
  blockSize: number,
  macroSizes: readonly MacroSize[] | undefined,
  { fail, refuse }: Context,
) {
  const [version, block, macro, hadamard] = (await read(tensor, 0, 4)) as unknown as number[];
  if (version !== VERSION) refuse(`${quote(tensor.name)} is of version ${version}; known is ${VERSION}`);
  if (block !== blockSize)
    fail(`${quote(tensor.name)} says block ${block}; its scales are one per ${blockSize}`);
  const macroSize = macroSizes?.find((size) => size === macro);
  if (macroSize === undefined && (macroSizes || macro !== 0)) {
    fail(
      `${quote(tensor.name)} says macro block ${macro}; macro scales are ${macroSizes ? 'others' : 'missing'}`,
    );
  }
  if (hadamard !== 0 && hadamard !== HADAMARD_WIDTH) {
    refuse(`it is rotated by a transform ${hadamard} wide; known is ${HADAMARD_WIDTH}`);
  }
  return { hadamard: hadamard !== 0, ...(macroSize && { macroSize }) };
}

/** What the headers of a matrix's tensors depend on. */
export type MatrixShape = Pick<QuantizedMatrix, 'format' | 'rows' | 'cols' | 'blockSize' | 'macroSize'> & {
  /** How many matrices of that shape are stacked; undefined for one that is not. */
  readonly experts?: number | undefined;
};

/** The tensors of a matrix before its values are there, for `layoutSafetensors`. */
export function matrixHeaders(name: string, shape: MatrixShape): TensorHeader[] {
  if (name === '') throw new InvalidArgumentError('checkpoint', 'a matrix needs a name');
  const { rows, cols, blockSize, macroSize, experts, format } = shape;
  const stack = experts === undefined ? [] : [experts];
  const tensor = (suffix: Suffix, dtype: Dtype, sizes: number[]): TensorHeader => ({
    name: partName(name, suffix),
    dtype,
    shape: sizes,
  });
  return [
    tensor('codes', 'U8', [...stack, rows, cols / 2]),
    tensor('scales', format === 'nvfp4' ? 'F8_E4M3' : 'F8_E8M0', [...stack, rows, cols / blockSize]),
    ...(macroSize ? [tensor('macro_scales', 'U8', [...stack, rows, Math.ceil(cols / macroSize)])] : []),
    ...(format === 'nvfp4' ? [tensor('global_scale', 'F32', stack)] : []),
    tensor('layout', 'U8', [4]),
  ];
}

/** Bytes of a matrix, or of some of its rows, for one of its tensors. */
export interface MatrixPart {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** What the bytes are of: the rows given, each expert, or all. */
  readonly per: 'row' | 'expert' | 'tensor';
}

/** What a matrix, an expert's or some rows of either, has for the tensors of `matrixHeaders`, in their order. */
export function matrixParts(name: string, q: QuantizedMatrix): MatrixPart[] {
  const part = (suffix: Suffix, per: MatrixPart['per'], bytes: Uint8Array): MatrixPart => ({
    name: partName(name, suffix),
    bytes,
    per,
  });
  const layout = [VERSION, q.blockSize, q.macroSize ?? 0, q.hadamard ? HADAMARD_WIDTH : 0];
  const globalScale = new Uint8Array(Float32Array.of(q.globalScale).buffer);
  return [
    part('codes', 'row', q.codes),
    part('scales', 'row', q.scales),
    ...(q.macroScales ? [part('macro_scales', 'row', q.macroScales)] : []),
    ...(q.format === 'nvfp4' ? [part('global_scale', 'expert', globalScale)] : []),
    part('layout', 'tensor', Uint8Array.from(layout)),
  ];
}

type Suffix = 'codes' | 'scales' | 'macro_scales' | 'global_scale' | 'layout';

function partName(name: string, suffix: Suffix): string {
  return `${name}.fp4_${suffix}`;
}
