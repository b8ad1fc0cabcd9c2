import { describe, expect, it } from 'vitest';
import { floorLog2 } from '../../../src/formats/bits.js';
import { type ErrorSum, lessWeighted, squaredError } from '../../../src/quantize/residuals.js';
import { inUnits, neighbour64 } from '../../support/exact.js';
import { uniform } from '../../support/random-data.js';

describe('floorLog2', () => {
  it('is exact at and next to every power of two', () => {
    for (let p = -1021; p <= 1023; p++) {
      expect(floorLog2(2 ** p)).toBe(p);
      expect(floorLog2(neighbour64(2 ** p, 1))).toBe(p);
      expect(floorLog2(neighbour64(2 ** p, -1))).toBe(p - 1);
    }
  });
});

const ofResiduals = (values: number[], count = values.length): ErrorSum =>
  squaredError(Float64Array.from(values), count, Math.max(...values.slice(0, count)));

describe('squaredError', () => {
  it('is zero for no residual', () => {
    expect(ofResiduals([0, 0, 0]).sum).toBe(0);
  });

  it('is exact for small integers', () => {
    const { sum, exponent } = ofResiduals([0, 1, 2, 3, 100]);
    expect(sum * 2 ** exponent).toBe(1 + 4 + 9 + 10000);
  });

  it('counts no more than it is told to', () => {
    expect(ofResiduals([1, 2, 1000], 2)).toEqual(ofResiduals([1, 2]));
  });

  it('does not depend on the order, and scales by powers of two exactly', () => {
    const u = uniform(1);
    const values = Array.from({ length: 128 }, u);
    const error = ofResiduals(values);
    expect(ofResiduals([...values].reverse())).toEqual(error);
    for (const p of [-150, -1, 3, 120]) {
      const scaled = ofResiduals(values.map((x) => x * 2 ** p));
      expect(scaled).toEqual({ sum: error.sum, exponent: error.exponent + 2 * p });
    }
  });

  it.each([1, 16, 32, 128, 129, 256, 1024, 4096, 16384])(
    'of %i residuals is low by at most a thousandth',
    (count) => {
      const u = uniform(count);
      // The worst case for residuals of B bits: the largest is a power of two, the others fall just short of the
      // next unit, at the size where that costs most, relatively.
      const worst = [14, 15, 16, 17, 18, 19, 20].map((bits) => {
        const units = Math.round(2 ** (bits - 1) / (1 + Math.sqrt(count + 1))) + 0.999;
        return () => units * 2 ** (1 - bits);
      });
      for (const draw of [u, ...worst]) {
        const values = Array.from({ length: count }, draw);
        values[0] = 1;
        const { sum, exponent } = ofResiduals(values);
        let exact = 0n;
        for (const x of values) exact += inUnits(x, -100) ** 2n;
        const found = BigInt(sum) << BigInt(exponent + 200);
        expect(Number.isSafeInteger(sum)).toBe(true);
        expect(found <= exact).toBe(true);
        expect((exact - found) * 1000n <= exact).toBe(true);
      }
    },
  );
});

describe('lessWeighted', () => {
  const exactly = (a: ErrorSum, p: number, b: ErrorSum, q: number): boolean => {
    const left = (BigInt(a.sum) * BigInt(p)) << BigInt(a.exponent + 200);
    return left < (BigInt(b.sum) * BigInt(q)) << BigInt(b.exponent + 200);
  };

  it('decides like exact integers, close calls and huge sums included', () => {
    const u = uniform(5);
    let close = 0;
    for (let i = 0; i < 20000; i++) {
      const a = { sum: Math.floor(2 ** (u() * 52.9)), exponent: Math.floor(u() * 40) - 20 };
      const p = 256 + Math.floor(u() * 700);
      const q = 256 + Math.floor(u() * 700);
      // b · q within a few units of a · p, where it fits.
      const exponent = a.exponent + Math.floor(u() * 5) - 2;
      const near = Math.round((a.sum * p) / q / 2 ** (exponent - a.exponent)) + Math.floor(u() * 3) - 1;
      const b = { sum: Math.min(Math.max(near, 0), 2 ** 53 - 1), exponent };
      if (near > 0 && near < 2 ** 53) close++;
      expect(lessWeighted(a, p, b, q)).toBe(exactly(a, p, b, q));
      expect(lessWeighted(b, q, a, p)).toBe(exactly(b, q, a, p));
    }
    expect(close).toBeGreaterThan(15000);
  });

  it('is strict, and knows zero in any unit', () => {
    const zero = { sum: 0, exponent: 0 };
    const some = { sum: 3, exponent: -120 };
    expect(lessWeighted(some, 16, some, 16)).toBe(false);
    expect(lessWeighted(zero, 900, some, 256)).toBe(true);
    expect(lessWeighted(some, 256, zero, 900)).toBe(false);
    expect(lessWeighted(zero, 256, { sum: 0, exponent: 50 }, 900)).toBe(false);
    expect(lessWeighted({ sum: 6, exponent: 0 }, 256, { sum: 3, exponent: 1 }, 256)).toBe(false);
  });
});
