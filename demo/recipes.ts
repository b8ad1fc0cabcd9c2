/** What is compared: ways to hold the weights, and what x is made before it meets them. */
import type { ActivationOptions, Format, MacroSize } from '../src/index.js';

export const ACTIVATIONS = ['float', 'int8', 'mxfp4', 'nvfp4'] as const;
export type ActivationsName = (typeof ACTIVATIONS)[number];

export interface Recipe {
  readonly id: string;
  readonly label: string;
  /** Absent for the plain product with f32 weights. */
  readonly weights?: WeightFormat;
  /** How macro factors of x are found, where x is made MXFP4 too. */
  readonly macroScale?: 'static' | 'dynamic';
}

export interface WeightFormat {
  readonly format: Format;
  readonly blockSize: 16 | 32;
  readonly macroSize?: MacroSize;
}

/** The first is what the others are compared with. */
export const RECIPES: readonly Recipe[] = [
  { id: 'mxfp4', label: 'MXFP4', weights: { format: 'mxfp4', blockSize: 32 } },
  {
    id: 'mbs-static',
    label: 'MXFP4 + MBS static',
    weights: { format: 'mxfp4', blockSize: 32, macroSize: 128 },
    macroScale: 'static',
  },
  {
    id: 'mbs-dynamic',
    label: 'MXFP4 + MBS dynamic',
    weights: { format: 'mxfp4', blockSize: 32, macroSize: 128 },
    macroScale: 'dynamic',
  },
  { id: 'block16', label: 'MXFP4, block 16', weights: { format: 'mxfp4', blockSize: 16 } },
  { id: 'nvfp4', label: 'NVFP4', weights: { format: 'nvfp4', blockSize: 16 } },
  { id: 'f32', label: 'plain f32' },
];

export const BASE = RECIPES[0]!;

/** x in FP4 is quantized as the weights of the recipe are, as far as its own format has that. */
export function activationsFor(recipe: Recipe, name: ActivationsName): ActivationOptions {
  if (name !== 'mxfp4' || recipe.weights?.format !== 'mxfp4') return name;
  return {
    kind: 'mxfp4',
    blockSize: recipe.weights.blockSize,
    ...(recipe.macroScale && { macroScale: recipe.macroScale }),
  };
}
