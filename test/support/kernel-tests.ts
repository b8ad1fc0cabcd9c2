/** Every kernel of the registry, in every variant and with every weight format, compiles and is right. */
import { describe, expect, test } from 'vitest';
import { describeShader, refusal } from '../../src/gemm/kernels/index.js';
import { resolveProblem, WEIGHT_FORMATS } from '../../src/gemm/problem.js';
import { describeReport, selfTest } from '../../src/gemm/selftest.js';
import { getPipeline } from '../../src/gpu/pipeline.js';
import { composeShader } from '../../src/gpu/shader.js';
import { type Gpu, KERNELS, type KernelId, planWith } from '../../src/index.js';
import { adapterId, isLeftTo, isSweep, useGpu } from './gpu.js';

// SwiftShader takes seconds to compile a large tile, so there each kernel's smallest variant has to do; lavapipe and
// real GPUs run all of them.
const thorough = adapterId() !== 'swiftshader';

const onMatrices = (id: KernelId) => id.includes('matrix');
const isInt8Only = (id: KernelId) => KERNELS[id].activations.every((kind) => kind === 'int8');
/** Kernels on integers have files of their own, which run every variant and format. */
const hasOwnFile = (id: KernelId) => KERNELS[id].activations.includes('int8');

/**
 * A software adapter compiles for seconds, a large tile on matrices for half a minute. On lavapipe each quick kernel has two
 * cases for each of its variants and for each format, the others have eight or four; SwiftShader has some for the smallest
 * variants.
 */
function casesOf(id: KernelId, { caps }: Gpu) {
  const isQuick = !onMatrices(id);
  const maxSize = isQuick ? 200 : 64;
  // One fragment of rows is all that this kernel takes.
  const maxRows = id === 'gemm_subgroup_matrix_skinny' ? 8 : maxSize;
  if (adapterId() === 'swiftshader') return { cases: 4, maxSize: 100, variants: 'first' as const };
  if (adapterId() !== 'lavapipe' || isSweep) return { cases: isQuick ? 120 : 200, maxSize, maxRows };
  if (hasOwnFile(id)) return { cases: 4, maxSize };
  const variants = KERNELS[id].variants(caps).length;
  // Their tiles take several times as long as others do.
  const some = ['gemm_subgroup_matrix', 'gemm_subgroup_matrix_direct'].includes(id) ? 4 : 8;
  return {
    cases: isQuick ? 2 * Math.max(variants, Object.keys(WEIGHT_FORMATS).length) : some,
    maxSize,
    maxRows,
  };
}

/**
 * Kernels on matrices, or all others: every variant with every weight format compiles, and is right. Each of the two in a file of
 * its own, as lavapipe has no matrices where it compiles fastest.
 */
export function testKernels({ matrices }: { matrices: boolean }): { readonly gpu: Gpu } {
  const context = useGpu({ narrow: !matrices });
  const ids = (Object.keys(KERNELS) as KernelId[]).filter((id) => onMatrices(id) === matrices);

  describe
    .skipIf(isLeftTo('lavapipe', 'compilations of every variant'))
    .each(ids.map((id) => [id, KERNELS[id]] as const))('%s', (_, kernel) => {
    test.each(Object.entries(WEIGHT_FORMATS))('compiles for %s', async (format, weights) => {
      const { device, caps } = context.gpu;
      const shape = resolveProblem({ m: 5, n: 7, k: 64, ...weights, activations: kernel.activations[0]! });
      const able = kernel.variants(caps).filter((constants) => !refusal(kernel, constants, shape, caps));
      // SwiftShader has no matrices; lavapipe and GPUs have to run every kernel.
      if (thorough) expect(able.length, 'variants that this adapter can run').toBeGreaterThan(0);
      const probe = await context.gpu.probe();
      const source = await context.gpu.uniformSource();
      // Ten seconds a format there, and lavapipe compiles them all.
      if (adapterId() === 'swiftshader' && kernel.id === 'gemm_dp4a_rows' && weights.format !== 'nvfp4') {
        return;
      }
      // Where compiling takes long, all variants for one format, and all formats for one variant.
      const many = matrices || able.length > 9;
      const slow = !thorough || (adapterId() === 'lavapipe' && many);
      const every = thorough && (!slow || format === 'mxfp4-mbs128');
      for (const constants of every ? able : able.slice(0, 1)) {
        // The epilogue is the same text for all variants.
        for (const bias of constants === able[0] && !slow ? [false, true] : [true]) {
          const problem = { ...shape, bias };
          expect(planWith(kernel.id, constants, problem, caps).label).toContain(kernel.id);
          await getPipeline(device, composeShader(describeShader(kernel, constants, problem, probe, source)));
        }
      }
    });
  });

  test.for(ids)(
    '%s agrees with f64 on random problems, bit for bit on exact ones',
    { timeout: 600_000 },
    async (id, { skip }) => {
      const { caps } = context.gpu;
      const kernel = KERNELS[id];
      const activations = kernel.activations[0]!;
      const problem = resolveProblem({ m: 1, n: 1, k: 32, format: 'mxfp4', activations });
      const able = kernel.variants(caps).filter((constants) => !refusal(kernel, constants, problem, caps));
      // lavapipe has every tier; SwiftShader has no matrices.
      if (adapterId() === 'lavapipe') expect(able).not.toEqual([]);
      if (!able.length) skip('the adapter cannot run it');
      const options = casesOf(id, context.gpu);
      const report = await selfTest(context.gpu, { seed: 1, kernels: [id], ...options });
      console.log(describeReport(report));
      expect(report.failures).toEqual([]);
      // Every other case is exact, but for kernels that round x to int8, which are never.
      if (!isInt8Only(id)) {
        expect(report.exactProducts).toBeGreaterThan(report.products / 3);
      }
      if (thorough && !onMatrices(id) && !hasOwnFile(id)) {
        const labels = able.map((constants) => kernel.tileLabel(constants));
        const missing = labels.filter((label) => !report.kernels.some((name) => name.includes(label)));
        expect(missing, 'variants that were not run').toEqual([]);
      }
      // A report that checked nothing, or whose bounds are far too wide or were not reached at all, proves nothing.
      expect(report.products).toBeGreaterThanOrEqual(options.cases / 2);
      expect(report.worst[id]).toBeGreaterThan(0.005);
      expect(report.worst[id]).toBeLessThanOrEqual(1);
    },
  );

  test.skipIf(isLeftTo('lavapipe', 'other ways of decoding'))(
    'decoding that does not rely on subnormal halves is right too, and so are problems in uniform buffers',
    async () => {
      const cautious = Object.create(context.gpu, {
        probe: { value: async () => ({ f16Subnormals: false, immediates: false }) },
      });
      const { tiers } = context.gpu.caps;
      const able = ids.filter((id) => KERNELS[id].tiers.every((tier) => tiers.includes(tier)));
      if (!able.length) return;
      const isSoftware = adapterId() !== 'system';
      const cases = !isSoftware || isSweep ? 20 : matrices ? 3 : 4;
      const maxSize = matrices ? 64 : 100;
      const options = { seed: 4, variants: 'first', kernels: able, cases, maxSize } as const;
      const report = await selfTest(cautious, options);
      expect(report.failures).toEqual([]);
      expect(report.products).toBeGreaterThanOrEqual(2 * cases);
      const missing = able.filter((id) => !report.kernels.some((label) => label.startsWith(`${id}.`)));
      expect(missing, 'kernels that were not run').toEqual([]);
    },
    600_000,
  );

  return context;
}
