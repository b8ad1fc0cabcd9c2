/** The benchmark as a smoke test: that it measures, not what. */
import { expect, test } from 'vitest';
import { selectCases } from '../../bench/cases.js';
import { runBench } from '../../bench/harness.js';
import { SOFTWARE_TIMING } from '../../bench/peers/chain.js';
import { measureOwn } from '../../bench/peers/own.js';
import { runPeers } from '../../bench/peers/run.js';
import { Collector, type Progress, run } from '../../bench/run.js';
import type { Ceilings, PeerRow, PlanRow, QuantizerRow, Row } from '../../bench/schema.js';
import { MAIN_QUANTIZER_RULES } from '../../src/index.js';
import { adapterId, useGpu } from '../support/gpu.js';
import { withCaps } from '../support/with-caps.js';

const context = useGpu({ leftTo: 'lavapipe', what: 'the benchmark' });
const quick = { samples: 2, sampleSeconds: 0 };

function collect() {
  const rows: Row[] = [];
  const quantizers: QuantizerRow[] = [];
  const plans: PlanRow[] = [];
  const ceilings: Ceilings[] = [];
  const report = {
    ceilings: (c: Ceilings) => void ceilings.push(c),
    row: (row: Row) => void rows.push(row),
    quantizer: (row: QuantizerRow) => void quantizers.push(row),
    plan: (row: PlanRow) => void plans.push(row),
    progress: () => {},
  };
  return { rows, quantizers, plans, ceilings, report };
}

test('every case of the smoke preset is right and has every figure', async () => {
  const { rows, ceilings, report } = collect();
  // lavapipe compiles a kernel on matrices for each product of several rows, for seconds.
  const every = adapterId() === 'lavapipe' ? 3 : 1;
  const cases = selectCases({ preset: 'smoke' }).filter((_, i) => i % every === 0);
  expect(await runBench(context.gpu, cases, quick, report)).toBe(true);
  expect(rows.map((row) => [row.case.id, row.status, row.note])).toEqual(
    cases.map(({ id }) => [id, 'ok', undefined]),
  );
  const tiers = (await context.gpu.usableCaps()).tiers;
  const names = { dp4a: 'dp4a', 'matrix-f16': 'matrixF16', 'matrix-i8': 'matrixI8' } as const;
  for (const [tier, name] of Object.entries(names)) {
    if (tiers.includes(tier as 'dp4a')) expect(ceilings[0]![name], tier).toBeGreaterThan(0);
  }
  for (const { case: c, measurement: m, errorOfBound } of rows) {
    expect(errorOfBound, c.id).toBeLessThanOrEqual(1);
    const figures = [
      m!.total.median,
      m!.pairing.ratio.median,
      m!.gigabytesPerSecond,
      m!.ofCopy,
      m!.teraflops,
      m!.ofCeiling,
    ];
    for (const figure of figures) expect(figure, c.id).toBeGreaterThan(0);
    expect(m!.encode !== undefined, c.id).toBe(c.format !== 'f32');
    // int8 operands have to be made, and nothing else goes through a conversion without being told.
    if (m!.conversion) expect(m!.kernelOnly!.median, c.id).toBeGreaterThan(0);
  }
  const converted = rows.filter(({ kernel }) => kernel!.startsWith('gemm_dp4a'));
  for (const { measurement } of converted) expect(measurement!.conversion).toBeDefined();
});

test('every scale rule is measured as a quantizer', async () => {
  const { rows, quantizers, ceilings, report } = collect();
  expect(await runBench(context.gpu, [], { ...quick, quantizers: true }, report)).toBe(true);
  expect(rows).toEqual([]);
  expect(quantizers.map(({ rule, status, note }) => [rule, status, note])).toEqual(
    MAIN_QUANTIZER_RULES.map((rule) => [rule, 'ok', undefined]),
  );
  for (const { id, rows, cols, measurement: m } of quantizers) {
    expect(m!.total.median, id).toBeGreaterThan(0);
    expect(m!.pairing.baseline, id).toBe('copy');
    expect(m!.ofCopy, id).toBeCloseTo(m!.gigabytesPerSecond / ceilings[0]!.copy, 9);
    // Four bytes a value read, a little more than half a byte written.
    const bytes = m!.gigabytesPerSecond * m!.total.median * 1e3;
    expect(bytes / (rows * cols), id).toBeGreaterThan(4.53);
    expect(bytes / (rows * cols), id).toBeLessThan(4.6);
  }
});

test('quantizers are filtered and resumed like cases', async () => {
  const { quantizers, report } = collect();
  const options = { ...quick, quantizers: true, filter: '^quantize.*\\.(floor|static128)$' };
  expect(await runBench(context.gpu, [], options, report)).toBe(true);
  expect(quantizers.map(({ rule }) => rule)).toEqual(['mxfp4.floor', 'mxfp4.oas.static128']);

  // A run that is resumed keeps what there is and measures the rest.
  const kept = { rows: [], quantizers: quantizers.slice(0, 1) };
  const collector = new Collector({} as never, kept);
  const skip = kept.quantizers.map(({ id }) => id);
  const resumed = { ...report, quantizer: (row: QuantizerRow) => collector.add({ kind: 'quantizer', row }) };
  expect(await runBench(context.gpu, [], { ...options, skip }, resumed)).toBe(true);
  expect(collector.file.quantizers!.map(({ rule }) => rule)).toEqual(['mxfp4.floor', 'mxfp4.oas.static128']);
});

// SwiftShader takes half a minute to compile them all.
test.skipIf(adapterId() === 'swiftshader')(
  'plans: every candidate is measured, the planned one too',
  async () => {
    const { rows, plans, report } = collect();
    const cases = selectCases({
      shapes: ['32x64'],
      m: [2],
      formats: ['mxfp4'],
      activations: ['f32'],
      types: ['f32'],
    });
    // Fewer of them to compile.
    const small = withCaps(context.gpu, (caps) => ({
      ...caps,
      tiers: caps.tiers.filter((tier) => !tier.startsWith('matrix')),
      limits: {
        ...caps.limits,
        maxComputeInvocationsPerWorkgroup: 128,
        maxComputeWorkgroupStorageSize: 10_000,
      },
    }));
    expect(await runBench(small, cases, { ...quick, plans: true }, report)).toBe(true);
    expect(rows).toEqual([]);
    const [plan] = plans;
    expect(plan!.candidates.length).toBeGreaterThan(2);
    expect(plan!.candidates.map(({ kernel }) => kernel)).toContain(plan!.planned);
    expect(plan!.candidates[0]!.kernel).toBe(plan!.best);
    expect(plan!.slowdown).toBeGreaterThanOrEqual(1);
  },
);

test('a case that the device cannot run is refused with the reason', async () => {
  const { rows, report } = collect();
  const cases = selectCases({
    shapes: ['4000000x32'],
    m: [4000],
    formats: ['mxfp4'],
    activations: ['float'],
    types: ['f32'],
  });
  expect(await runBench(context.gpu, cases, quick, report)).toBe(true);
  expect(rows.map(({ status }) => status)).toEqual(['refused']);
  expect(rows[0]!.note).toMatch(/gpu: y\[4000, 4000000\] needs/);
});

test('a time limit ends a run with what it has', async () => {
  const told: Progress[] = [];
  await run(
    context.gpu,
    { preset: 'smoke', timeLimit: 1e-9 },
    (p) => void told.push(p),
    async () => undefined,
  );
  expect(told.at(-1)).toEqual({ kind: 'end', complete: false });
  const collector = new Collector({} as never);
  for (const progress of told) collector.add(progress);
  expect(collector.file.complete).toBe(false);
  expect(collector.file.ceilings?.copy).toBeGreaterThan(0);
});

test('a chain of our own layers agrees with f64', async () => {
  const rows: PeerRow[] = [];
  const c = { n: 64, k: 64, layers: 3, m: [1, 5] };
  await measureOwn(
    context.gpu,
    c,
    SOFTWARE_TIMING,
    (row) => void rows.push(row),
    () => false,
  );
  expect(rows.length).toBe(context.gpu.caps.tiers.includes('f16') ? 8 : 4);
  for (const { name, m, error, time } of rows) {
    expect(error, `${name} ${m}`).toBeLessThan(0.05);
    expect(time!.median).toBeGreaterThan(0);
  }
});

test('a peer that fails is a note beside our own rows', async () => {
  const failing = {
    env: { versions: { common: '1.0' } },
    InferenceSession: { create: () => Promise.reject(new Error('no device\nmore')) },
    Tensor: class {} as never,
  };
  const loads = [async () => failing, () => Promise.reject(new Error('libvulkan.so.1 is not there'))];
  const notes: (string | undefined)[][] = [];
  for (const load of loads) {
    const rows: PeerRow[] = [];
    const report = { row: (row: PeerRow) => void rows.push(row), progress: () => {} };
    expect(await runPeers(context.gpu, load, { shapes: ['32x32'], m: [1] }, true, report)).toBe(true);
    const [own, others] = [true, false].map((ours) =>
      rows.filter(({ name }) => name.startsWith('fp4') === ours),
    );
    for (const { time, name } of own!) expect(time!.median, name).toBeGreaterThan(0);
    expect(own!.length).toBe(context.gpu.caps.tiers.includes('f16') ? 4 : 2);
    notes.push(others!.map(({ note }) => note));
  }
  expect(notes).toEqual([
    ['fails: no device', 'fails: no device', 'fails: no device', 'fails: no device'],
    ['fails: libvulkan.so.1 is not there'],
  ]);
});
