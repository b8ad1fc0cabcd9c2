/** f32 arithmetic on integers, and the integer steps of the quantizers, against the CPU. */
import { expect, test } from 'vitest';
import { encodeE4M3 } from '../../src/formats/e4m3.js';
import { type QuantizerModule, quantizerModules } from '../../src/gemm/quantizer-shaders.js';
import { createStorageBuffer, readBuffer } from '../../src/gpu/buffers.js';
import { getPipeline } from '../../src/gpu/pipeline.js';
import { composeShader } from '../../src/gpu/shader.js';
import { useGpu } from '../support/gpu.js';
import { Random } from '../support/random.js';
import { submitPass } from '../support/submit-pass.js';

const context = useGpu({ narrow: true });
const COUNT = 1 << 16;

/** One u32 of `expression`, a function of a and b, for each pair. */
async function evaluate(
  expression: string,
  modules: readonly QuantizerModule[],
  a: Uint32Array,
  b: Uint32Array,
): Promise<Uint32Array> {
  const { device } = context.gpu;
  const main = `
    @group(0) @binding(0) var<storage, read> in_a: array<u32>;
    @group(0) @binding(1) var<storage, read> in_b: array<u32>;
    @group(0) @binding(2) var<storage, read_write> out: array<u32>;
    @compute @workgroup_size(64)
    fn main(@builtin(global_invocation_id) id: vec3<u32>) {
      if (id.x < arrayLength(&out)) {
        let a = in_a[id.x];
        let b = in_b[id.x];
        out[id.x] = ${expression};
      }
    }`;
  const shader = composeShader({
    label: expression,
    constants: {},
    modules: [...quantizerModules(modules), { name: 'main', source: main }],
  });
  const pipeline = await getPipeline(device, shader);
  const buffers = [a, b, a.byteLength].map((data, i) => createStorageBuffer(device, `test ${i}`, data));
  const group = device.createBindGroup({
    layout: pipeline.getBindGroupLayout(0),
    entries: buffers.map((buffer, binding) => ({ binding, resource: { buffer } })),
  });
  submitPass(device, (pass) => {
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, group);
    pass.dispatchWorkgroups(Math.ceil(a.length / 64));
  });
  const out = new Uint32Array(await readBuffer(device, buffers[2]!, a.byteLength));
  for (const buffer of buffers) buffer.destroy();
  return out;
}

const floats = (bits: Uint32Array) => new Float32Array(bits.buffer, bits.byteOffset, bits.length);

/** Finite bit patterns: edges with each other, then random ones, related and not. */
function operands(seed: number): { a: Uint32Array; b: Uint32Array } {
  const random = new Random(seed);
  const edges = [0, 1, 2, 3, 0x7ffffe, 0x7fffff, 0x800000, 0x800001, 0xffffff, 0x1000000, 0x3effffff];
  edges.push(0x3f000000, 0x3f7fffff, 0x3f800000, 0x3f800001, 0x3fffffff, 0x40c00000, 0x7effffff);
  edges.push(0x7f000000, 0x7f7ffffe, 0x7f7fffff, 0x00400000, 0x20000000, 0x5f000000, 0x33800000);
  const signed = edges.flatMap((bits) => [bits, (bits | 0x80000000) >>> 0]);
  const a = new Uint32Array(COUNT);
  const b = new Uint32Array(COUNT);
  const finite = (bits: number) => ((bits & 0x7f800000) === 0x7f800000 ? bits & 0xbfffffff : bits) >>> 0;
  for (let i = 0; i < COUNT; i++) {
    const any = random.u32();
    if (i < signed.length ** 2) {
      a[i] = signed[i % signed.length]!;
      b[i] = signed[Math.floor(i / signed.length)]!;
      continue;
    }
    a[i] = finite(any);
    switch (i % 4) {
      case 0:
        b[i] = finite(random.u32());
        break;
      case 1:
        // Exponents near each other: cancellation and alignment.
        b[i] = finite(a[i]! + ((random.integer(-26, 26) << 23) ^ (random.u32() & 0x807fffff)));
        break;
      case 2: {
        // Products or quotients around the smallest normal number, few bits set: ties.
        const field = random.integer(2, 100);
        const result = random.integer(-25, 4);
        const other = i % 8 < 4 ? 127 + result - field : field + 127 - result;
        a[i] = (field << 23) | (random.u32() & 0x7ff000);
        b[i] = (other << 23) | (random.u32() & 0x7ff000);
        break;
      }
      default:
        // Subnormals with anything.
        a[i] = (a[i]! & 0x807fffff) >>> random.integer(0, 22);
        b[i] = random.pick([finite(random.u32()), random.u32() >>> random.integer(9, 31)]);
    }
  }
  return { a, b };
}

/** Compares bit for bit; an overflow is an infinity. */
function expectSame(
  actual: Uint32Array,
  a: Uint32Array,
  b: Uint32Array,
  f: (x: number, y: number) => number,
) {
  const [x, y] = [floats(a), floats(b)];
  const expected = new Uint32Array(Float32Array.from(x, (value, i) => f(value, y[i]!)).buffer);
  const found: string[] = [];
  for (let i = 0; i < a.length && found.length < 5; i++) {
    if (actual[i] !== expected[i]) {
      const hex = (bits: number) => bits.toString(16).padStart(8, '0');
      found.push(`${hex(a[i]!)}, ${hex(b[i]!)}: ${hex(actual[i]!)}, expected ${hex(expected[i]!)}`);
    }
  }
  expect(found).toEqual([]);
}

test.each([
  ['soft_mul(a, b)', (x: number, y: number) => x * y],
  ['soft_add(a, b)', (x: number, y: number) => x + y],
  ['soft_add(a, b ^ F32_SIGN)', (x: number, y: number) => x - y],
  ['soft_div(a, b)', (x: number, y: number) => x / y],
] as const)('%s rounds like Math.fround', async (expression, f) => {
  for (let seed = 1; seed <= 8; seed++) {
    const { a, b } = operands(seed);
    // Nothing is divided by zero.
    const divisors = b.map((bits) => (bits & 0x7fffffff ? bits : bits | 1));
    const second = expression.startsWith('soft_div') ? divisors : b;
    expectSame(await evaluate(expression, ['f32_bits', 'soft_float'], a, second), a, second, f);
  }
});

test('operands that are not finite give NaN', async () => {
  const special = Uint32Array.of(0x7f800000, 0xff800000, 0x7fc00000, 0xffffffff, 0x7f800001);
  const other = Uint32Array.of(0, 1, 0x3f800000, 0xff800000, 0x7f7fffff);
  for (const operation of ['soft_mul', 'soft_add', 'soft_div']) {
    for (const order of ['a, b', 'b, a']) {
      const out = await evaluate(`${operation}(${order})`, ['f32_bits', 'soft_float'], special, other);
      expect([...out]).toEqual(Array(5).fill(0x7fc00000));
    }
  }
});

test('encode_e4m3 is encodeE4M3, e4m3_bits its inverse', async () => {
  // Every binade that matters, around every midpoint, and random numbers.
  const random = new Random(5);
  const bits: number[] = [0, 1, 0x7f7fffff, 0x7f800000];
  for (let field = 110; field < 140; field++) {
    for (let step = 0; step < 32; step++) {
      const middle = (field << 23) + (step << 18);
      bits.push(middle - 1, middle, middle + 1);
    }
  }
  while (bits.length < COUNT) bits.push(random.integer(110 << 23, (140 << 23) - 1));
  const a = Uint32Array.from(bits);
  const out = await evaluate('encode_e4m3(a + 0u * b)', ['f32_bits', 'e4m3'], a, a);
  expect([...out]).toEqual(Array.from(floats(a), encodeE4M3));

  const bytes = Uint32Array.from({ length: 127 }, (_, byte) => byte);
  const values = await evaluate('e4m3_bits(a + 0u * b)', ['f32_bits', 'e4m3'], bytes, bytes);
  expect(Array.from(floats(values), encodeE4M3)).toEqual([...bytes]);
});

test('scale_up rounds x · (1 + m/256) to 24 bits, past the range of f32 too', async () => {
  const { a } = operands(11);
  const magnitudes = a.map((bits) => bits & 0x7fffffff);
  const factors = magnitudes.map((_, i) => i % 256);
  const out = await evaluate('scale_up(a, b)', ['macro_factor'], magnitudes, factors);
  const x = floats(magnitudes);
  const found: string[] = [];
  out.forEach((bits, i) => {
    // Exponent field 255 is an exponent like any other.
    const field = bits >>> 23;
    const value = field === 0 ? bits * 2 ** -149 : (1 + (bits & 0x7fffff) * 2 ** -23) * 2 ** (field - 127);
    const product = x[i]! * (1 + factors[i]! / 256);
    const rounded = product < 2 ** 127 ? Math.fround(product) : Math.fround(product / 4) * 4;
    if (value !== rounded && found.length < 5)
      found.push(`${x[i]} · ${factors[i]}: ${value}, not ${rounded}`);
  });
  expect(found).toEqual([]);
});
