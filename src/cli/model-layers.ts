/** The linear layers of models that people run, as n × k. */

export interface ModelLayer {
  readonly name: string;
  readonly n: number;
  readonly k: number;
  /** Of the MLP that it is a part of, where a model has MLPs of several. */
  readonly width?: number;
}

/** What k is a multiple of in every model, and in every format. */
const K_STEP = 32;

const layer = (name: string, n: number, k: number, width?: number): ModelLayer => ({
  name,
  n,
  k,
  ...(width !== undefined && { width }),
});

/** Attention with grouped queries, gated MLPs of one or several widths, and the head, under the names of Llama. */
function decoder(
  hidden: number,
  query: number,
  keyValue: number,
  mlp: readonly number[],
  vocabulary: number,
): ModelLayer[] {
  return [
    layer('q_proj', query, hidden),
    layer('k_proj, v_proj', keyValue, hidden),
    layer('o_proj', hidden, query),
    ...mlp.flatMap((size) => {
      const width = mlp.length > 1 ? size : undefined;
      return [layer('gate_proj, up_proj', size, hidden, width), layer('down_proj', hidden, size, width)];
    }),
    layer('lm_head', vocabulary, hidden),
  ];
}

/** By model. Layers of the same shape are listed once; Q, K and V, and gate and up, as the checkpoints have them. */
export const MODEL_LAYERS: Readonly<Record<string, readonly ModelLayer[]>> = {
  'llama-3.1-8b': decoder(4096, 4096, 1024, [14336], 128256),
  'qwen3-8b': decoder(4096, 4096, 1024, [12288], 151936),
  // Experts of width 2880, whose gate and up are one matrix.
  'gpt-oss-20b': [
    layer('q_proj', 4096, 2880),
    layer('k_proj, v_proj', 512, 2880),
    layer('o_proj', 2880, 4096),
    layer('router', 32, 2880),
    layer('experts.gate_up_proj', 5760, 2880),
    layer('experts.down_proj', 2880, 2880),
    layer('lm_head', 201088, 2880),
  ],
  // Both Nemotrons were pruned layer by layer, hence the many widths.
  'nemotron-super-49b': decoder(8192, 8192, 1024, [2816, 5632, 7168, 14336, 17920, 28672], 128256),
  'nemotron-ultra-253b': [
    ...decoder(16384, 16384, 1024, [5376, 10752, 16128, 21504, 26624, 32000, 37376, 53248], 128256),
    // Fused MLPs of up to 425984 have more weights than 2^32, more than a product may: an eighth of the largest one's
    // gate and up is as wide as 53248 above, and an eighth of its down projection is this.
    layer('down_proj, an eighth of the widest', 2048, 425984, 425984),
  ],
};

/** A matrix with the names of all layers that have its shape. */
export interface NamedShape {
  readonly names: readonly string[];
  readonly n: number;
  readonly k: number;
}

/** Shapes of equal size become one. */
export function mergeShapes(shapes: readonly ModelLayer[]): NamedShape[] {
  const merged = new Map<string, { names: string[]; n: number; k: number }>();
  for (const { name, n, k } of shapes) {
    const key = `${n}x${k}`;
    const known = merged.get(key);
    if (known) known.names.push(name);
    else merged.set(key, { names: [name], n, k });
  }
  return [...merged.values()];
}

/** The distinct shapes of some models' layers, each under the names of all that have it. */
export function layerShapes(models: readonly string[], scaleDown = 1): ModelLayer[] {
  const scaled = models.flatMap((model) =>
    MODEL_LAYERS[model]!.map(({ name, n, k }) =>
      layer(
        `${model} ${name}`,
        Math.max(1, Math.round(n / scaleDown)),
        // A multiple of every block, as the full sizes are.
        Math.max(1, Math.round(k / scaleDown / K_STEP)) * K_STEP,
      ),
    ),
  );
  return mergeShapes(scaled).map(({ names, n, k }) => layer(names.join('; '), n, k));
}
