import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../../src/errors.js';
import {
  addSums,
  blockMetrics,
  errorMetrics,
  errorSums,
  NO_ERROR,
  sqnrOf,
} from '../../../src/quantize/metrics.js';

describe('errorMetrics', () => {
  it('is what a hand computes', () => {
    // Errors 0, 0.1, 1, 0.2: squares 0, 0.01, 1, 0.04 of a signal of 1 + 4 + 9 + 16.
    const m = errorMetrics([1, -2, 3, -4], [1, -2.1, 2, -3.8]);
    expect(m.sqnr).toBeCloseTo(10 * Math.log10(30 / 1.05), 12);
    expect(m.mse).toBeCloseTo(1.05 / 4, 12);
    expect(m.maxError).toBe(1);
    expect(m.maxErrorIndex).toBe(2);
  });

  it('has round decibels for round ratios', () => {
    expect(errorMetrics([10, 0], [9, 0]).sqnr).toBeCloseTo(20, 12);
    expect(errorMetrics([1], [0]).sqnr).toBe(0);
    expect(errorMetrics([1], [3]).sqnr).toBeCloseTo(-6.0206, 4);
  });

  it('is infinite where nothing is lost', () => {
    expect(errorMetrics([1, 2], [1, 2])).toEqual({ sqnr: Infinity, mse: 0, maxError: 0, maxErrorIndex: 0 });
    expect(errorMetrics(Float32Array.of(0, 0), Float32Array.of(0, -0)).sqnr).toBe(Infinity);
  });

  it('names the first of equal errors', () => {
    expect(errorMetrics([0, 1, 1], [0, 2, 0]).maxErrorIndex).toBe(1);
  });

  it('adds in f64', () => {
    const reference = Float32Array.of(3e38, 3e38);
    const { mse, sqnr } = errorMetrics(reference, Float32Array.of(0, 0));
    expect(mse).toBeCloseTo(9e76, -70);
    expect(sqnr).toBe(0);
    const tiny = errorMetrics(Float32Array.of(2 ** -149), Float32Array.of(0));
    expect(tiny.mse).toBe(2 ** -298);
  });

  it.each([0, 1, 2])('keeps a NaN error at index %i', (index) => {
    const approximation = [1, 2, 3.5];
    approximation[index] = Number.NaN;
    const m = errorMetrics([1, 2, 3], approximation);
    expect(m.sqnr).toBeNaN();
    expect(m.mse).toBeNaN();
    expect(m.maxError).toBeNaN();
    expect(m.maxErrorIndex).toBe(index);
  });

  it('keeps an infinite error', () => {
    const m = errorMetrics([1, 2], [1, Infinity]);
    expect(m).toEqual({ sqnr: -Infinity, mse: Infinity, maxError: Infinity, maxErrorIndex: 1 });
  });

  it.each([
    [[], []],
    [[1], []],
    [[1], [1, 2]],
  ])('refuses %j against %j', (reference, approximation) => {
    const error = new InvalidArgumentError(
      'metrics',
      `reference has ${reference.length} values, approximation ${approximation.length}; both need the same, at least one`,
    );
    expect(() => errorMetrics(reference, approximation)).toThrow(error);
    expect(() => blockMetrics(reference, approximation, 1)).toThrow(error);
  });
});

describe('blockMetrics', () => {
  it('measures each run of values alone', () => {
    const blocks = blockMetrics([1, -2, 0.01, 0, 5, 5], [1, -1, 0, 0, 5, 5], 2);
    expect(blocks).toHaveLength(3);
    expect(blocks[0]).toMatchObject({ mse: 0.5, maxError: 1, maxErrorIndex: 1, largest: 2, flushed: 0 });
    expect(blocks[0]!.sqnr).toBeCloseTo(10 * Math.log10(5), 12);
    // The index is that of the whole array. 0.01 was flushed, 0 was not.
    expect(blocks[1]).toMatchObject({ maxError: 0.01, maxErrorIndex: 2, largest: 0.01, flushed: 1 });
    expect(blocks[2]).toMatchObject({ sqnr: Infinity, mse: 0, largest: 5, flushed: 0 });
  });

  it('is errorMetrics for one block', () => {
    const reference = [1, 2, 3, 4];
    const approximation = [1, 2, 3.5, 0];
    expect(blockMetrics(reference, approximation, 4)).toEqual([
      { ...errorMetrics(reference, approximation), largest: 4, flushed: 1 },
    ]);
  });

  it.each([0, -1, 1.5, 3, Number.NaN])('refuses blocks of %s', (blockSize) => {
    expect(() => blockMetrics([1, 2, 3, 4], [1, 2, 3, 4], blockSize)).toThrow(
      new InvalidArgumentError('metrics', `4 values are not whole blocks of ${blockSize}`),
    );
  });
});

describe('errorSums', () => {
  it('of parts add up to the whole', () => {
    const parts = [errorSums([1, -2], [1, -2.5]), errorSums([3, -4], [2, -4])];
    expect(parts).toEqual([
      { signal: 5, noise: 0.25, maxError: 0.5 },
      { signal: 25, noise: 1, maxError: 1 },
    ]);
    const sum = parts.reduce(addSums, NO_ERROR);
    expect(sum).toEqual({ signal: 30, noise: 1.25, maxError: 1 });
    expect(sqnrOf(sum)).toBe(errorMetrics([1, -2, 3, -4], [1, -2.5, 2, -4]).sqnr);
  });

  it('keeps a NaN, and calls nothing lost Infinity', () => {
    expect(addSums(errorSums([Number.NaN], [1]), errorSums([1], [1])).maxError).toBeNaN();
    expect(sqnrOf(errorSums([Number.NaN], [1]))).toBeNaN();
    expect(sqnrOf(NO_ERROR)).toBe(Infinity);
  });
});
