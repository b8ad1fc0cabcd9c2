import { DeviceLostError, UnsupportedError } from '../errors.js';
import { createStorageBuffer, readBuffer } from './buffers.js';
import type { Caps, Tier } from './caps.js';
import { whileAlive } from './loss.js';
import { getPipeline } from './pipeline.js';
import { composeShader } from './shader.js';

/** How subgroup matrices are loaded: the layout as a template argument, or, before mid-2026, as a boolean argument. */
export type MatrixDialect = 'template' | 'boolean';

/** What a device does where WGSL, or an experimental feature, lets it choose. */
export interface Probe {
  /** Whether `unpack2x16float` keeps subnormal halves. */
  readonly f16Subnormals: boolean;
  /** Whether products of halves keep subnormal operands and results; undefined without shader-f16. */
  readonly f16SubnormalProducts?: boolean;
  /** The newest dialect of subgroup-matrix loads that compiles; undefined without the feature. Kernels need 'template'. */
  readonly matrixDialect?: MatrixDialect | 'none';
  /** Whether the immediates of a pass reach its shaders. */
  readonly immediates: boolean;
}

const probes = new WeakMap<GPUDevice, Promise<Probe>>();

/** Runs the probe shaders once a device. */
export function probeDevice(device: GPUDevice): Promise<Probe> {
  let probe = probes.get(device);
  if (!probe) {
    probe = run(device);
    probes.set(device, probe);
    probe.catch(() => probes.delete(device));
  }
  return probe;
}

/** The capabilities without the tiers that a probe found unusable. */
export function usableCaps(caps: Caps, probe: Probe): Caps {
  const usable = (tier: Tier) =>
    (!tier.startsWith('matrix-') || probe.matrixDialect === 'template') &&
    ((tier !== 'f16-products' && tier !== 'matrix-f16') || probe.f16SubnormalProducts === true);
  return caps.tiers.every(usable) ? caps : { ...caps, tiers: caps.tiers.filter(usable) };
}

async function run(device: GPUDevice): Promise<Probe> {
  const has = (feature: string) => device.features.has(feature);
  const matrices = has('chromium-experimental-subgroup-matrix');
  const [f16Subnormals, f16SubnormalProducts, matrixDialect, immediates] = await Promise.all([
    unpackKeepsSubnormals(device),
    has('shader-f16') ? productsKeepSubnormals(device) : undefined,
    matrices ? newestDialect(device) : undefined,
    immediatesArrive(device),
  ]);
  return {
    f16Subnormals,
    ...(f16SubnormalProducts !== undefined && { f16SubnormalProducts }),
    ...(matrixDialect && { matrixDialect }),
    immediates,
  };
}

/** 2^-15 and -2^-15: the halves of an E2M1 code of ±0.5 in kernel order. */
const SUBNORMAL_HALVES = 0x82000200;

async function unpackKeepsSubnormals(device: GPUDevice): Promise<boolean> {
  const body = `let halves = unpack2x16float(words[0]);
  words[1] = bitcast<u32>(halves.x);
  words[2] = bitcast<u32>(halves.y);`;
  const [, low, high] = await execute(device, 'probe unpack', body, [SUBNORMAL_HALVES, 0, 0, 0]);
  return low === 0x38000000 && high === 0xb8000000;
}

async function productsKeepSubnormals(device: GPUDevice): Promise<boolean> {
  const body = `let product = bitcast<vec2<f16>>(words[0]) * bitcast<vec2<f16>>(words[1]);
  words[2] = bitcast<u32>(product);
  words[3] = bitcast<u32>(product * bitcast<vec2<f16>>(words[3]));`;
  // Times 2^12 it is ±2^-3, and times 2^-14 then ±2^-17.
  const words = [SUBNORMAL_HALVES, 0x6c006c00, 0, 0x04000400];
  const [, , up, down] = await execute(device, 'probe products', body, words, { enables: ['f16'] });
  return up === 0xb0003000 && down === 0x80800080;
}

/** WebGPU's default for `maxImmediateSize`, and the words that fill it. */
const IMMEDIATES = Uint32Array.from({ length: 16 }, (_, i) => 0x01020304 * (i + 1));

async function immediatesArrive(device: GPUDevice): Promise<boolean> {
  // Undefined where the host does not know of them.
  if (!(device.limits.maxImmediateSize >= IMMEDIATES.byteLength)) return false;
  const declarations = `struct Data { a: vec4<u32>, b: vec4<u32>, c: vec4<u32>, d: vec4<u32> }
var<immediate> data: Data;`;
  const body = 'words[0] = data.a.x; words[1] = data.b.y; words[2] = data.c.z; words[3] = data.d.w;';
  try {
    const got = await execute(device, 'probe immediates', body, [0, 0, 0, 0], {
      declarations,
      prepare: (pass) => pass.setImmediates(0, IMMEDIATES),
    });
    return got.every((word, i) => word === IMMEDIATES[i * 5]);
  } catch (cause) {
    if (cause instanceof DeviceLostError) throw cause;
    return false;
  }
}

/** Runs a few lines on words that come from a buffer, so that no compiler can compute the answer in advance. */
async function execute(
  device: GPUDevice,
  label: string,
  body: string,
  values: readonly number[],
  {
    enables = [],
    declarations = '',
    prepare,
  }: {
    enables?: readonly string[];
    declarations?: string;
    prepare?: (pass: GPUComputePassEncoder) => void;
  } = {},
): Promise<Uint32Array> {
  const source = `${declarations}
@group(0) @binding(0) var<storage, read_write> words: array<u32>;
@compute @workgroup_size(1)
fn main() {
  ${body}
}
`;
  const shader = composeShader({
    label,
    enables,
    constants: {},
    modules: [{ name: `${label}.wgsl`, source }],
  });
  const pipeline = await getPipeline(device, shader);
  const words = createStorageBuffer(device, 'fp4 probe', Uint32Array.from(values));
  const submit = () => {
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
    prepare?.(pass);
    pass.dispatchWorkgroups(1);
    pass.end();
    device.queue.submit([encoder.finish()]);
  };
  try {
    // Nothing is awaited before the scope is closed, so that it catches the probe's errors and no one else's.
    let scope: Promise<GPUError | null>;
    device.pushErrorScope('validation');
    try {
      submit();
    } finally {
      scope = device.popErrorScope();
    }
    const error = await whileAlive(device, label, scope);
    if (error) throw new UnsupportedError('gpu', `${label}: ${error.message}`);
    return new Uint32Array(await readBuffer(device, words));
  } finally {
    words.destroy();
  }
}

const MATRIX_LOADS: Readonly<Record<MatrixDialect, string>> = {
  template: 'subgroupMatrixLoad<Matrix, row_major>(&words, 0u, 16u)',
  boolean: 'subgroupMatrixLoad<Matrix>(&words, 0u, false, 16u)',
};

/** Modules are only created: whether a shape of matrix exists is a matter of pipelines. */
async function newestDialect(device: GPUDevice): Promise<MatrixDialect | 'none'> {
  const compiles = async (load: string) => {
    device.pushErrorScope('validation');
    const module = device.createShaderModule({
      label: 'probe matrices',
      code: `enable chromium_experimental_subgroup_matrix;
alias Matrix = subgroup_matrix_left<i32, 16, 16>;
@group(0) @binding(0) var<storage, read> words: array<i32>;
@compute @workgroup_size(64)
fn main() {
  let matrix = ${load};
}
`,
    });
    const said = Promise.all([device.popErrorScope(), module.getCompilationInfo()]);
    const [error, { messages }] = await whileAlive(device, 'probing matrices', said);
    return error === null && !messages.some(({ type }) => type === 'error');
  };
  // One after the other: where both compile, the older one is deprecated and warns.
  for (const dialect of ['template', 'boolean'] as const) {
    if (await compiles(MATRIX_LOADS[dialect])) return dialect;
  }
  return 'none';
}
