/** Links: what they say comes back, and what nobody can mean is refused. */
import { expect, test } from 'vitest';
import { accuracyFrom, accuracyParameters } from '../../../demo/accuracy-settings.js';
import { hashOf } from '../../../demo/address.js';
import { checkLink } from '../../../demo/link.js';
import { activationsFor, RECIPES, sweepRecipes } from '../../../demo/recipes.js';
import { DEFAULTS, fromHash, SOFTWARE_DEFAULTS, toHash } from '../../../demo/settings.js';
import { sweepSizes } from '../../../demo/sweep.js';
import { InvalidArgumentError } from '../../../src/index.js';

test('settings come back from their link, whatever the defaults', () => {
  const settings = { ...DEFAULTS, m: 3, x: 'nvfp4', formats: ['mxfp4', 'oas'], epilogue: false } as const;
  expect(fromHash(toHash(settings), SOFTWARE_DEFAULTS)).toEqual(settings);
  expect(fromHash(toHash(SOFTWARE_DEFAULTS), DEFAULTS)).toEqual(SOFTWARE_DEFAULTS);
  const accuracy = { data: 'laplace', seed: 0xffffffff, way: 'nvfp4-te' } as const;
  expect(accuracyFrom(hashOf(accuracyParameters(accuracy)))).toEqual(accuracy);
});

test('a place in the page is no setting', () => {
  expect(fromHash('#main', DEFAULTS)).toEqual(DEFAULTS);
  expect(fromHash('', DEFAULTS)).toEqual(DEFAULTS);
});

test('links that are taken as they are', () => {
  for (const link of [
    '',
    'm=16&n=4096&k=4096&x=float',
    'https://example.org/demo/#m=1&formats=oas+f32&data=laplace&seed=3',
    toHash(DEFAULTS),
  ])
    expect(() => checkLink(link)).not.toThrow();
});

test.each([
  ['n=foo', /n=foo; that is taken as 4096/],
  ['k=100', /k=100; that is taken as 4096/],
  ['rows=3', /no setting "rows"; take m, n, k, x/],
  ['constructor=3', /no setting "constructor"/],
  ['formats=oas+mxfp5', /formats=oas mxfp5/],
  ['x=fp8', /x=fp8; that is taken as float/],
  ['seed=-1', /seed=-1; that is taken as 1/],
  ['data=own', /data=own/],
])('%s is refused', (link, message) => {
  expect(() => checkLink(link)).toThrow(InvalidArgumentError);
  expect(() => checkLink(link)).toThrow(message);
});

test('a sweep doubles m, and ends where it was told to', () => {
  expect(sweepSizes(1)).toEqual([1]);
  expect(sweepSizes(3)).toEqual([1, 2, 3]);
  expect(sweepSizes(8)).toEqual([1, 2, 4, 8]);
});

test('x is quantized by the rules of its row, and a sweep has a line for each product that differs', () => {
  const x = Object.fromEntries(RECIPES.map((recipe) => [recipe.id, activationsFor(recipe, 'mxfp4')]));
  expect(x.mxfp4).toEqual({ kind: 'mxfp4', blockSize: 32, scaleRule: 'floor' });
  expect(x.oas).toEqual({ kind: 'mxfp4', blockSize: 32, scaleRule: 'oas' });
  expect(x['mbs-dynamic']).toEqual({ ...(x.oas as object), macroScale: 'dynamic' });
  expect(x.block16).toEqual({ kind: 'mxfp4', blockSize: 16, scaleRule: 'oas' });
  const lines = (name: 'float' | 'mxfp4') => sweepRecipes(DEFAULTS.formats, name).map(({ id }) => id);
  expect(lines('float')).toEqual(['mxfp4', 'mbs-static', 'block16', 'nvfp4', 'f16', 'f32']);
  expect(lines('mxfp4')).toEqual(RECIPES.map(({ id }) => id));
});
