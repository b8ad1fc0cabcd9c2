/** Two results files against each other: what became slower, told from noise. */
import { InvalidArgumentError } from '../src/errors.js';
import { adapterLabel, type BenchFile, type Environment, type Measured, measuredIn } from './schema.js';
import { geometricMean } from './stats.js';

/**
 * - slower, faster: beyond the limit, and by more than the samples of either run spread
 * - noise: beyond the limit in the medians, but the samples of the two runs overlap
 * - broken: was measured, and is now wrong, refused or failing
 * - missing: was measured, and this run did not get to it or did not try
 */
export type Verdict = 'slower' | 'faster' | 'same' | 'noise' | 'broken' | 'missing' | 'new';

export interface CaseComparison {
  readonly id: string;
  readonly verdict: Verdict;
  /** Time by that of the old file, each by the baseline of its run: 1.1 is 10 % slower. */
  readonly change?: number;
  readonly oldMicroseconds?: number;
  readonly newMicroseconds?: number;
  readonly oldKernel?: string;
  readonly newKernel?: string;
  readonly note?: string;
}

export interface Comparison {
  readonly cases: readonly CaseComparison[];
  /** Geometric mean of all changes. */
  readonly mean: number;
  /** What fails a build. */
  readonly regressions: readonly CaseComparison[];
  /** Differences between the runs that numbers may come from. */
  readonly warnings: readonly string[];
}

/**
 * Cases and quantizers of the old file against those of the new one, each by the baseline that was timed in turn with it: what
 * both runs share, such as a lower clock, is in neither ratio.
 * @param maxRegression part of the time that a case may lose, e.g. 0.1
 * @throws InvalidArgumentError for files of different adapters or hosts
 */
export function compare(before: BenchFile, after: BenchFile, maxRegression: number): Comparison {
  checkComparable(before, after);
  const rows = new Map(measuredIn(after).map((row) => [row.id, row]));
  const old = new Set(measuredIn(before).map(({ id }) => id));
  const cases = [
    ...measuredIn(before)
      .filter(({ status }) => status === 'ok')
      .map((row) => compareRows(row, rows.get(row.id), maxRegression)),
    ...measuredIn(after)
      .filter(({ status, id }) => status === 'ok' && !old.has(id))
      .map(({ id }): CaseComparison => ({ id, verdict: 'new' })),
  ];
  const changes = cases.flatMap(({ change }) => change ?? []);
  return {
    cases,
    mean: changes.length ? geometricMean(changes) : 1,
    regressions: cases.filter(({ verdict }) => verdict === 'slower' || verdict === 'broken'),
    warnings: differences(before, after),
  };
}

function compareRows(before: Measured, after: Measured | undefined, limit: number): CaseComparison {
  const { id } = before;
  if (!after) return { id, verdict: 'missing' };
  const a = before.measurement;
  const b = after.measurement;
  const named = {
    id,
    ...(before.kernel && { oldKernel: before.kernel }),
    ...(after.kernel && { newKernel: after.kernel }),
  };
  if (after.status !== 'ok' || !a || !b) {
    return { ...named, verdict: 'broken', note: after.note ?? `now ${after.status}` };
  }
  const times = { oldMicroseconds: a.total.median, newMicroseconds: b.total.median };
  if (a.pairing.baseline !== b.pairing.baseline) {
    return { ...named, ...times, verdict: 'missing', note: 'timed in turn with different baselines' };
  }
  const [x, y] = [a.pairing.ratio, b.pairing.ratio];
  const change = y.median / x.median;
  const beyond = change > 1 + limit ? 'slower' : change < 1 / (1 + limit) ? 'faster' : 'same';
  const apart = beyond === 'slower' ? y.p20 > x.p80 : y.p80 < x.p20;
  return { ...named, ...times, change, verdict: beyond === 'same' || apart ? beyond : 'noise' };
}

function checkComparable(before: BenchFile, after: BenchFile): void {
  const difference = differenceOfPlace(before.environment, after.environment);
  if (difference) throw new InvalidArgumentError('compare', `${difference}; compare runs on the same`);
}

/** What keeps times of two environments from being looked at together, in words. */
export function differenceOfPlace(a: Environment, b: Environment): string | undefined {
  const pairs = [
    ['adapter', adapterLabel(a.adapter), adapterLabel(b.adapter)],
    ['host', a.host, b.host],
    ['set of experimental features', String(a.experimental), String(b.experimental)],
  ] as const;
  const [what, x, y] = pairs.find(([, before, after]) => before !== after) ?? [];
  return what && `the ${what} was ${x} and is ${y}`;
}

function differences(before: BenchFile, after: BenchFile): string[] {
  const [a, b] = [before.environment, after.environment];
  const changed = (['driver', 'hostVersion', 'dawn', 'platform'] as const)
    .filter((key) => a[key] !== b[key])
    .map((key) => `${key} was ${a[key]} and is ${b[key]}`);
  const flags = a.flags.join(' ') === b.flags.join(' ') ? [] : ['the flags differ'];
  return [...changed, ...flags, ...(after.complete ? [] : ['this run is not complete'])];
}

/** `10%` or `0.1` as a part. @throws InvalidArgumentError */
export function parsePart(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(%?)$/.exec(text.trim());
  const value = match ? Number(match[1]) / (match[2] ? 100 : 1) : Number.NaN;
  if (!(value > 0)) {
    throw new InvalidArgumentError('compare', `${JSON.stringify(text)} is not a part such as 10% or 0.1`);
  }
  return value;
}
