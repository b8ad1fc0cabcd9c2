/** The weight matrices that are measured: every linear layer of some models, and two squares. */
import { MODEL_LAYERS } from '../src/cli/model-layers.js';

export { mergeShapes, type NamedShape } from '../src/cli/model-layers.js';

/** A weight matrix w[n, k] and what it is. */
export interface Shape {
  readonly name: string;
  readonly n: number;
  readonly k: number;
}

/** What models and parts of them are called in names of shapes, where it is shorter. */
const SHORT_NAMES: Readonly<Record<string, string>> = {
  'nemotron-super-49b': 'nemotron-49b',
  'nemotron-ultra-253b': 'nemotron-253b',
  'experts.gate_up_proj': 'expert.gate_up_proj',
  'experts.down_proj': 'expert.down_proj',
};
const shorten = (name: string) => SHORT_NAMES[name] ?? name;

/** Layers of a shape under the name of the first: v_proj has the shape of k_proj, up_proj that of gate_proj. */
const models = Object.entries(MODEL_LAYERS).map(([model, layers]): [string, readonly Shape[]] => {
  const short = shorten(model);
  const nameOf = (layer: string, width?: number) =>
    [short, shorten(layer.split(',')[0]!), ...(width ? [width] : [])].join('.');
  return [short, layers.map(({ name, n, k, width }) => ({ name: nameOf(name, width), n, k }))];
});

export const MODELS: Readonly<Record<string, readonly Shape[]>> = {
  square: [
    { name: 'square.4096', n: 4096, k: 4096 },
    { name: 'square.8192', n: 8192, k: 8192 },
  ],
  ...Object.fromEntries(models),
};

export const FULL_M: readonly number[] = [1, 2, 4, 8, 16, 32, 64, 128, 512, 2048, 4096];
