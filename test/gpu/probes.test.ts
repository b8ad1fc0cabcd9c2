/** That the workloads of ceilings compute what they are counted for. */
import { expect, test } from 'vitest';
import fma from '../../bench/shaders/fma.wgsl?raw';
import { createStorageBuffer, readBuffer } from '../../src/gpu/buffers.js';
import { getPipeline } from '../../src/gpu/pipeline.js';
import { composeShader } from '../../src/gpu/shader.js';
import { useGpu } from '../support/gpu.js';
import { Random } from '../support/random.js';

const context = useGpu();
const { abs, max, min } = Math;

test('fma adds outer products of eight values by eight', async () => {
  // What the benchmark counts, in vec4s.
  expect(fma.split(' = fma(').length - 1).toBe((8 * 8 + 8) / 4);
  const { device } = context.gpu;
  const STEPS = 16;
  const pipeline = await getPipeline(
    device,
    composeShader({ label: 'fma', constants: { STEPS }, modules: [{ name: 'fma.wgsl', source: fma }] }),
  );
  const data = new Random(1).normals(4 * 1026);
  const x = createStorageBuffer(device, 'x', data);
  const y = createStorageBuffer(device, 'y', 512 * 16);
  const entries = [x, y].map((buffer, binding) => ({ binding, resource: { buffer } }));
  const group = device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(0, group);
  pass.dispatchWorkgroups(2);
  pass.end();
  device.queue.submit([encoder.finish()]);
  const got = new Float32Array(await readBuffer(device, y));

  const turn = max(-0.75, min(-0.5, data[4 * 1024]!));
  for (let thread = 0; thread < 512; thread++) {
    const values = data.subarray((thread % 256) * 16);
    for (let lane = 0; lane < 4; lane++) {
      // The sum of the eight sums of this component, for each of the two vec4s of b.
      const b = values[8 + lane]! + values[12 + lane]!;
      const size = abs(values[8 + lane]!) + abs(values[12 + lane]!);
      let sum = 0;
      let bound = 0;
      for (let i = 0; i < 8; i++) {
        const shift = data[4 * 1025 + (i % 4)]!;
        let a = values[i]!;
        // What a may be off by, and how large it has been: each step brings its error down and rounds twice at most.
        let off = 0;
        for (let step = 0; step < STEPS; step++) {
          sum += a * b;
          bound += (abs(a) * (STEPS + 4) * 2 ** -22 + off) * size;
          off = 0.75 * off + (abs(a) + abs(shift)) * 2 ** -22;
          a = a * turn + shift;
        }
      }
      const y = got[thread * 4 + lane]!;
      expect(abs(y - sum), `thread ${thread}, lane ${lane}: ${y}, not ${sum}`).toBeLessThanOrEqual(bound);
    }
  }
  for (const buffer of [x, y]) buffer.destroy();
});
