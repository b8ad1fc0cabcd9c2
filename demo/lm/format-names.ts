/**
 * Formats of layers as people write them: `WEIGHTS` or `WEIGHTS/ACTIVATIONS`, each a format and its options in any order,
 * `mxfp4:oas:dynamic32:b16` say. What is left out has the default of `quantize`.
 */
import {
  type ActivationOptions,
  FORMATS,
  type Format,
  InvalidArgumentError,
  MACRO_SIZES,
  SCALE_RULES,
} from '../../src/index.js';
import type { WeightOptions } from './layers.js';

/** What a model is made in. */
export interface Configuration {
  readonly weights: 'float' | WeightOptions;
  readonly activations: ActivationOptions;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/**
 * @param defaultActivations of a text that names none: as those of a text, or 'same' for those of the weights
 * @throws InvalidArgumentError naming the part that is unknown
 */
export function parseConfiguration(text: string, defaultActivations = 'float'): Configuration {
  const [weightText, activationText, ...rest] = text.split('/');
  if (rest.length) fail(`'${text}' has more than one slash; it is WEIGHTS or WEIGHTS/ACTIVATIONS`);
  const weights = parseWeights(weightText!);
  // Floats have no format that activations could have.
  const given = activationText ?? (weights === 'float' ? 'float' : defaultActivations);
  const activations = given === 'same' ? sameActivations(weights, text) : parseActivations(given);
  return { weights, activations };
}

/** `float`, or the format of `quantize` and its options. */
export function parseWeights(text: string): 'float' | WeightOptions {
  return text === 'float' ? 'float' : parseFp4(text, true);
}

/** `float`, `int8`, or a format and its options. */
export function parseActivations(text: string): ActivationOptions {
  if (text === 'float' || text === 'int8') return text;
  const { format, ...options } = parseFp4(text, false);
  return { kind: format, ...options } as ActivationOptions;
}

function parseFp4(text: string, ofWeights: boolean): WeightOptions {
  const [name, ...parts] = text.split(':').map((part) => part.trim());
  if (!Object.hasOwn(FORMATS, name!)) {
    const others = ofWeights ? ['float'] : ['float', 'int8'];
    fail(`'${name}' is no format; there are ${[...Object.keys(FORMATS), ...others].join(', ')}`);
  }
  const format = name as Format;
  const options: Mutable<WeightOptions> = { format };
  const rules: readonly string[] = SCALE_RULES[format];
  const set = <K extends keyof WeightOptions>(key: K, value: WeightOptions[K]) => {
    if (options[key] !== undefined) fail(`'${text}' says ${key} twice`);
    options[key] = value;
  };
  for (const part of parts) {
    const block = /^b(\d+)$/.exec(part);
    const macro = /^(none|static|dynamic)(\d*)$/.exec(part);
    if (rules.includes(part)) {
      set('scaleRule', part as WeightOptions['scaleRule']);
    } else if (block) {
      const size = Number(block[1]);
      if (!FORMATS[format].blockSizes.includes(size)) {
        fail(
          `'${part}' in '${text}': blocks of ${format} have ${FORMATS[format].blockSizes.join(' or ')} values`,
        );
      }
      set('blockSize', size as WeightOptions['blockSize']);
    } else if (macro && format === 'mxfp4') {
      const size = macro[2] === '' ? 128 : Number(macro[2]);
      if (!MACRO_SIZES.some((known) => known === size) || (macro[1] === 'none' && macro[2])) {
        fail(`'${part}' in '${text}': macro blocks have ${MACRO_SIZES.join(', ')} values`);
      }
      set('macroScale', macro[1] as WeightOptions['macroScale']);
      set('macroSize', size as WeightOptions['macroSize']);
    } else if (ofWeights && part === '2d') {
      set('tile', '2d');
    } else if (ofWeights && part === 'hadamard') {
      set('hadamard', true);
    } else {
      const more = format === 'mxfp4' ? ['b16', 'b32', 'static128', 'dynamic32'] : [];
      const weightsOnly = ofWeights ? ['2d', 'hadamard'] : [];
      fail(
        `'${part}' in '${text}' is unknown; there are ${[...rules, ...more, ...weightsOnly].join(', ')}, …`,
      );
    }
  }
  return options;
}

function sameActivations(weights: 'float' | WeightOptions, text: string): ActivationOptions {
  if (weights === 'float') return fail(`'${text}': floats have no FP4 format for activations`);
  const { format, tile, hadamard, rounding, seed, fourOverSixError, ...options } = weights;
  if (format === 'nvfp4') return { kind: format, ...pick(options, 'scaleRule') } as ActivationOptions;
  return { kind: format, ...options } as ActivationOptions;
}

function pick<T extends object, K extends keyof T>(object: T, key: K): Partial<T> {
  return object[key] === undefined ? {} : ({ [key]: object[key] } as unknown as Partial<T>);
}

/** The text that `parseWeights` takes, defaults written out. */
export function weightsName(weights: 'float' | WeightOptions): string {
  if (weights === 'float') return 'float';
  const { format, blockSize, scaleRule, macroScale, macroSize, tile, hadamard } = weights;
  return (
    fp4Name(format, blockSize, scaleRule, macroScale, macroSize) +
    (tile === '2d' ? ':2d' : '') +
    (hadamard ? ':hadamard' : '')
  );
}

/** Likewise of activations. */
export function activationsName(activations: ActivationOptions, weights: 'float' | WeightOptions): string {
  const a = typeof activations === 'string' ? { kind: activations } : activations;
  if (a.kind === 'float' || a.kind === 'int8') return a.kind;
  if (a.kind === 'nvfp4') return fp4Name('nvfp4', undefined, 'scaleRule' in a ? a.scaleRule : undefined);
  // As `createGemm` fills it in.
  const ofWeights = weights !== 'float' && weights.format === 'mxfp4' ? weights.blockSize : undefined;
  const { blockSize = ofWeights, scaleRule, macroScale, macroSize } = a as Partial<WeightOptions>;
  return fp4Name('mxfp4', blockSize, scaleRule, macroScale, macroSize);
}

function fp4Name(
  format: Format,
  blockSize: number | undefined,
  scaleRule: string | undefined,
  macroScale?: string,
  macroSize = 128,
): string {
  const macro = macroScale === undefined || macroScale === 'none' ? [] : [`${macroScale}${macroSize}`];
  const block = format === 'mxfp4' ? [`b${blockSize ?? FORMATS[format].defaultBlockSize}`] : [];
  return [format, scaleRule ?? SCALE_RULES_DEFAULT[format], ...macro, ...block].join(':');
}

const SCALE_RULES_DEFAULT: Readonly<Record<Format, string>> = { mxfp4: 'oas', nvfp4: 'te' };

/**
 * Tables of configurations: weights alone in four bits, or x as well, in the rules, blocks and macro blocks of
 * arXiv 2603.08713 and smaller ones. MBS-S is static, MBS-D dynamic, and MBS-H dynamic for weights, static for x.
 */
export const TABLES: Readonly<Record<'w4a16' | 'w4a4', readonly string[]>> = {
  w4a16: [
    ...plainNames(),
    ...macroNames((kind, size, b) => `mxfp4:oas:${kind}${size}:${b}/float`),
    ...nvNames(),
  ].map((name) => (name.includes('/') ? name : `${name}/float`)),
  w4a4: [
    ...plainNames(),
    ...macroNames((kind, size, b) => `mxfp4:oas:${kind}${size}:${b}`),
    ...['b32', 'b16'].flatMap((b) =>
      MACRO_SIZES.map((size) => `mxfp4:oas:dynamic${size}:${b}/mxfp4:oas:static${size}:${b}`),
    ),
    ...nvNames(),
  ].map((name) => (name.includes('/') ? name : `${name}/same`)),
};

function plainNames(): string[] {
  return ['b32', 'b16'].flatMap((b) => ['floor', 'even', 'oas'].map((rule) => `mxfp4:${rule}:${b}`));
}

function macroNames(name: (kind: string, size: number, block: string) => string): string[] {
  return ['b32', 'b16'].flatMap((b) =>
    ['static', 'dynamic'].flatMap((kind) => MACRO_SIZES.map((size) => name(kind, size, b))),
  );
}

function nvNames(): string[] {
  return ['nvfp4', 'nvfp4:four-over-six'];
}

function fail(problem: string): never {
  throw new InvalidArgumentError('lm', problem);
}
