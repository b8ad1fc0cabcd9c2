/** Rows of weights that had NaN or Inf when the GPU quantized them: their columns of y are NaN, by every kernel. */
import { expect, test, vi } from 'vitest';
import {
  type Activations,
  candidatePlans,
  type GemmPlan,
  KERNELS,
  matmul,
  planWith,
  problemOf,
  type QuantizeOptions,
  quantize,
  quantizeOnGpu,
  uploadWeights,
  weightsFromQuantized,
} from '../../src/index.js';
import { adapterId, isSweep, useGpu } from '../support/gpu.js';
import { Random } from '../support/random.js';
import { smallTile } from '../support/small-tile.js';

// Every kernel is compiled for these weights alone.
vi.setConfig({ testTimeout: 300_000 });

const context = useGpu({ leftTo: 'lavapipe', what: 'NaN in weights' });
const random = new Random(51);
const thorough = adapterId() !== 'swiftshader';
const isSoftware = adapterId() !== 'system';

const [ROWS, COLS] = [70, 160];
/** Rows that are not numbers, and by which value of theirs. */
const BAD: ReadonlyMap<number, number> = new Map([
  [3, Number.NaN],
  [17, Number.POSITIVE_INFINITY],
  [18, Number.NEGATIVE_INFINITY],
  [69, Number.NaN],
]);
const ACTIVATIONS: readonly Activations['kind'][] = ['float', 'int8', 'nvfp4'];

/** The first plan of each kernel, and of each that has its k in parts, where a step of its own ends the product. */
function firsts(plans: readonly GemmPlan[]): readonly GemmPlan[] {
  const kind = ({ kernel, constants }: GemmPlan) => `${kernel} ${(constants.SPLIT_K ?? 1) > 1}`;
  return plans.filter((plan, i) => plans.findIndex((other) => kind(other) === kind(plan)) === i);
}

test.each([
  { format: 'nvfp4' },
  { format: 'mxfp4', macroScale: 'static' },
  ...(thorough ? [{ format: 'mxfp4' } as const] : []),
] as const)('%o', async (options: Omit<QuantizeOptions, 'rows' | 'cols'>) => {
  const { gpu } = context;
  const shape = { ...options, rows: ROWS, cols: COLS };
  const clean = random.normals(ROWS * COLS);
  const values = clean.slice();
  for (const [row, value] of BAD) values[row * COLS + ((row * 37) % COLS)] = value;
  using quantized = await quantizeOnGpu(gpu, values, shape);
  using weights = await weightsFromQuantized(gpu, quantized);
  using finite = await uploadWeights(gpu, quantize(clean, shape));
  const caps = await gpu.usableCaps();
  const kernels = new Set<string>();
  // Every kernel in one format, and every format in one kernel of each kind: the one does not depend on the other.
  const everyKernel = isSweep || !isSoftware || options.format === 'nvfp4';
  for (const activations of ACTIVATIONS) {
    const m = activations === 'float' ? 3 : 40;
    const x = random.normals(m * COLS);
    // Products of zeros with NaN are NaN as well.
    x.fill(0, 0, COLS);
    const problem = problemOf(weights, { m, activations });
    const own = candidatePlans(problem, caps).filter(({ kernel }) =>
      KERNELS[kernel].activations.includes(activations),
    );
    const tried = (everyKernel ? firsts(own) : own.slice(0, 1)).map(({ kernel, constants }) =>
      planWith(kernel, smallTile(kernel, constants), problem, caps),
    );
    for (const plan of tried) {
      const bias = plan === tried[0] ? random.normals(ROWS) : undefined;
      const y = await matmul(gpu, x, weights, { m, activations, plan, bias });
      const wrong = [...y.keys()].filter((i) => Number.isNaN(y[i]!) !== BAD.has(i % ROWS));
      expect(wrong.slice(0, 5), `${plan.label}: indices of y`).toEqual([]);
      kernels.add(plan.kernel);
      // Other columns are those of weights that were never NaN; the scale of the tensor may depend on what they were.
      if (options.format === 'nvfp4') continue;
      const expected = await matmul(gpu, x, finite, { m, activations, plan, bias });
      const differ = [...y.keys()].filter((i) => !BAD.has(i % ROWS) && y[i] !== expected[i]);
      expect(differ.slice(0, 5), `${plan.label}: indices of y`).toEqual([]);
    }
  }
  expect(kernels.size).toBeGreaterThanOrEqual(everyKernel ? 3 : 2);
  if (adapterId() === 'lavapipe' && everyKernel)
    expect([...kernels].sort()).toEqual(Object.keys(KERNELS).sort());
});
