/** Every kernel of the registry, in every variant and with every weight format, compiles and is right. */
import { describe, expect, test } from 'vitest';
import { describeShader, refusal } from '../../src/gemm/kernels/index.js';
import { resolveProblem, WEIGHT_FORMATS } from '../../src/gemm/problem.js';
import { describeReport, selfTest } from '../../src/gemm/selftest.js';
import { randomMatrix, Trial } from '../../src/gemm/trial.js';
import { getPipeline } from '../../src/gpu/pipeline.js';
import { composeShader } from '../../src/gpu/shader.js';
import { KERNELS, type KernelId, planWith, ShaderError, uploadWeights } from '../../src/index.js';
import { adapterId, isLeftTo, isSweep, useGpu } from '../support/gpu.js';
import { tampered } from '../support/stand-in.js';

const context = useGpu();

// SwiftShader takes seconds to compile a large tile, so there each kernel's smallest variant has to do; lavapipe and
// real GPUs run all of them.
const thorough = adapterId() !== 'swiftshader';

const compilations = Object.values(KERNELS).map((kernel) => [kernel.id, kernel] as const);
describe.skipIf(isLeftTo('lavapipe', 'compilations of every variant')).each(compilations)(
  '%s',
  (_, kernel) => {
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
      const many = kernel.id.includes('matrix') || able.length > 9;
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
  },
);

const ids = Object.keys(KERNELS) as KernelId[];
const quick = ids.filter((id) => !id.includes('matrix'));

const isInt8Only = (id: KernelId) => KERNELS[id].activations.every((kind) => kind === 'int8');
/** Kernels on integers have files of their own, which run every variant and format. */
const hasOwnFile = (id: KernelId) => KERNELS[id].activations.includes('int8');

/**
 * A software adapter compiles for seconds, a large tile on matrices for half a minute. On lavapipe each quick kernel has two
 * cases for each of its variants and for each format, the others have eight or four; SwiftShader has some for the smallest
 * variants.
 */
function casesOf(id: KernelId) {
  const isQuick = quick.includes(id);
  const maxSize = isQuick ? 200 : 64;
  // One fragment of rows is all that this kernel takes.
  const maxRows = id === 'gemm_subgroup_matrix_skinny' ? 8 : maxSize;
  if (adapterId() === 'swiftshader') return { cases: 4, maxSize: 100, variants: 'first' as const };
  if (adapterId() !== 'lavapipe' || isSweep) return { cases: isQuick ? 120 : 200, maxSize, maxRows };
  if (hasOwnFile(id)) return { cases: 4, maxSize };
  const variants = KERNELS[id].variants(context.gpu.caps).length;
  // Their tiles take several times as long as others do.
  const some = ['gemm_subgroup_matrix', 'gemm_subgroup_matrix_direct'].includes(id) ? 4 : 8;
  return {
    cases: isQuick ? 2 * Math.max(variants, Object.keys(WEIGHT_FORMATS).length) : some,
    maxSize,
    maxRows,
  };
}

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
    const options = casesOf(id);
    const report = await selfTest(context.gpu, { seed: 1, kernels: [id], ...options });
    console.log(describeReport(report));
    expect(report.failures).toEqual([]);
    // Every other case is exact, but for kernels that round x to int8, which are never.
    if (!isInt8Only(id)) {
      expect(report.exactProducts).toBeGreaterThan(report.products / 3);
    }
    if (thorough && quick.includes(id) && !hasOwnFile(id)) {
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

test.skipIf(isLeftTo('lavapipe', 'other ways of decoding'))(
  'decoding that does not rely on subnormal halves is right too, and so are problems in uniform buffers',
  async () => {
    const cautious = Object.create(context.gpu, {
      probe: { value: async () => ({ f16Subnormals: false, immediates: false }) },
    });
    const options = { seed: 4, variants: 'first' as const };
    const quickCases = adapterId() === 'system' || isSweep ? 20 : 4;
    const some = await selfTest(cautious, { ...options, kernels: quick, cases: quickCases, maxSize: 100 });
    expect(some.failures).toEqual([]);
    expect(some.products).toBeGreaterThanOrEqual(2 * quickCases);
    const { tiers } = context.gpu.caps;
    const matrices = ids.filter(
      (id) => !quick.includes(id) && KERNELS[id].tiers.every((tier) => tiers.includes(tier)),
    );
    if (!matrices.length) return;
    const cases = adapterId() === 'lavapipe' ? 3 : 20;
    const others = await selfTest(cautious, { ...options, kernels: matrices, cases, maxSize: 64 });
    expect(others.failures).toEqual([]);
    expect(others.products).toBeGreaterThanOrEqual(2 * cases);
    const missing = matrices.filter((id) => !others.kernels.some((label) => label.startsWith(`${id}.`)));
    expect(missing, 'kernels that were not run').toEqual([]);
  },
  600_000,
);

test('a shader that does not compile says where, in which file, and shows the composed source', async () => {
  const shader = composeShader({
    label: 'broken',
    constants: { SIZE: 4 },
    modules: [
      { name: 'good.wgsl', source: 'fn four() -> u32 {\n  return SIZE;\n}\n' },
      { name: 'bad.wgsl', source: '@compute @workgroup_size(1)\nfn main() {\n  let x = missing();\n}\n' },
    ],
  });
  const error = await getPipeline(context.gpu.device, shader).catch((e: unknown) => e);
  expect(error).toBeInstanceOf(ShaderError);
  expect((error as ShaderError).message).toMatch(
    /broken does not compile\n {2}bad\.wgsl:3:\d+ \(composed line 7\): .*missing/,
  );
  expect((error as ShaderError).message).toContain('let x = missing();');
  expect((error as ShaderError).source).toContain('const SIZE = 4u;');
});

test('a failed compilation is not remembered, a successful one is shared', async () => {
  const { device } = context.gpu;
  const main = (body: string) =>
    composeShader({
      label: 'main',
      constants: {},
      modules: [{ name: 'main.wgsl', source: `@compute @workgroup_size(1) fn main() { ${body} }` }],
    });
  const broken = main('nonsense');
  const first = getPipeline(device, broken);
  await expect(first).rejects.toThrow(ShaderError);
  const second = getPipeline(device, broken);
  expect(second).not.toBe(first);
  await expect(second).rejects.toThrow(ShaderError);
  expect(getPipeline(device, main(''))).toBe(getPipeline(device, main('')));
});

test.skipIf(isLeftTo('lavapipe', 'the self test of the self test'))(
  'the self test finds a kernel that is wrong',
  async () => {
    // The same check on a GPU whose results are off by one part in a thousand in one element.
    const options = { cases: 1, maxSize: 40, variants: 'first', kernels: ['gemv', 'gemm_tiled'] } as const;
    const { failures, products } = await selfTest(tampered(context.gpu), options);
    // The first case is exact: a bound for int8 would let such an error pass.
    expect(failures.length).toBe(products);
    expect(failures[0]!.what).toContain('seed 1, case 0');
  },
  300_000,
);
