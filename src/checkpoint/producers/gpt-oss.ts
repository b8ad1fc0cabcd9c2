/**
 * gpt-oss, MXFP4: `X_blocks` U8 [(experts,) rows, cols/32, 16] and `X_scales` U8 [(experts,) rows, cols/32]; the same as
 * `X.blocks` and `X.scales` in the folder `original/`. That is the canonical order already. Its own files have experts
 * only; its loader takes any dimensions before the blocks. Rows of `gate_up_proj` alternate, gate first, and stay so.
 * Source: openai/gpt-oss, gpt_oss/torch/weights.py.
 */
import { showShape } from '../dtype.js';
import {
  blockLayout,
  E8M0_DTYPES,
  matrixShape,
  type Producer,
  requireTensor,
  sameShape,
} from './producer.js';

export const gptOss: Producer = {
  id: 'gpt-oss',
  detect(tensor, siblings) {
    const suffix = ['_blocks', '.blocks'].find((end) => tensor.name.endsWith(end));
    if (!suffix) return undefined;
    const name = tensor.name.slice(0, -suffix.length);
    const scalesName = `${name}${suffix[0]}scales`;
    const scales = siblings.get(scalesName);
    if (!scales && !(tensor.dtype === 'U8' && tensor.shape.at(-1) === 16)) return undefined;
    return {
      name,
      tensors: [tensor, scales],
      resolve(context) {
        const codes = requireTensor(tensor, tensor.name, ['U8'], context, [3, 4]);
        const checked = requireTensor(scales, scalesName, E8M0_DTYPES, context, [codes.shape.length - 1]);
        const outer = codes.shape.slice(0, -1);
        const blockBytes = codes.shape.at(-1);
        if (blockBytes !== 16) {
          context.fail(
            `shape ${showShape(codes.shape)} has blocks of ${blockBytes} bytes; 32 values take 16`,
          );
        }
        if (!sameShape(checked.shape, outer)) {
          context.fail(
            `blocks ${showShape(codes.shape)} and scales ${showShape(checked.shape)} do not match`,
          );
        }
        const dimensions = matrixShape([...outer.slice(0, -1), 32 * outer.at(-1)!], context);
        return blockLayout(
          { ...dimensions, format: 'mxfp4', blockSize: 32, codes, scales: checked },
          context,
        );
      },
    };
  },
};
