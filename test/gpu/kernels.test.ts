/** Kernels without matrices, and what has to do with compiling any. */
import { expect, test } from 'vitest';
import { selfTest } from '../../src/gemm/selftest.js';
import { getPipeline } from '../../src/gpu/pipeline.js';
import { composeShader } from '../../src/gpu/shader.js';
import { ShaderError } from '../../src/index.js';
import { isLeftTo } from '../support/gpu.js';
import { testKernels } from '../support/kernel-tests.js';
import { tampered } from '../support/stand-in.js';

const context = testKernels({ matrices: false });

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
