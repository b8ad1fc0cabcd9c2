/**
 * A hundred thousand mutants of every producer's file: `npm run test:long`. FUZZ_SEED chooses others, FUZZ_MUTANTS how
 * many; a failure names its seed and number, and FUZZ_ONLY runs that one alone.
 */
import { expect, it } from 'vitest';
import { fuzz } from '../support/checkpoint-fuzz.js';
import { watchdog } from '../support/watchdog.js';

const SEED = Number(process.env.FUZZ_SEED ?? 2);
const MUTANTS = Number(process.env.FUZZ_MUTANTS ?? 100_000);
const ONLY = process.env.FUZZ_ONLY;
const PER_SHARE = 10_000;

const shares: [from: number, to: number][] = [];
if (ONLY !== undefined) shares.push([Number(ONLY), Number(ONLY) + 1]);
else {
  for (let from = 0; from < MUTANTS; from += PER_SHARE)
    shares.push([from, Math.min(from + PER_SHARE, MUTANTS)]);
}

it.each(shares)(
  `mutants %d to %d of seed ${SEED} end in typed errors or right matrices`,
  async (from, to) => {
    await using dog = watchdog(`seed ${SEED}, mutant`, 20);
    const heapBefore = process.memoryUsage().heapUsed;
    const { mutants, opened, loaded } = await fuzz({ seed: SEED, from, to, onMutant: dog.begin });
    expect(mutants).toBe(to - from);
    console.log(`${mutants} mutants: ${opened} open, ${loaded} matrices of FP4 are right`);
    // None of them stays: what a file said is gone with it.
    expect(process.memoryUsage().heapUsed - heapBefore).toBeLessThan(500e6);
    if (ONLY !== undefined) return;
    expect(opened).toBeGreaterThan(0.3 * mutants);
    expect(opened).toBeLessThan(0.8 * mutants);
    expect(loaded).toBeGreaterThan(0.3 * mutants);
  },
);
