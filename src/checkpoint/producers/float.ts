/**
 * Matrices of floats, F32, F16, BF16 and F8, of two dimensions, or three with the first taken as experts. Asked last: an
 * F8 tensor with scales beside it is only half of its values.
 */
import type { StoredTensor } from '../container.js';
import { DTYPE_BITS, FLOAT_DTYPES, type FloatDtype, toFloat32 } from '../dtype.js';
import { quote } from '../strict-json.js';
import { besideWeight, isWeight, type Producer, type Siblings, scalePrefix } from './producer.js';

export const float: Producer = {
  id: 'float',
  detect(tensor, siblings) {
    const { name, shape } = tensor;
    if (!(FLOAT_DTYPES as readonly string[]).includes(tensor.dtype)) return undefined;
    if ((shape.length !== 2 && shape.length !== 3) || shape.includes(0)) return undefined;
    const dtype = tensor.dtype as FloatDtype;
    const scales = dtype.startsWith('F8') ? scalesBeside(name, siblings) : undefined;
    return {
      name,
      tensors: [tensor, scales],
      resolve({ refuse }) {
        if (scales) refuse(`${dtype} with scales ${quote(scales.name)} beside it is not read`);
        const experts = shape.length === 3 ? shape[0]! : undefined;
        const [rows, cols] = shape.slice(-2) as [number, number];
        const bytesPerExpert = tensor.byteLength / (experts ?? 1);
        return {
          format: dtype,
          rows,
          cols,
          experts,
          bitsPerWeight: DTYPE_BITS[dtype],
          bytes: tensor.byteLength,
          bytesPerExpert,
          async load(read, expert) {
            const bytes = await read(tensor, expert * bytesPerExpert, (expert + 1) * bytesPerExpert);
            return { name, rows, cols, values: toFloats(bytes, dtype, refuse) };
          },
        };
      },
    };
  },
};

function toFloats(bytes: Uint8Array, dtype: FloatDtype, refuse: (message: string) => never): Float32Array {
  try {
    return toFloat32(bytes, dtype);
  } catch (error) {
    if (error instanceof RangeError)
      return refuse(`its ${bytes.length} bytes are too many values for one array`);
    throw error;
  }
}

/** What the producers of scaled F8 call their scales. */
function scalesBeside(name: string, siblings: Siblings): StoredTensor | undefined {
  const prefix = scalePrefix(name);
  const names = [`${prefix}_scale`, `${prefix}_scale_inv`, `${name}_scale`, `${name}_scale_inv`];
  if (isWeight(name))
    names.push(...['scale', 'scales', 'scale_weight'].map((end) => besideWeight(name, end)));
  return names.map((candidate) => siblings.get(candidate)).find((tensor) => tensor !== undefined);
}
