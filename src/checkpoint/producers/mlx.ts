/**
 * MLX, modes `mxfp4` and `nvfp4`: `P.weight` U32 [(experts,) rows, cols/8], the first code in the lowest bits, which in
 * little-endian bytes is the canonical order; `P.scales` U8, E8M0 per 32 values or the bits of E4M3 per 16. `P.biases`
 * marks affine integers. A `P.global_scale`, which MLX's layers do not store so far, would be amax.
 * Source: ml-explore/mlx, mlx/ops.cpp, python/mlx/nn/layers/quantized.py.
 */
import { showShape } from '../dtype.js';
import { quote } from '../strict-json.js';
import {
  besideWeight,
  codeShape,
  isWeight,
  type Producer,
  requireTensor,
  rowMajorLayout,
} from './producer.js';

export const mlx: Producer = {
  id: 'mlx',
  detect(tensor, siblings) {
    if (tensor.dtype !== 'U32' || !isWeight(tensor.name)) return undefined;
    const beside = (suffix: string) => siblings.get(besideWeight(tensor.name, suffix));
    const scales = beside('scales');
    const biases = beside('biases');
    const global = beside('global_scale');
    if (!scales && !biases) return undefined;
    return {
      name: tensor.name,
      tensors: [tensor, scales, biases, global],
      resolve(context) {
        if (biases) context.refuse(`${quote(biases.name)} beside it: affine integers, not FP4`);
        const scalesName = besideWeight(tensor.name, 'scales');
        requireTensor(tensor, tensor.name, ['U32'], context, [2, 3]);
        const checked = requireTensor(scales, scalesName, ['U8'], context, [tensor.shape.length]);
        const shape = codeShape(tensor);
        const blockSize = shape.at(-1)! / checked.shape.at(-1)!;
        if (blockSize !== 16 && blockSize !== 32) {
          context.refuse(
            `${showShape(shape)} values of 4 bits with scales ${showShape(checked.shape)}: ` +
              'neither mxfp4, one per 32, nor nvfp4, one per 16',
          );
        }
        if (blockSize === 32) {
          if (global) context.refuse(`${quote(global.name)} with a scale per 32 values`);
          return rowMajorLayout({ format: 'mxfp4', blockSize, codes: tensor, scales: checked }, context);
        }
        return rowMajorLayout(
          {
            format: 'nvfp4',
            blockSize: 16,
            codes: tensor,
            scales: checked,
            global: global && { tensor: global, convention: 'amax' },
          },
          context,
        );
      },
    };
  },
};
