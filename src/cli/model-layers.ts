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

/** Widths of MLPs in the `nemotron-nas` architecture, by the `ffn_mult` of its `block_configs`. */
const prunedWidths = (hidden: number, multiples: readonly number[]): number[] =>
  multiples.map((multiple) => Math.ceil(Math.floor((2 * multiple * hidden) / 3) / 256) * 256);

const LLAMA_8B = decoder(4096, 4096, 1024, [14336], 128256);

/**
 * By model, after its config.json on Hugging Face: meta-llama/Llama-3.1-8B, Qwen/Qwen3-8B, openai/gpt-oss-20b,
 * nvidia/Llama-3.1-Nemotron-Nano-8B-v1 and -4B-v1.1, nvidia/Llama-3_3-Nemotron-Super-49B-v1,
 * nvidia/Llama-3_1-Nemotron-Ultra-253B-v1. Layers of the same shape are listed once; Q, K and V, and gate and up, as the
 * checkpoints have them.
 */
export const MODEL_LAYERS: Readonly<Record<string, readonly ModelLayer[]>> = {
  'llama-3.1-8b': LLAMA_8B,
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
  // Llama-3.1-8B trained further, and a model pruned from it to a narrower one with as many heads.
  'nemotron-nano-8b': LLAMA_8B,
  'nemotron-nano-4b': decoder(3072, 4096, 1024, [9216], 128256),
  // The larger Nemotrons were pruned layer by layer, hence the many widths.
  'nemotron-super-49b': decoder(
    8192,
    8192,
    1024,
    prunedWidths(8192, [0.5, 1, 1.3125, 2.625, 3.28125, 5.25]),
    128256,
  ),
  'nemotron-ultra-253b': [
    ...decoder(
      16384,
      16384,
      1024,
      prunedWidths(16384, [0.4875, 0.975, 1.4625, 1.95, 2.4375, 2.925, 3.4125, 4.875]),
      128256,
    ),
    // Its four fused MLPs, of multiples 27.5625, 31.40625, 36.5625 and 39 (425984 wide), have more weights than 2^32, more
    // than a product may: an eighth of the largest one's gate and up is as wide as 53248 above, and an eighth of its down
    // projection is this.
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
