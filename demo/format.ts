/** Numbers as people read them. */
import type { Spread } from '../bench/stats.js';

const digits = new Map<number, Intl.NumberFormat>();

/** Three significant digits, thousands apart. */
export function significant(value: number, count = 3): string {
  if (!Number.isFinite(value)) return '–';
  let format = digits.get(count);
  if (!format) {
    // One locale for all, so that copies of a table can be compared.
    format = new Intl.NumberFormat('en', { maximumSignificantDigits: count, minimumSignificantDigits: 1 });
    digits.set(count, format);
  }
  return Math.abs(value) >= 10 ** count ? Math.round(value).toLocaleString('en') : format.format(value);
}

/** A median with what four in six samples were between. */
export const withSpread = ({ median, p20, p80 }: Spread): string =>
  `${significant(median)} (${significant(p20)}–${significant(p80)})`;

/** `+0.31`, `−2.4`. */
export function signed(value: number): string {
  if (!Number.isFinite(value)) return '–';
  const text = significant(Math.abs(value));
  return `${text === '0' ? '' : value < 0 ? '−' : '+'}${text}`;
}

/** `+6.2 %`, from a ratio of 1.062. */
export function percentOver(ratio: number): string {
  if (!Number.isFinite(ratio)) return '–';
  const percent = (ratio - 1) * 100;
  const text = Math.abs(percent).toFixed(Math.abs(percent) < 100 ? 1 : 0);
  return `${Number(text) === 0 ? '' : percent < 0 ? '−' : '+'}${text} %`;
}

export const percent = (part: number): string =>
  Number.isFinite(part) ? `${significant(part * 100, 2)} %` : '–';

/** A line of CSV by RFC 4180. */
export const csvLine = (cells: readonly (string | number | undefined)[]): string =>
  cells
    .map((cell) => {
      const text = cell === undefined || Number.isNaN(cell) ? '' : String(cell);
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    })
    .join(',');
