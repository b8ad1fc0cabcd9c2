/** Kernels on subgroup matrices. */
import { expect, test } from 'vitest';
import { refusal } from '../../src/gemm/kernels/index.js';
import { resolveProblem } from '../../src/gemm/problem.js';
import { randomMatrix, Trial } from '../../src/gemm/trial.js';
import { KERNELS, planWith, uploadWeights } from '../../src/index.js';
import { isLeftTo } from '../support/gpu.js';
import { testKernels } from '../support/kernel-tests.js';

const context = testKernels({ matrices: true });

// Four subgroups share k in rounds of a chunk, in groups of two rounds or four. Three rounds begin inside a macro block; in the
// others a factor is read once for two or four of them.
test.skipIf(isLeftTo('lavapipe', 'matrices with few rows')).for([
  { k: 384, macroSize: 128, MOST_WRITTEN: 1 },
  { k: 512, macroSize: 64, MOST_WRITTEN: 1 },
  { k: 1024, macroSize: 128, MOST_WRITTEN: 2 },
] as const)(
  'few rows on matrices take the factors of their own macro blocks: %o',
  async ({ k, macroSize, MOST_WRITTEN }, { skip }) => {
    const { gpu } = context;
    const id = 'gemm_subgroup_matrix_skinny';
    const problem = resolveProblem({ m: 8, n: 64, k, format: 'mxfp4', macroSize, precision: 'f16' });
    const variant = KERNELS[id].variants(gpu.caps).find((c) => c.FRAGMENTS_M === 1 && c.SUBGROUPS === 4);
    if (!variant || refusal(KERNELS[id], variant, problem, gpu.caps)) skip('the adapter cannot run it');
    const plan = planWith(id, { ...variant!, AHEAD: 2, MOST_WRITTEN }, problem, gpu.caps);
    const q = randomMatrix({ n: 64, k, format: 'mxfp4', blockSize: 32, macroSize });
    using weights = await uploadWeights(gpu, q);
    const trial = new Trial(gpu, problem, q, { rows: 8, columns: 64 });
    using gemm = await trial.createGemm(weights, plan);
    const error = await trial.worstError(gemm);
    trial.destroy();
    expect(error).toBeGreaterThan(0.005);
    expect(error).toBeLessThanOrEqual(1);
  },
);
