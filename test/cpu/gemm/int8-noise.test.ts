/** What `activations: 'int8'` adds to the noise of FP4 weights: figures that README gives, and what plans rely on. */
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { openFile } from '../../../src/checkpoint/file-source.js';
import { readMatrix } from '../../../src/checkpoint/matrix-source.js';
import { readSafetensorsHeader } from '../../../src/checkpoint/safetensors.js';
import { int8Snr } from '../../../src/gemm/int8-weights.js';
import { KERNELS } from '../../../src/gemm/kernels/index.js';
import { resolveProblem } from '../../../src/gemm/problem.js';
import { decodeMatrixF64, type QuantizedMatrix } from '../../../src/matrix/quantized-matrix.js';
import { errorMetrics } from '../../../src/quantize/metrics.js';
import {
  formatNoise,
  int8Weights,
  NOISE_FORMATS,
  type ProductNoise,
  STRETCHES,
  type Stretch,
} from '../../support/int8-noise.js';
import { fill, gaussian, studentT } from '../../support/random-data.js';

const [M, N, K] = [16, 48, 8192];

/** What the outliers' channels are multiplied by: one in a hundred, alone or as a whole block of 32 in 64. */
const alone = (factor: number) => (i: number) => ((i % K) % 97 === 5 ? factor : 1);
const together = (factor: number) => (i: number) => (((i % K) >> 5) % 64 === 5 ? factor : 1);

function scaled(count: number, draw: () => number, factor: (i: number) => number): Float32Array {
  return fill(count, (i) => draw() * factor(i));
}

const X = {
  normal: fill(M * K, gaussian(1)),
  'channels × 30': scaled(M * K, gaussian(2), alone(30)),
  'channels × 100': scaled(M * K, gaussian(2), alone(100)),
  'blocks × 100': scaled(M * K, gaussian(2), together(100)),
};
const W = {
  normal: fill(N * K, gaussian(3)),
  't(3)': fill(N * K, studentT(4, 3)),
  'blocks / 100': scaled(N * K, gaussian(5), together(0.01)),
};

const INF = Number.POSITIVE_INFINITY;

/** SQNR of y in dB: by FP4 weights, by int8 weights, by int8 x, the latter two by stretch as in STRETCHES. */
type Figures = readonly [fp4: number, weights: readonly number[], x: readonly number[]];
const TABLE: readonly (readonly [keyof typeof X, keyof typeof W, format: string, ...Figures])[] = [
  ['normal', 'normal', 'mxfp4', 19.2, [INF, INF, INF, INF], [41.0, 41.2, 41.9, 45.7]],
  ['normal', 'normal', 'mxfp4 + MBS', 19.5, [35.2, 35.2, 35.3, 39.0], [40.9, 41.2, 41.9, 45.8]],
  ['normal', 'normal', 'nvfp4', 20.4, [40.1, 40.0, 40.4, 46.7], [40.9, 41.2, 41.9, 45.7]],
  ['normal', 't(3)', 'mxfp4', 16.8, [23.8, 27.2, 32.8, INF], [41.0, 41.3, 41.9, 45.4]],
  ['normal', 't(3)', 'nvfp4', 21.4, [22.7, 24.9, 29.2, 41.9], [41.0, 41.4, 41.9, 45.5]],
  ['channels × 30', 'normal', 'mxfp4', 19.0, [INF, INF, INF, INF], [24.9, 25.8, 27.3, 38.1]],
  ['channels × 100', 'normal', 'nvfp4', 20.5, [39.7, 40.0, 40.5, 47.1], [25.0, 25.6, 27.3, 38.0]],
  ['blocks × 100', 'normal', 'nvfp4', 20.5, [40.4, 40.2, 41.1, 47.5], [26.1, 26.4, 30.3, 45.5]],
  ['blocks × 100', 'blocks / 100', 'mxfp4', 19.1, [18.0, 18.2, 18.9, INF], [3.9, 4.5, 8.4, 45.8]],
  ['blocks × 100', 'blocks / 100', 'nvfp4', 20.2, [18.8, 19.1, 19.4, 47.3], [4.0, 4.5, 8.4, 45.9]],
];

const measured = new Map<string, ReturnType<typeof formatNoise>>();

function measure(x: keyof typeof X, w: keyof typeof W, format: string) {
  const key = `${x}, ${w}, ${format}`;
  const found = measured.get(key) ?? formatNoise(X[x], W[w], K, format);
  measured.set(key, found);
  return found;
}

const byStretch = (figures: Readonly<Record<Stretch, number>>) =>
  STRETCHES.map((stretch) => figures[stretch]);

/** Whether plans leave the int8 matrices out because of the weights' noise. */
function refused(q: QuantizedMatrix): boolean {
  const problem = resolveProblem({
    m: 512,
    n: N,
    k: K,
    format: q.format,
    ...(q.macroSize && { macroSize: q.macroSize }),
    activations: 'int8',
    int8Snr: int8Snr(q),
  });
  const caps = {
    tiers: ['base', 'subgroups', 'matrix-i8'],
    subgroupMinSize: 32,
    subgroupMaxSize: 32,
    subgroupMatrixConfigs: [{ componentType: 'i8', resultComponentType: 'i32', M: 16, N: 16, K: 32 }],
  } as unknown as Parameters<typeof kernel.variants>[0];
  const kernel = KERNELS.gemm_subgroup_matrix_i8;
  const reasons = kernel.variants(caps).map((c) => kernel.refuse!(c, problem, caps));
  return reasons.every((reason) => reason?.includes('signal to noise'));
}

describe('noise of a product, in dB', () => {
  test.each(TABLE)('x %s, w %s, %s', (x, w, format, fp4, weights, xFigures) => {
    const { noise } = measure(x, w, format);
    const near = (actual: readonly number[], expected: readonly number[], what: string) => {
      actual.forEach((value, i) => {
        if (expected[i] === INF) expect(value, what).toBe(INF);
        else expect(Math.abs(value - expected[i]!), `${what}: ${value}`).toBeLessThan(0.15);
      });
    };
    near([noise.fp4], [fp4], 'FP4 weights');
    near(byStretch(noise.weights), weights, 'int8 weights');
    near(byStretch(noise.x), xFigures, 'int8 x');
  });
});

/** The loss that int8 weights add, in dB, is below this where they are 10 dB quieter than FP4 itself. */
const SMALL_LOSS = 10 * Math.log10(1 + 0.1);

function expectSmallLoss({ fp4, weights }: ProductNoise, what: string): void {
  for (const stretch of STRETCHES) {
    const loss = 10 * Math.log10(1 + 10 ** ((fp4 - weights[stretch]) / 10));
    expect(loss, `${what}, a scale per ${stretch}`).toBeLessThan(SMALL_LOSS);
  }
}

test.each(Object.keys(NOISE_FORMATS))(
  '%s: where plans take int8 weights, they hardly add to the noise',
  (format) => {
    for (const x of Object.keys(X) as (keyof typeof X)[]) {
      const { q, noise } = measure(x, 'normal', format);
      expect(refused(q)).toBe(false);
      expectSmallLoss(noise, `${format}, x ${x}`);
    }
  },
);

test.each(Object.keys(NOISE_FORMATS))(
  '%s: plans leave int8 weights out where they would add much',
  (format) => {
    const { q, noise } = measure('normal', 't(3)', format);
    expect(refused(q)).toBe(true);
    expect(noise.weights.row).toBeLessThan(30);
  },
);

test('plans do not see x: weights that are small where x is large are lost in int8, a scale per 32 apart', () => {
  const { q, noise } = measure('blocks × 100', 'blocks / 100', 'nvfp4');
  expect(refused(q)).toBe(false);
  expect(noise.weights[1024]).toBeLessThan(noise.fp4 + 2);
  expect(noise.x[1024]).toBeLessThan(noise.fp4 - 10);
  expect(noise.weights[32]).toBeGreaterThan(noise.fp4 + 20);
  expect(noise.x[32]).toBeGreaterThan(noise.fp4 + 20);
});

test.each(Object.keys(NOISE_FORMATS))(
  '%s: int8 weights are those that the signal to noise of weights is of',
  (format) => {
    const { q } = measure('normal', 't(3)', format);
    const decoded = decodeMatrixF64(q).map((value) => value / q.globalScale);
    for (const [stretch, length] of [
      ['row', K],
      [1024, 1024],
    ] as const) {
      expect(errorMetrics(decoded, int8Weights(q, stretch)).sqnr).toBeCloseTo(int8Snr(q, length), 6);
    }
  },
);

/** What int8 weights of a real model have at least: macro factors only make them smaller than the scale of their row. */
const LAYER_SNR: Readonly<Record<string, number>> = { mxfp4: INF, 'mxfp4 + MBS': 36, nvfp4: 40 };

const MODEL = fileURLToPath(new URL('../../../../shared/models/dictionary-lm/', import.meta.url));

test('layers of a real model: int8 weights hardly add to the noise, in any format', async (context) => {
  if (!existsSync(MODEL)) context.skip(`${MODEL} is not there`);
  const source = await openFile(`${MODEL}model-00001-of-00002.safetensors`);
  try {
    const file = await readSafetensorsHeader(source);
    for (const part of ['self_attn.q_proj', 'self_attn.o_proj', 'mlp.gate_proj', 'mlp.down_proj']) {
      const { values, cols } = await readMatrix(source, file, `model.layers.0.${part}.weight`);
      const w = values.subarray(0, 128 * cols);
      const x = fill(8 * cols, gaussian(9));
      for (const format of Object.keys(NOISE_FORMATS)) {
        const { q, noise } = formatNoise(x, w, cols, format);
        const what = `${part} ${format}`;
        expect(refused(q), what).toBe(false);
        expectSmallLoss(noise, what);
        expect(noise.weights.row, what).toBeGreaterThanOrEqual(LAYER_SNR[format]!);
        // 42 dB, 22 above FP4.
        expect(noise.x.row, what).toBeGreaterThan(40);
      }
    }
  } finally {
    await source.close();
  }
});
