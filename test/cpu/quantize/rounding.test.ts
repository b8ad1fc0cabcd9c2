import { describe, expect, it } from 'vitest';
import { dequantize, quantize } from '../../../src/quantize/quantize.js';
import { RandomBytes, stochasticCode, threefry2x32 } from '../../../src/quantize/rounding.js';
import { neighbour64 } from '../../support/exact.js';
import { FLOAT_MAX, fill, gaussian, uniform } from '../../support/random-data.js';
import { randomByte, referenceThreefry } from '../../support/reference-threefry.js';

const GRID = [0, 0.5, 1, 1.5, 2, 3, 4, 6];

function threefry(key: [number, number], counter: [number, number]): number[] {
  const out = new Uint32Array(2);
  threefry2x32(...key, ...counter, out);
  return [...out];
}

describe('Threefry-2x32-20', () => {
  // Known answers of the Random123 distribution.
  it.each([
    { counter: [0, 0], key: [0, 0], words: [0x6b200159, 0x99ba4efe] },
    {
      counter: [0xffffffff, 0xffffffff],
      key: [0xffffffff, 0xffffffff],
      words: [0x1cb996fc, 0xbb002be7],
    },
    { counter: [0x243f6a88, 0x85a308d3], key: [0x13198a2e, 0x03707344], words: [0xc4923a9c, 0x483df7a0] },
  ] as { counter: [number, number]; key: [number, number]; words: number[] }[])(
    'gives the known answer for counter $counter',
    ({ counter, key, words }) => {
      expect(threefry(key, counter)).toEqual(words);
    },
  );

  it('agrees with the reference on random keys and counters', () => {
    const u = uniform(1);
    const word = () => Math.floor(u() * 2 ** 32);
    for (let i = 0; i < 500; i++) {
      const key: [number, number] = [word(), word()];
      const counter: [number, number] = [word(), word()];
      const big = (pair: [number, number]): [bigint, bigint] => [BigInt(pair[0]), BigInt(pair[1])];
      expect(threefry(key, counter)).toEqual(referenceThreefry(big(key), big(counter)).map(Number));
    }
  });
});

describe('random bytes', () => {
  it('are the little-endian bytes of the words for counter index / 8', () => {
    // First words of seed 0, counter 0: 6b200159 99ba4efe.
    const random = new RandomBytes(0);
    expect(Array.from({ length: 8 }, (_, i) => random.at(i))).toEqual([
      0x59, 0x01, 0x20, 0x6b, 0xfe, 0x4e, 0xba, 0x99,
    ]);
  });

  it('are a function of seed and index alone, for large ones too', () => {
    const u = uniform(2);
    for (const seed of [0, 1, 12345, 2 ** 32 - 1, 2 ** 32, 2 ** 40 + 7, Number.MAX_SAFE_INTEGER]) {
      const random = new RandomBytes(seed);
      for (let i = 0; i < 100; i++) {
        const index = Math.floor(u() * 2 ** (u() * 40));
        expect(random.at(index)).toBe(randomByte(seed, index));
      }
    }
  });
});

/** How many of the 256 random bytes round a magnitude to each code. */
function codeCounts(magnitude: number): Map<number, number> {
  const counts = new Map<number, number>();
  for (let random = 0; random < 256; random++) {
    const code = stochasticCode(magnitude, random);
    counts.set(code, (counts.get(code) ?? 0) + 1);
  }
  return counts;
}

describe('stochastic rounding of one value', () => {
  it.each([
    [1.3, 2, 153], // frac 0.6, 153.6 / 256
    [0.25, 0, 128],
    [0.125, 0, 64],
    [0.001, 0, 0],
    [2.25, 4, 64],
    [3.999, 5, 255],
    [4.5, 6, 64],
    [5, 6, 128],
    [neighbour64(6, -1), 6, 255],
    [neighbour64(2, -1), 3, 255],
    [2 ** -149, 0, 0],
  ])('%s goes up from code %i for %i of 256 bytes', (magnitude, low, ups) => {
    const counts = codeCounts(magnitude);
    expect(counts.get(low) ?? 0).toBe(256 - ups);
    expect(counts.get(low + 1) ?? 0).toBe(ups);
  });

  it('goes up for floor(256 · frac) bytes, anywhere', () => {
    const u = uniform(3);
    for (let i = 0; i < 1000; i++) {
      const magnitude = Math.fround(u() * 6);
      const low = GRID.findLastIndex((value) => value <= magnitude);
      const ups = Math.floor((256 * (magnitude - GRID[low]!)) / (GRID[low + 1]! - GRID[low]!));
      expect(codeCounts(magnitude).get(low + 1) ?? 0).toBe(ups);
    }
  });

  it('goes up monotonically with the random byte', () => {
    for (const magnitude of [0.3, 1.3, 2.7, 5.5]) {
      for (let random = 1; random < 256; random++) {
        expect(stochasticCode(magnitude, random)).toBeGreaterThanOrEqual(
          stochasticCode(magnitude, random - 1),
        );
      }
    }
  });

  it('leaves grid values where they are', () => {
    for (const [code, value] of GRID.entries()) expect([...codeCounts(value)]).toEqual([[code, 256]]);
  });

  it('saturates above 6', () => {
    for (const large of [neighbour64(6, 1), 7, 100, FLOAT_MAX, Infinity]) {
      expect([...codeCounts(large)]).toEqual([[7, 256]]);
    }
  });
});

describe('stochastic rounding of a matrix', () => {
  const values = fill(16 * 64, gaussian(4));
  const options = { rows: 16, cols: 64, format: 'mxfp4', rounding: 'stochastic' } as const;

  it('gives the same bytes for the same seed, other bytes for another, 0 by default', () => {
    const first = quantize(values, { ...options, seed: 1 });
    expect(quantize(values, { ...options, seed: 1 })).toEqual(first);
    for (const seed of [2, 2 ** 32 + 1])
      expect(quantize(values, { ...options, seed }).codes).not.toEqual(first.codes);
    expect(quantize(values, options)).toEqual(quantize(values, { ...options, seed: 0 }));
  });

  it('moves codes only, not scales', () => {
    const macro = { macroScale: 'dynamic' } as const;
    const nearest = quantize(values, { ...options, ...macro, rounding: 'nearest-even' });
    const stochastic = quantize(values, { ...options, ...macro });
    expect(stochastic.scales).toEqual(nearest.scales);
    expect(stochastic.macroScales).toEqual(nearest.macroScales);
    expect(stochastic.codes).not.toEqual(nearest.codes);
  });

  it('is unbiased but for the 1/256 of a step that eight bits lose', () => {
    // 'ceil' clips nothing. Steps are at most 1 below 4 scales.
    const runs = 400;
    const sums = new Float64Array(64);
    const row = values.subarray(0, 64);
    let q = quantize(row, { ...options, rows: 1, scaleRule: 'ceil' });
    for (let seed = 0; seed < runs; seed++) {
      q = quantize(row, { ...options, rows: 1, scaleRule: 'ceil', seed });
      dequantize(q).forEach((x, i) => {
        sums[i]! += Math.abs(x);
      });
    }
    let meanError = 0;
    for (let i = 0; i < 64; i++) {
      const scale = 2 ** (q.scales[Math.floor(i / 32)]! - 127);
      const magnitude = Math.abs(row[i]!) / scale;
      const step = magnitude < 2 ? 0.5 : 1;
      const error = (sums[i]! / runs / scale - magnitude) / step;
      // Five standard deviations of a mean of coin tosses, and the bias.
      expect(error).toBeGreaterThan(-1 / 256 - 2.5 / Math.sqrt(runs));
      expect(error).toBeLessThan(2.5 / Math.sqrt(runs));
      meanError += error / 64;
    }
    expect(meanError).toBeGreaterThan(-1 / 256 - 2.5 / Math.sqrt(64 * runs));
    expect(meanError).toBeLessThan(2.5 / Math.sqrt(64 * runs));
  });

  it('is unbiased where rounding to nearest is not', () => {
    // 64 values that all round down: 1.2 of a block whose maximum is 4.
    const row = fill(512, (i) => (i % 32 === 0 ? 4 : 1.2));
    const mean = (rounding: 'stochastic' | 'nearest-even') =>
      dequantize(quantize(row, { ...options, rows: 1, cols: 512, rounding })).reduce((sum, x) => sum + x, 0) /
      512;
    const exact = (4 + 31 * 1.2) / 32;
    expect(Math.abs(mean('nearest-even') - exact)).toBeGreaterThan(0.19);
    expect(Math.abs(mean('stochastic') - exact)).toBeLessThan(0.06);
  });
});
