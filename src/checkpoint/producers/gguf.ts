/**
 * GGUF: blocks of type MXFP4 or NVFP4 (see ggml-blocks.ts), [rows, cols] or [experts, rows, cols]. The tensor scale of
 * NVFP4 is F32 `P.scale` beside `P.weight`, [1] or [experts], a multiplier; without it, 1. Some tools call it
 * `P.weight.scale`. Source: llama.cpp, conversion/base.py.
 */
import type { Format } from '../../formats/formats.js';
import { bitsPerValue, type MatrixHeader } from '../../matrix/quantized-matrix.js';
import { fromGgufBlocks } from '../ggml-blocks.js';
import {
  besideWeight,
  globalScaleReader,
  isWeight,
  matrixShape,
  type Producer,
  type ReadPart,
  requireTensor,
} from './producer.js';

/** No dtype of safetensors has these names. */
const BLOCKS: Readonly<Record<string, { format: Format; blockSize: number }>> = {
  MXFP4: { format: 'mxfp4', blockSize: 32 },
  NVFP4: { format: 'nvfp4', blockSize: 16 },
};

export const gguf: Producer = {
  id: 'gguf',
  detect(tensor, siblings) {
    const { name, dtype } = tensor;
    const block = BLOCKS[dtype];
    if (!block) return undefined;
    const names = [...(isWeight(name) ? [besideWeight(name, 'scale')] : []), `${name}.scale`];
    const scale = names.map((candidate) => siblings.get(candidate)).find((found) => found !== undefined);
    return {
      name,
      tensors: [tensor, scale],
      resolve(context) {
        const { format, blockSize } = block;
        const { shape, byteLength } = requireTensor(tensor, name, [dtype], context, [2, 3]);
        const { rows, cols, experts } = matrixShape(shape, context);
        if (scale && format === 'mxfp4') {
          context.refuse(`${scale.name} scales a tensor of ${dtype}, which no tool is known to write`);
        }
        const count = experts ?? 1;
        const readGlobal =
          scale && globalScaleReader({ tensor: scale, convention: 'multiplier' }, count, context);
        const size = byteLength / count;
        const header = async (read: ReadPart, expert: number): Promise<MatrixHeader> => {
          const globalScale = (await readGlobal?.(read, expert)) ?? 1;
          return { format, rows, cols, blockSize, globalScale, hadamard: false };
        };
        return {
          format,
          blockSize,
          rows,
          cols,
          experts,
          bitsPerWeight: bitsPerValue({ format, blockSize }),
          bytes: byteLength + (scale?.byteLength ?? 0),
          bytesPerExpert: size + (scale ? 4 : 0),
          header,
          async load(read, expert) {
            const known = await header(read, expert);
            const bytes = await read(tensor, expert * size, (expert + 1) * size);
            return { ...known, ...fromGgufBlocks(format, rows, cols, bytes, name) };
          },
        };
      },
    };
  },
};
