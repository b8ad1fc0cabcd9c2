/** Which layers to keep in high precision, for so many bits or for so much quality. */
import { InvalidArgumentError } from '../errors.js';
import type { SensitivityReport, TextTable } from './report.js';

/** A layer, or several that are kept together. */
export interface KeepCandidate {
  readonly name: string;
  /** Weights of all its layers together. */
  readonly weights: number;
  /** Bits of a weight in FP4, scales included: see `bitsPerValue`. */
  readonly bits: number;
  /** Bits of a weight that is kept: 16. */
  readonly highBits: number;
  /** By how much the loss falls where it is kept. What is not above zero is never kept. */
  readonly improvement: number;
}

/** One of the three. */
export type KeepBudget =
  /** Mean bits of a weight over all candidates. */
  | { readonly bitsPerWeight: number }
  /** Bytes of all candidates together. */
  | { readonly bytes: number }
  /** By how much the loss shall fall, for the fewest bits. */
  | { readonly improvement: number };

export interface KeepRecommendation {
  /** Names, those that gain most for their bits first. */
  readonly keep: readonly string[];
  /** The sum of what each gains alone. */
  readonly improvement: number;
  /** Bits over those of everything in FP4. */
  readonly extraBits: number;
  /** Of all candidates, with these kept. */
  readonly bitsPerWeight: number;
  readonly bytes: number;
  /** Whether no other choice is better; otherwise improvements were taken greedily by what they gain for a bit. */
  readonly isOptimal: boolean;
  /** No choice within the budget gains more than this. With `improvement` as the budget: no choice costs fewer bits. */
  readonly bound: number;
}

/** Steps of the exact search, at most, and numbers that it keeps: below a second, and 32 MB. */
const MAX_STEPS = 2 ** 26;
const MAX_PLACES = 2 ** 22;
/** Sums of gains in another order differ by less, of themselves; a target may be one of them. */
const SUM_ERROR = 1e-12;
/** Costs are whole numbers of weights times bits; bits are multiples of this, as scales of blocks make them. */
const BIT_FRACTION = 2 ** -10;

/**
 * Chooses what to keep. **It assumes that improvements add up**: that keeping two layers gains what each gains alone. They
 * do only roughly; evaluate the model with the choice before relying on it.
 *
 * A knapsack: solved exactly (dynamic programming over bits, in units of their greatest common divisor) where that takes
 * up to 2^26 steps and 2^22 units, as it does for the layers of usual models; else greedily by improvement for a bit, with a bound on what
 * is missed.
 * @throws InvalidArgumentError for a candidate twice or with numbers that are none, and for a budget that even everything in
 * FP4 exceeds, or that keeping everything does not reach
 */
export function recommendKeep(candidates: readonly KeepCandidate[], budget: KeepBudget): KeepRecommendation {
  checkCandidates(candidates);
  const weights = candidates.reduce((sum, candidate) => sum + candidate.weights, 0);
  const least = candidates.reduce((sum, candidate) => sum + candidate.weights * candidate.bits, 0);
  // What gains nothing is never kept. Most improvement for a bit first, and of equals the earlier one.
  const useful = candidates
    .filter(({ improvement }) => improvement > 0)
    .map((candidate): Item => {
      const cost = candidate.weights * (candidate.highBits - candidate.bits);
      return { name: candidate.name, cost, gain: candidate.improvement };
    })
    .sort((a, b) => b.gain / b.cost - a.gain / a.cost);
  const { chosen, isOptimal, bound } =
    'improvement' in budget
      ? cheapest(useful, checkTarget(budget.improvement, useful))
      : best(
          useful,
          checkBits('bytes' in budget ? budget.bytes * 8 : budget.bitsPerWeight * weights, least, weights),
        );
  const extraBits = chosen.reduce((sum, { cost }) => sum + cost, 0);
  return {
    keep: chosen.map(({ name }) => name),
    improvement: chosen.reduce((sum, { gain }) => sum + gain, 0),
    extraBits,
    bitsPerWeight: (least + extraBits) / weights,
    bytes: (least + extraBits) / 8,
    isOptimal,
    bound,
  };
}

interface Item {
  readonly name: string;
  readonly cost: number;
  readonly gain: number;
}

interface Choice {
  readonly chosen: readonly Item[];
  readonly isOptimal: boolean;
  readonly bound: number;
}

/** The most gain for at most `capacity` bits; `items` are sorted by gain for a bit. */
function best(items: readonly Item[], capacity: number): Choice {
  const total = items.reduce((sum, { cost }) => sum + cost, 0);
  const gainOf = (chosen: readonly Item[]) => chosen.reduce((sum, { gain }) => sum + gain, 0);
  if (total <= capacity) return { chosen: items, isOptimal: true, bound: gainOf(items) };
  const unit = commonUnit(items);
  const places = unit === undefined ? Number.POSITIVE_INFINITY : Math.floor(capacity / unit);
  if (unit !== undefined && isAffordable(items.length, places)) {
    const table = knapsack(items, unit, places);
    const chosen = table.choice(places);
    return { chosen, isOptimal: true, bound: gainOf(chosen) };
  }
  const chosen: Item[] = [];
  let free = capacity;
  for (const item of items) {
    if (item.cost > free) continue;
    chosen.push(item);
    free -= item.cost;
  }
  // A large one that no longer fits may gain more than all that do.
  const single = items.filter(({ cost }) => cost <= capacity).sort((a, b) => b.gain - a.gain)[0];
  const greedy = single && single.gain > gainOf(chosen) ? [single] : chosen;
  return { chosen: greedy, isOptimal: false, bound: fractional(items, 'gain', 'cost', capacity) };
}

/** The fewest bits for a gain of at least `target`, which all together reach. */
function cheapest(items: readonly Item[], target: number): Choice {
  const costOf = (chosen: readonly Item[]) => chosen.reduce((sum, { cost }) => sum + cost, 0);
  const isReached = (gain: number) => gain >= target * (1 - SUM_ERROR);
  // What is taken greedily reaches the target, so no choice needs more bits than it. Then what it can do without goes.
  let greedy: Item[] = [];
  let gain = 0;
  for (const item of items) {
    if (isReached(gain)) break;
    greedy.push(item);
    gain += item.gain;
  }
  for (const item of [...greedy].reverse()) {
    const without = greedy.filter((other) => other !== item);
    if (isReached(without.reduce((sum, other) => sum + other.gain, 0))) greedy = without;
  }
  const unit = commonUnit(items);
  const places = unit === undefined ? Number.POSITIVE_INFINITY : Math.round(costOf(greedy) / unit);
  if (unit !== undefined && isAffordable(items.length, places)) {
    const table = knapsack(items, unit, places);
    const chosen = table.choice(table.gains.findIndex(isReached));
    return { chosen, isOptimal: true, bound: costOf(chosen) };
  }
  return { chosen: greedy, isOptimal: false, bound: fractional(items, 'cost', 'gain', target) };
}

const isAffordable = (items: number, places: number) =>
  places < MAX_PLACES && items * (places + 1) <= MAX_STEPS;

/** The most gain for each number of units of bits from 0 to `places`. */
function knapsack(items: readonly Item[], unit: number, places: number) {
  const gains = new Float64Array(places + 1);
  // One bit an item and place: whether the item is in the best choice of those up to it.
  const taken = items.map(() => new Uint8Array(Math.ceil((places + 1) / 8)));
  for (const [index, { cost, gain }] of items.entries()) {
    const size = Math.round(cost / unit);
    const marks = taken[index]!;
    for (let place = places; place >= size; place--) {
      const reached = gains[place - size]! + gain;
      if (!(reached > gains[place]!)) continue;
      gains[place] = reached;
      marks[place >> 3]! |= 1 << (place & 7);
    }
  }
  const choice = (place: number): Item[] => {
    const chosen: Item[] = [];
    for (let index = items.length - 1, at = place; index >= 0; index--) {
      if (!(taken[index]![at >> 3]! & (1 << (at & 7)))) continue;
      chosen.push(items[index]!);
      at -= Math.round(items[index]!.cost / unit);
    }
    return chosen.reverse();
  };
  return { gains, choice };
}

/**
 * The sum of `of` over items in their order, the last one in part, until that of `until` is `limit`: what parts of items
 * could gain is more than whole ones do, and what they would cost is less.
 */
function fractional(
  items: readonly Item[],
  of: 'gain' | 'cost',
  until: 'gain' | 'cost',
  limit: number,
): number {
  let left = limit;
  let sum = 0;
  for (const item of items) {
    const share = Math.min(1, left / item[until]);
    sum += share * item[of];
    left -= share * item[until];
    if (share < 1) break;
  }
  return sum;
}

/** The largest number of bits that all costs are multiples of; undefined where they are none of any. */
function commonUnit(items: readonly Item[]): number | undefined {
  let unit = 0;
  for (const { cost } of items) {
    let [a, b] = [cost / BIT_FRACTION, unit];
    if (!Number.isSafeInteger(a)) return undefined;
    while (b > 0) [a, b] = [b, a % b];
    unit = a;
  }
  return unit * BIT_FRACTION;
}

function fail(message: string): never {
  throw new InvalidArgumentError('sensitivity', message);
}

function checkCandidates(candidates: readonly KeepCandidate[]): void {
  if (candidates.length === 0) fail('no candidates; give layers with their weights, bits and improvement');
  const seen = new Set<string>();
  for (const { name, weights, bits, highBits, improvement } of candidates) {
    if (seen.has(name)) fail(`candidate ${name} is given twice`);
    seen.add(name);
    if (!(Number.isSafeInteger(weights) && weights > 0))
      fail(`${name}: weights = ${weights} is not a positive integer`);
    if (!(bits > 0 && Number.isFinite(bits))) fail(`${name}: bits = ${bits} is not a positive number`);
    if (!(highBits > bits && Number.isFinite(highBits)))
      fail(`${name}: highBits = ${highBits} is not above the ${bits} of FP4`);
    if (!Number.isFinite(improvement)) fail(`${name}: improvement = ${improvement} is no finite number`);
  }
}

/** @returns bits that are left for what is kept */
function checkBits(bits: number, least: number, weights: number): number {
  if (!Number.isFinite(bits)) fail(`a budget of ${bits} bits is no finite number`);
  // Bits for each weight, times weights, may have been rounded.
  const left = bits - least + 1e-9 * least;
  if (left < 0) {
    fail(
      `a budget of ${bits / weights} bits a weight is below the ${least / weights} of everything in FP4; ` +
        'raise it or choose a format of fewer bits',
    );
  }
  return left;
}

function checkTarget(target: number, items: readonly Item[]): number {
  if (!(target > 0 && Number.isFinite(target))) fail(`an improvement of ${target} is not a positive number`);
  const most = items.reduce((sum, { gain }) => sum + gain, 0);
  if (target * (1 - SUM_ERROR) > most)
    fail(`an improvement of ${target} is more than the ${most} that keeping all gains`);
  return target;
}

/** What a layer is stored in, for {@link keepCandidates}. */
export interface LayerBits {
  readonly weights: number;
  readonly bits: number;
  readonly highBits: number;
}

/**
 * The cells of a report as candidates, which are named as their first layer; `layersOf` gives all names of a choice.
 * @param minStandardErrors cells whose improvement is not above so many of its standard errors count as none: it may be
 * chance. 0 by default; without standard errors nothing is left out.
 * @throws InvalidArgumentError where a layer of the report is not in `layers`, or those of a cell have other bits
 */
export function keepCandidates(
  report: SensitivityReport,
  layers: ReadonlyMap<string, LayerBits>,
  minStandardErrors = 0,
): { candidates: KeepCandidate[]; layersOf(keep: readonly string[]): string[] } {
  const members = new Map<string, readonly string[]>();
  const candidates = report.cells.map(({ layers: names, improvement: measured, standardError = 0, id }) => {
    const improvement = measured > minStandardErrors * standardError ? measured : Math.min(0, measured);
    const stored = names.map(
      (name) => layers.get(name) ?? fail(`layer ${name} of the report has no weights and bits given`),
    );
    const { bits, highBits } = stored[0]!;
    if (stored.some((other) => other.bits !== bits || other.highBits !== highBits))
      fail(`the layers of ${id} differ in their bits`);
    members.set(names[0]!, names);
    const weights = stored.reduce((sum, layer) => sum + layer.weights, 0);
    return { name: names[0]!, weights, bits, highBits, improvement };
  });
  return { candidates, layersOf: (keep) => keep.flatMap((name) => members.get(name) ?? []) };
}

/** What is kept, with what each gains and costs. */
export function recommendationTable(
  recommendation: KeepRecommendation,
  candidates: readonly KeepCandidate[],
): TextTable {
  const known = new Map(candidates.map((candidate) => [candidate.name, candidate]));
  const { keep, bitsPerWeight, improvement, isOptimal } = recommendation;
  const how = isOptimal ? '' : ', chosen greedily';
  return {
    title: `kept in high precision for ${bitsPerWeight.toFixed(3)} bits a weight${how}; gains ${improvement.toPrecision(4)} if improvements add up`,
    head: ['kept', 'weights', 'improvement'],
    align: ['left', 'right', 'right'],
    rows: keep.map((name) => {
      const candidate = known.get(name)!;
      return [name, candidate.weights.toLocaleString('en'), candidate.improvement.toPrecision(4)];
    }),
  };
}
