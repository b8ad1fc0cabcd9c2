/** Links that are taken as they are, or not at all. */
import { InvalidArgumentError } from '../src/errors.js';
import { accuracyFrom, accuracyParameters } from './accuracy-settings.js';
import { parametersOf } from './address.js';
import { BASE } from './recipes.js';
import { DEFAULTS, fromHash, toParameters } from './settings.js';

/**
 * For whoever has to know that a link is taken as it is, and not with defaults in places.
 * @throws InvalidArgumentError for a name that no setting has, a value that is none, and settings that cannot be run
 */
export function checkLink(hash: string): void {
  const given = parametersOf(hash);
  const taken: Readonly<Record<string, string>> = {
    ...toParameters(fromHash(hash, DEFAULTS)),
    ...accuracyParameters(accuracyFrom(hash)),
  };
  for (const [name, value] of given) {
    if (!Object.hasOwn(taken, name)) {
      const known = Object.keys(taken).join(', ');
      throw new InvalidArgumentError('demo', `a link has no setting ${JSON.stringify(name)}; take ${known}`);
    }
    const now = taken[name]!;
    const words = (text: string) =>
      name === 'formats' ? [...new Set([BASE.id, ...text.split(' ')])].sort().join(' ') : text;
    if (words(value) !== words(now))
      throw new InvalidArgumentError('demo', `a link cannot say ${name}=${value}; that is taken as ${now}`);
  }
}
