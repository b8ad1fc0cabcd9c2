import { InvalidArgumentError, UnsupportedError } from '../errors.js';
import type { Limits } from './caps.js';
import { BufferUsage, MAP_READ } from './constants.js';
import { whileAlive } from './loss.js';

/** A whole buffer, or a part of one, at a multiple of the device's `minStorageBufferOffsetAlignment` (256 by default). */
export type BufferSlice = GPUBuffer | GPUBufferBinding;

export function asBinding(slice: BufferSlice): GPUBufferBinding {
  return 'buffer' in slice ? slice : { buffer: slice };
}

/** What never changes about a buffer. In Node each look at it takes Dawn as long as a tenth of a product's encoding. */
const facts = new WeakMap<GPUBuffer, { readonly size: number; readonly usage: number }>();

function factsOf(buffer: GPUBuffer) {
  let known = facts.get(buffer);
  if (!known) {
    const { size, usage } = buffer;
    known = { size, usage };
    facts.set(buffer, known);
  }
  return known;
}

/** Bytes that a slice covers. */
export function sliceSize({ buffer, offset = 0, size }: GPUBufferBinding): number {
  return size ?? factsOf(buffer).size - offset;
}

/** Rounds a byte count up to WebGPU's copy alignment, at least 16 so that a vec4 fits. */
export function alignedSize(bytes: number): number {
  return Math.max(16, Math.ceil(bytes / 4) * 4);
}

/**
 * A storage buffer with the given bytes; the tail up to the alignment is zero.
 * @throws UnsupportedError where the device's limits are below the size
 */
export function createStorageBuffer(
  device: GPUDevice,
  label: string,
  data: ArrayBufferView | number,
): GPUBuffer {
  const bytes = typeof data === 'number' ? data : data.byteLength;
  const size = alignedSize(bytes);
  checkBufferSize(device.limits, label, size);
  const buffer = device.createBuffer({
    label,
    size,
    usage: BufferUsage.STORAGE | BufferUsage.COPY_DST | BufferUsage.COPY_SRC,
  });
  if (typeof data !== 'number') writeBytes(device, buffer, data);
  return buffer;
}

/** Writes any number of bytes to the start of a buffer, and zeros up to a multiple of four. */
export function writeBytes(device: GPUDevice, buffer: GPUBuffer, data: ArrayBufferView): void {
  const whole = data.byteLength - (data.byteLength % 4);
  device.queue.writeBuffer(buffer, 0, data.buffer as ArrayBuffer, data.byteOffset, whole);
  if (whole < data.byteLength) {
    // writeBuffer takes multiples of four bytes.
    const tail = new Uint8Array(4);
    tail.set(new Uint8Array(data.buffer, data.byteOffset + whole, data.byteLength - whole));
    device.queue.writeBuffer(buffer, whole, tail);
  }
}

/** @throws UnsupportedError naming the limit, both numbers and the remedy */
export function checkBufferSize(
  limits: Pick<Limits, 'maxBufferSize' | 'maxStorageBufferBindingSize'>,
  what: string,
  size: number,
): void {
  for (const name of ['maxStorageBufferBindingSize', 'maxBufferSize'] as const) {
    if (size > limits[name]) {
      throw new UnsupportedError(
        'gpu',
        `${what} needs ${size} bytes, above the device's ${name} of ${limits[name]}; request a device with a higher limit or split the tensor along its rows`,
      );
    }
  }
}

const ELEMENT_BYTES = { f32: 4, f16: 2, u32: 4, u8: 1 } as const;

/**
 * A caller's slice, cut to the bytes that it needs to hold `type[shape]`.
 * @throws InvalidArgumentError where it is missing, too small, misaligned or of the wrong usage
 */
export function checkSlice(
  device: GPUDevice,
  module: string,
  name: string,
  slice: BufferSlice | undefined,
  type: keyof typeof ELEMENT_BYTES,
  ...shape: readonly number[]
): GPUBufferBinding {
  const contents = () => `${type}[${shape.join(', ')}]`;
  if (!slice) throw new InvalidArgumentError(module, `${name} is missing; it is ${contents()}`);
  const binding = asBinding(slice);
  const { buffer, offset = 0 } = binding;
  const bytes = shape.reduce((product, size) => product * size, ELEMENT_BYTES[type]);
  const needed = Math.ceil(bytes / 4) * 4;
  if (sliceSize(binding) < needed) {
    throw new InvalidArgumentError(
      module,
      `${name} has ${sliceSize(binding)} bytes; ${contents()} needs ${needed}`,
    );
  }
  if (offset !== 0) {
    const alignment = device.limits.minStorageBufferOffsetAlignment;
    if (offset % alignment) {
      throw new InvalidArgumentError(
        module,
        `${name} starts at byte ${offset}; storage bindings of this device start at multiples of ${alignment}`,
      );
    }
  }
  if (!(factsOf(buffer).usage & BufferUsage.STORAGE)) {
    throw new InvalidArgumentError(module, `${name} was created without GPUBufferUsage.STORAGE`);
  }
  return { buffer, offset, size: needed };
}

/**
 * Copies `size` bytes of a buffer back to the CPU.
 * @throws DeviceLostError where the device is lost meanwhile
 */
export async function readBuffer(device: GPUDevice, slice: BufferSlice, size?: number): Promise<ArrayBuffer> {
  const binding = asBinding(slice);
  const bytes = size ?? sliceSize(binding);
  if (bytes % 4 || bytes > sliceSize(binding)) {
    throw new InvalidArgumentError(
      'gpu',
      `cannot read ${bytes} bytes of ${sliceSize(binding)}; take a multiple of 4 that is there`,
    );
  }
  const staging = device.createBuffer({
    label: 'fp4 readback',
    size: bytes,
    usage: BufferUsage.MAP_READ | BufferUsage.COPY_DST,
  });
  try {
    const encoder = device.createCommandEncoder({ label: 'fp4 readback' });
    encoder.copyBufferToBuffer(binding.buffer, binding.offset ?? 0, staging, 0, bytes);
    device.queue.submit([encoder.finish()]);
    await whileAlive(device, 'reading a buffer', staging.mapAsync(MAP_READ));
    return staging.getMappedRange().slice(0);
  } finally {
    staging.destroy();
  }
}
