/** Numbers as tables show them. */

/** Three digits that matter, never an exponent. */
export function significant(value: number | undefined): string {
  if (value === undefined || Number.isNaN(value)) return '';
  const size = Math.abs(value);
  if (size >= 100) return value.toFixed(0);
  if (size >= 10) return value.toFixed(1);
  return size >= 1 ? value.toFixed(2) : value.toPrecision(2);
}

export const percent = (part: number | undefined): string =>
  part === undefined ? '' : `${(100 * part).toFixed(part < 0.1 ? 1 : 0)} %`;

/** `+12 %`, `-3.4 %` of a ratio of times. */
export function changePercent(ratio: number): string {
  const part = 100 * (ratio - 1);
  return `${part >= 0 ? '+' : '-'}${Math.abs(part).toFixed(1)} %`;
}
