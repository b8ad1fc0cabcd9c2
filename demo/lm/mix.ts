/** Models made of others' layers: some kept in high precision, or watched, without anything being loaded again. */
import type { Linear } from './linear.js';
import { Llama, type SharedWeights } from './llama.js';

/** A model whose linear layers are `choose`'s. It owns nothing: those that it is made of are destroyed after it. */
export function withLinears(
  llama: Llama,
  shared: SharedWeights,
  choose: (name: string, own: Linear) => Linear,
): Llama {
  const linears = Array.from(llama.linears, ([name, own]) => {
    return [name, { ...choose(name, own), destroy() {} }] as const;
  });
  return new Llama(llama.gpu, llama.config, shared, new Map(linears), llama.inputType, false);
}

/** The layers of one model in the places of another's for which `keep` holds, both of the same source. */
export function mixLlamas(
  quantized: Llama,
  kept: Llama,
  shared: SharedWeights,
  keep: (name: string) => boolean,
): Llama {
  return withLinears(quantized, shared, (name, own) => (keep(name) ? kept.linears.get(name)! : own));
}
