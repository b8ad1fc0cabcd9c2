/** What a run depends on, and the link that says it. */
import { hashOf, parametersOf } from './address.js';
import { ACTIVATIONS, type ActivationsName, BASE, RECIPES } from './recipes.js';

export interface Settings {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  readonly x: ActivationsName;
  /** Ids of recipes; the base is always among them. */
  readonly formats: readonly string[];
  /** Samples of each measurement. */
  readonly rounds: number;
  /** Whether the overhead has what a bias and `y +=` cost, which is one more product a row. */
  readonly epilogue: boolean;
  /** The most rows that the sweep goes to. */
  readonly to: number;
}

/** The largest values that the form takes. */
export const LIMITS = { m: 16384, n: 2 ** 18, k: 2 ** 19, rounds: 99, to: 4096 } as const;
/** Elements of the weights: more would take a page's whole memory to make. */
export const MOST_WEIGHTS = 2 ** 28;
/** What k has to be a multiple of in every format. */
export const K_STEP = 32;

export const DEFAULTS: Settings = {
  m: 1,
  n: 4096,
  k: 4096,
  x: 'float',
  formats: RECIPES.map(({ id }) => id),
  rounds: 15,
  epilogue: true,
  to: 4096,
};

/** A software adapter takes minutes for what a GPU does in seconds. */
export const SOFTWARE_DEFAULTS: Settings = {
  ...DEFAULTS,
  n: 512,
  k: 512,
  rounds: 3,
  epilogue: false,
  to: 16,
};

/** Why settings cannot be run, in words for the reader. */
export function problemWith({ m, n, k, rounds, to }: Settings): string | undefined {
  for (const [name, value] of Object.entries({ m, n, k, rounds, to })) {
    const most = LIMITS[name as keyof typeof LIMITS];
    if (!(Number.isInteger(value) && value >= 1 && value <= most))
      return `${name} has to be a whole number from 1 to ${most}.`;
  }
  if (k % K_STEP) return `k = ${k} has to be a multiple of ${K_STEP}, as blocks are.`;
  if (n * k > MOST_WEIGHTS)
    return `n · k = ${n * k} weights are more than the ${MOST_WEIGHTS} this page makes.`;
  return undefined;
}

/** As links have them. */
export const toParameters = ({
  m,
  n,
  k,
  x,
  formats,
  rounds,
  epilogue,
  to,
}: Settings): Record<string, string> => ({
  ...{ m: String(m), n: String(n), k: String(k), x, rounds: String(rounds), to: String(to) },
  epilogue: epilogue ? '1' : '0',
  formats: formats.join(' '),
});

export const toHash = (settings: Settings): string => hashOf(toParameters(settings));

/** What a link says, the rest from `defaults`; a value that is none is left at its default. */
export function fromHash(hash: string, defaults: Settings): Settings {
  const given = parametersOf(hash);
  const number = (name: keyof typeof LIMITS) => {
    const text = given.get(name) ?? '';
    const value = Number(text);
    return text !== '' && Number.isInteger(value) && value >= 1 && value <= LIMITS[name]
      ? value
      : defaults[name];
  };
  const named = given.get('formats')?.split(' ');
  const settings: Settings = {
    m: number('m'),
    n: number('n'),
    k: number('k'),
    x: ACTIVATIONS.find((name) => name === given.get('x')) ?? defaults.x,
    formats: named
      ? RECIPES.filter((recipe) => recipe === BASE || named.includes(recipe.id)).map(({ id }) => id)
      : defaults.formats,
    rounds: number('rounds'),
    epilogue: given.has('epilogue') ? given.get('epilogue') === '1' : defaults.epilogue,
    to: number('to'),
  };
  return problemWith(settings) ? { ...settings, n: defaults.n, k: defaults.k } : settings;
}
