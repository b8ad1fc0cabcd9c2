/** The weight matrices that are measured: every linear layer of some models, and two squares. */

/** A weight matrix w[n, k] and what it is. */
export interface Shape {
  readonly name: string;
  readonly n: number;
  readonly k: number;
}

interface Transformer {
  readonly hidden: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headSize: number;
  /** Sizes between the two products of an MLP; several where layers differ. */
  readonly intermediate: readonly number[];
  readonly vocabulary: number;
}

function layers(model: string, t: Transformer): Shape[] {
  const name = (layer: string) => `${model}.${layer}`;
  const several = t.intermediate.length > 1;
  return [
    { name: name('q_proj'), n: t.heads * t.headSize, k: t.hidden },
    { name: name('k_proj'), n: t.kvHeads * t.headSize, k: t.hidden },
    { name: name('o_proj'), n: t.hidden, k: t.heads * t.headSize },
    ...t.intermediate.flatMap((size) => {
      const suffix = several ? `.${size}` : '';
      return [
        { name: name(`gate_proj${suffix}`), n: size, k: t.hidden },
        { name: name(`down_proj${suffix}`), n: t.hidden, k: size },
      ];
    }),
    { name: name('lm_head'), n: t.vocabulary, k: t.hidden },
  ];
}

/** v_proj has the shape of k_proj, up_proj that of gate_proj. */
export const MODELS: Readonly<Record<string, readonly Shape[]>> = {
  square: [
    { name: 'square.4096', n: 4096, k: 4096 },
    { name: 'square.8192', n: 8192, k: 8192 },
  ],
  'llama-3.1-8b': layers('llama-3.1-8b', {
    hidden: 4096,
    heads: 32,
    kvHeads: 8,
    headSize: 128,
    intermediate: [14336],
    vocabulary: 128256,
  }),
  'qwen3-8b': layers('qwen3-8b', {
    hidden: 4096,
    heads: 32,
    kvHeads: 8,
    headSize: 128,
    intermediate: [12288],
    vocabulary: 151936,
  }),
  'gpt-oss-20b': [
    { name: 'gpt-oss-20b.q_proj', n: 4096, k: 2880 },
    { name: 'gpt-oss-20b.k_proj', n: 512, k: 2880 },
    { name: 'gpt-oss-20b.o_proj', n: 2880, k: 4096 },
    { name: 'gpt-oss-20b.router', n: 32, k: 2880 },
    { name: 'gpt-oss-20b.expert.gate_up_proj', n: 5760, k: 2880 },
    { name: 'gpt-oss-20b.expert.down_proj', n: 2880, k: 2880 },
    { name: 'gpt-oss-20b.lm_head', n: 201088, k: 2880 },
  ],
  // Their layers were pruned by a search, so that the sizes of the MLPs differ.
  'nemotron-49b': layers('nemotron-49b', {
    hidden: 8192,
    heads: 64,
    kvHeads: 8,
    headSize: 128,
    intermediate: [5632, 7168, 14336, 28672],
    vocabulary: 128256,
  }),
  'nemotron-253b': layers('nemotron-253b', {
    hidden: 16384,
    heads: 128,
    kvHeads: 8,
    headSize: 128,
    intermediate: [14336, 21504, 28672, 35840, 53248],
    vocabulary: 128256,
  }),
};

export const FULL_M: readonly number[] = [1, 2, 4, 8, 16, 32, 64, 128, 512, 2048, 4096];

/** A matrix with the names of all layers that have its shape. */
export interface NamedShape {
  readonly names: readonly string[];
  readonly n: number;
  readonly k: number;
}

/** Shapes of equal size become one. */
export function mergeShapes(shapes: readonly Shape[]): NamedShape[] {
  const merged = new Map<string, { names: string[]; n: number; k: number }>();
  for (const { name, n, k } of shapes) {
    const key = `${n}x${k}`;
    const known = merged.get(key);
    if (known) known.names.push(name);
    else merged.set(key, { names: [name], n, k });
  }
  return [...merged.values()];
}
