/** Which block a linear layer is in and what it does there, by its name alone. */

export interface LayerPlace {
  readonly name: string;
  /**
   * What the layer does: `q`, `k`, `v`, `qkv`, `o`, `gate`, `up`, `gate_up` or `down` whatever a model calls it, with
   * `experts.`, `shared.` or `cross.` before it; its own name where it does something else.
   */
  readonly component: string;
  /** The name up to the number of the block: `model.layers.3`; empty for a layer outside of blocks. */
  readonly block: string;
}

/** Components in the order in which a block computes them; others come after, as they are met. */
const COMPONENT_ORDER = ['q', 'k', 'v', 'qkv', 'o', 'gate', 'up', 'gate_up', 'down'];

const ATTENTION = /attn|attention/i;
const MLP = /mlp|ffn|feed_?forward|moe|expert|dense_?relu/i;

/**
 * Last parts of names by what they are: Llama and its kin, its first release (`wq`, `w1`), GPT-2, GPT-NeoX and Falcon,
 * OPT, BERT, T5, DistilBERT, Phi, DBRX, and GGUF.
 */
const COMPONENTS: readonly (readonly [component: string, last: RegExp, inside?: RegExp])[] = [
  ['q', /^(q|wq|q_proj|q_lin|to_q|query|attn_q)$/],
  ['k', /^(k|wk|k_proj|k_lin|to_k|key|attn_k)$/],
  ['v', /^(v|wv|v_proj|v_lin|to_v|value|attn_v)$/],
  ['qkv', /^(w?qkv|qkv_proj|query_key_value|c_attn|attn_qkv)$/i],
  ['qkv', /^(in_proj|in_proj_weight)$/, ATTENTION],
  ['o', /^(o_proj|out_lin|to_out|attn_output)$/],
  ['o', /^(o|wo|out_proj|dense|c_proj)$/, ATTENTION],
  ['gate_up', /^(gate_up_proj|w13|ffn_gate_up(_exps)?)$/],
  ['gate', /^(gate_proj|w1|wi_0|ffn_gate(_exps|_shexp)?)$/],
  ['up', /^(up_proj|w3|wi|wi_1|ffn_up(_exps|_shexp)?|fc1|fc_in|lin1|c_fc|dense_h_to_4h)$/],
  ['down', /^(down_proj|w2|ffn_down(_exps|_shexp)?|fc2|fc_out|lin2|dense_4h_to_h)$/],
  ['down', /^(wo|c_proj)$/, MLP],
  // BERT: `intermediate.dense` and, not below attention, `output.dense`.
  ['up', /^dense$/, /intermediate/],
  ['down', /^dense$/, /output/],
];

const KINDS: readonly (readonly [prefix: string, name: RegExp])[] = [
  ['shared.', /shared_expert|_shexp/],
  ['experts.', /(^|\.)experts?(\.|$)|_exps/],
  ['cross.', /cross_?att|encoder_attn|EncDecAttention/i],
];

/** Places a layer, e.g. `model.layers.3.mlp.experts.7.w2.weight` as `experts.down` of `model.layers.3`. */
export function placeLayer(name: string): LayerPlace {
  const parts = name.replace(/\.weight$/, '').split('.');
  const number = parts.findIndex((part, i) => i > 0 && /^\d+$/.test(part));
  const block = parts.slice(0, number + 1).join('.');
  // Numbers of experts say nothing of what they do.
  const path = parts.slice(number + 1).filter((part) => !/^\d+$/.test(part));
  const last = path.pop() ?? name;
  const inside = path.join('.');
  const known = COMPONENTS.find(([, pattern, where]) => pattern.test(last) && (!where || where.test(inside)));
  const kind = KINDS.find(([, pattern]) => pattern.test([...path, last].join('.')));
  return { name, component: `${kind?.[0] ?? ''}${known?.[0] ?? last.replace(/_proj$/, '')}`, block };
}

/** Distinct components: those that are known in the order of a block, then the others as they come. */
export function sortComponents(components: Iterable<string>): string[] {
  const rank = (component: string) => {
    const at = COMPONENT_ORDER.indexOf(component.slice(component.lastIndexOf('.') + 1));
    return at < 0 ? COMPONENT_ORDER.length : at;
  };
  // The sort is stable. Dense parts come before those of experts.
  const weight = (component: string) => (component.includes('.') ? 100 : 0) + rank(component);
  return [...new Set(components)].sort((a, b) => weight(a) - weight(b));
}

/** Distinct blocks: each stack of them where it is met first, in the order of the numbers. */
export function sortBlocks(blocks: Iterable<string>): string[] {
  const stacks = new Map<string, string[]>();
  for (const block of new Set(blocks)) {
    const stack = block.slice(0, block.lastIndexOf('.') + 1);
    stacks.set(stack, [...(stacks.get(stack) ?? []), block]);
  }
  const numberOf = (block: string) => Number(block.slice(block.lastIndexOf('.') + 1));
  return [...stacks.values()].flatMap((stack) => stack.sort((a, b) => numberOf(a) - numberOf(b)));
}
