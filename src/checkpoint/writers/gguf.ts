/**
 * GGUF, types MXFP4 and NVFP4 (see ggml-blocks.ts), as producers/gguf.ts reads them: `X`, and for the tensor scale of
 * NVFP4 F32 `P.scale` beside `P.weight`, or `X.scale` beside another name: [1], or [experts].
 */
import { toGgufBlocks } from '../ggml-blocks.js';
import type { GgmlTypeName } from '../ggml-types.js';
import { isWeight } from '../producers/producer.js';
import { moduleName } from './experts.js';
import { commonProblems, f32Bytes, type MatrixWriter, stacked } from './writer.js';

/** Values in a block of NVFP4, of four scales. */
const NVFP4_VALUES = 64;

export const gguf: MatrixWriter<GgmlTypeName> = {
  stacks: true,
  problems(matrix) {
    const problems = commonProblems(matrix, 'GGUF');
    if (matrix.format === 'nvfp4' && matrix.cols % NVFP4_VALUES) {
      problems.push(`GGUF has NVFP4 in blocks of ${NVFP4_VALUES}; ${matrix.cols} columns are no multiple`);
    }
    return problems;
  },
  headers(name, { format, rows, cols }, experts) {
    const type = format === 'nvfp4' ? 'NVFP4' : 'MXFP4';
    return [
      { name, dtype: type, shape: stacked(experts, [rows, cols]) },
      ...(format === 'nvfp4'
        ? [{ name: scaleName(name), dtype: 'F32', shape: [experts ?? 1] } as const]
        : []),
    ];
  },
  parts(name, q) {
    return [
      { name, bytes: toGgufBlocks(q), per: 'row' },
      ...(q.format === 'nvfp4'
        ? [{ name: scaleName(name), bytes: f32Bytes(q.globalScale), per: 'expert' } as const]
        : []),
    ];
  },
};

function scaleName(name: string): string {
  return isWeight(name) ? [moduleName(name), 'scale'].filter(Boolean).join('.') : `${name}.scale`;
}
