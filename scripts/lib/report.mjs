/**
 * What became of one part of the setup.
 * @typedef {{
 *   part: string,
 *   state: 'ready' | 'installed' | 'skipped' | 'missing',
 *   detail: string,
 *   remedy?: string,
 * }} Outcome
 */

/** A part of the setup failed in a way that its user can do something about. */
export class SetupError extends Error {
  /**
   * @param {string} message what is missing
   * @param {string} remedy what to do about it
   */
  constructor(message, remedy) {
    super(message);
    this.remedy = remedy;
  }
}

/** @param {Outcome} outcome */
export function describe(outcome) {
  const remedy = outcome.remedy ? `\n${' '.repeat(25)}remedy: ${outcome.remedy}` : '';
  return `${outcome.part.padEnd(14)}${outcome.state.padEnd(11)}${outcome.detail}${remedy}`;
}
