/** Devices and GPUs that differ from a real one in what a test is about. */
import type { Gpu } from '../../src/index.js';

/** The same object, but for members that stand in for its own. */
export function standIn<T extends object>(target: T, members: object): T {
  return new Proxy(target, {
    get: (_, key) => {
      if (key in members) return Reflect.get(members, key);
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

/** The same GPU, whose device has other members. */
export function withDevice(gpu: Gpu, members: Partial<GPUDevice>): Gpu {
  return Object.create(gpu, {
    device: { value: standIn(gpu.device, members) },
    // Without this a new device is probed, by what the test watches.
    probe: { value: () => gpu.probe() },
  }) as Gpu;
}

/** The same GPU, each of whose buffers is handed to a function when it is made. */
export const watchBuffers = (gpu: Gpu, seen: (buffer: GPUBuffer) => void): Gpu =>
  withDevice(gpu, {
    createBuffer: (descriptor) => {
      const buffer = gpu.device.createBuffer(descriptor);
      seen(buffer);
      return buffer;
    },
  });

/** The same GPU, and the labels of the shaders that it is given. */
export function watchShaders(gpu: Gpu): { gpu: Gpu; shaders: string[] } {
  const shaders: string[] = [];
  const watched = withDevice(gpu, {
    createShaderModule: (descriptor) => {
      shaders.push(descriptor.label!);
      return gpu.device.createShaderModule(descriptor);
    },
  });
  return { gpu: watched, shaders };
}

/** The same GPU, but the first value of each buffer that is read back is off by a thousandth. */
export const tampered = (gpu: Gpu): Gpu =>
  watchBuffers(gpu, (buffer) => {
    const original = buffer.getMappedRange.bind(buffer);
    buffer.getMappedRange = (...range: []) => {
      const bytes = original(...range);
      const values = new Float32Array(bytes);
      values[0] = values[0]! * 1.001 + 0.001;
      return bytes;
    };
  });
