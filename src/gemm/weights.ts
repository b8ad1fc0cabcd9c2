import { UnsupportedError } from '../errors.js';
import type { Format, MacroSize } from '../formats/formats.js';
import { createStorageBuffer, writeBytes } from '../gpu/buffers.js';
import { isSoftware } from '../gpu/caps.js';
import type { Gpu } from '../gpu/gpu.js';
import { whileAlive } from '../gpu/loss.js';
import {
  type MatrixShape,
  pack,
  packedSizes,
  ROW_BLOCK,
  type RowRange,
  sliceRows,
  splitRows,
} from '../matrix/pack.js';
import { byteLength, type QuantizedMatrix, selectRows, validateMatrix } from '../matrix/quantized-matrix.js';
import type { GpuQuantized } from './gpu-quantizer.js';
import { int8Snr } from './int8-weights.js';
import { canonicalSizes, Packer } from './packer.js';

/** Rows of a weight matrix that lie in buffers of their own. */
export interface WeightPart extends RowRange {
  /** In kernel order, see src/matrix/pack.ts. */
  readonly codes: GPUBuffer;
  readonly scales: GPUBuffer;
  readonly macroScales?: GPUBuffer;
  /** u8[rows]: the largest scale byte of each row */
  readonly rowMax: GPUBuffer;
}

/** What weights keep of the matrix they were made of. */
type WeightSource = Pick<
  QuantizedMatrix,
  'format' | 'rows' | 'cols' | 'blockSize' | 'macroSize' | 'hadamard'
> & { readonly globalScale: number | GPUBuffer };

/** An FP4 weight matrix w[n, k] on the GPU, in kernel order. */
export class GpuWeights {
  readonly format: Format;
  readonly n: number;
  readonly k: number;
  readonly blockSize: number;
  readonly macroSize?: MacroSize;
  /** The tensor's scale, 1 for mxfp4; absent where it is known to the GPU only. */
  readonly globalScale?: number;
  /** One f32, where `globalScale` is absent. */
  readonly globalScaleBuffer?: GPUBuffer;
  readonly hadamard: boolean;
  /** In the order of their rows; more than one where a matrix exceeds what a buffer or binding may hold. */
  readonly parts: readonly WeightPart[];
  /**
   * Signal to noise in dB of the weights as int8 with a scale a row, on a sample of rows; absent where the
   * bytes are on the GPU only. Plans refuse int8 matrices where it is low.
   */
  readonly int8Snr?: number;
  /** Whether blocks may have the scale that stands for NaN: in weights that the GPU quantized. */
  readonly nanScales: boolean;

  /** @internal Use {@link uploadWeights} or {@link weightsFromQuantized}. */
  constructor(
    q: WeightSource,
    parts: readonly WeightPart[],
    { int8Snr, nanScales = false }: { int8Snr?: number | undefined; nanScales?: boolean },
  ) {
    this.format = q.format;
    this.n = q.rows;
    this.k = q.cols;
    this.blockSize = q.blockSize;
    if (q.macroSize) this.macroSize = q.macroSize;
    if (typeof q.globalScale === 'number') this.globalScale = q.globalScale;
    else this.globalScaleBuffer = q.globalScale;
    this.hadamard = q.hadamard;
    this.parts = parts;
    if (int8Snr !== undefined) this.int8Snr = int8Snr;
    this.nanScales = nanScales;
  }

  /** Bytes on the GPU. */
  get byteLength(): number {
    return this.#buffers().reduce((sum, buffer) => sum + buffer.size, 0);
  }

  destroy(): void {
    for (const buffer of this.#buffers()) buffer.destroy();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }

  #buffers(): GPUBuffer[] {
    const parts = this.parts.flatMap(({ codes, scales, macroScales, rowMax }) => [
      codes,
      scales,
      ...(macroScales ? [macroScales] : []),
      rowMax,
    ]);
    return this.globalScaleBuffer ? [...parts, this.globalScaleBuffer] : parts;
  }
}

export interface UploadOptions {
  /** Names the buffers; 'weights' by default. */
  label?: string | undefined;
  /**
   * Who brings the bytes to kernel order. By default 'gpu', except on software adapters, where that is the CPU by a
   * longer way. The bytes are the same.
   */
  packOn?: 'gpu' | 'cpu' | undefined;
}

/**
 * Copies a quantized matrix to the GPU. Resolves when the buffers exist; the bytes arrive before any later submit. A
 * matrix that exceeds what a buffer or binding of the device may hold is cut along its rows.
 * @throws InvalidArgumentError for a matrix that is not what its fields say; UnsupportedError where 32 rows exceed the
 * device's limits or the matrix its memory; DeviceLostError
 */
export async function uploadWeights(
  gpu: Gpu,
  q: QuantizedMatrix,
  { label = 'weights', packOn = isSoftware(gpu.adapterInfo) ? 'cpu' : 'gpu' }: UploadOptions = {},
): Promise<GpuWeights> {
  validateMatrix(q);
  const { device } = gpu;
  const ranges = rangesOf(gpu, q, label, 0);
  if (packOn === 'cpu') {
    const { parts } = await allocate(device, label, q, ranges);
    for (const part of parts) {
      const packed = pack(sliceRows(q, part));
      writeBytes(device, part.codes, packed.codes);
      writeBytes(device, part.scales, packed.scales);
      if (part.macroScales && packed.macroScales) writeBytes(device, part.macroScales, packed.macroScales);
      writeBytes(device, part.rowMax, packed.rowMax);
    }
    return new GpuWeights(q, parts, { int8Snr: sampledInt8Snr(q) });
  }
  const packer = await Packer.create(gpu, q);
  // One part's canonical bytes at a time: writes and submits are carried out in their order.
  const { rows } = ranges.reduce((a, b) => (a.rows > b.rows ? a : b));
  const sizes = Object.values(canonicalSizes({ ...q, rows })).filter((size) => size > 0);
  const { parts, temporary } = await allocate(device, label, q, ranges, sizes);
  const [codes, scales, macroScales] = temporary;
  const from = { codes: codes!, scales: scales!, macroScales };
  for (const part of parts) {
    const slice = sliceRows(q, part);
    writeBytes(device, from.codes, slice.codes);
    writeBytes(device, from.scales, slice.scales);
    if (macroScales && slice.macroScales) writeBytes(device, macroScales, slice.macroScales);
    submit(device, (encoder) => packer.encode(encoder, from, part, 0, part.rows));
  }
  // What was submitted still runs to its end.
  for (const buffer of temporary) buffer.destroy();
  return new GpuWeights(q, parts, { int8Snr: sampledInt8Snr(q) });
}

/**
 * Weights from a matrix that was quantized on the GPU; nothing is read back. They share nothing with it: it may be
 * destroyed or written again once this resolves. Its status word stays with it; NaN scales reach the products as NaN.
 * @throws UnsupportedError where 32 rows exceed the device's limits or the matrix its memory; DeviceLostError
 */
export async function weightsFromQuantized(
  gpu: Gpu,
  q: GpuQuantized,
  { label = 'weights' }: Omit<UploadOptions, 'packOn'> = {},
): Promise<GpuWeights> {
  const { device } = gpu;
  const packer = await Packer.create(gpu, q);
  // Bindings of a part may begin before its first row, by less than the alignment.
  const ranges = rangesOf(gpu, q, label, device.limits.minStorageBufferOffsetAlignment);
  // The tensor scale of mxfp4 is 1.
  const { parts, scale } = await allocate(device, label, q, ranges, [], q.format === 'nvfp4');
  submit(device, (encoder) => {
    if (scale) encoder.copyBufferToBuffer(q.globalScale, 0, scale, 0, 4);
    return parts.flatMap((part) => packer.encode(encoder, q, part, part.firstRow, part.rows));
  });
  const { format, rows, cols, blockSize, macroSize, hadamard } = q;
  const source = { format, rows, cols, blockSize, ...(macroSize && { macroSize }), hadamard };
  return new GpuWeights({ ...source, globalScale: scale ?? 1 }, parts, { nanScales: true });
}

/** Records and submits work, then destroys the buffers it names. */
function submit(device: GPUDevice, encode: (encoder: GPUCommandEncoder) => readonly GPUBuffer[]): void {
  const encoder = device.createCommandEncoder({ label: 'fp4 packing' });
  const temporary = encode(encoder);
  device.queue.submit([encoder.finish()]);
  for (const buffer of temporary) buffer.destroy();
}

/** The rows of each part, whose buffers stay `slack` bytes below the limits where there are several. */
function rangesOf(gpu: Gpu, shape: MatrixShape, label: string, slack: number): readonly RowRange[] {
  const { maxBufferSize, maxStorageBufferBindingSize } = gpu.device.limits;
  const limit = Math.min(maxBufferSize, maxStorageBufferBindingSize);
  const whole = splitRows(shape, limit);
  const ranges = whole?.length === 1 ? whole : splitRows(shape, limit - slack);
  if (ranges) return ranges;
  const name = maxBufferSize < maxStorageBufferBindingSize ? 'maxBufferSize' : 'maxStorageBufferBindingSize';
  throw new UnsupportedError(
    'gpu',
    `${label}: ${ROW_BLOCK} rows of ${shape.cols} values take ${packedSizes({ ...shape, rows: ROW_BLOCK }).codes} bytes, ` +
      `above the device's ${name} of ${limit}; request a device with a higher limit or cut the matrix along k`,
  );
}

interface Allocation {
  readonly parts: readonly WeightPart[];
  readonly temporary: readonly GPUBuffer[];
  readonly scale: GPUBuffer | undefined;
}

/** Buffers for parts, for bytes on their way, and for a tensor scale. Nothing is written before they are known to exist. */
async function allocate(
  device: GPUDevice,
  label: string,
  shape: MatrixShape,
  ranges: readonly RowRange[],
  temporarySizes: readonly number[] = [],
  ownScale = false,
): Promise<Allocation> {
  const made: GPUBuffer[] = [];
  const create = (name: string, bytes: number) => {
    const buffer = createStorageBuffer(device, `fp4 ${label} ${name}`, bytes);
    made.push(buffer);
    return buffer;
  };
  device.pushErrorScope('out-of-memory');
  const parts = ranges.map(({ firstRow, rows }): WeightPart => {
    const sizes = packedSizes({ ...shape, rows });
    return {
      firstRow,
      rows,
      codes: create('codes', sizes.codes),
      scales: create('scales', sizes.scales),
      ...(sizes.macroScales > 0 && { macroScales: create('macro', sizes.macroScales) }),
      rowMax: create('row maxima', sizes.rowMax),
    };
  });
  const temporary = temporarySizes.map((bytes) => create('canonical bytes', bytes));
  const scale = ownScale ? create('global scale', 4) : undefined;
  try {
    const error = await whileAlive(device, `uploading ${label}`, device.popErrorScope());
    if (error) {
      const bytes = made.reduce((sum, { size }) => sum + size, 0);
      throw new UnsupportedError(
        'gpu',
        `${label}: the device has no memory for ${bytes} bytes: ${error.message}`,
      );
    }
  } catch (cause) {
    for (const buffer of made) buffer.destroy();
    throw cause;
  }
  return { parts, temporary, scale };
}

/** Rows that the sample of {@link GpuWeights.int8Snr} has. */
const SAMPLED_ROWS = 64;

function sampledInt8Snr(q: QuantizedMatrix): number {
  const count = Math.min(q.rows, SAMPLED_ROWS);
  const rows = Array.from({ length: count }, (_, i) => Math.floor((i * q.rows) / count));
  return int8Snr(selectRows(q, rows));
}

/** Bytes of weights that products are timed over, so that decode is limited by memory and not by a cache. */
const ROTATED_BYTES = 256e6;
const MOST_COPIES = 64;

/**
 * As many copies of a matrix as products of m rows are timed with, in turn, to go past the last-level cache; one where
 * many rows share the weights, or the adapter is software and has no cache to defeat.
 */
export async function uploadCopies(gpu: Gpu, q: QuantizedMatrix, m: number): Promise<GpuWeights[]> {
  const wanted = m > 64 || isSoftware(gpu.adapterInfo) ? 1 : Math.ceil(ROTATED_BYTES / byteLength(q));
  const copies = [await uploadWeights(gpu, q)];
  while (copies.length < Math.min(wanted, MOST_COPIES)) copies.push(await copyWeights(gpu, q, copies[0]!));
  return copies;
}

/** What was uploaded of a matrix once more, without bringing its bytes to the GPU again. */
async function copyWeights({ device }: Gpu, q: QuantizedMatrix, from: GpuWeights): Promise<GpuWeights> {
  const { parts } = await allocate(device, 'weights', q, from.parts);
  submit(device, (encoder) => {
    parts.forEach((part, i) => {
      const { codes, scales, macroScales, rowMax } = from.parts[i]!;
      encoder.copyBufferToBuffer(codes, 0, part.codes, 0, codes.size);
      encoder.copyBufferToBuffer(scales, 0, part.scales, 0, scales.size);
      if (macroScales && part.macroScales)
        encoder.copyBufferToBuffer(macroScales, 0, part.macroScales, 0, macroScales.size);
      encoder.copyBufferToBuffer(rowMax, 0, part.rowMax, 0, rowMax.size);
    });
    return [];
  });
  return new GpuWeights(q, parts, { int8Snr: from.int8Snr });
}
