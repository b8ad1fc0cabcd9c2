/** What a model in FP4 can keep in high precision: the layers of sensitivity. */
import type { LayerBits } from '../../src/sensitivity/recommend.js';
import type { Configuration } from './format-names.js';
import { chooseFormats } from './layers.js';
import { HEAD, type Llama } from './llama.js';

/** Layers that a configuration has in FP4, in the order of the model. */
export function fp4Layers(
  quantized: Llama,
  float: Llama,
  configuration: Configuration,
  keep?: readonly string[] | undefined,
): Map<string, LayerBits> {
  const names = [...quantized.linears.keys()].filter((name) => name !== HEAD);
  const formats = chooseFormats(names, HEAD, { ...configuration, keep });
  const layers = new Map<string, LayerBits>();
  for (const name of names) {
    if (formats.get(name)!.weights === 'float') continue;
    const { n, k, storedBytes } = quantized.linears.get(name)!;
    const bits = (8 * storedBytes) / (n * k);
    const highBits = (8 * float.linears.get(name)!.storedBytes) / (n * k);
    // Weights that the checkpoint has in FP4 are the same in both.
    if (highBits > bits) layers.set(name, { weights: n * k, bits, highBits });
  }
  return layers;
}
