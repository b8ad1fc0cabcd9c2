import { describe, expect, it } from 'vitest';
import { f32ToBits } from '../../../src/formats/bits.js';
import { scaleExponent } from '../../../src/quantize/mx-scale.js';
import type { MxScaleRule } from '../../../src/quantize/options.js';
import { quantize } from '../../../src/quantize/quantize.js';
import type { Tile } from '../../../src/quantize/tile.js';
import { inUnits, neighbour32 } from '../../support/exact.js';
import { fill, gaussian, uniform } from '../../support/random-data.js';

// Everything below is an integer in units of 2^UNIT: f32 values and all bounds that rules compare them with.
const UNIT = -160;
const power = (e: number): bigint => 1n << BigInt(e - UNIT);
const floorLog2 = (a: bigint): number => a.toString(2).length - 1 + UNIT;
/** ceil(log2(a / divisor)): the smallest e with divisor · 2^e ≥ a. */
function ceilLog2(a: bigint, divisor: bigint): number {
  let e = UNIT;
  while (divisor * power(e) < a) e++;
  return e;
}

/** The definitions of the rules, on exact values of a. */
const DEFINITIONS: Record<Exclude<MxScaleRule, 'mse'>, (a: bigint) => number> = {
  floor: (a) => floorLog2(a) - 2,
  ceil: (a) => ceilLog2(a, 1n) - 2,
  rceil: (a) => ceilLog2(a, 6n),
  // a rounded to one mantissa bit, ties away, then as 'floor': from 1.75 · 2^p up it counts as 2^(p+1).
  even: (a) => floorLog2(a + power(floorLog2(a)) / 4n) - 2,
  oas: (a) => ceilLog2(a, 7n),
};

/** OAS as the paper's procedure: SF = 2^floor(log2(6/a)), doubled where a · SF ≤ 3.5; E = -log2(SF). */
function oasProcedure(a: bigint): number {
  // a · 2^s ≤ halves/2, in integers.
  const isAtMost = (s: number, halves: bigint) =>
    s >= 0 ? (2n * a) << BigInt(s) <= halves * power(0) : 2n * a <= (halves * power(0)) << BigInt(-s);
  let s = 160;
  while (!isAtMost(s, 12n)) s--;
  return isAtMost(s, 7n) ? -1 - s : 0 - s;
}

/** f32 values 1, 1.5, 1.75 and 2 times 2^p and their neighbours, as far as f32 has them. */
function magnitudesAround(p: number): number[] {
  const around = [1, 1.5, 1.75].map((mantissa) => mantissa * 2 ** p);
  const values = around.flatMap((x) => [neighbour32(x, -1), x, neighbour32(x, 1)]);
  values.push(neighbour32(p < 127 ? 2 ** (p + 1) : Infinity, -1));
  return values.filter((x) => x > 0 && Number.isFinite(x) && Math.fround(x) === x);
}

const MAGNITUDES = Array.from({ length: 277 }, (_, i) => i - 149).flatMap(magnitudesAround);

/** Scale byte of a block whose only non-zero value is x, somewhere in the block. */
function byteOf(x: number, scaleRule: MxScaleRule, position = 13): number {
  const values = new Float32Array(32);
  values[position] = x;
  return quantize(values, { rows: 1, cols: 32, format: 'mxfp4', scaleRule }).scales[0]!;
}

describe.each(Object.keys(DEFINITIONS) as Exclude<MxScaleRule, 'mse'>[])('scale rule %s', (rule) => {
  it('follows its definition in every binade, next to every threshold', () => {
    expect(MAGNITUDES.length).toBeGreaterThan(250 * 10);
    for (const x of MAGNITUDES) {
      const expected = Math.max(DEFINITIONS[rule](inUnits(x, UNIT)), -127) + 127;
      expect(byteOf(x, rule), `${x}`).toBe(expected);
      expect(byteOf(-x, rule), `${-x}`).toBe(expected);
    }
  });

  it('takes the maximum wherever it stands in the block', () => {
    for (let position = 0; position < 32; position++)
      expect(byteOf(1.9, rule, position)).toBe(byteOf(1.9, rule));
  });
});

describe('Overflow-Aware Scaling', () => {
  it('has two definitions that agree: ceil(log2(a/7)) and the procedure of the paper', () => {
    for (const x of MAGNITUDES) {
      const a = inUnits(x, UNIT);
      expect(DEFINITIONS.oas(a), `${x}`).toBe(oasProcedure(a));
    }
  });

  it('differs from even at 1.75 · 2^p alone', () => {
    for (const x of MAGNITUDES.filter((x) => x >= 2 ** -120)) {
      const isTie = x / 2 ** Math.floor(Math.log2(x)) === 1.75;
      expect(byteOf(x, 'even') - byteOf(x, 'oas'), `${x}`).toBe(isTie ? 1 : 0);
    }
  });
});

describe('scale rule even', () => {
  it('is the bit form of torchao on normal values', () => {
    for (const x of MAGNITUDES.filter((x) => x >= 2 ** -124)) {
      expect(byteOf(x, 'even')).toBe(((f32ToBits(x) + (1 << 21)) >>> 23) - 2);
    }
  });
});

// Table of scale bytes for one maximum, relative to p - 2.
it.each([
  [1.0, { floor: 0, even: 0, ceil: 0, rceil: 0, oas: 0 }],
  [1.49, { floor: 0, even: 0, ceil: 1, rceil: 0, oas: 0 }],
  [1.5, { floor: 0, even: 0, ceil: 1, rceil: 0, oas: 0 }],
  [1.51, { floor: 0, even: 0, ceil: 1, rceil: 1, oas: 0 }],
  [1.75, { floor: 0, even: 1, ceil: 1, rceil: 1, oas: 0 }],
  [1.76, { floor: 0, even: 1, ceil: 1, rceil: 1, oas: 1 }],
  [1.99, { floor: 0, even: 1, ceil: 1, rceil: 1, oas: 1 }],
] as const)('a maximum of %s · 2^p', (mantissa, bumps) => {
  for (const [rule, bump] of Object.entries(bumps)) {
    for (const p of [-100, -3, 0, 1, 50]) {
      expect(byteOf(mantissa * 2 ** p, rule as MxScaleRule)).toBe(p - 2 + bump + 127);
    }
  }
});

/** Squared error for each exponent -127..127 of values that are integers in units of 2^-149. */
function squaredErrors(values: readonly number[]): bigint[] {
  const magnitudes = values.map((x) => inUnits(Math.abs(x), -149));
  return Array.from({ length: 255 }, (_, i) => {
    // Grid points 0, 1, 2, 3, 4, 6, 8, 12 in units of 2^(E-1).
    const half = 1n << BigInt(i - 127 - 1 + 149);
    const grid = [0n, 1n, 2n, 3n, 4n, 6n, 8n, 12n].map((n) => n * half);
    let sum = 0n;
    for (const m of magnitudes) {
      let least = -1n;
      for (const point of grid) {
        const distance = m > point ? m - point : point - m;
        if (least < 0n || distance < least) least = distance;
        if (point > m) break;
      }
      sum += least * least;
    }
    return sum;
  });
}

const min = (values: bigint[]): bigint => values.reduce((a, b) => (b < a ? b : a));

/** Expects the exponent that 'mse' chooses to cost at most 0.1 % more than the best of all 255. */
function expectLeastSquares(values: number[], height: number, what: string): void {
  const width = values.length / height;
  const tile: Tile = { data: Float64Array.from(values), start: 0, stride: width, height, width };
  const chosen = scaleExponent(tile, 'mse');
  const errors = squaredErrors(values);
  const least = min(errors);
  const best = errors.indexOf(least) - 127;
  const isGood = errors[chosen + 127]! * 1000n <= least * 1001n;
  expect(isGood, `${what}: chose E = ${chosen}, the least squares are at ${best}`).toBe(true);
}

/** One value `a` and others at midpoints of the grid of 2^E, where a smaller E serves them better. */
const adversarial = (count: number, a: number, exponent: number, midpoint: number): number[] =>
  Array.from({ length: count }, (_, i) => (i === 0 ? a : midpoint * 2 ** exponent * (i % 2 ? 1 : -1)));

describe('scale rule mse', () => {
  it('finds the least squares of random blocks', () => {
    const draw = gaussian(1);
    for (let i = 0; i < 60; i++) {
      const size = i % 2 ? 16 : 32;
      expectLeastSquares([...fill(size, draw)], 1, `block ${i}`);
    }
  });

  it('finds them at both ends of the range', () => {
    const draw = gaussian(2);
    for (const p of [-149, -140, -131, -129, -128, -127, -126, -125, -124, 120, 124, 125]) {
      for (let i = 0; i < 3; i++) expectLeastSquares([...fill(32, () => draw() * 2 ** p)], 1, `2^${p}`);
    }
  });

  it('finds them in blocks with one outlier of any size', () => {
    const u = uniform(3);
    for (let i = 0; i < 60; i++) {
      const values = [...fill(32, () => u() - 0.5)];
      values[i % 32] = Math.fround(2 ** (u() * 6 - 2));
      expectLeastSquares(values, 1, `block ${i}`);
    }
  });

  it('lets the maximum clip where that serves the others', () => {
    for (const midpoint of [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5]) {
      for (const a of [1, 1.25, 1.5, neighbour32(1.5, 1), 1.75, 1.8, neighbour32(2, -1)]) {
        for (const exponent of [-4, -3, -2, -1]) {
          for (const size of [16, 32]) {
            const values = adversarial(size, a, exponent, midpoint);
            expectLeastSquares(values, 1, `${a}, ${midpoint} · 2^${exponent}`);
          }
        }
      }
    }
    // The premise: there is a block that clipping below 'floor' serves best.
    const values = adversarial(32, 1, -2, 0.25);
    const errors = squaredErrors(values);
    expect(errors.indexOf(min(errors)) - 127).toBe(-3);
  });

  it.each([16, 32])('lets one maximum clip in a square 2d tile of side %i', (size) => {
    for (const midpoint of [0.25, 0.75, 1.25, 2.5]) {
      for (const exponent of [-6, -5, -4, -3, -2]) {
        expectLeastSquares(
          adversarial(size * size, 1, exponent, midpoint),
          size,
          `${midpoint} · 2^${exponent}`,
        );
      }
    }
  });

  it('takes the smaller exponent on a tie', () => {
    // 7 becomes 6 with E = 0, or 8 with E = 1; 2 and 4 are on both grids.
    const values = Float32Array.from({ length: 32 }, (_, i) => (i === 9 ? 7 : 2 + 2 * (i % 2)));
    const errors = squaredErrors([...values]);
    expect(errors[127]).toBe(min(errors));
    expect(errors[128]).toBe(min(errors));
    const q = quantize(values, { rows: 1, cols: 32, format: 'mxfp4', scaleRule: 'mse' });
    expect(q.scales[0]! - 127).toBe(0);
  });
});
