/**
 * TorchAO, `NVFP4Tensor` and `MXTensor` of FP4: a parameter `M.weight` is flattened to `M._weight_qdata` U8 (or F4)
 * [(experts,) rows, cols/2], `M._weight_scale` E4M3 per 16 or E8M0 per 32, and perhaps `M._weight_per_tensor_scale` F32, a
 * multiplier. Whether scales are swizzled stands only in the metadata, a JSON text per parameter under its name:
 * `{"_type": "NVFP4Tensor", "_data": {"block_size": 16, "is_swizzled_scales": true, …}, "_tensor_data_names": […]}`. Nothing in shapes tells it
 * for certain, so a matrix without that text is refused.
 * Source: pytorch/ao, torchao/prototype/safetensors, torchao/prototype/mx_formats.
 */
import { showShape } from '../dtype.js';
import { type JsonValue, parseStrictJson, quote } from '../strict-json.js';
import {
  blockLayout,
  type Context,
  codeShape,
  E8M0_DTYPES,
  matrixShape,
  type Producer,
  type RowMajor,
  requireTensor,
  rowMajorLayout,
} from './producer.js';
import { swizzledBytes, unswizzle } from './swizzle.js';

const FLATTENED = /^(.*\.)?_([^.]+)_qdata$/;

export const torchAo: Producer = {
  id: 'torchao',
  detect(tensor, siblings) {
    if (!tensor.name.endsWith('_qdata')) return undefined;
    const [, module = '', parameter] = FLATTENED.exec(tensor.name) ?? [];
    if (parameter === undefined) return undefined;
    const name = module + parameter;
    const part = (suffix: string) => `${module}_${parameter}_${suffix}`;
    const scales = siblings.get(part('scale'));
    const global = siblings.get(part('per_tensor_scale'));
    return {
      name,
      tensors: [tensor, scales, global],
      resolve(context) {
        const { type, swizzled, parts } = describeTensor(siblings.metadata.get(name), context);
        if (parts.includes('per_tensor_scale')) {
          requireTensor(global, part('per_tensor_scale'), ['F32'], context);
        }
        const nvfp4 = type === 'NVFP4Tensor';
        const format = nvfp4 ? 'nvfp4' : 'mxfp4';
        const blockSize = nvfp4 ? 16 : 32;
        const codes = requireTensor(tensor, tensor.name, ['U8', 'F4'], context, [2, 3]);
        const checked = requireTensor(scales, part('scale'), nvfp4 ? ['F8_E4M3'] : E8M0_DTYPES, context);
        if (global && !nvfp4) context.fail(`${quote(global.name)} goes with NVFP4Tensor, not with ${type}`);
        const matrix: RowMajor = {
          format,
          blockSize,
          codes,
          scales: checked,
          global: global && { tensor: global, convention: 'multiplier' },
        };
        if (!swizzled) return rowMajorLayout(matrix, context);

        const shape = codeShape(codes);
        const { rows, cols, experts } = matrixShape(shape, context);
        if (cols % blockSize) context.fail(`${cols} columns are not a multiple of the block ${blockSize}`);
        const blocks = cols / blockSize;
        // Stored as [rows/4, 4 · blocks] of whole tiles, or flat; the bytes are the same.
        const needed = (experts ?? 1) * swizzledBytes(rows, blocks);
        if (checked.byteLength !== needed) {
          context.fail(
            `codes of ${showShape(shape)} values need ${needed} bytes of swizzled scales; ` +
              `${quote(checked.name)} has ${checked.byteLength}`,
          );
        }
        const toScales = (bytes: Uint8Array) => unswizzle(bytes, rows, blocks);
        return blockLayout({ ...matrix, rows, cols, experts, toScales }, context);
      },
    };
  },
};

/** What the metadata says of a parameter. */
function describeTensor(text: string | undefined, { fail, refuse }: Context) {
  if (text === undefined) return refuse('no metadata says whether its scales are swizzled');
  const failText = (message: string): never => fail(`its metadata: ${message}`);
  const document = parseStrictJson(text, failText, { numbers: 'any' });
  const type = member(document, '_type');
  if (type !== 'NVFP4Tensor' && type !== 'MXTensor') {
    return refuse(`its metadata says ${describeJson(type)}, not NVFP4Tensor or MXTensor`);
  }
  const data = member(document, '_data');
  const swizzled = member(data, 'is_swizzled_scales');
  if (typeof swizzled !== 'boolean') return failText('is_swizzled_scales is not true or false');
  const blockSize = member(data, 'block_size');
  if (blockSize !== (type === 'NVFP4Tensor' ? 16 : 32)) {
    refuse(`block_size ${describeJson(blockSize)} of ${type}`);
  }
  if (type === 'MXTensor') {
    const elements = member(member(data, 'elem_dtype'), '_data') ?? member(data, 'elem_dtype');
    if (elements !== 'float4_e2m1fn_x2' && elements !== 'fp4_e2m1') {
      refuse(`an MXTensor of ${describeJson(elements)}, not of float4_e2m1fn_x2`);
    }
  }
  const parts = member(document, '_tensor_data_names');
  return { type, swizzled, parts: Array.isArray(parts) ? parts : [] } as const;
}

function member(value: JsonValue | undefined, key: string): JsonValue | undefined {
  return value instanceof Map ? value.get(key) : undefined;
}

function describeJson(value: JsonValue | undefined): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'string') return quote(value);
  return typeof value === 'object' && value !== null ? 'an object or array' : String(value);
}
