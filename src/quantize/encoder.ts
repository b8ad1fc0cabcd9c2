import { magnitudeCode } from '../formats/e2m1.js';
import type { QuantizeSpec } from './options.js';
import { RandomBytes, stochasticCode } from './rounding.js';
import { largestMagnitude, type Tile } from './tile.js';

/** Rounds tiles of values to E2M1 codes and packs them, element 2i in the low nibble. */
export class ElementEncoder {
  readonly codes: Uint8Array;
  readonly #random: RandomBytes | undefined;
  /** Where the elements begin in their matrix. */
  readonly #first: number;

  constructor(count: number, spec: Pick<QuantizeSpec, 'rounding' | 'seed'>, first: number) {
    this.codes = new Uint8Array(count / 2);
    this.#first = first;
    this.#random = spec.rounding === 'stochastic' ? new RandomBytes(spec.seed) : undefined;
  }

  /**
   * Encodes `value · multiplier` of each value of the tile; its first one is element `position` of those here.
   * The products are exact for the power-of-two multipliers of MXFP4; NVFP4 passes them already multiplied.
   * A tile of zeros has codes 0 whatever the signs, which is what the codes are initialised to.
   */
  encode(tile: Tile, position: number, multiplier: number): void {
    if (largestMagnitude(tile) === 0) return;
    const { data, start, stride, height, width } = tile;
    for (let row = 0; row < height; row++) {
      const from = start + row * stride;
      const to = position + row * stride;
      for (let i = 0; i < width; i += 2) {
        const low = this.#code(data[from + i]!, multiplier, to + i);
        const high = this.#code(data[from + i + 1]!, multiplier, to + i + 1);
        this.codes[(to + i) >> 1] = low | (high << 4);
      }
    }
  }

  #code(value: number, multiplier: number, index: number): number {
    const magnitude = Math.abs(value) * multiplier;
    const sign = value < 0 || (value === 0 && 1 / value < 0) ? 8 : 0;
    return (
      sign |
      (this.#random
        ? stochasticCode(magnitude, this.#random.at(this.#first + index))
        : magnitudeCode(magnitude))
    );
  }
}
