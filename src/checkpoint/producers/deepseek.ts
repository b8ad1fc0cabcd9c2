/**
 * DeepSeek-V4, experts: `P.weight` I8 [rows, cols/2] and `P.scale` E8M0 [rows, cols/32]. The rest of such a checkpoint is
 * FP8 with a scale per 128 × 128, and its configuration calls all of it fp8.
 */
import { besideWeight, isWeight, type Producer, requireTensor, rowMajorLayout } from './producer.js';

export const deepSeek: Producer = {
  id: 'deepseek',
  detect(tensor, siblings) {
    if (tensor.dtype !== 'I8' || !isWeight(tensor.name)) return undefined;
    const scales = siblings.get(besideWeight(tensor.name, 'scale'));
    if (scales?.dtype !== 'F8_E8M0') return undefined;
    return {
      name: tensor.name,
      tensors: [tensor, scales],
      resolve(context) {
        requireTensor(tensor, tensor.name, ['I8'], context, [2]);
        requireTensor(scales, scales.name, ['F8_E8M0'], context, [2]);
        return rowMajorLayout({ format: 'mxfp4', blockSize: 32, codes: tensor, scales }, context);
      },
    };
  },
};
