import { describe, expect, test } from 'vitest';
import {
  type Caps,
  type GemmProblemOptions,
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

const problem = (m: number, n: number, k: number): GemmProblemOptions => ({
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
  return plan.kernel !== 'gemm_tiled'
    ? { m: z * c.X_ROWS!, n: x * y * c.GROUPS! * c.ROWS! }
    : { m: x * c.TILE_M!, n: y * c.TILE_N! * z };
}

describe('planGemm', () => {
  test('is pure, gives JSON and its reason in words', () => {
    const plan = planGemm(problem(1, 4096, 4096), core);
    expect(planGemm(problem(1, 4096, 4096), core)).toEqual(plan);
    expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
    expect(plan.reason).toMatch(/m = 1 ≤ 256/);
    expect(plan.label).toMatch(/^gemv\.mxfp4\.f32\./);
  });

  test('takes gemv for few rows and tiles for many, subgroups where they are large enough', () => {
    const kernels = (caps: Caps) =>
      [1, 4, 64, 256, 257, 8192].map((m) => planGemm(problem(m, 4096, 4096), caps).kernel);
    expect(kernels(core)).toEqual(['gemv', 'gemv', 'gemv', 'gemv', 'gemm_tiled', 'gemm_tiled']);
    const subgroups: Caps = {
      ...core,
      tiers: ['base', 'subgroups'],
      subgroupMinSize: 32,
      subgroupMaxSize: 32,
    };
    expect(new Set(kernels(subgroups))).toEqual(new Set(['gemv_subgroup', 'gemm_tiled']));
    // Subgroups of 8 do for the eight lanes that many rows of x take, not for the 32 of one row.
    const small = { ...subgroups, subgroupMinSize: 8 };
    expect([1, 64].map((m) => planGemm(problem(m, 4096, 4096), small).kernel)).toEqual([
      'gemv',
      'gemv_subgroup',
    ]);
  });

  test('shares a decoded weight between as many rows of x as there are', () => {
    const rows = [1, 2, 4, 5, 32, 33, 64].map((m) => planGemm(problem(m, 4096, 4096), core).constants.X_ROWS);
    expect(rows).toEqual([1, 1, 2, 4, 4, 8, 8]);
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
    expect(planGemm(problem(2048, 4096, 4096), core).label).toContain('128x128');
    expect(planGemm(problem(2048, 4096, 4096), small).label).toContain('64x64');
    const none = { ...core, limits: { ...core.limits, maxComputeInvocationsPerWorkgroup: 16 } };
    expect(() => planGemm(problem(512, 4096, 4096), none)).toThrow(UnsupportedError);
    expect(() => planGemm(problem(1, 4096, 4096), none)).toThrow(/gemv cannot: 256 threads exceed/);
    const big = { TILE_M: 128, TILE_N: 128, TILE_K: 32, THREAD_M: 16 };
    expect(() => planWith('gemm_tiled', big, problem(512, 4096, 4096), core)).toThrow(
      /32768 bytes of workgroup memory exceed maxComputeWorkgroupStorageSize = 16384/,
    );
  });

  test.each([
    [{ m: 0 }, /m = 0 is not a positive integer/],
    [{ n: 1.5 }, /n = 1.5 is not a positive integer/],
    [{ k: 100 }, /k = 100 is not a multiple of the mxfp4 block 32; pad the matrix/],
    [{ blockSize: 64 }, /mxfp4 with blocks of 64/],
    [{ y: 'f16' as const }, /the device lacks f16/],
    [{ y: 'f64' as never }, /y is "f64"; take 'f32' or 'f16'/],
    [{ m: 2 ** 20, n: 2 ** 13 }, /2\^32 elements/],
  ])('refuses %o', (change, message) => {
    expect(() => planGemm({ ...problem(1, 32, 64), ...change }, core)).toThrow(message);
  });
});
