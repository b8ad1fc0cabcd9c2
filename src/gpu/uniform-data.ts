/** The few words that a dispatch is given beside its buffers. */
import { BufferUsage } from './constants.js';

/**
 * Where they lie: in a uniform buffer, bound as 0, or in immediates, which a pass carries itself: no buffer is made for
 * them, and none is bound. A device has immediates where its probe says so.
 */
export type UniformSource = 'buffer' | 'immediates';

/** The data of one dispatch. Its shader is composed with the module of the same source. */
export class UniformData {
  /** Absent with immediates. */
  readonly buffer?: GPUBuffer;
  /** Not a view of it: Dawn in Node takes a quarter of the time over a plain buffer. */
  readonly #data: ArrayBuffer;

  constructor(device: GPUDevice, label: string, data: Uint32Array<ArrayBuffer>, source: UniformSource) {
    this.#data = data.slice().buffer;
    if (source === 'immediates') return;
    this.buffer = device.createBuffer({
      label,
      // Uniform structs are as long as whole vec4s.
      size: Math.ceil(data.byteLength / 16) * 16,
      usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST,
    });
    device.queue.writeBuffer(this.buffer, 0, data);
  }

  /** Gives immediates to a pass, where they are what later dispatches see; what is in a buffer comes with its binding. */
  encode(pass: GPUComputePassEncoder): void {
    if (!this.buffer) pass.setImmediates(0, this.#data);
  }

  destroy(): void {
    this.buffer?.destroy();
  }
}
