import { readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import { parseBenchFile } from '../../../bench/schema.js';
import { refusal } from '../../../src/gemm/kernels/index.js';
import { candidatePlans, replan } from '../../../src/gemm/plan.js';
import { resolveProblem } from '../../../src/gemm/problem.js';
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
    ? { m: z * c.X_ROWS!, n: x * y * 8 * c.ROWS! }
    : { m: x * c.TILE_M!, n: y * c.TILE_N! * z };
}

describe('planGemm', () => {
  test('is pure, gives JSON and its reason in words', () => {
    const plan = planGemm(problem(1, 4096, 4096), core);
    expect(planGemm(problem(1, 4096, 4096), core)).toEqual(plan);
    expect(JSON.parse(JSON.stringify(plan))).toEqual(plan);
    expect(plan.reason).toMatch(
      /^m = 1: weights are decoded where they are used; the least estimated time of \d+ variants/,
    );
    expect(plan.label).toMatch(/^gemv\.mxfp4\.f32\./);
  });

  test('takes gemv for few rows and tiles for many', () => {
    const kernels = [1, 4, 24, 32, 8192].map((m) => planGemm(problem(m, 4096, 4096), core).kernel);
    expect(kernels).toEqual(['gemv', 'gemv', 'gemv', 'gemm_tiled', 'gemm_tiled']);
  });

  test('tiles are as tall as there are rows of x, and k is cut until a large GPU is busy', () => {
    const plan = (m: number, n: number, k: number) => {
      const { TILE_M, SPLIT_K } = planGemm(problem(m, n, k), core).constants;
      return [TILE_M, SPLIT_K];
    };
    expect(plan(32, 4096, 4096)).toEqual([32, 8]);
    expect(plan(128, 4096, 4096)).toEqual([128, 8]);
    expect(plan(2048, 4096, 4096)).toEqual([128, 1]);
    // No part of k is shorter than 128.
    expect(plan(128, 1024, 480)[1]).toBeLessThanOrEqual(2);
  });

  test('shares a decoded weight between as many rows of x as there are, up to four', () => {
    const rows = [1, 2, 3, 4, 5, 24].map((m) => planGemm(problem(m, 4096, 4096), core).constants.X_ROWS);
    expect(rows).toEqual([1, 2, 4, 4, 4, 4]);
  });

  test('few cores take what makes the least work for all of them, not what keeps many of them busy', () => {
    const few: Caps = { ...core, cores: 8 };
    const rows = (caps: Caps) => planGemm(problem(4, 1024, 4096), caps).constants.X_ROWS;
    expect([rows(core), rows(few)]).toEqual([2, 4]);
    const parts = (caps: Caps) => planGemm(problem(128, 4096, 4096), caps).constants.SPLIT_K;
    expect([parts(core), parts(few)]).toEqual([8, 1]);
  });

  test('with DP4A and int8 activations, integers take over where gemv decodes too often', () => {
    const dp4a: Caps = { ...core, tiers: ['base', 'dp4a'] };
    const kernels = [1, 16, 48, 128, 2048].map(
      (m) => planGemm({ ...problem(m, 4096, 4096), activations: 'int8' }, dp4a).kernel,
    );
    expect(kernels).toEqual(['gemv', 'gemv', 'gemm_tiled', 'gemm_dp4a', 'gemm_dp4a']);
  });

  test('with subgroups as well, int8 has a scale a row, where weights bear it', () => {
    const dp4a: Caps = { ...core, tiers: ['base', 'subgroups', 'dp4a'] };
    const plan = (m: number, int8Snr: number) =>
      planGemm({ ...problem(m, 4096, 4096), activations: 'int8', int8Snr }, dp4a);
    expect([16, 24, 2048].map((m) => plan(m, 45).kernel)).toEqual([
      'gemv',
      'gemm_dp4a_rows',
      'gemm_dp4a_rows',
    ]);
    expect(plan(2048, 20).kernel).toBe('gemm_dp4a');
    expect(plan(2048, 20).reason).toMatch(/signal to noise of 20.0 dB/);
    expect([24, 64, 128, 2048].map((m) => plan(m, 45).constants.SPLIT_K)).toEqual([8, 8, 4, 1]);
  });

  describe('with subgroup matrices of f16 and int8', () => {
    const config = (type: string, resultComponentType: string, K: number) => ({
      componentType: type,
      resultComponentType,
      M: 16,
      N: 16,
      K,
    });
    const matrices: Caps = {
      ...core,
      limits: {
        ...core.limits,
        maxComputeWorkgroupStorageSize: 49152,
        maxComputeInvocationsPerWorkgroup: 1024,
      },
      tiers: ['base', 'subgroups', 'dp4a', 'f16', 'f16-products', 'matrix-f16', 'matrix-i8'],
      subgroupMinSize: 32,
      subgroupMaxSize: 32,
      subgroupMatrixConfigs: [config('f16', 'f32', 16), config('i8', 'i32', 32)],
    };
    const plan = (m: number, options: Partial<GemmProblemOptions> = {}, caps = matrices) =>
      planGemm({ ...problem(m, 4096, 4096), ...options }, caps);

    test('weights are read once, then tiles, then tiles without x', () => {
      const kernels = [1, 4, 5, 64, 65, 512, 2048].map((m) => plan(m).kernel.replace('gemm_subgroup_', ''));
      expect(kernels).toEqual([
        'gemv_f16',
        'gemv_f16',
        'matrix_skinny',
        'matrix_skinny',
        'matrix',
        'matrix',
        'matrix_direct',
      ]);
    });

    test('k is cut until every core of a large GPU has a workgroup', () => {
      expect([128, 256, 512].map((m) => plan(m).constants.SPLIT_K)).toEqual([4, 2, 1]);
      // Small tiles where large ones would be too few.
      const tiles = [1024, 4096].map((n) => planGemm(problem(128, n, 4096), matrices).constants.FRAGMENTS_M);
      expect(tiles).toEqual([2, 4]);
      // Not where a second dispatch takes longer than is saved.
      expect(planGemm(problem(128, 1024, 512), matrices).constants.SPLIT_K).toBe(1);
      expect(plan(128).reason).toMatch(/k in 4 parts to have 128 workgroups/);
      expect(plan(128).reason).toMatch(/the least estimated time of \d\d variants/);
    });

    test('every variant of every kernel says in numbers what it takes', () => {
      for (const kernel of Object.values(KERNELS)) {
        const variants = kernel.variants(matrices);
        expect(variants.length, kernel.id).toBeGreaterThan(0);
        for (const c of variants) {
          expect(kernel.threads(c), kernel.id).toBeGreaterThan(0);
          expect(Number.isInteger(kernel.sharedBytes(c)), `${kernel.id}.${kernel.tileLabel(c)}`).toBe(true);
          const none = { ...matrices, limits: { ...matrices.limits, maxComputeWorkgroupStorageSize: 0 } };
          const p = resolveProblem({ ...problem(1, 64, 128), activations: kernel.activations[0]! });
          expect(refusal(kernel, c, p, none), kernel.id).toMatch(/workgroup memory/);
        }
      }
    });

    test('few rows: small workgroups where they fill whole rounds of all cores', () => {
      const subgroups = (n: number) => planGemm(problem(16, n, 4096), matrices).constants.SUBGROUPS;
      // 128, 192, 256, 448 and 896 workgroups of 32 columns.
      expect([4096, 6144, 8192, 14336, 28672].map(subgroups)).toEqual([16, 8, 8, 4, 4]);
      const small = { ...matrices, limits: { ...matrices.limits, maxComputeWorkgroupStorageSize: 32768 } };
      expect(planGemm(problem(16, 4096, 4096), small).constants.SUBGROUPS).toBe(8);
      // Where n gives few of them, k does; where it gives several a core, two subgroups read x at once.
      const sixtyFour = [1024, 4096, 8192].map((n) => planGemm(problem(64, n, 4096), matrices).constants);
      expect(sixtyFour).toMatchObject([
        { SUBGROUPS: 8, SUBGROUPS_N: 1, SPLIT_K: 4 },
        { SUBGROUPS: 16, SUBGROUPS_N: 1, SPLIT_K: 1 },
        { SUBGROUPS: 8, SUBGROUPS_N: 2, SPLIT_K: 1 },
      ]);
      // Where n gives many, tiles read x less often.
      expect(planGemm(problem(64, 16384, 5376), matrices).kernel).toBe('gemm_subgroup_matrix');
    });

    test('few rows of weights are read row by row for more rows of x', () => {
      const kernels = (n: number) =>
        [4, 8, 16, 64].map((m) => planGemm(problem(m, n, 4096), matrices).kernel.includes('matrix'));
      expect(kernels(1024)).toEqual([false, false, false, true]);
      expect(kernels(4096)).toEqual([false, true, true, true]);
      // Each row of x has workgroups of its own where n gives few.
      const rows = [512, 4096].map((n) => planGemm(problem(4, n, 4096), matrices).constants.X_ROWS);
      expect(rows).toEqual([1, 4]);
    });

    test('where a grid cannot be as large as the fastest kernel needs, another one is taken', () => {
      const small = { ...matrices, limits: { ...matrices.limits, maxComputeWorkgroupsPerDimension: 100 } };
      const p = problem(512, 64, 128);
      expect(planGemm(p, matrices).kernel).toBe('gemv_f16');
      expect(Math.max(...planGemm(p, small).workgroups)).toBeLessThanOrEqual(100);
      expect(() => planGemm(problem(2 ** 20, 64, 128), small)).toThrow(/split x along m/);
    });

    const results = async (name: string) => {
      const url = new URL(`../../../bench/results/${name}.json`, import.meta.url);
      return parseBenchFile(await readFile(url, 'utf8'), name);
    };

    /** A kernel by its label, whether it was measured where int8 was allowed or not. */
    const plain = (label: string) => label.replace('.xint8', '');

    // The times of all candidates, as `npm run bench -- --plans` measured them.
    test.each([
      ['nvidia-h200-node-experimental-plans', 280],
      ['nvidia-h200-node-f16-plans', 30],
      ['nvidia-h200-node-plans', 60],
    ])(
      'what is planned is within 10 % of the fastest kernel where that was measured: %s',
      async (name, atLeast) => {
        const { plans, environment } = await results(name);
        const tiers = environment.tiers as Caps['tiers'];
        const subgroupMatrixConfigs = tiers.includes('matrix-f16')
          ? environment.adapter.subgroupMatrixConfigs
          : [];
        const caps = { ...matrices, tiers, subgroupMatrixConfigs };
        expect(plans!.length).toBeGreaterThanOrEqual(atLeast);
        for (const activations of ['float', 'int8'] as const) {
          for (const { case: c, candidates } of plans!) {
            const { label } = planGemm({ ...problem(c.m, c.n, c.k), activations, int8Snr: 45 }, caps);
            const able = candidates.filter(
              ({ kernel }) => activations === 'int8' || !/^gemm_(dp4a|subgroup_matrix_i8)/.test(kernel),
            );
            const planned = able.find(({ kernel }) => plain(kernel) === plain(label));
            const what = `${c.m}x${c.n}x${c.k}: ${label}`;
            expect(planned, `${what} was not measured`).toBeDefined();
            const fastest = Math.min(...able.map(({ microseconds }) => microseconds!));
            expect(planned!.microseconds! / fastest, what).toBeLessThanOrEqual(1.1);
          }
        }
      },
    );

    test('one row of x without f16: within 5 % of the fastest', async () => {
      const { plans } = await results('nvidia-h200-node-experimental-plans');
      const caps: Caps = { ...matrices, tiers: ['base', 'subgroups', 'dp4a'], subgroupMatrixConfigs: [] };
      const rows = plans!.filter(({ case: { m } }) => m === 1);
      expect(rows.length).toBeGreaterThanOrEqual(20);
      for (const { case: c, candidates } of rows) {
        const able = candidates.filter(({ kernel }) => kernel.startsWith('gemv.'));
        const { label } = planGemm(problem(c.m, c.n, c.k), caps);
        const planned = able.find(({ kernel }) => plain(kernel) === label);
        const fastest = Math.min(...able.map(({ microseconds }) => microseconds!));
        expect(planned!.microseconds! / fastest, `${c.n}x${c.k}: ${label}`).toBeLessThanOrEqual(1.05);
      }
    });

    test('rounds of all cores count, not workgroups', () => {
      // 92 tiles, which two parts would make 184: two rounds of half the length. 368 tiles: three rounds, or two of pairs.
      const planned = [512, 2048].map((m) => planGemm(problem(m, 2880, 2880), matrices));
      expect(planned.map(({ kernel, constants }) => [kernel, constants.SPLIT_K])).toEqual([
        ['gemm_subgroup_matrix', 1],
        ['gemm_subgroup_matrix', 1],
      ]);
    });

    test('few rows are multiplied as halves, unless f32 is asked for', () => {
      const kernels = [1, 4, 5].map((m) => plan(m, { precision: 'f32' }).kernel);
      expect(kernels).toEqual(['gemv', 'gemv', 'gemv']);
      const noMatrices: Caps = { ...matrices, tiers: ['base', 'f16', 'f16-products'] };
      expect([1, 24].map((m) => plan(m, {}, noMatrices).kernel)).toEqual(['gemv_f16', 'gemv_f16']);
      expect(plan(1).reason).toMatch(/as halves/);
    });

    test('int8 matrices need the allowance, many rows of x, and weights that bear it', () => {
      const caps: Caps = { ...matrices, tiers: matrices.tiers.filter((tier) => !tier.includes('f16')) };
      const int8 = { activations: 'int8', int8Snr: 45 } as const;
      expect(plan(512, int8, caps).kernel).toBe('gemm_subgroup_matrix_i8');
      expect([48, 49].map((m) => plan(m, int8).kernel)).toEqual([
        'gemm_subgroup_matrix_skinny',
        'gemm_subgroup_matrix_i8',
      ]);
      expect(plan(512, { ...int8, int8Snr: 20 }).kernel).toBe('gemm_subgroup_matrix');
      expect(plan(512, {}, caps).kernel).toBe('gemm_tiled');
      const spread = plan(512, { ...int8, int8Snr: 20 }, caps);
      expect(spread.kernel).toBe('gemm_dp4a');
      expect(spread.reason).toMatch(/signal to noise of 20.0 dB/);
    });

    test.each([
      [
        'gemv',
        { THREADS: 512, ROWS: 2, X_ROWS: 1, SLAB: 32, DEPTH: 1 },
        /32 chunks of x are not whole rounds of 64/,
      ],
      [
        'gemv_f16',
        { THREADS: 512, ROWS: 2, X_ROWS: 1, SLAB: 128, DEPTH: 2 },
        /cannot share 256 pieces of x evenly/,
      ],
      ['gemm_tiled', { TILE_M: 32, TILE_N: 64, TILE_K: 8, THREAD_M: 8 }, /not whole groups/],
      [
        'gemm_tiled',
        { TILE_M: 32, TILE_N: 64, TILE_K: 64, THREAD_M: 8 },
        /32 threads cannot share the patches/,
      ],
      ['gemm_tiled_f16', { TILE_M: 48, TILE_N: 64, TILE_K: 32, THREAD_M: 8 }, /not whole groups/],
      [
        'gemm_tiled_f16',
        { TILE_M: 128, TILE_N: 128, TILE_K: 32, THREAD_M: 8 },
        /256 threads cannot share the loads/,
      ],
    ] as const)('%s with %o is refused', (kernel, constants, message) => {
      const asked = () => planWith(kernel, { ...constants, SPLIT_K: 1 }, problem(4, 4096, 4096), matrices);
      expect(asked).toThrow(UnsupportedError);
      expect(asked).toThrow(message);
    });

    test('f16 without matrices: many rows in tiles of halves, unless f32 is asked for', () => {
      const caps: Caps = { ...matrices, tiers: ['base', 'subgroups', 'dp4a', 'f16', 'f16-products'] };
      const { kernel, constants, operand } = plan(2048, {}, caps);
      expect(kernel).toBe('gemm_tiled_f16');
      expect(constants).toMatchObject({ TILE_M: 64, CHAIN: 32, SPLIT_K: 1 });
      // Sums of sixteen products are halves, so x has to be scaled, f16 x too.
      expect(operand).toMatchObject({ kind: 'half-fragments', exponent: 6 });
      expect(plan(2048, { x: 'f16' }, caps).operand).toMatchObject({ kind: 'half-fragments', exponent: 6 });
      expect(plan(2048, { precision: 'f32' }, caps).kernel).toBe('gemm_tiled');
      const noSubgroups: Caps = { ...caps, tiers: ['base', 'f16', 'f16-products'] };
      expect(plan(2048, {}, noSubgroups).kernel).toBe('gemm_tiled');
      // Sums in f32 are as far from the fastest as tuners look.
      const chains = candidatePlans(problem(512, 4096, 4096), caps).map(
        (candidate) => candidate.constants.CHAIN,
      );
      expect(chains).toEqual(expect.arrayContaining([1, 32]));
    });

    test('one row of x and few of w: k is cut among more threads where a device has them', () => {
      const constants = (n: number, k: number, caps: Caps) => planGemm(problem(1, n, k), caps).constants;
      const f16: Caps = { ...matrices, subgroupMatrixConfigs: [] };
      expect([512, 1024].map((n) => constants(n, 2880, f16))).toMatchObject(
        Array(2).fill({ THREADS: 256, ROWS: 1 }),
      );
      expect(constants(2048, 5120, f16)).toMatchObject({ THREADS: 512, ROWS: 2 });
      expect(constants(1024, 16384, f16)).toMatchObject({ THREADS: 512, ROWS: 1 });
      const fewer = { ...f16, limits: { ...f16.limits, maxComputeInvocationsPerWorkgroup: 256 } };
      expect(constants(1024, 16384, fewer)).toMatchObject({ THREADS: 256, ROWS: 1 });
      expect(constants(4096, 4096, f16)).toMatchObject({ THREADS: 256, ROWS: 2 });
    });

    test('a plan made before is made for the problem at hand, or refused', () => {
      const few = { ...problem(16, 4096, 4096), activations: { kind: 'float' } } as const;
      const plan = planGemm(few, matrices);
      expect(plan.kernel).toBe('gemm_subgroup_matrix_skinny');
      expect(replan(plan, resolveProblem(few), matrices)).toEqual(plan);
      const halves = replan(plan, resolveProblem({ ...few, m: 7, x: 'f16', bias: true }), matrices);
      expect(halves).toEqual({
        ...planWith(plan.kernel, plan.constants, { ...few, m: 7, x: 'f16', bias: true }, matrices),
        reason: plan.reason,
      });
      expect(() => replan(plan, resolveProblem({ ...few, m: 65 }), matrices)).toThrow(
        /skinny.* cannot run: it takes up to \d+ rows of x, and there are 65/,
      );
      const unknown = { ...plan, kernel: 'gemm_of_old' as never };
      expect(() => replan(unknown, resolveProblem(few), matrices)).toThrow(/unknown kernel "gemm_of_old"/);
    });
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
    // Where gemv has no variant, tiles take its place.
    expect(planGemm(problem(1, 4096, 4096), small).kernel).toBe('gemm_tiled');
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
