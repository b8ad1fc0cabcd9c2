/**
 * Mutants of every producer's file, a few thousand of them; `npm run test:long` has many more. The seed is fixed:
 * FUZZ_SEED and FUZZ_MUTANTS try others, and FUZZ_ONLY the one that a failure names.
 */
import { describe, expect, it } from 'vitest';
import { checkMutant, fuzz } from '../../support/checkpoint-fuzz.js';
import { SUBJECTS } from '../../support/checkpoint-mutants.js';

const SEED = Number(process.env.FUZZ_SEED ?? 1);
const MUTANTS = Number(process.env.FUZZ_MUTANTS ?? 5000);
const ONLY = process.env.FUZZ_ONLY;

describe('files of every producer', () => {
  it.each(SUBJECTS.map((subject) => [subject.name, subject] as const))('%s loads', async (_, subject) => {
    const outcome = await checkMutant(subject, { ...subject.original, what: 'nothing', fate: 'same' });
    expect(outcome.loaded).toBeGreaterThan(0);
  });

  it('end in typed errors or right matrices when they are damaged', { timeout: 120_000 }, async () => {
    const from = ONLY === undefined ? 0 : Number(ONLY);
    const to = ONLY === undefined ? MUTANTS : from + 1;
    const { mutants, opened, loaded } = await fuzz({ seed: SEED, from, to });
    expect(mutants).toBe(to - from);
    if (ONLY !== undefined) return;
    // Neither side may be empty, or the test would show nothing.
    expect(opened).toBeGreaterThan(0.3 * mutants);
    expect(opened).toBeLessThan(0.8 * mutants);
    expect(loaded).toBeGreaterThan(0.3 * mutants);
  });
});
