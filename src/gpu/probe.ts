import { createStorageBuffer, readBuffer } from './buffers.js';
import { getPipeline } from './pipeline.js';
import { composeShader } from './shader.js';

/** What a device's arithmetic does where WGSL lets it choose. */
export interface Probe {
  /** Whether `unpack2x16float` keeps subnormal halves. */
  readonly f16Subnormals: boolean;
}

const probes = new WeakMap<GPUDevice, Promise<Probe>>();

/** Runs the probe shader once a device. */
export function probeDevice(device: GPUDevice): Promise<Probe> {
  let probe = probes.get(device);
  if (!probe) {
    probe = run(device);
    probes.set(device, probe);
    probe.catch(() => probes.delete(device));
  }
  return probe;
}

// The words come from a buffer, so that no compiler can compute the answer in advance.
const SOURCE = `@group(0) @binding(0) var<storage, read_write> words: array<u32>;
@compute @workgroup_size(1)
fn main() {
  let halves = unpack2x16float(words[0]);
  words[1] = bitcast<u32>(halves.x);
  words[2] = bitcast<u32>(halves.y);
}
`;
/** 2^-15 and -2^-15, the halves of an E2M1 code of ±0.5 in kernel order, and the same as f32 bits. */
const HALVES = 0x82000200;
const EXPECTED = [0x38000000, 0xb8000000];

async function run(device: GPUDevice): Promise<Probe> {
  const shader = composeShader({
    label: 'probe',
    constants: {},
    modules: [{ name: 'probe.wgsl', source: SOURCE }],
  });
  const pipeline = await getPipeline(device, shader);
  const words = createStorageBuffer(device, 'fp4 probe', Uint32Array.of(HALVES, 0, 0, 0));
  try {
    const encoder = device.createCommandEncoder({ label: 'fp4 probe' });
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(
      0,
      device.createBindGroup({
        layout: pipeline.getBindGroupLayout(0),
        entries: [{ binding: 0, resource: { buffer: words } }],
      }),
    );
    pass.dispatchWorkgroups(1);
    pass.end();
    device.queue.submit([encoder.finish()]);
    const [, low, high] = new Uint32Array(await readBuffer(device, words));
    return { f16Subnormals: low === EXPECTED[0] && high === EXPECTED[1] };
  } finally {
    words.destroy();
  }
}
