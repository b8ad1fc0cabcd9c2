/**
 * compressed-tensors (llm-compressor): `P.weight_packed` U8 [rows, cols/2] and `P.weight_scale`. With E4M3 scales per 16
 * values it is NVFP4 and has `P.weight_global_scale` F32 [1], a divisor; with E8M0 scales as U8 per 32 it is MXFP4.
 * Layers that share an input (q, k, v) may have different global scales: each is its own matrix here.
 * AutoRound exports the same tensors, with those of its rotations beside them.
 * Source: vllm-project/compressed-tensors, compressors/nvfp4 and compressors/mxfp4.
 */
import { quote } from '../strict-json.js';
import {
  besideWeight,
  E8M0_DTYPES,
  type Producer,
  refuseE5m3,
  refuseRotations,
  requireTensor,
  rowMajorLayout,
} from './producer.js';

const PACKED = 'weight_packed';

export const compressedTensors: Producer = {
  id: 'compressed-tensors',
  detect(tensor, siblings) {
    if (tensor.name !== PACKED && !tensor.name.endsWith(`.${PACKED}`)) return undefined;
    const name = tensor.name.slice(0, -'_packed'.length);
    const beside = (suffix: string) => siblings.get(besideWeight(name, suffix));
    const scales = beside('weight_scale');
    const global = beside('weight_global_scale');
    return {
      name,
      tensors: [tensor, scales, global, beside('weight_zero_point'), beside('weight_g_idx')],
      resolve(context) {
        for (const suffix of ['weight_g_idx', 'weight_zero_point']) {
          if (beside(suffix)) context.refuse(`${quote(besideWeight(name, suffix))} is not supported`);
        }
        refuseRotations(name, siblings, context);
        if (tensor.dtype === 'I32')
          context.refuse('weight_packed is I32: integers (pack-quantized), not FP4');
        const codes = requireTensor(tensor, tensor.name, ['U8', 'F4'], context, [2]);
        const scalesName = besideWeight(name, 'weight_scale');
        const nvfp4 = scales?.dtype === 'F8_E4M3';
        const checked = requireTensor(scales, scalesName, ['F8_E4M3', ...E8M0_DTYPES], context, [2]);
        if (!nvfp4) {
          if (global)
            context.fail(`${quote(global.name)} goes with F8_E4M3 scales; these are ${checked.dtype}`);
          refuseE5m3(codes, checked, context);
          return rowMajorLayout({ format: 'mxfp4', blockSize: 32, codes, scales: checked }, context);
        }
        const globalName = besideWeight(name, 'weight_global_scale');
        return rowMajorLayout(
          {
            format: 'nvfp4',
            blockSize: 16,
            codes,
            scales: checked,
            global: { tensor: requireTensor(global, globalName, ['F32'], context), convention: 'divisor' },
          },
          context,
        );
      },
    };
  },
};
