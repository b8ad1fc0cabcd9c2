/** Rows of results: what a recipe was found to be, whatever else is measured of it. */
import type { Spread } from '../bench/stats.js';
import { DeviceLostError, Fp4Error, UnsupportedError } from '../src/index.js';
import { significant } from './format.js';
import type { Check, Product } from './products.js';
import type { Recipe } from './recipes.js';

export interface RecipeRow {
  readonly recipe: string;
  readonly label: string;
  /** Only what is right is timed: `wrong` was outside its bound, `refused` cannot run here, `failed` did not. */
  readonly status: 'ok' | 'wrong' | 'refused' | 'failed';
  readonly note?: string;
  readonly kernel?: string;
  readonly reason?: string;
  readonly check?: Check;
  /** µs of all. */
  readonly total?: Spread;
  readonly teraflops?: number;
}

const about = ({ id, label }: Recipe) => ({ recipe: id, label });

/** What is known of a product once it was compared with the CPU. */
export const checkedRow = ({ recipe, kernel, reason }: Product, check: Check) => ({
  ...about(recipe),
  kernel,
  reason,
  check,
});

export const wrongRow = (product: Product, check: Check): RecipeRow => ({
  ...checkedRow(product, check),
  status: 'wrong',
  note: 'outside its bound, so not timed',
});

/** @throws what is no failure of one recipe */
export function failedRow(recipe: Recipe, error: unknown): RecipeRow {
  if (!(error instanceof Fp4Error) || error instanceof DeviceLostError) throw error;
  const status = error instanceof UnsupportedError ? 'refused' : 'failed';
  return { ...about(recipe), status, note: error.message };
}

export const isRight = ({ errorOfBound }: Check) => errorOfBound <= 1;

/** What the check column says. */
export function checkText(check: Check | undefined, note = ''): string {
  if (!check) return note;
  const verdict = isRight(check) ? 'checked' : 'wrong';
  return `${verdict}: ${check.values} values, ${significant(check.errorOfBound, 2)} of bound`;
}
