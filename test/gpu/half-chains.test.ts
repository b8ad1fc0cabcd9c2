/** gemm_tiled_f16 adds up sixteen products as halves: at the ends of what operands may be. */
import { expect, test } from 'vitest';
import { WEIGHT_FORMATS } from '../../src/gemm/problem.js';
import { problemReference, worstError } from '../../src/gemm/reference.js';
import {
  createGemm,
  KERNELS,
  planWith,
  problemOf,
  type QuantizedMatrix,
  uploadWeights,
} from '../../src/index.js';
import { useGpu } from '../support/gpu.js';
import { multiplyOn } from '../support/multiply.js';
import { Random } from '../support/random.js';
import { smallTile } from '../support/small-tile.js';

const context = useGpu({ leftTo: 'lavapipe', what: 'chains of halves', narrow: true });
const ID = 'gemm_tiled_f16';
const TILE = smallTile(ID, { CHAIN: 32, SPLIT_K: 1 });
const [m, n, k] = [5, 3, 96];

/** y of x, in f16 or f32, and weights of the given codes and scale bytes. */
async function multiply(q: QuantizedMatrix, values: Float32Array, type: 'f16' | 'f32') {
  const { gpu } = context;
  using weights = await uploadWeights(gpu, q);
  const problem = problemOf(weights, { m, x: type });
  const plan = planWith(ID, TILE, problem, gpu.caps);
  using gemm = await createGemm(gpu, { m, weights, x: type, plan });
  const y = await multiplyOn(gpu, gemm, { x: values });
  return { y, reference: problemReference(values, q, problem), errors: KERNELS[ID].errors(TILE, problem) };
}

const weightsOf = (
  { format, blockSize, macroSize }: (typeof WEIGHT_FORMATS)[string],
  code: () => number,
  scale: (block: number) => number,
): QuantizedMatrix => ({
  format,
  rows: n,
  cols: k,
  blockSize,
  codes: Uint8Array.from({ length: (n * k) / 2 }, () => code() | (code() << 4)),
  scales: Uint8Array.from({ length: (n * k) / blockSize }, (_, block) => scale(block)),
  ...(macroSize && { macroSize, macroScales: new Uint8Array(n * Math.ceil(k / macroSize)) }),
  globalScale: 1,
  hadamard: false,
});

const SIXES = 7;

const able = () => KERNELS[ID].tiers.every((tier) => context.gpu.caps.tiers.includes(tier));
const formats = Object.entries(WEIGHT_FORMATS);

test.for(formats)('%s: the largest codes and scales with the largest x', async ([, format], { skip }) => {
  if (!able()) skip('the adapter has no f16 or no subgroups');
  // 2^2 and 448.
  const q = weightsOf(
    format,
    () => SIXES,
    () => (format.format === 'mxfp4' ? 129 : 0x7e),
  );
  for (const [type, largest] of [
    ['f16', 65504],
    ['f32', 2 ** 100 * (2 - 2 ** -10)],
  ] as const) {
    const { y, reference } = await multiply(q, new Float32Array(m * k).fill(largest), type);
    // All products are the same and of one sign, and of at most fourteen bits: sums of halves lose a few of their last bits.
    for (const [i, value] of y.entries()) {
      expect(Math.abs(value / reference.y[i]! - 1), type).toBeLessThanOrEqual(16 * 2 ** -11);
    }
  }
});

test.for(formats)('%s: blocks and x of all sizes in a row', async ([, format], { skip }) => {
  if (!able()) skip('the adapter has no f16 or no subgroups');
  const random = new Random(9);
  const sizes = format.format === 'mxfp4' ? [97, 127] : [1, 0x7e];
  const q = weightsOf(
    format,
    () => random.integer(0, 15),
    () => random.integer(sizes[0]!, sizes[1]!),
  );
  const x = random.normals(m * k).map((value) => Math.fround(value * 2 ** -random.integer(0, 16)));
  const { y, reference, errors } = await multiply(q, x, 'f32');
  const worst = worstError(y, reference, errors);
  expect(worst).toBeGreaterThan(0.005);
  expect(worst).toBeLessThanOrEqual(1);
});
