/** Choices against every subset there is. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { leaveOneOut } from '../../../src/sensitivity/leave-one-out.js';
import {
  type KeepCandidate,
  keepCandidates,
  recommendationTable,
  recommendKeep,
} from '../../../src/sensitivity/recommend.js';

const candidate = (name: string, weights: number, improvement: number, bits = 4.25): KeepCandidate => ({
  name,
  weights,
  bits,
  highBits: 16,
  improvement,
});

const total = (candidates: readonly KeepCandidate[], of: (c: KeepCandidate) => number) =>
  candidates.reduce((sum, c) => sum + of(c), 0);
const extra = ({ weights, bits, highBits }: KeepCandidate) => weights * (highBits - bits);

function* subsets(all: readonly KeepCandidate[]) {
  for (let mask = 0; mask < 2 ** all.length; mask++) yield all.filter((_, i) => mask & (1 << i));
}

const anyCandidates = fc
  .array(
    fc.record({
      weights: fc.integer({ min: 1, max: 12 }).map((n) => n * 4096),
      improvement: fc.integer({ min: -20, max: 100 }).map((n) => n / 64),
      bits: fc.constantFrom(4.25, 4.3125, 4.5),
    }),
    { minLength: 1, maxLength: 10 },
  )
  .map((list) => list.map((c, i) => candidate(`layer ${i}`, c.weights, c.improvement, c.bits)));

test('no subset within a budget of bits gains more', () => {
  fc.assert(
    fc.property(anyCandidates, fc.double({ min: 0, max: 1, noNaN: true }), (all, share) => {
      const weights = total(all, (c) => c.weights);
      const least = total(all, (c) => c.weights * c.bits);
      const bytes = (least + share * total(all, extra)) / 8;
      const result = recommendKeep(all, { bytes });
      const best = Math.max(
        ...[...subsets(all)]
          .filter((kept) => (least + total(kept, extra)) / 8 <= bytes * (1 + 1e-12))
          .map((kept) => total(kept, (c) => c.improvement)),
      );
      expect(result.isOptimal).toBe(true);
      // Improvements are multiples of 1/64: sums are exact.
      expect(result.improvement).toBe(best);
      expect(result.bound).toBe(best);
      const kept = all.filter(({ name }) => result.keep.includes(name));
      expect(kept.length).toBe(result.keep.length);
      expect(total(kept, (c) => c.improvement)).toBe(best);
      expect(result.extraBits).toBe(total(kept, extra));
      expect(result.bytes).toBe((least + total(kept, extra)) / 8);
      expect(result.bytes).toBeLessThanOrEqual(bytes * (1 + 1e-8));
      expect(result.bitsPerWeight).toBeCloseTo((8 * result.bytes) / weights, 12);
      const again = recommendKeep(all, { bitsPerWeight: (8 * bytes) / weights });
      expect(again.improvement).toBe(best);
    }),
    { numRuns: 150 },
  );
});

test('no subset that gains enough costs fewer bits', () => {
  fc.assert(
    fc.property(anyCandidates, fc.integer({ min: 1, max: 64 }), (all, parts) => {
      const most = total(all, (c) => Math.max(0, c.improvement));
      fc.pre(most > 0);
      const improvement = Math.ceil((64 * most * parts) / 64) / 64;
      const result = recommendKeep(all, { improvement });
      const fewest = Math.min(
        ...[...subsets(all)]
          .filter((kept) => total(kept, (c) => c.improvement) >= improvement)
          .map((kept) => total(kept, extra)),
      );
      expect(result.isOptimal).toBe(true);
      expect(result.improvement).toBeGreaterThanOrEqual(improvement);
      expect(result.extraBits).toBe(fewest);
      expect(result.bound).toBe(fewest);
    }),
    { numRuns: 150 },
  );
});

test('what greedy choice by gain for a bit gets wrong', () => {
  // The best for its bits leaves no room for the two that fill the budget.
  const all = [candidate('dense', 3 * 4096, 4), candidate('a', 2 * 4096, 2.5), candidate('b', 2 * 4096, 2.5)];
  const bytes = (total(all, (c) => c.weights * c.bits) + 4 * 4096 * 11.75) / 8;
  expect(recommendKeep(all, { bytes }).keep).toEqual(['a', 'b']);
});

test('costs of no common unit are chosen greedily, within a bound', () => {
  // A tenth has no finite binary fraction.
  const all = Array.from({ length: 12 }, (_, i) => candidate(`layer ${i}`, 4096 + i, 1 + (i % 5) / 8, 4.1));
  const least = total(all, (c) => c.weights * c.bits);
  const bytes = (least + 5.5 * 4096 * 11.9) / 8;
  const result = recommendKeep(all, { bytes });
  const best = Math.max(
    ...[...subsets(all)]
      .filter((kept) => least + total(kept, extra) <= 8 * bytes)
      .map((kept) => total(kept, (c) => c.improvement)),
  );
  expect(result.isOptimal).toBe(false);
  expect(result.bytes).toBeLessThanOrEqual(bytes);
  expect(result.improvement).toBeLessThanOrEqual(best);
  expect(result.bound).toBeGreaterThanOrEqual(best);
  expect(result.improvement).toBeGreaterThanOrEqual(best / 2);

  const cheap = recommendKeep(all, { improvement: 3.2 });
  const fewest = Math.min(
    ...[...subsets(all)]
      .filter((kept) => total(kept, (c) => c.improvement) >= 3.2)
      .map((kept) => total(kept, extra)),
  );
  expect(cheap.isOptimal).toBe(false);
  expect(cheap.improvement).toBeGreaterThanOrEqual(3.2);
  expect(cheap.extraBits).toBeGreaterThanOrEqual(fewest);
  expect(cheap.bound).toBeLessThanOrEqual(fewest);
});

test('costs of a tiny common unit are not searched exactly, and take no memory', () => {
  const all = [candidate('a', 100_000_007, 3), candidate('b', 99_999_989, 2)];
  const bytes = (total(all, (c) => c.weights * c.bits) + 100_000_007 * 11.75) / 8;
  expect(recommendKeep(all, { bytes })).toMatchObject({ keep: ['a'], isOptimal: false });
});

test('one large layer that the greedy choice passes over', () => {
  const all = [candidate('small', 1, 1, 4.1), candidate('large', 100_000, 50, 4.1)];
  const bytes = (total(all, (c) => c.weights * c.bits) + 100_000 * 11.9) / 8;
  expect(recommendKeep(all, { bytes })).toMatchObject({ keep: ['large'], isOptimal: false });
});

test('what gains nothing is never kept, however large the budget', () => {
  const all = [candidate('a', 4096, 0), candidate('b', 4096, -1), candidate('c', 4096, 0.5)];
  expect(recommendKeep(all, { bitsPerWeight: 16 })).toMatchObject({
    keep: ['c'],
    improvement: 0.5,
    isOptimal: true,
  });
  expect(recommendKeep(all, { bitsPerWeight: 4.25 })).toMatchObject({ keep: [], bitsPerWeight: 4.25 });
});

test('the layers of a large model are chosen exactly, in little time', () => {
  // 80 blocks of Llama-3.1-70B: seven layers each.
  const sizes = { q: 8192 * 8192, k: 1024 * 8192, v: 1024 * 8192, o: 8192 * 8192, mlp: 28672 * 8192 };
  const all = Array.from({ length: 80 }, (_, block) =>
    (['q', 'k', 'v', 'o', 'mlp', 'mlp', 'mlp'] as const).map((part, i) =>
      candidate(`${block} ${part} ${i}`, sizes[part], ((block * 7 + i) * 37) % 101, 4.3125),
    ),
  ).flat();
  const result = recommendKeep(all, { bitsPerWeight: 5 });
  expect(result.isOptimal).toBe(true);
  expect(result.bitsPerWeight).toBeLessThanOrEqual(5 + 1e-8);
  expect(result.bitsPerWeight).toBeGreaterThan(4.99);
});

test('from a report to names of layers', async () => {
  const layers = [
    'm.0.mlp.experts.0.up_proj.weight',
    'm.0.mlp.experts.1.up_proj.weight',
    'm.0.self_attn.q_proj.weight',
  ];
  const report = await leaveOneOut({ layers, evaluate: (keep) => 1 + layers.filter((n) => !keep(n)).length });
  const bits = new Map(layers.map((name) => [name, { weights: 1024, bits: 4.5, highBits: 16 }]));
  const { candidates, layersOf } = keepCandidates(report, bits);
  expect(candidates.map(({ weights, improvement }) => [weights, improvement])).toEqual([
    [1024, 1],
    [2048, 2],
  ]);
  const result = recommendKeep(candidates, { improvement: 2 });
  expect(layersOf(result.keep)).toEqual(layers.slice(0, 2));
  expect(recommendationTable(result, candidates).rows).toEqual([[layers[0], '2,048', '2.000']]);

  expect(() => keepCandidates(report, new Map())).toThrow(/has no weights and bits/);
  bits.set(layers[1]!, { weights: 1024, bits: 4.25, highBits: 16 });
  expect(() => keepCandidates(report, bits)).toThrow(/cell:experts\.up:m\.0 differ in their bits/);
});

test.each([
  [[], { bytes: 1 }, /no candidates/],
  [[candidate('a', 1, 1), candidate('a', 1, 1)], { bytes: 99 }, /a is given twice/],
  [[candidate('a', 0, 1)], { bytes: 99 }, /weights = 0/],
  [[candidate('a', 1, 1, 16)], { bytes: 99 }, /highBits = 16 is not above the 16/],
  [[candidate('a', 1, 1, Number.NaN)], { bytes: 99 }, /bits = NaN/],
  [[candidate('a', 1, Number.NaN)], { bytes: 99 }, /improvement = NaN/],
  [[candidate('a', 8, 1)], { bytes: 4 }, /4 bits a weight is below the 4\.25/],
  [[candidate('a', 8, 1)], { bitsPerWeight: Number.NaN }, /NaN bits is no finite number/],
  [[candidate('a', 8, 1)], { improvement: 2 }, /2 is more than the 1 that keeping all gains/],
  [[candidate('a', 8, 1)], { improvement: 0 }, /0 is not a positive number/],
] as const)('refuses %o for %o', (candidates, budget, message) => {
  expect(() => recommendKeep(candidates, budget)).toThrow(message);
});
