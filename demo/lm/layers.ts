/** Which format each linear layer has: one for all, others by patterns of names, and some that are kept as they are. */
import { matchesName, type NamePattern, namePattern } from '../../src/checkpoint/name-pattern.js';
import { type ActivationOptions, InvalidArgumentError, type QuantizeOptions } from '../../src/index.js';

/** What `quantize` is told of a matrix, but for its sizes. */
export type WeightOptions = Omit<QuantizeOptions, 'rows' | 'cols'>;

export interface LayerFormat {
  /** 'float': as the checkpoint has them. */
  readonly weights: 'float' | WeightOptions;
  /** What the layer's input is turned into before it is multiplied; with FP4 weights only. */
  readonly activations: ActivationOptions;
  /** With float activations: see `createGemm`. */
  readonly precision: 'f32' | 'f16';
}

export interface LayerOptions extends Partial<LayerFormat> {
  /** Other formats for some layers; of several that match the last one counts. */
  readonly layers?: readonly ({ readonly names: readonly string[] } & Partial<LayerFormat>)[] | undefined;
  /** Layers whose weights and inputs stay as they are, whatever else is said: `model.layers.0.*`, `*.o_proj`. */
  readonly keep?: readonly string[] | undefined;
}

const DEFAULT: LayerFormat = { weights: 'float', activations: 'float', precision: 'f16' };

/**
 * Chooses a format for each name. The head is kept unless a pattern names it: `lm_head`.
 * @param blockNames weights of the layers in blocks; `headName` of the head
 * @throws InvalidArgumentError for a pattern that matches no layer
 */
export function chooseFormats(
  blockNames: readonly string[],
  headName: string,
  { layers = [], keep = [], ...given }: LayerOptions = {},
): Map<string, LayerFormat> {
  const names = [...blockNames, headName];
  const compile = (text: string): NamePattern => {
    const pattern = namePattern(text);
    if (names.some((name) => matchesName(pattern, name))) return pattern;
    throw new InvalidArgumentError(
      'lm',
      `pattern '${text}' matches none of the ${names.length} linear layers; * stands for any characters`,
    );
  };
  const kept = keep.map(compile);
  const others = layers.map(({ names: patterns, ...format }) => ({
    patterns: patterns.map(compile),
    format,
  }));
  const common: LayerFormat = { ...DEFAULT, ...given };
  const float: LayerFormat = { ...DEFAULT, precision: common.precision };
  return new Map(
    names.map((name) => {
      if (kept.some((pattern) => matchesName(pattern, name))) return [name, float];
      const own = others.findLast(({ patterns }) => patterns.some((pattern) => matchesName(pattern, name)));
      const base = name === headName ? float : common;
      return [name, own ? { ...common, ...own.format } : base];
    }),
  );
}
