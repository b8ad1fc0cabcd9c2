/** What a benchmark case is, how it is written, and which are measured. */
import { InvalidArgumentError } from '../src/errors.js';
import type { Format, MacroSize } from '../src/formats/formats.js';
import { WEIGHT_FORMATS } from '../src/gemm/problem.js';
import { FULL_M, MODELS, mergeShapes, type NamedShape } from './shapes.js';

/** How weights lie in memory: `mxfp4`, `mxfp4b16`, `mxfp4-mbs128`, `nvfp4`; `f32` and `f16` are the plain baseline. */
export interface WeightFormat {
  readonly label: string;
  readonly format: Format | 'f32' | 'f16';
  readonly blockSize?: number;
  readonly macroSize?: MacroSize;
}

/** What x is turned into: as `createGemm` has it, and `f32` for float activations that nothing may round. */
export const ACTIVATIONS = ['float', 'f32', 'int8', 'mxfp4', 'nvfp4'] as const;
export type ActivationsName = (typeof ACTIVATIONS)[number];

export interface BenchCase {
  readonly id: string;
  /** Layers that have this shape. */
  readonly names: readonly string[];
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** A {@link WeightFormat} as text. */
  readonly format: string;
  readonly activations: ActivationsName;
  /** Types of x and y in their buffers. */
  readonly x: 'f32' | 'f16';
  readonly y: 'f32' | 'f16';
}

/** @throws InvalidArgumentError for a format that does not exist */
export function parseFormat(label: string): WeightFormat {
  if (label === 'f32' || label === 'f16') return { label, format: label };
  const format = WEIGHT_FORMATS[label];
  if (format) return { label, ...format };
  const known = [...Object.keys(WEIGHT_FORMATS), 'f32', 'f16'];
  throw new InvalidArgumentError(
    'bench',
    `unknown format ${JSON.stringify(label)}; there are ${known.join(', ')}`,
  );
}

/** @throws InvalidArgumentError for a kind that does not exist */
export function parseActivations(name: string): ActivationsName {
  const known = ACTIVATIONS.find((kind) => kind === name);
  if (known) return known;
  throw new InvalidArgumentError(
    'bench',
    `unknown activations ${JSON.stringify(name)}; take ${ACTIVATIONS.join(', ')}`,
  );
}

/**
 * `4096x14336`, the name of a model, or of a layer of one (`llama-3.1-8b.q_proj`); a layer's prefix takes all that have it.
 * @throws InvalidArgumentError where nothing is called so
 */
export function parseShape(text: string): readonly NamedShape[] {
  const sizes = /^(\d+)x(\d+)$/.exec(text);
  if (sizes) return [{ names: [text], n: Number(sizes[1]), k: Number(sizes[2]) }];
  const found = Object.values(MODELS)
    .flat()
    .filter(({ name }) => name === text || name.startsWith(`${text}.`));
  if (found.length) return mergeShapes(found);
  throw new InvalidArgumentError(
    'bench',
    `unknown shape ${JSON.stringify(text)}; take NxK, or a model or layer of ${Object.keys(MODELS).join(', ')}`,
  );
}

/** Which cases are wanted; what is left out comes from the preset. */
export interface CaseSelection {
  readonly preset?: Preset | undefined;
  readonly shapes?: readonly string[] | undefined;
  readonly m?: readonly number[] | undefined;
  readonly formats?: readonly string[] | undefined;
  readonly activations?: readonly string[] | undefined;
  /** Types of x and y, e.g. `f32` or `f16`. */
  readonly types?: readonly string[] | undefined;
  /** Keeps cases whose id or layers, and quantizers whose id or rule match this regular expression. */
  readonly filter?: string | undefined;
  /** Ids of cases and quantizers that are left out, as they were measured before. */
  readonly skip?: readonly string[] | undefined;
}

export type Preset = 'quick' | 'full' | 'smoke';

interface PresetCases {
  readonly shapes: readonly string[];
  readonly m: readonly number[];
  readonly formats: readonly string[];
  readonly activations: readonly string[];
  readonly types: readonly string[];
}

const PRESETS: Readonly<Record<Preset, PresetCases>> = {
  quick: {
    shapes: ['4096x4096', 'llama-3.1-8b.gate_proj'],
    m: [1, 16, 128, 2048],
    formats: ['f32', 'f16', 'mxfp4', 'mxfp4-mbs128', 'nvfp4'],
    activations: ['float', 'int8'],
    types: ['f32'],
  },
  full: {
    shapes: Object.keys(MODELS),
    m: FULL_M,
    formats: ['f32', 'f16', 'mxfp4', 'mxfp4-mbs128', 'nvfp4'],
    activations: ['float', 'int8', 'mxfp4', 'nvfp4'],
    types: ['f32', 'f16'],
  },
  // For adapters whose speed is not judged: everything once, as small as it gets.
  smoke: {
    shapes: ['64x128'],
    m: [1, 33],
    formats: ['f32', 'mxfp4', 'nvfp4'],
    activations: ['float', 'int8'],
    types: ['f32'],
  },
};

/** @throws InvalidArgumentError for names that do not exist, and where nothing is left */
export function selectCases(selection: CaseSelection): BenchCase[] {
  const preset = PRESETS[selection.preset ?? 'quick'];
  const wanted: PresetCases = {
    shapes: selection.shapes ?? preset.shapes,
    m: selection.m ?? preset.m,
    formats: selection.formats ?? preset.formats,
    activations: selection.activations ?? preset.activations,
    types: selection.types ?? preset.types,
  };
  const shapes = mergeNamed(wanted.shapes.flatMap(parseShape));
  const formats = wanted.formats.map(parseFormat);
  const activations = wanted.activations.map(parseActivations);
  const types = wanted.types.map(parseType);
  // 8192³ is the one case whose m is its own.
  const rows = (n: number, k: number) =>
    selection.preset === 'full' && !selection.m && n === 8192 && k === 8192 ? [...wanted.m, 8192] : wanted.m;
  const cases = shapes.flatMap(({ names, n, k }) =>
    formats.flatMap((format) =>
      rows(n, k).flatMap((m) =>
        activations.flatMap((kind) =>
          types.flatMap((type) => {
            const plain = format.format === 'f32' || format.format === 'f16';
            // The plain kernels have their own type, and FP4 activations are measured in the format of the weights.
            if (plain && (kind !== 'float' || type !== 'f32')) return [];
            if ((kind === 'mxfp4' || kind === 'nvfp4') && kind !== format.format) return [];
            if (format.blockSize && k % format.blockSize) return [];
            const x = plain ? (format.format as 'f32' | 'f16') : type;
            const y = plain ? 'f32' : type;
            const id = [`${m}x${n}x${k}`, format.label, kind, x, y].join('.');
            return [
              { id, names, m, n, k, format: format.label, activations: kind, x, y } satisfies BenchCase,
            ];
          }),
        ),
      ),
    ),
  );
  const kept = cases.filter(caseFilter(selection.filter));
  if (kept.length) {
    const skipped = new Set(selection.skip);
    return kept.filter(({ id }) => !skipped.has(id));
  }
  throw new InvalidArgumentError(
    'bench',
    `${selection.filter === undefined ? 'these options' : `--filter ${selection.filter}`} leave no case`,
  );
}

function parseType(type: string): 'f32' | 'f16' {
  if (type === 'f32' || type === 'f16') return type;
  throw new InvalidArgumentError('bench', `unknown type ${JSON.stringify(type)} of x and y; take f32 or f16`);
}

/** Whether a case's id or layer matches a regular expression; without one, all do. */
export function caseFilter(filter: string | undefined): (c: Pick<BenchCase, 'id' | 'names'>) => boolean {
  const matches = textFilter(filter);
  return ({ id, names }) => matches(id, ...names);
}

/** Whether one of a few texts matches a regular expression; without one, all do. */
export function textFilter(filter: string | undefined): (...texts: readonly string[]) => boolean {
  const pattern = filter === undefined ? /^/ : regularExpression(filter);
  return (...texts) => texts.some((text) => pattern.test(text));
}

function regularExpression(text: string): RegExp {
  try {
    return new RegExp(text);
  } catch (cause) {
    throw new InvalidArgumentError('bench', `--filter ${text} is not a regular expression`, { cause });
  }
}

function mergeNamed(shapes: readonly NamedShape[]): NamedShape[] {
  return mergeShapes(shapes.flatMap(({ names, n, k }) => names.map((name) => ({ name, n, k })))).map(
    ({ names, ...size }) => ({ ...size, names: [...new Set(names)] }),
  );
}
