/** What x is turned into before it is multiplied. */
import { InvalidArgumentError } from '../errors.js';
import type { Format, MacroSize } from '../formats/formats.js';
import {
  type MacroScale,
  type MxScaleRule,
  type NvScaleRule,
  type QuantizeSpec,
  resolveOptions,
} from '../quantize/options.js';

/** Values of x that share a scale as int8. */
export const INT8_BLOCK = 32;

/**
 * - float: x as it is, rounded no further than the problem's `precision`
 * - int8: x as integers -127..127, with a scale for each row where the weights bear to be integers as well, else for each
 *   32 values along k; an allowance, as few rows of x stay floats
 * - mxfp4, nvfp4: x in FP4, as `quantize` with the same options gives it, so that the product is that of FP4 hardware
 */
export type Activations =
  | { readonly kind: 'float' }
  | { readonly kind: 'int8' }
  | {
      readonly kind: 'mxfp4';
      readonly blockSize: 16 | 32;
      readonly scaleRule: MxScaleRule;
      readonly macroScale: MacroScale;
      readonly macroSize: MacroSize;
    }
  | { readonly kind: 'nvfp4'; readonly scaleRule: NvScaleRule };

type Kind = Activations['kind'];

/** The kind alone, or with some of its options; what is left out has the default of `quantize`. */
export type ActivationOptions =
  | Kind
  | { [K in Kind]: { kind: K } & Partial<Activations & { kind: K }> }[Kind];

/** Fills in defaults: blocks of x are as long as those of mxfp4 weights. */
export function defaultActivations(
  options: ActivationOptions | undefined,
  weights: Format,
  weightBlock: number,
): Activations {
  // A kind alone is that kind with no options.
  const given = (typeof options === 'string' ? { kind: options } : (options ?? { kind: 'float' })) as Exclude<
    ActivationOptions,
    string
  >;
  switch (given.kind) {
    case 'float':
    case 'int8':
      return { kind: given.kind };
    case 'mxfp4':
      return {
        scaleRule: 'oas',
        macroScale: 'none',
        macroSize: 128,
        blockSize: weights === 'mxfp4' && weightBlock === 16 ? 16 : 32,
        ...given,
      };
    case 'nvfp4':
      return { scaleRule: 'te', ...given };
    default:
      throw new InvalidArgumentError(
        'gemm',
        `activations ${JSON.stringify(options)} are unknown; take float, int8, mxfp4 or nvfp4`,
      );
  }
}

/** How x[m, k] is quantized to FP4. */
export function activationSpec(a: Activations & { kind: Format }, m: number, k: number): QuantizeSpec {
  const { kind, ...options } = a;
  return resolveOptions({ rows: m, cols: k, format: kind, ...options });
}

/** @throws InvalidArgumentError for FP4 options that do not go together or with k */
export function checkActivations(a: Activations, k: number): void {
  if (a.kind === 'mxfp4' || a.kind === 'nvfp4') activationSpec(a, 1, k);
}

/** `int8`, `mxfp4b16-mbs128`, `mxfp4-mbd64`, `nvfp4`: as it appears in labels, after an `x`. */
export function activationsLabel(a: Activations): string {
  if (a.kind !== 'mxfp4')
    return `x${a.kind}${a.kind === 'nvfp4' && a.scaleRule !== 'te' ? `-${a.scaleRule}` : ''}`;
  const block = a.blockSize === 16 ? 'b16' : '';
  const rule = a.scaleRule === 'oas' ? '' : `-${a.scaleRule}`;
  const macro = a.macroScale === 'none' ? '' : `-mb${a.macroScale[0]}${a.macroSize}`;
  return `xmxfp4${block}${rule}${macro}`;
}
