import { InvalidArgumentError, UnsupportedError } from '../errors.js';
import type { Limits } from './caps.js';
import { BufferUsage, MAP_READ } from './constants.js';

/** A whole buffer, or a part of one. Offsets of storage bindings are multiples of 256 (WebGPU's default limit). */
export type BufferSlice = GPUBuffer | GPUBufferBinding;

export function asBinding(slice: BufferSlice): GPUBufferBinding {
  return 'buffer' in slice ? slice : { buffer: slice };
}

/** Bytes that a slice covers. */
export function sliceSize({ buffer, offset = 0, size }: GPUBufferBinding): number {
  return size ?? buffer.size - offset;
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
  if (typeof data !== 'number') {
    const whole = data.byteLength - (data.byteLength % 4);
    device.queue.writeBuffer(buffer, 0, data.buffer as ArrayBuffer, data.byteOffset, whole);
    if (whole < data.byteLength) {
      // writeBuffer takes multiples of four bytes.
      const tail = new Uint8Array(4);
      tail.set(new Uint8Array(data.buffer, data.byteOffset + whole, data.byteLength - whole));
      device.queue.writeBuffer(buffer, whole, tail);
    }
  }
  return buffer;
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

/** Copies `size` bytes of a buffer back to the CPU. */
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
    await staging.mapAsync(MAP_READ);
    return staging.getMappedRange().slice(0);
  } finally {
    staging.destroy();
  }
}
