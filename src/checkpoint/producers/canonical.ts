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
 * Nothing is left to metadata, which tools that merge or cut files lose, and `fp4_layout` notices a tensor that is gone.
 */
import { InvalidArgumentError } from '../../errors.js';
import { MACRO_SIZES, type MacroSize } from '../../formats/formats.js';
import { type QuantizedMatrix, validateMatrix } from '../../matrix/quantized-matrix.js';
import type { StoredTensor } from '../container.js';
import { type Dtype, showShape } from '../dtype.js';
import { quote } from '../strict-json.js';
import type { TensorData } from '../write-safetensors.js';
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
        const codes = requireTensor(tensor, tensor.name, ['U8'], context, [2]);
        const checked = requireTensor(scales, `${name}.fp4_scales`, ['F8_E8M0', 'F8_E4M3'], context, [2]);
        const format = checked.dtype === 'F8_E4M3' ? 'nvfp4' : 'mxfp4';
        const shape = codeShape(codes);
        const { rows, cols, experts } = matrixShape(shape, context);
        const blockSize = [32, 16].find(
          (size) => (format === 'mxfp4' || size === 16) && sameShape(checked.shape, [rows, cols / size]),
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
        const macroSizes = macro && macroSizesOf(macro, rows, cols, context);
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
function macroSizesOf(macro: StoredTensor, rows: number, cols: number, context: Context): MacroSize[] {
  requireTensor(macro, macro.name, ['U8'], context, [2]);
  const sizes = MACRO_SIZES.filter((size) => sameShape(macro.shape, [rows, Math.ceil(cols / size)]));
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

/**
 * A matrix as tensors for `writeSafetensors`, which `openCheckpoint` reads back under `name`.
 * @throws InvalidArgumentError where the matrix is not what its fields say
 */
export function matrixTensors(name: string, q: QuantizedMatrix): TensorData[] {
  if (name === '') throw new InvalidArgumentError('checkpoint', 'a matrix needs a name');
  validateMatrix(q);
  const { rows, cols, format } = q;
  const tensor = (suffix: string, dtype: Dtype, shape: number[], bytes: Uint8Array): TensorData => ({
    name: `${name}.fp4_${suffix}`,
    dtype,
    shape,
    bytes,
  });
  const scaleDtype = format === 'nvfp4' ? 'F8_E4M3' : 'F8_E8M0';
  const tensors = [
    tensor('codes', 'U8', [rows, cols / 2], q.codes),
    tensor('scales', scaleDtype, [rows, cols / q.blockSize], q.scales),
  ];
  if (q.macroScales && q.macroSize) {
    tensors.push(tensor('macro_scales', 'U8', [rows, Math.ceil(cols / q.macroSize)], q.macroScales));
  }
  if (format === 'nvfp4') {
    const bytes = new Uint8Array(Float32Array.of(q.globalScale).buffer);
    tensors.push(tensor('global_scale', 'F32', [], bytes));
  }
  const layout = [VERSION, q.blockSize, q.macroSize ?? 0, q.hadamard ? HADAMARD_WIDTH : 0];
  tensors.push(tensor('layout', 'U8', [layout.length], Uint8Array.from(layout)));
  return tensors;
}
