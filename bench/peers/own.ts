/** The library's own products in the chain that peers run, by the same clock. */

import { fromF16, toF16 } from '../../src/formats/f16.js';
import { createGemm, type Gemm } from '../../src/gemm/gemm.js';
import { randomMatrix } from '../../src/gemm/trial.js';
import { type GpuWeights, uploadWeights } from '../../src/gemm/weights.js';
import { createStorageBuffer, readBuffer } from '../../src/gpu/buffers.js';
import type { Gpu } from '../../src/gpu/gpu.js';
import { whileAlive } from '../../src/gpu/loss.js';
import type { QuantizedMatrix } from '../../src/matrix/quantized-matrix.js';
import { dequantize } from '../../src/quantize/quantize.js';
import type { PeerRow } from '../schema.js';
import {
  type ChainTiming,
  chainInput,
  chainLayers,
  chainReference,
  firstLine,
  relativeError,
  timeChain,
} from './chain.js';
import type { PeerCase } from './onnxruntime.js';

const VARIANTS = [
  { type: 'f32', activations: 'float', name: 'fp4-webgpu mxfp4 f32' },
  { type: 'f32', activations: 'int8', name: 'fp4-webgpu mxfp4 f32, int8 activations' },
  { type: 'f16', activations: 'float', name: 'fp4-webgpu mxfp4 f16' },
  { type: 'f16', activations: 'int8', name: 'fp4-webgpu mxfp4 f16, int8 activations' },
] as const;
type Variant = (typeof VARIANTS)[number];

/** @param late whether no time is left */
export async function measureOwn(
  gpu: Gpu,
  c: PeerCase,
  timing: ChainTiming,
  tell: (row: PeerRow) => void,
  late: () => boolean,
): Promise<void> {
  const sizes = chainLayers(c, c.layers);
  const matrices = sizes.map(({ n, k }, i) => chainMatrix(n, k, i));
  const weights: GpuWeights[] = [];
  try {
    for (const q of matrices) weights.push(await uploadWeights(gpu, q));
    const reference = chainReference(chainInput(1, c.k), sizes, (i) => dequantize(matrices[i]!));
    for (const m of c.m) {
      for (const variant of VARIANTS) {
        if (late()) return;
        if (variant.type === 'f16' && !gpu.caps.tiers.includes('f16')) continue;
        const about = { name: variant.name, version: '', m, n: c.n, k: c.k, layers: sizes.length };
        try {
          tell({ ...about, ...(await measureChain(gpu, weights, m, variant, reference, timing)) });
        } catch (error) {
          tell({ ...about, note: `fails: ${firstLine(error)}` });
        }
      }
    }
  } finally {
    for (const w of weights) w.destroy();
  }
}

async function measureChain(
  gpu: Gpu,
  weights: readonly GpuWeights[],
  m: number,
  { type, activations }: Variant,
  reference: Float64Array,
  timing: ChainTiming,
): Promise<Pick<PeerRow, 'time' | 'error' | 'note'>> {
  const { device } = gpu;
  const gemms: Gemm[] = await Promise.all(
    weights.map((w) => createGemm(gpu, { m, weights: w, activations, x: type, y: type })),
  );
  const x = chainInput(m, weights[0]!.k);
  const size = type === 'f32' ? 4 : 2;
  const buffers = [
    createStorageBuffer(device, 'bench chain x', type === 'f32' ? x : toF16(x)),
    ...weights.map(({ n }, i) => createStorageBuffer(device, `bench chain y${i}`, m * n * size)),
  ];
  try {
    const chain = {
      async run() {
        const encoder = device.createCommandEncoder();
        const pass = encoder.beginComputePass();
        gemms.forEach((gemm, i) => void gemm.encode(pass, { x: buffers[i]!, y: buffers[i + 1]! }));
        pass.end();
        device.queue.submit([encoder.finish()]);
      },
      finish: async () => void (await whileAlive(device, 'measuring', device.queue.onSubmittedWorkDone())),
    };
    await chain.run();
    const bytes = await readBuffer(device, buffers.at(-1)!, reference.length * size);
    const row = type === 'f32' ? new Float32Array(bytes) : fromF16(new Uint16Array(bytes));
    const error = relativeError(row, reference);
    const time = await timeChain(chain, weights.length, timing);
    return { time, error, note: gemms[0]!.plan.label };
  } finally {
    for (const resource of [...gemms, ...buffers]) resource.destroy();
  }
}

/** Random codes, with scales that keep the size of what goes through. */
function chainMatrix(n: number, k: number, seed: number): QuantizedMatrix {
  const q = randomMatrix({ n, k, format: 'mxfp4', blockSize: 32 }, 11 + seed);
  // The root mean square of the codes is 2.93; powers of two around 1 / (2.93 · sqrt(k)) take turns.
  const wanted = -Math.log2(2.93 * Math.sqrt(k));
  const exponent = seed % 2 ? Math.ceil(wanted) : Math.floor(wanted);
  q.scales.fill(127 + exponent);
  return q;
}
