import { describe, expect, test } from 'vitest';
import {
  type Caps,
  type GemmProblem,
  KERNELS,
  planGemm,
  planWith,
  UnsupportedError,
} from '../../../src/index.js';

/** WebGPU's default limits and nothing else. */
const core: Caps = {
  features: [],
  limits: {
    maxBufferSize: 2 ** 28,
    maxStorageBufferBindingSize: 2 ** 27,
    maxStorageBuffersPerShaderStage: 8,
    maxComputeWorkgroupStorageSize: 16384,
    maxComputeInvocationsPerWorkgroup: 256,
    maxComputeWorkgroupSizeX: 256,
    maxComputeWorkgroupSizeY: 256,
    maxComputeWorkgroupsPerDimension: 65535,
  },
  tiers: ['base'],
  timestampQuery: false,
  subgroupMatrixConfigs: [],
};

const problem = (m: number, n: number, k: number): GemmProblem => ({
  m,
  n,
  k,
  format: 'mxfp4',
  blockSize: 32,
  x: 'f32',
  y: 'f32',
  bias: false,
});

/** Every element of y belongs to exactly one workgroup's share. */
function coverage(plan: ReturnType<typeof planGemm>): { m: number; n: number } {
  const [x, y, z] = plan.workgroups;
  const c = plan.constants;
  return plan.kernel === 'gemv'
    ? { m: z, n: x * y * c.GROUPS! * c.ROWS! }
    : { m: y * c.TILE_M!, n: x * c.TILE_N! * z };
}

describe('planGemm', () => {
  test('is pure, gives JSON and its reason in words', () => {
    const plan = planGemm(problem(1, 4096, 4096), core);
    expect(planGemm(problem(1, 4096, 4096), core)).toEqual(plan);
    expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
    expect(plan.reason).toMatch(/m = 1 ≤ 4/);
    expect(plan.label).toMatch(/^gemv\.mxfp4\.f32\./);
  });

  test('takes gemv for few rows and tiles for many', () => {
    const kernels = [1, 2, 4, 5, 64, 8192].map((m) => planGemm(problem(m, 4096, 4096), core).kernel);
    expect(kernels).toEqual(['gemv', 'gemv', 'gemv', 'gemm_tiled', 'gemm_tiled', 'gemm_tiled']);
  });

  test('runs on core WebGPU whatever the shape, and covers all of y within the grid limits', () => {
    for (const m of [1, 2, 3, 4, 5, 17, 64, 512, 8192]) {
      for (const n of [1, 31, 384, 4096, 14336, 151936, 300000]) {
        for (const k of [32, 384, 2880, 4096]) {
          const p = problem(m, n, k);
          const plan = planGemm(p, core);
          const covered = coverage(plan);
          expect(covered.m, plan.label).toBeGreaterThanOrEqual(m);
          expect(covered.n, plan.label).toBeGreaterThanOrEqual(n);
          for (const size of plan.workgroups) expect(size).toBeLessThanOrEqual(65535);
          const kernel = KERNELS[plan.kernel];
          expect(kernel.threads(plan.constants)).toBeLessThanOrEqual(256);
          expect(kernel.sharedBytes(plan.constants)).toBeLessThanOrEqual(16384);
        }
      }
    }
  });

  test('chooses a smaller variant where limits demand it, and says which limit where none fits', () => {
    const small = { ...core, limits: { ...core.limits, maxComputeInvocationsPerWorkgroup: 64 } };
    expect(planGemm(problem(512, 4096, 4096), small).label).toContain('32x32');
    const none = { ...core, limits: { ...core.limits, maxComputeInvocationsPerWorkgroup: 32 } };
    expect(() => planGemm(problem(512, 4096, 4096), none)).toThrow(UnsupportedError);
    expect(() => planGemm(problem(1, 4096, 4096), none)).toThrow(UnsupportedError);
    const big = { TILE_M: 128, TILE_N: 128, TILE_K: 32, THREAD_M: 8, THREAD_N: 8 };
    expect(() => planWith('gemm_tiled', big, problem(512, 4096, 4096), core)).toThrow(
      /32768 bytes of workgroup memory exceed maxComputeWorkgroupStorageSize = 16384/,
    );
  });

  test.each([
    [{ m: 0 }, /m = 0 is not a positive integer/],
    [{ n: 1.5 }, /n = 1.5 is not a positive integer/],
    [{ k: 100 }, /k = 100 is not a multiple of the mxfp4 block 32; pad the matrix/],
    [{ blockSize: 64 }, /mxfp4 with blocks of 64/],
    [{ y: 'f16' as const }, /y as f16/],
    [{ m: 2 ** 20, n: 2 ** 13 }, /2\^32 elements/],
  ])('refuses %o', (change, message) => {
    expect(() => planGemm({ ...problem(1, 32, 64), ...change }, core)).toThrow(message);
  });
});
