/** Products of int8 with a scale for each row: weights as int8, and y = x · wᵀ of both operands rounded to int8. */
import { beforeEach, describe, expect, test } from 'vitest';
import { E2M1_VALUES } from '../../src/formats/e2m1.js';
import { INT8_MOST_K, int8BlockScales, int8Rounded, int8Snr } from '../../src/gemm/int8-weights.js';
import { describeShader, refusal } from '../../src/gemm/kernels/index.js';
import { problemReference, worstError } from '../../src/gemm/reference.js';
import type { Probe } from '../../src/gpu/probe.js';
import {
  createGemm,
  type Gpu,
  KERNELS,
  type KernelConstants,
  planWith,
  problemOf,
  type QuantizedMatrix,
  type QuantizeOptions,
  quantize,
  resolveProblem,
  uploadWeights,
} from '../../src/index.js';
import { adapterId, isSweep, useGpu } from './gpu.js';
import { multiplyOn } from './multiply.js';
import { Random } from './random.js';
import { smallTile } from './small-tile.js';

/** Defines the tests of a kernel. */
export function testInt8Rows(id: 'gemm_subgroup_matrix_i8' | 'gemm_dp4a_rows'): void {
  const context = useGpu({ narrow: id === 'gemm_dp4a_rows' });
  const kernel = KERNELS[id];

  beforeEach(({ skip }) => {
    const missing = kernel.tiers.filter((tier) => !context.gpu.caps.tiers.includes(tier));
    if (missing.length) skip(`the adapter lacks ${missing.join(', ')}`);
    // Minutes of compilation; lavapipe runs all of it.
    if (adapterId() === 'swiftshader') skip('SwiftShader compiles too slowly');
  });

  function variants(): readonly KernelConstants[] {
    const { caps } = context.gpu;
    const problem = resolveProblem({ m: 1, n: 1, k: 64, format: 'mxfp4', activations: 'int8' });
    return kernel.variants(caps).filter((constants) => !refusal(kernel, constants, problem, caps));
  }

  /** For what is not about variants. */
  const smallest = () => smallTile(id, variants()[0]!);

  const FORMATS: readonly Partial<QuantizeOptions>[] = [
    {},
    { blockSize: 16 },
    { format: 'nvfp4' },
    ...([128, 64, 32] as const).map((macroSize) => ({ macroScale: 'static' as const, macroSize })),
    { blockSize: 16, macroScale: 'dynamic', macroSize: 32 },
  ];

  // Software adapters take seconds to compile a kernel, and k is a constant of these: each format has one k, and parts of it by
  // turns; of four parts, one is empty.
  const colsOf = ({ format, blockSize }: Partial<QuantizeOptions>) =>
    format === 'nvfp4' || blockSize === 16 ? 144 : 160;
  const partsOf = (i: number) => [1, 2, 4][i % 3]!;

  function weightsOf(random: Random, rows: number, cols: number, options: Partial<QuantizeOptions>) {
    // Columns of different sizes, so that scales spread.
    const values = random.normals(rows * cols).map((v, i) => v * 2 ** -((((i % cols) / 48) | 0) % 5));
    return quantize(values, { rows, cols, format: 'mxfp4', ...options });
  }

  /** What the probe says where weights are decoded through halves, and through floats. */
  const DECODERS: Readonly<Record<string, (probe: Probe) => Probe>> = {
    halves: (probe) => probe,
    floats: (probe) => ({ ...probe, f16SubnormalProducts: false }),
    'floats without subnormal halves': (probe) => ({
      ...probe,
      f16SubnormalProducts: false,
      f16Subnormals: false,
    }),
  };

  /**
   * Blocks of random codes, up to a hundred octaves below their row's largest, or with scale 0. Rows by turns: all of their
   * scales 0; the smallest scales; the largest block with a macro factor; others.
   */
  function spreadWeights(random: Random, rows: number, cols: number, options: Partial<QuantizeOptions>) {
    const { format = 'mxfp4', blockSize = format === 'nvfp4' ? 16 : 32, macroSize } = options;
    const blocks = cols / blockSize;
    const macros = macroSize ? Math.ceil(cols / macroSize) : 0;
    const scales = new Uint8Array(rows * blocks);
    const macroScales = new Uint8Array(rows * macros).map(() => random.pick([0, random.integer(1, 255)]));
    for (let row = 0; row < rows; row++) {
      const largest =
        format === 'nvfp4'
          ? [0, random.integer(1, 7), random.integer(64, 126)][Math.min(row, 2)]!
          : [0, 30, random.integer(100, 234)][Math.min(row, 2)]!;
      const bytes = scales.subarray(row * blocks, (row + 1) * blocks);
      for (const block of bytes.keys()) {
        const below =
          format === 'nvfp4'
            ? random.integer(0, 48)
            : random.pick([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 30, 41, 100, 255]);
        bytes[block] = Math.max(largest - below, 0);
      }
      const place = random.integer(0, blocks - 1);
      bytes[place] = largest;
      if (macroSize && row % 2) macroScales[row * macros + Math.floor((place * blockSize) / macroSize)] = 200;
    }
    const q: QuantizedMatrix = {
      format,
      rows,
      cols,
      blockSize,
      codes: Uint8Array.from({ length: (rows * cols) / 2 }, () => random.integer(0, 255)),
      scales,
      ...(macroSize && { macroScales, macroSize }),
      globalScale: format === 'nvfp4' ? 0.75 : 1,
      hadamard: false,
    };
    return q;
  }

  /** How far the factor of a block may be off, as a part of it; 0 where everything is a power of two. */
  function factorError(q: QuantizedMatrix, decoder: string): number {
    if (q.format === 'mxfp4' && !q.macroSize) return 0;
    // A division of 2.5 ULP, and two roundings of an ULP of 2^-23; as a half, which is rounded to nearest, 2^-11 more.
    return 4.5 * 2 ** -23 * (1 + 2 ** -10) + (decoder === 'halves' ? 2 ** -11 : 0);
  }

  describe.each(Object.entries(DECODERS))('weights as int8, decoded through %s', (decoder, probeAs) => {
    // How a code becomes a float has nothing to do with macro factors.
    const all = decoder.includes('without') ? FORMATS.filter(({ macroScale }) => !macroScale) : FORMATS;
    // Both kernels decode by the same functions, so the other ways need to be tried in one of them, the quicker to compile.
    const isSample = decoder !== 'halves' && id === 'gemm_dp4a_rows' && !isSweep;
    const formats = isSample ? all.slice(1, 3) : all;
    test.for(formats.map((options, i) => [JSON.stringify(options), options, i] as const))(
      '%s',
      async ([, options, i], { skip }) => {
        const probe = await context.gpu.probe();
        if (decoder === 'halves' && !probe.f16SubnormalProducts && adapterId() !== 'lavapipe') {
          skip('the adapter has no f16, or flushes subnormal halves');
        }
        const gpu = Object.create(context.gpu, { probe: { value: async () => probeAs(probe) } }) as Gpu;
        const rows = 37;
        const cols = colsOf(options);
        const q = spreadWeights(new Random(i + 1), rows, cols, options);
        const { stored, effective } = int8BlockScales(q);
        const blocks = cols / q.blockSize;

        // Row k of x has a value at k alone, which as int8 is 127.
        const x = new Float32Array(cols * cols);
        const xScale = (row: number) => 2 ** (row % 3 === 0 ? 3 : -12 - (row % 5));
        for (let row = 0; row < cols; row++) x[row * cols + row] = 127 * xScale(row);
        // With a bias of zeros and in parts of k, as products below are, which are multiplied by the same shader.
        const bias = new Float32Array(rows);
        const constants = { ...smallest(), SPLIT_K: partsOf(FORMATS.indexOf(options)) };
        const { result, modules } = await multiply({ x, q, m: cols, bias }, constants, gpu);
        expect(modules).toContain(`formats/e2m1_int8_${decoder === 'halves' ? 'halves' : 'floats'}.wgsl`);

        const error = factorError(q, decoder);
        const wrong: string[] = [];
        let [exact, between] = [0, 0];
        for (let row = 0; row < rows; row++) {
          const reference = Math.max(...stored.subarray(row * blocks, (row + 1) * blocks));
          for (let k = 0; k < cols; k++) {
            const code = (q.codes[(row * cols + k) >> 1]! >> ((k & 1) * 4)) & 15;
            const scale = effective[row * blocks + Math.floor(k / q.blockSize)]!;
            const value = E2M1_VALUES[code & 7]!;
            const actual = result[k * rows + row]! / (127 * xScale(k) * q.globalScale * (code & 8 ? -1 : 1));
            const low = int8Rounded(value, scale * (1 - error), reference);
            const high = int8Rounded(value, Math.min(scale * (1 + error), reference), reference);
            const integer = reference === 0 ? 0 : (actual * 16) / reference;
            // 2^-127, what a row of MXFP4 with no larger scale is relative to, may read as 0.
            const flushed = reference === 2 ** -127 && actual === 0;
            if (!(actual >= low && actual <= high && Number.isInteger(integer)) && !flushed) {
              wrong.push(`w[${row}, ${k}] is ${integer} of ${reference} / 16, not ${low} to ${high}`);
            }
            exact += Number(low === high && actual !== 0);
            between += Number(low !== high);
          }
        }
        expect(wrong.slice(0, 5), `${wrong.length} of ${rows * cols}`).toEqual([]);
        // All but those that are nearly half of an integer are known exactly.
        expect(exact).toBeGreaterThan((rows * cols) / 5);
        expect(between).toBeLessThan((rows * cols) / 20);
      },
    );
  });

  describe('weights as int8', () => {
    test('signal to noise', () => {
      const random = new Random(2);
      const normal = quantize(random.normals(64 * 512), { rows: 64, cols: 512, format: 'mxfp4' });
      expect(int8Snr(normal)).toBeGreaterThan(45);
      // One block in eight is 2^10 times as large.
      const values = random.normals(64 * 512).map((v, i) => (i % 256 < 32 ? v * 1024 : v));
      const spread = quantize(values, { rows: 64, cols: 512, format: 'mxfp4' });
      expect(int8Snr(spread)).toBeGreaterThan(40);
      const tiny: QuantizedMatrix = {
        ...normal,
        // The largest block is empty, the others have one bit left.
        codes: normal.codes.map((code, i) => (i % 256 < 16 ? 0 : code)),
        scales: normal.scales.map((_, i) => (i % 16 === 0 ? 140 : 130)),
      };
      expect(int8Snr(tiny)).toBeLessThan(20);
      expect(int8Snr({ ...normal, scales: normal.scales.map((_, i) => 120 + (i % 4)) })).toBe(Infinity);
    });
  });

  interface Case {
    x: Float32Array;
    q: QuantizedMatrix;
    m: number;
    bias?: Float32Array | undefined;
    /** What y holds before; added to the product. */
    y?: Float32Array | undefined;
    type?: 'f16';
  }

  async function multiply(
    { x, q, m, bias, y, type }: Case,
    constants: KernelConstants,
    gpu: Gpu = context.gpu,
  ) {
    using weights = await uploadWeights(gpu, q);
    const options = {
      m,
      activations: 'int8',
      bias: bias !== undefined,
      accumulate: y !== undefined,
      x: type ?? 'f32',
    } as const;
    // Weights that plans would leave out are multiplied all the same.
    const { int8Snr: _, ...problem } = problemOf(weights, options);
    const plan = planWith(id, constants, problem, gpu.caps);
    using gemm = await createGemm(gpu, { ...options, weights, plan });
    const result = await multiplyOn(gpu, gemm, { x, bias, y });
    const shader = describeShader(kernel, constants, problem, await gpu.probe(), await gpu.uniformSource());
    return { result, problem, modules: shader.modules.map(({ name }) => name) };
  }

  async function worst(c: Case, constants: KernelConstants): Promise<number> {
    const { result, problem } = await multiply(c, constants);
    return worstError(result, problemReference(c.x, c.q, problem, c.bias), kernel.errors(constants, problem));
  }

  const SHAPES = [
    [5, 7],
    [33, 22],
    [18, 37],
  ] as const;

  describe.each(FORMATS.map((options, i) => [JSON.stringify(options), options, i] as const))(
    '%s',
    (_, options, i) => {
      test.each(SHAPES)('m %i, n %i', async (m, n) => {
        const random = new Random(m + n);
        const cols = colsOf(options);
        const q = weightsOf(random, n, cols, options);
        const x = random.normals(m * cols);
        const bias = random.normals(n);
        const error = await worst({ x, q, m, bias }, { ...smallest(), SPLIT_K: partsOf(i) });
        expect(error).toBeLessThanOrEqual(1);
        expect(error).toBeGreaterThan(0.001);
      });
    },
  );

  /** Integers with 127 in each 128 values, and weights whose scales are within three octaves. */
  function exactCase(m: number, n: number, k: number): Case {
    const random = new Random(m * n);
    const x = random.integers(m * k, -127, 127);
    for (let i = 0; i < x.length; i += 128) x[i] = 127;
    for (let row = 0; row < m; row++) x[row * k] = -127;
    const q: QuantizedMatrix = {
      format: 'mxfp4',
      rows: n,
      cols: k,
      blockSize: 32,
      codes: Uint8Array.from({ length: (n * k) / 2 }, () => random.integer(0, 255)),
      scales: Uint8Array.from({ length: (n * k) / 32 }, () => random.integer(126, 129)),
      globalScale: 1,
      hadamard: false,
    };
    return { x, q, m };
  }

  /** What y has to be, to the bit, with a bias and values that it is added to. */
  function exactSums(c: Case): number[] {
    const { cols: k } = c.q;
    const reference = problemReference(c.x, c.q, { m: c.m, k, activations: { kind: 'int8' } }, c.bias);
    return [...reference.y].map((value, i) => value + (c.y?.[i] ?? 0));
  }

  test('integers and weights within three octaves give exact sums, in every variant', async () => {
    const [m, k] = [35, 416];
    const random = new Random(4);
    for (const [i, constants] of variants().entries()) {
      // Rows of y that are whole vec4s, and others.
      const n = i % 2 ? 41 : 44;
      const c = exactCase(m, n, k);
      c.bias = random.integers(n, -64, 64);
      c.y = random.integers(m * n, -64, 64);
      const { result } = await multiply(c, constants);
      expect([...result], JSON.stringify(constants)).toEqual(exactSums(c));
    }
  });

  test('k in parts that are not of one length, or empty, changes no exact sum', async () => {
    const c = exactCase(9, 12, 160);
    const expected = exactSums(c);
    for (const SPLIT_K of [3, 7]) {
      const { result } = await multiply(c, { ...smallest(), SPLIT_K });
      expect([...result], `${SPLIT_K} parts`).toEqual(expected);
    }
  });

  test('rows of x of which each thread holds more than eight values', async () => {
    const k = 8 * context.gpu.device.limits.maxComputeInvocationsPerWorkgroup + 160;
    const c = exactCase(5, 7, k);
    // The largest in the last eight values.
    for (let row = 0; row < 5; row++) {
      for (let i = 0; i < k; i++) if (Math.abs(c.x[row * k + i]!) === 127) c.x[row * k + i] = 0;
      c.x[row * k + k - 3] = row % 2 ? 127 : -127;
    }
    // Signs are random, so that sums in quarters fit f32.
    expect((await multiply(c, { ...smallest(), SPLIT_K: 2 })).result).toEqual(
      Float32Array.from(exactSums(c)),
    );
    const random = new Random(8);
    const q = weightsOf(random, 7, k, {});
    const x = random.normals(5 * k);
    const error = await worst({ x, q, m: 5 }, smallest());
    expect(error).toBeLessThanOrEqual(1);
    expect(error).toBeGreaterThan(0.001);
    x[k - 140] = Number.NaN;
    x[3 * k - 1] = Number.NEGATIVE_INFINITY;
    const { result } = await multiply({ x, q, m: 5 }, smallest());
    expect([...result].map(Number.isFinite)).toEqual(
      Array.from(result, (_, i) => ![0, 2].includes(Math.floor(i / 7))),
    );
  });

  test('x in f16', async () => {
    const c = exactCase(6, 10, 256);
    const { result, problem } = await multiply({ ...c, type: 'f16' }, smallest());
    expect([...result]).toEqual([...problemReference(c.x, c.q, problem).y]);
  });

  describe('values that are not usual', () => {
    const k = 256;
    const { q } = exactCase(1, 3, k);
    const ones: QuantizedMatrix = { ...q, codes: q.codes.map(() => 0x22), scales: q.scales.map(() => 127) };
    const cases = [{ SPLIT_K: 1 }, { SPLIT_K: 2 }];

    test('NaN and Inf reach the output as NaN', async () => {
      const x = new Float32Array(4 * k).fill(1);
      x[3] = Number.NaN;
      x[2 * k + 200] = Number.POSITIVE_INFINITY;
      x[3 * k + 100] = Number.NEGATIVE_INFINITY;
      for (const more of cases) {
        const { result } = await multiply({ x, q: ones, m: 4 }, { ...smallest(), ...more });
        for (const [i, value] of result.entries()) {
          if (Math.floor(i / 3) === 1) expect(value).toBeCloseTo(k, 3);
          else expect(value).toBeNaN();
        }
      }
    });

    test('rows of zeros, of the largest and of the smallest values', async () => {
      const x = new Float32Array(4 * k);
      x.fill(3e38, k, k + 1);
      x.fill(2 ** -100, 2 * k, 3 * k);
      x.fill(2 ** -149, 3 * k, 4 * k);
      for (const more of cases) {
        const { result } = await multiply({ x, q: ones, m: 4 }, { ...smallest(), ...more });
        expect([...result.subarray(0, 3)]).toEqual([0, 0, 0]);
        for (const value of result.subarray(3, 6)) expect(value / 3e38).toBeCloseTo(1, 5);
        for (const value of result.subarray(6, 9)) expect(value / 2 ** -92).toBeCloseTo(1, 5);
        expect([...result.subarray(9)]).toEqual([0, 0, 0]);
      }
    });
  });

  test('weights that lose too much as int8 are refused, unless nothing is known of them', () => {
    const { caps } = context.gpu;
    const shape = { m: 8, n: 8, k: 64, format: 'mxfp4', activations: 'int8' } as const;
    const constants = smallest();
    expect(refusal(kernel, constants, resolveProblem({ ...shape, int8Snr: 29 }), caps)).toContain('29.0 dB');
    expect(refusal(kernel, constants, resolveProblem({ ...shape, int8Snr: 31 }), caps)).toBeUndefined();
    expect(refusal(kernel, constants, resolveProblem(shape), caps)).toBeUndefined();
  });

  test('k that may take sums out of the range of i32 is refused', () => {
    const { caps } = context.gpu;
    const refused = (k: number) => {
      const problem = resolveProblem({ m: 8, n: 8, k, format: 'mxfp4', activations: 'int8' });
      return refusal(kernel, smallest(), problem, caps);
    };
    expect(INT8_MOST_K * 127 * 96).toBeLessThan(2 ** 31);
    expect(refused(INT8_MOST_K)).toBeUndefined();
    expect(refused(INT8_MOST_K + 32)).toContain('range of i32');
  });
}
