import { createStorageBuffer, readBuffer } from '../../src/gpu/buffers.js';
import type { Gemm, Gpu } from '../../src/index.js';
import { halfToFloat, toHalf } from './half.js';
import { submitPass } from './submit-pass.js';

export interface Operands {
  readonly x: Float32Array;
  readonly bias?: Float32Array | undefined;
  /** What y holds before; NaN by default, so that a value that is not written shows. */
  readonly y?: Float32Array | undefined;
}

/** y of a product, with x and y in buffers of the problem's types. */
export async function multiplyOn(gpu: Gpu, gemm: Gemm, { x, bias, y }: Operands): Promise<Float32Array> {
  const { m, n, x: xType, y: yType } = gemm.problem;
  const start = y ?? new Float32Array(m * n).fill(Number.NaN);
  const buffers = {
    x: createStorageBuffer(gpu.device, 'x', xType === 'f16' ? toHalf(x) : x),
    y: createStorageBuffer(gpu.device, 'y', yType === 'f16' ? toHalf(start) : start),
    ...(bias && { bias: createStorageBuffer(gpu.device, 'bias', bias) }),
  };
  submitPass(gpu.device, (pass) => gemm.encode(pass, buffers));
  const bytes = await readBuffer(gpu.device, buffers.y);
  for (const buffer of Object.values(buffers)) buffer.destroy();
  return yType === 'f16' ? halfToFloat(new Uint16Array(bytes, 0, m * n)) : new Float32Array(bytes, 0, m * n);
}
