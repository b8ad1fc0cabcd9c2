/**
 * What turns FP4 weights into int8 with a scale for each row and stretch of k (shaders/int8_weights.wgsl), made on the
 * GPU once for each length of stretch; and how much noise that adds.
 */
import { E0M8_INVERSES } from '../formats/e0m8.js';
import { E2M1_VALUES } from '../formats/e2m1.js';
import { E4M3_VALUES } from '../formats/e4m3.js';
import { decodeE8M0 } from '../formats/e8m0.js';
import { checkBufferSize, createStorageBuffer } from '../gpu/buffers.js';
import { BufferUsage } from '../gpu/constants.js';
import type { Gpu } from '../gpu/gpu.js';
import { foldGrid } from '../gpu/grid.js';
import { getPipeline } from '../gpu/pipeline.js';
import { composeShader } from '../gpu/shader.js';
import { CHUNK, ROW_BLOCK } from '../matrix/pack.js';
import type { QuantizedMatrix } from '../matrix/quantized-matrix.js';
import { formatLabel, type GemmProblem } from './problem.js';
import { commonModules, INT8_WEIGHTS, nanByte } from './shaders.js';
import type { GpuWeights, WeightPart } from './weights.js';

/** Multipliers and references of a part of the weights, see shaders/int8_weights.wgsl. */
export interface Int8Part {
  readonly multipliers: GPUBuffer;
  readonly references: GPUBuffer;
}

/** Longest stretch whose products, at most 127 · 127, add up to less than 2^31. */
export const INT8_WHOLE_K = 131072;

type WeightFormat = Pick<GemmProblem, 'format' | 'macroSize'>;

/** Whether scales are powers of two, so that codes can be shifted. */
const powerOfTwo = ({ format, macroSize }: WeightFormat) => format === 'mxfp4' && !macroSize;

/** Stretches of `chunkK` values that k is cut into. */
export const int8Stretches = (k: number, chunkK: number) => Math.ceil(k / chunkK);

const WORKGROUP = 64;

/**
 * The int8 parts of weights, one for each of their parts; made for the first request, shared by later ones, destroyed
 * with the weights.
 * @param chunkK a multiple of 64
 */
export function int8Parts(gpu: Gpu, weights: GpuWeights, chunkK: number): Promise<readonly Int8Part[]> {
  let parts = weights.int8Parts.get(chunkK);
  if (!parts) {
    parts = makeParts(gpu, weights, chunkK);
    weights.int8Parts.set(chunkK, parts);
    parts.catch(() => weights.int8Parts.delete(chunkK));
  }
  return parts;
}

/** Destroys parts as soon as they exist. */
export function destroyInt8Parts(cache: Map<number, Promise<readonly Int8Part[]>>): void {
  for (const parts of cache.values()) {
    parts.then(
      (made) => {
        for (const { multipliers, references } of made) {
          multipliers.destroy();
          references.destroy();
        }
      },
      // What failed has been reported to who asked for it.
      () => {},
    );
  }
  cache.clear();
}

async function makeParts(gpu: Gpu, weights: GpuWeights, chunkK: number): Promise<readonly Int8Part[]> {
  const { device } = gpu;
  const { k, blockSize, macroSize } = weights;
  const format: WeightFormat & { blockSize: number } = {
    format: weights.format,
    blockSize,
    ...(macroSize && { macroSize }),
  };
  const label = `int8_weights.${formatLabel(format)}.${chunkK}`;
  const pipeline = await getPipeline(
    device,
    composeShader({
      label,
      constants: {
        WORKGROUP,
        CHUNK_K: chunkK,
        BLOCK_SIZE: blockSize,
        NAN_BYTE: nanByte(format),
        POWER_OF_TWO: powerOfTwo(format),
        ...(macroSize && { MACRO_SIZE: macroSize }),
      },
      modules: [...commonModules(format, 'buffer'), INT8_WEIGHTS],
    }),
  );
  const stretches = int8Stretches(k, chunkK);
  const rowBytes = Math.ceil(k / CHUNK) * (CHUNK / blockSize) * 2;
  const blocks = (rows: number) => Math.ceil(rows / ROW_BLOCK);
  const bytes = (rows: number) => blocks(rows) * ROW_BLOCK * rowBytes;
  for (const { rows } of weights.parts) checkBufferSize(device.limits, `fp4 ${label}`, bytes(rows));
  const encoder = device.createCommandEncoder({ label });
  const pass = encoder.beginComputePass({ label });
  const uniforms: GPUBuffer[] = [];
  const parts = weights.parts.map((part) => {
    const made: Int8Part = {
      multipliers: createStorageBuffer(device, 'fp4 int8 multipliers', bytes(part.rows)),
      references: createStorageBuffer(device, 'fp4 int8 references', part.rows * stretches * 4),
    };
    const uniform = problemUniform(device, part, k);
    uniforms.push(uniform);
    const bindings: [number, GPUBuffer | undefined][] = [
      [0, uniform],
      [1, made.multipliers],
      [2, made.references],
      [3, part.scales],
      [4, part.macroScales],
    ];
    pass.setPipeline(pipeline);
    pass.setBindGroup(
      0,
      device.createBindGroup({
        label,
        layout: pipeline.getBindGroupLayout(0),
        entries: bindings.flatMap(([binding, buffer]) => (buffer ? { binding, resource: { buffer } } : [])),
      }),
    );
    pass.dispatchWorkgroups(
      ...foldGrid(blocks(part.rows) * stretches, device.limits.maxComputeWorkgroupsPerDimension),
    );
    return made;
  });
  pass.end();
  device.queue.submit([encoder.finish()]);
  for (const uniform of uniforms) uniform.destroy();
  return parts;
}

/** Problem of shaders/problem.wgsl, as far as scales are read with it. */
function problemUniform(device: GPUDevice, { rows }: WeightPart, k: number): GPUBuffer {
  const uniform = device.createBuffer({
    label: 'fp4 int8 weights problem',
    size: 32,
    usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST,
  });
  device.queue.writeBuffer(uniform, 0, Uint32Array.of(0, rows, k, 0, 0, 0, 0, 0));
  return uniform;
}

/** Int8 value of a code with magnitude `doubled` / 2 in a block with a multiplier, without its sign. */
export const int8Value = (doubled: number, multiplier: number) => (doubled * multiplier + 128) >> 8;

/** What a block's scale is multiplied with, relative to its stretch's largest. */
export function int8Multiplier(scale: number, largest: number, format: WeightFormat): number {
  if (largest === 0) return 0;
  return powerOfTwo(format)
    ? Math.floor((2048 * scale) / largest)
    : Math.round(2048 * (127 / 96) * (scale / largest));
}

/** A stretch's int8 values stand for sixteenths of this. */
export const int8Reference = (largest: number, format: WeightFormat) =>
  powerOfTwo(format) ? largest : (largest * 96) / 127;

/** What the codes of each block stand for, f64[rows, cols / blockSize], without the tensor's scale. */
export function int8BlockScales(q: QuantizedMatrix): Float64Array {
  const { rows, cols, blockSize, macroSize, macroScales, scales } = q;
  const blocks = cols / blockSize;
  const macros = macroSize ? Math.ceil(cols / macroSize) : 0;
  const values =
    q.format === 'nvfp4' ? E4M3_VALUES : Array.from({ length: 256 }, (_, byte) => decodeE8M0(byte));
  const out = new Float64Array(rows * blocks);
  for (let i = 0; i < out.length; i++) {
    let scale = values[scales[i]!]!;
    if (macroScales) {
      const macro = Math.floor(((i % blocks) * blockSize) / macroSize!);
      scale *= E0M8_INVERSES[macroScales[Math.floor(i / blocks) * macros + macro]!]!;
    }
    out[i] = scale;
  }
  return out;
}

/**
 * Signal to noise in dB of weights as int8 against the FP4 weights themselves: Infinity where they are exact. Low where
 * the scales of a stretch spread over many octaves, as its small blocks keep few bits.
 */
export function int8Snr(q: QuantizedMatrix, chunkK: number = INT8_WHOLE_K): number {
  const { rows, cols, blockSize, codes } = q;
  const scales = int8BlockScales(q);
  const blocks = cols / blockSize;
  const chunkBlocks = chunkK / blockSize;
  const doubled = E2M1_VALUES.slice(0, 8).map((value) => value * 2);
  const counts = new Uint32Array(8);
  let signal = 0;
  let noise = 0;
  for (let row = 0; row < rows; row++) {
    for (let first = 0; first < blocks; first += chunkBlocks) {
      const begin = row * blocks + first;
      const end = row * blocks + Math.min(first + chunkBlocks, blocks);
      let largest = 0;
      for (let block = begin; block < end; block++) largest = Math.max(largest, scales[block]!);
      const step = int8Reference(largest, q) / 16;
      for (let block = begin; block < end; block++) {
        const scale = scales[block]!;
        const multiplier = int8Multiplier(scale, largest, q);
        counts.fill(0);
        for (let i = (block * blockSize) / 2; i < ((block + 1) * blockSize) / 2; i++) {
          const byte = codes[i]!;
          counts[byte & 7]!++;
          counts[(byte >> 4) & 7]!++;
        }
        for (let code = 1; code < 8; code++) {
          const value = (doubled[code]! / 2) * scale;
          const difference = value - int8Value(doubled[code]!, multiplier) * step;
          signal += counts[code]! * value * value;
          noise += counts[code]! * difference * difference;
        }
      }
    }
  }
  return noise === 0 ? Number.POSITIVE_INFINITY : 10 * Math.log10(signal / noise);
}
