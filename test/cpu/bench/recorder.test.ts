import { expect, test } from 'vitest';
import { recordParts, replay } from '../../../bench/recorder.js';
import type { Gemm } from '../../../src/gemm/gemm.js';

const gemm = { plan: { kernel: 'gemm_dp4a' } } as unknown as Gemm;

/** Takes down what a pass is told. */
function listener() {
  const calls: unknown[][] = [];
  const pass = new Proxy({} as GPUComputePassEncoder, {
    get:
      (_, name) =>
      (...given: unknown[]) =>
        void calls.push([name, ...given]),
  });
  return { calls, pass };
}

function encode(pass: GPUComputePassEncoder): void {
  const pipeline = (label: string) => ({ label }) as GPUComputePipeline;
  pass.setPipeline(pipeline('quantize_rows'));
  pass.setImmediates(0, Uint32Array.of(5).buffer);
  pass.setBindGroup(0, { label: 'rows' } as GPUBindGroup);
  pass.dispatchWorkgroups(3);
  pass.setPipeline(pipeline('gemm_dp4a.mxfp4.xint8.f32'));
  pass.setImmediates(0, Uint32Array.of(7).buffer);
  pass.setBindGroup(0, { label: 'product' } as GPUBindGroup);
  pass.dispatchWorkgroups(4, 2);
}

test('conversion and product are told apart and played back, each with its own immediates', () => {
  const parts = recordParts(gemm, encode)!;
  const conversion = listener();
  replay(conversion.pass, parts.conversion);
  expect(conversion.calls).toEqual([
    ['setPipeline', { label: 'quantize_rows' }],
    ['setImmediates', 0, Uint32Array.of(5).buffer],
    ['setBindGroup', 0, { label: 'rows' }],
    ['dispatchWorkgroups', 3, 1, 1],
  ]);
  const product = listener();
  replay(product.pass, parts.product);
  expect(product.calls.map(([name]) => name)).toEqual([
    'setPipeline',
    'setImmediates',
    'setBindGroup',
    'dispatchWorkgroups',
  ]);
  expect(product.calls[1]).toEqual(['setImmediates', 0, Uint32Array.of(7).buffer]);
});

test('adding up parts of k is told from the kernel, also where the weights are in several parts', () => {
  const parts = recordParts(gemm, (pass) => {
    for (const label of ['convert', 'gemm_dp4a.a', 'reduce_2', 'gemm_dp4a.b', 'reduce_3']) {
      pass.setPipeline({ label } as GPUComputePipeline);
      pass.dispatchWorkgroups(1);
    }
  })!;
  const labels = (name: keyof typeof parts) => parts[name].map(({ pipeline }) => pipeline.label);
  expect(labels('conversion')).toEqual(['convert']);
  expect(labels('product')).toEqual(['gemm_dp4a.a', 'reduce_2', 'gemm_dp4a.b', 'reduce_3']);
  expect(labels('kernel')).toEqual(['gemm_dp4a.a', 'gemm_dp4a.b']);
  expect(labels('reduction')).toEqual(['reduce_2', 'reduce_3']);
});

test('what cannot be played back is not told apart', () => {
  expect(recordParts(gemm, (pass) => pass.setImmediates(4, new ArrayBuffer(4)))).toBeUndefined();
  expect(recordParts(gemm, (pass) => pass.dispatchWorkgroupsIndirect({} as GPUBuffer, 0))).toBeUndefined();
});
