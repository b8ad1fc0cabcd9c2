/** What is compared: ways to hold the weights, and what x is made before it meets them. */
import type { ActivationOptions, Format, MacroSize, MxScaleRule } from '../src/index.js';

export const ACTIVATIONS = ['float', 'int8', 'mxfp4', 'nvfp4'] as const;
export type ActivationsName = (typeof ACTIVATIONS)[number];

export interface Recipe {
  readonly id: string;
  readonly label: string;
  /** As charts have room for, where rows say in their order what is added to what. */
  readonly short?: string;
  /** FP4, or what the plain products have weights and x in. */
  readonly weights: WeightFormat | 'f16' | 'f32';
  /** How x is quantized where it is made MXFP4 too. That weights are quantized by this rule shows in no kernel. */
  readonly x?: { readonly scaleRule: MxScaleRule; readonly macroScale?: 'static' | 'dynamic' };
}

export interface WeightFormat {
  readonly format: Format;
  readonly blockSize: 16 | 32;
  readonly macroSize?: MacroSize;
}

const MX: WeightFormat = { format: 'mxfp4', blockSize: 32 };
const MBS: WeightFormat = { ...MX, macroSize: 128 };

/** Steps of the paper (arXiv 2603.08713) from plain MXFP4 on, and what else there is. The first is what all are compared with. */
export const RECIPES: readonly Recipe[] = [
  { id: 'mxfp4', label: 'MXFP4, floor', weights: MX, x: { scaleRule: 'floor' } },
  { id: 'oas', label: 'MXFP4 + OAS', short: '+ OAS', weights: MX, x: { scaleRule: 'oas' } },
  {
    id: 'mbs-static',
    label: 'MXFP4 + OAS + MBS static',
    short: '+ MBS static',
    weights: MBS,
    x: { scaleRule: 'oas', macroScale: 'static' },
  },
  {
    id: 'mbs-dynamic',
    label: 'MXFP4 + OAS + MBS dynamic',
    short: '+ MBS dynamic',
    weights: MBS,
    x: { scaleRule: 'oas', macroScale: 'dynamic' },
  },
  {
    id: 'block16',
    label: 'MXFP4 block 16 + OAS',
    short: 'block 16 + OAS',
    weights: { format: 'mxfp4', blockSize: 16 },
    x: { scaleRule: 'oas' },
  },
  { id: 'nvfp4', label: 'NVFP4', weights: { format: 'nvfp4', blockSize: 16 }, x: { scaleRule: 'oas' } },
  { id: 'f16', label: 'plain f16', weights: 'f16' },
  { id: 'f32', label: 'plain f32', weights: 'f32' },
];

export const BASE = RECIPES[0]!;

/**
 * What x of a recipe is made. MXFP4 is quantized by the recipe's own rules, with blocks as long as those of MXFP4 weights;
 * NVFP4 and int8 have no such rules, and are the same in all.
 */
export function activationsFor({ weights, x }: Recipe, name: ActivationsName): ActivationOptions {
  if (name !== 'mxfp4') return name;
  const blockSize = typeof weights === 'object' && weights.format === 'mxfp4' ? weights.blockSize : 32;
  return { kind: 'mxfp4', blockSize, ...x };
}

/** Recipes that differ in nothing which is multiplied are one line, that of the first: with float x, OAS is plain MXFP4. */
export function sweepRecipes(formats: readonly string[], x: ActivationsName): readonly Recipe[] {
  const lines = new Map<string, Recipe>();
  for (const recipe of RECIPES.filter(({ id }) => formats.includes(id))) {
    const key = JSON.stringify([recipe.weights, activationsFor(recipe, x)]);
    if (!lines.has(key)) lines.set(key, recipe);
  }
  return [...lines.values()];
}
