/** Rounding of scaled values to E2M1 codes: to nearest (in `formats/e2m1.ts`) and stochastic, here. */
import { E2M1_VALUES } from '../formats/e2m1.js';

/**
 * Threefry-2x32 with 20 rounds (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011):
 * a counter-based generator of additions, rotations and xors alone, so that a GPU draws the same numbers
 * in any order. Returns the two output words in `out`.
 */
export function threefry2x32(
  key0: number,
  key1: number,
  counter0: number,
  counter1: number,
  out: Uint32Array,
): void {
  const key2 = key0 ^ key1 ^ 0x1bd11bda;
  let x0 = (counter0 + key0) | 0;
  let x1 = (counter1 + key1) | 0;
  for (let group = 0; group < 5; group++) {
    const rotations = group & 1 ? ROTATIONS_ODD : ROTATIONS_EVEN;
    for (let i = 0; i < 4; i++) {
      const r = rotations[i]!;
      x0 = (x0 + x1) | 0;
      x1 = ((x1 << r) | (x1 >>> (32 - r))) ^ x0;
    }
    // Key schedule: after group g add words g+1 and g+2 (mod 3) of the extended key, and the group's number.
    const next = (group + 1) % 3;
    x0 = (x0 + (next === 0 ? key0 : next === 1 ? key1 : key2)) | 0;
    x1 = (x1 + (next === 0 ? key1 : next === 1 ? key2 : key0) + group + 1) | 0;
  }
  out[0] = x0;
  out[1] = x1;
}
const ROTATIONS_EVEN = [13, 15, 26, 6];
const ROTATIONS_ODD = [17, 29, 16, 24];

/** Eight random bits for each element of a tensor, a pure function of the seed and the element's index. */
export class RandomBytes {
  readonly #key0: number;
  readonly #key1: number;
  readonly #words = new Uint32Array(2);
  #group = -1;

  constructor(seed: number) {
    this.#key0 = seed >>> 0;
    this.#key1 = Math.floor(seed / 2 ** 32);
  }

  /** Byte (0..255) of element `index`: byte `index % 8` of the little-endian output for counter `index / 8`. */
  at(index: number): number {
    const group = Math.floor(index / 8);
    if (group !== this.#group) {
      this.#group = group;
      threefry2x32(this.#key0, this.#key1, group >>> 0, Math.floor(group / 2 ** 32), this.#words);
    }
    return (this.#words[(index >> 2) & 1]! >>> ((index & 3) * 8)) & 255;
  }
}

/**
 * Code 0..7 of a magnitude between neighbours lo ≤ magnitude < hi: hi with probability floor(256 · frac)/256,
 * where frac = (magnitude - lo)/(hi - lo), else lo; `random` is uniform in 0..255. Grid values stay, magnitudes
 * above 6 saturate. With eight bits the mean is low by less than 1/256 of a step: the behaviour of the hardware's
 * `cvt.rs` and of TransformerEngine's emulation.
 */
export function stochasticCode(magnitude: number, random: number): number {
  if (magnitude >= 6) return 7;
  // Largest code not above the magnitude: steps of 0.5 up to 2, of 1 up to 4, then of 2.
  const lo = magnitude < 2 ? Math.floor(magnitude * 2) : magnitude < 4 ? 2 + Math.floor(magnitude) : 6;
  const loValue = E2M1_VALUES[lo]!;
  const fraction = (magnitude - loValue) / (E2M1_VALUES[lo + 1]! - loValue);
  return Math.floor(fraction * 256) + random >= 256 ? lo + 1 : lo;
}
