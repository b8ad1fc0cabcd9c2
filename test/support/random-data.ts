/** Seeded test data. */
import { roundToBf16 } from './exact.js';

/** Uniform numbers in [0, 1) from a 32-bit xorshift-multiply generator (splitmix32). */
export function uniform(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return ((z ^ (z >>> 15)) >>> 0) / 2 ** 32;
  };
}

export function gaussian(seed: number): () => number {
  const u = uniform(seed);
  return () => Math.sqrt(-2 * Math.log(1 - u())) * Math.cos(2 * Math.PI * u());
}

export function laplace(seed: number): () => number {
  const u = uniform(seed);
  return () => {
    const v = u() - 0.5;
    return -Math.sign(v) * Math.log(1 - 2 * Math.abs(v));
  };
}

/** Student's t with `freedom` degrees of freedom. */
export function studentT(seed: number, freedom: number): () => number {
  const normal = gaussian(seed);
  return () => {
    let chi2 = 0;
    for (let i = 0; i < freedom; i++) chi2 += normal() ** 2;
    return normal() / Math.sqrt(chi2 / freedom);
  };
}

export function fill(count: number, draw: (i: number) => number): Float32Array {
  return Float32Array.from({ length: count }, (_, i) => draw(i));
}

export const FLOAT_MAX = 3.4028234663852886e38;

/** Kinds of matrices that quantizers meet or fear: `DATA[kind](count, seed)`. */
export const DATA = {
  gaussian: (count, seed) => fill(count, gaussian(seed)),
  'heavy-tailed': (count, seed) => fill(count, studentT(seed, 2)),
  bf16: (count, seed) => {
    const draw = gaussian(seed);
    return fill(count, () => roundToBf16(draw()));
  },
  // Ties everywhere: quarters of small integers are grid points and midpoints of E2M1 at several scales.
  'small integers': (count, seed) => {
    const u = uniform(seed);
    return fill(count, () => Math.floor(u() * 33) - 16);
  },
  'around 2^-126': (count, seed) => {
    const u = uniform(seed);
    return fill(count, () => (u() - 0.5) * 2 ** (-121 - Math.floor(u() * 8)));
  },
  subnormal: (count, seed) => {
    const u = uniform(seed);
    return fill(count, () => Math.round((u() - 0.5) * 2 ** (u() * 24)) * 2 ** -149);
  },
  'around FLT_MAX': (count, seed) => {
    const u = uniform(seed);
    return fill(count, () => (u() < 0.5 ? -1 : 1) * FLOAT_MAX * 2 ** (-u() * 4));
  },
  'all FLT_MAX': (count, seed) => {
    const u = uniform(seed);
    return fill(count, () => (u() < 0.5 ? -FLOAT_MAX : FLOAT_MAX));
  },
  'mixed magnitudes': (count, seed) => {
    const u = uniform(seed);
    return fill(count, () => (u() - 0.5) * 2 ** (u() * 200 - 100));
  },
  // Whole blocks of ±0 beside sparse ones.
  sparse: (count, seed) => {
    const u = uniform(seed);
    const draw = gaussian(seed + 1);
    return fill(count, (i) => {
      const empty = Math.floor(i / 32) % 3 !== 0;
      if (empty || u() < 0.8) return u() < 0.5 ? 0 : -0;
      return draw();
    });
  },
  'negative zeros': (count) => fill(count, () => -0),
} satisfies Record<string, (count: number, seed: number) => Float32Array>;

export type DataKind = keyof typeof DATA;
export const DATA_KINDS = Object.keys(DATA) as DataKind[];
