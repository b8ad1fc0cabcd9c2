/** What a measurement of generated data depends on, and what is looked at of it, as links have them. No DOM. */
import { DISTRIBUTIONS, type Distribution, WAYS } from './accuracy-data.js';
import { parametersOf } from './address.js';

export interface AccuracySettings {
  readonly data: Distribution;
  /** u32 */
  readonly seed: number;
  /** Whose charts are shown: the id of a way. */
  readonly way: string;
}

export const ACCURACY_DEFAULTS: AccuracySettings = { data: 'gaussian', seed: 1, way: 'mxfp4-oas' };

export const isSeed = (value: number): boolean =>
  Number.isInteger(value) && value >= 0 && value <= 0xffffffff;

export const accuracyParameters = ({ data, seed, way }: AccuracySettings): Record<string, string> => ({
  data,
  seed: String(seed),
  way,
});

/** What a link says, the rest by default; a value that is none counts as not said. */
export function accuracyFrom(hash: string): AccuracySettings {
  const given = parametersOf(hash);
  const data = given.get('data') ?? '';
  const seed = given.get('seed') ?? '';
  const way = given.get('way') ?? '';
  return {
    data: Object.hasOwn(DISTRIBUTIONS, data) ? (data as Distribution) : ACCURACY_DEFAULTS.data,
    seed: seed !== '' && isSeed(Number(seed)) ? Number(seed) : ACCURACY_DEFAULTS.seed,
    way: WAYS.some(({ id }) => id === way) ? way : ACCURACY_DEFAULTS.way,
  };
}
