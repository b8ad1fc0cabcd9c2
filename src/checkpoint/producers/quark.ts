/**
 * AMD Quark, and ModelOpt's MXFP4, which stores the same: `P.weight` U8 [rows, cols/2] and `P.weight_scale` U8 (E8M0)
 * [rows, cols/32]. ModelOpt writes zeros as code 8, -0; codes stay what they are. Quark's E5M3 scales are U8 too, but
 * per 16 values. Its older `mx` packs 17-byte blocks into one tensor: without scales beside it, that is not found.
 * Source: amd/Quark, quark/torch/utils/pack.py; NVIDIA/Model-Optimizer, qtensor/mxfp4_tensor.py.
 */

import { quote } from '../strict-json.js';
import { perWeightLayout } from './modelopt.js';
import {
  type Producer,
  refuseE5m3,
  refusePreQuantScale,
  refuseRotations,
  requireTensor,
  scalePrefix,
} from './producer.js';

export const quark: Producer = {
  id: 'quark',
  detect(tensor, siblings) {
    if (tensor.dtype !== 'U8') return undefined;
    const prefix = scalePrefix(tensor.name);
    const scales = siblings.get(`${prefix}_scale`);
    if (scales?.dtype !== 'U8' && scales?.dtype !== 'F8_E8M0') return undefined;
    const zeroPoint = siblings.get(`${prefix}_zero_point`);
    return {
      name: tensor.name,
      tensors: [tensor, scales, zeroPoint],
      resolve(context) {
        refusePreQuantScale(tensor.name, siblings, context);
        refuseRotations(tensor.name, siblings, context);
        if (zeroPoint) context.refuse(`${quote(zeroPoint.name)} is not supported`);
        requireTensor(tensor, tensor.name, ['U8'], context, [2, 3]);
        requireTensor(scales, scales.name, ['U8', 'F8_E8M0'], context, [tensor.shape.length]);
        refuseE5m3(tensor, scales, context);
        return perWeightLayout({ format: 'mxfp4', blockSize: 32, codes: tensor, scales }, context);
      },
    };
  },
};
