/** What a device refuses while something runs: WebGPU tells it to whoever listens, and the work itself goes on. */
import { UnsupportedError } from '../src/index.js';

export class Refusals {
  readonly #device: GPUDevice;
  readonly #messages: string[] = [];
  readonly #listen = (event: GPUUncapturedErrorEvent) => void this.#messages.push(event.error.message);

  constructor(device: GPUDevice) {
    this.#device = device;
    device.addEventListener('uncapturederror', this.#listen);
  }

  /** @throws UnsupportedError where something was refused since the last call */
  throwIfAny(): void {
    if (this.#messages.length) throw new UnsupportedError('demo', this.#messages.splice(0).join('; '));
  }

  destroy(): void {
    this.#device.removeEventListener('uncapturederror', this.#listen);
  }
}
