/**
 * NVIDIA ModelOpt, NVFP4: `P.weight` U8 [rows, cols/2], `P.weight_scale` E4M3 [rows, cols/16], `P.weight_scale_2` F32, a
 * multiplier. Experts in one tensor are parameters of other names (`X`, `X_weight_scale`, `X_weight_scale_2`) and stand
 * transposed, codes [experts, cols/2, rows] and scales [experts, cols/16, rows]: two values of a column share a byte.
 * Shapes tell the two apart, as only one of them fits. W4A8_NVFP4_FP8 stores the same. ComfyUI has the same names for
 * other bytes; see comfy.ts, which is asked first. Source: NVIDIA/Model-Optimizer, qtensor/nvfp4_tensor.py.
 */
import { showShape } from '../dtype.js';
import { quote } from '../strict-json.js';
import {
  blockLayout,
  type Context,
  type Layout,
  matrixShape,
  type Producer,
  type RowMajor,
  refusePreQuantScale,
  refuseRotations,
  requireTensor,
  rowMajorLayout,
  scalePrefix,
} from './producer.js';

export const modelOpt: Producer = {
  id: 'modelopt',
  detect(tensor, siblings) {
    if (tensor.dtype !== 'U8') return undefined;
    const prefix = scalePrefix(tensor.name);
    const scales = siblings.get(`${prefix}_scale`);
    const global = siblings.get(`${prefix}_scale_2`);
    if (scales?.dtype !== 'F8_E4M3' && !global) return undefined;
    return {
      name: tensor.name,
      tensors: [tensor, scales, global],
      resolve(context) {
        refusePreQuantScale(tensor.name, siblings, context);
        refuseRotations(tensor.name, siblings, context);
        requireTensor(tensor, tensor.name, ['U8'], context, [2, 3]);
        return perWeightLayout(
          {
            format: 'nvfp4',
            blockSize: 16,
            codes: tensor,
            scales: requireTensor(scales, `${prefix}_scale`, ['F8_E4M3'], context, [tensor.shape.length]),
            global: {
              tensor: requireTensor(global, `${prefix}_scale_2`, ['F32'], context),
              convention: 'multiplier',
            },
          },
          context,
        );
      },
    };
  },
};

/** [rows, cols], [experts, rows, cols] or, transposed, [experts, cols, rows], whichever the shapes are. */
export function perWeightLayout(matrix: RowMajor, context: Context): Layout {
  return isTransposed(matrix) ? transposedLayout(matrix, context) : rowMajorLayout(matrix, context);
}

/** Rows in their place and blocks in cols/blockSize cannot both be true of both orders, sizes being positive. */
function isTransposed({ codes, scales, blockSize }: RowMajor): boolean {
  if (codes.shape.length !== 3 || scales.shape.length !== 3 || codes.shape.includes(0)) return false;
  const [, depth, rows] = codes.shape as [number, number, number];
  return scales.shape[2] === rows && scales.shape[1]! * blockSize === 2 * depth;
}

function transposedLayout(matrix: RowMajor, context: Context): Layout {
  const { codes, scales } = matrix;
  const [experts, depth, rows] = codes.shape as [number, number, number];
  if (scales.shape[0] !== experts) {
    context.fail(
      `codes ${showShape(codes.shape)} and ${quote(scales.name)} ${showShape(scales.shape)} differ in experts`,
    );
  }
  return blockLayout(
    {
      ...matrix,
      ...matrixShape([experts, rows, 2 * depth], context),
      toCodes: (bytes) => transpose(bytes, depth, rows),
      toScales: (bytes) => transpose(bytes, scales.shape[1]!, rows),
    },
    context,
  );
}

/** Bytes [rows, cols] as [cols, rows], in squares that stay in the cache. */
function transpose(bytes: Uint8Array, rows: number, cols: number): Uint8Array {
  const out = new Uint8Array(bytes.length);
  const side = 64;
  for (let top = 0; top < rows; top += side) {
    const bottom = Math.min(top + side, rows);
    for (let left = 0; left < cols; left += side) {
      const right = Math.min(left + side, cols);
      for (let col = left; col < right; col++) {
        for (let row = top; row < bottom; row++) out[col * rows + row] = bytes[row * cols + col]!;
      }
    }
  }
  return out;
}
