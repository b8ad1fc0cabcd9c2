/**
 * bitsandbytes, which is only recognised, to be refused: `X.absmax` and `X.quant_state.bitsandbytes__fp4` (or `nf4`)
 * beside `X`. Its `fp4` has values of its own (0, 1/192, 2/3, 1, 1/3, 1/2, 1/6, 1/4 times absmax), blocks that run on
 * over the ends of rows, and the first value in the high nibble; no code of it is one of E2M1.
 */
import type { Producer } from './producer.js';

const PARTS = [
  '.absmax',
  '.quant_map',
  '.nested_absmax',
  '.nested_quant_map',
  '.quant_state.bitsandbytes__fp4',
  '.quant_state.bitsandbytes__nf4',
];

export const bitsAndBytes: Producer = {
  id: 'bitsandbytes',
  detect(tensor, siblings) {
    const { name } = tensor;
    // Asked of every tensor: of most files, that none has such a name is all there is to know.
    if (!PARTS.some((suffix) => siblings.hasSuffix(suffix))) return undefined;
    const parts = PARTS.map((suffix) => siblings.get(name + suffix));
    // Also where X itself says BF16: codes may be stored under any dtype.
    if (parts.every((part) => part === undefined)) return undefined;
    return {
      name,
      tensors: [tensor, ...parts],
      resolve: ({ refuse }) =>
        refuse("bitsandbytes' 4-bit values are another table than E2M1; quantize the model's floats instead"),
    };
  },
};
