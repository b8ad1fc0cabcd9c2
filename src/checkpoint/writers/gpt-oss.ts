/**
 * gpt-oss, MXFP4, as producers/gpt-oss.ts reads it: `X_blocks` U8 [(experts,) rows, cols/32, 16] and `X_scales` U8
 * [(experts,) rows, cols/32]. Its own files have experts only; a matrix without them has one dimension less, which its
 * reference loader takes too.
 */
import type { MatrixHeader } from '../../matrix/quantized-matrix.js';
import type { Dtype } from '../dtype.js';
import { commonProblems, type MatrixWriter, stacked } from './writer.js';

export const gptOss: MatrixWriter<Dtype> = {
  stacks: true,
  problems(matrix: MatrixHeader) {
    if (matrix.format !== 'mxfp4') return [`gpt-oss files have MXFP4, not ${matrix.format.toUpperCase()}`];
    return commonProblems(matrix, 'gpt-oss');
  },
  headers(name, { rows, cols }, experts) {
    const blocks = stacked(experts, [rows, cols / 32]);
    return [
      { name: `${name}_blocks`, dtype: 'U8', shape: [...blocks, 16] },
      { name: `${name}_scales`, dtype: 'U8', shape: blocks },
    ];
  },
  parts(name, { codes, scales }) {
    return [
      { name: `${name}_blocks`, bytes: codes, per: 'row' },
      { name: `${name}_scales`, bytes: scales, per: 'row' },
    ];
  },
};

/** What config.json has to say under `quantization_config`; `floats` are modules whose weights are not quantized. */
export function gptOssConfig(floats: readonly string[]): Record<string, unknown> {
  return { quant_method: 'mxfp4', modules_to_not_convert: floats };
}
