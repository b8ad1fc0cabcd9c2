/** The quantizers on random bit patterns, by the check that the library and the command offer. */
import { describe, expect, test } from 'vitest';
import {
  describeQuantizerReport,
  MAIN_QUANTIZER_RULES,
  QUANTIZER_RULES,
  quantizerReference,
  quantizerSelfTest,
} from '../../src/gemm/quantizer-selftest.js';
import { quantizerTestValues } from '../../src/gemm/quantizer-test-values.js';
import { type Gpu, InvalidArgumentError } from '../../src/index.js';
import { adapterId, useGpu } from '../support/gpu.js';

const context = useGpu({ narrow: true });

/** A GPU that says it has no subgroups. */
function withoutSubgroups(gpu: Gpu): Gpu {
  const tiers = gpu.caps.tiers.filter((tier) => tier !== 'subgroups');
  return Object.create(gpu, { device: { value: gpu.device }, caps: { value: { ...gpu.caps, tiers } } });
}

describe('quantizers give the bytes of the CPU', () => {
  test.each(MAIN_QUANTIZER_RULES)('%s for a million bit patterns', async (rule) => {
    const report = await quantizerSelfTest(context.gpu, { rules: [rule], values: 1e6 });
    expect(describeQuantizerReport(report)).toMatch(/all bytes equal$/);
    // Filled up to whole rows in four matrices.
    expect(report.values).toBeGreaterThanOrEqual(1e6);
    expect(report.values).toBeLessThan(1e6 + 4 * 4096);
  });

  // quantize.test.ts has these options on SwiftShader, which compiles each for long.
  test.skipIf(adapterId() === 'swiftshader')('under the other options', async () => {
    const rules = QUANTIZER_RULES.filter((rule) => !MAIN_QUANTIZER_RULES.includes(rule));
    const report = await quantizerSelfTest(context.gpu, { rules, values: 30_000, seed: 2 });
    expect(describeQuantizerReport(report)).toMatch(/all bytes equal$/);
    expect(report.rules.map(({ rule }) => rule)).toEqual(rules);
  });

  test('without subgroups', async () => {
    const rules = [
      'mxfp4.oas',
      'mxfp4.oas.static128',
      'mxfp4.ceil.static32',
      'mxfp4.oas.dynamic128',
      'nvfp4.te',
    ];
    const report = await quantizerSelfTest(withoutSubgroups(context.gpu), { rules, values: 60_000, seed: 3 });
    expect(describeQuantizerReport(report)).toMatch(/all bytes equal$/);
  });
});

describe('the check', () => {
  const rules = ['mxfp4.oas.static128', 'nvfp4.te'];

  test('finds a byte that differs, and says where it is', async () => {
    const tampered = await quantizerSelfTest(context.gpu, {
      rules,
      values: 20_000,
      reference: (task) => {
        const reference = quantizerReference(task);
        if (task.rule === 'nvfp4.te' && task.cols === 2976) reference.expected.codes[1488 + 5]! ^= 1;
        return reference;
      },
    });
    // Two of the four matrices have that width.
    expect(tampered.mismatches).toBe(2);
    const [clean, found] = tampered.rules;
    expect(clean).toMatchObject({ rule: rules[0], mismatches: 0 });
    expect(found).toMatchObject({ mismatches: 2, first: { field: 'codes', row: 1, byte: 5 } });
    expect(describeQuantizerReport(tampered)).toContain('codes[1, 5]');
  });

  test('finds a factor, a scale and a tensor scale that differ', async () => {
    for (const field of ['macroScales', 'scales', 'globalScale'] as const) {
      const report = await quantizerSelfTest(context.gpu, {
        rules: [field === 'globalScale' ? 'nvfp4.te' : 'mxfp4.oas.static128'],
        values: 20_000,
        reference: (task) => {
          const reference = quantizerReference(task);
          const { expected } = reference;
          if (field !== 'globalScale') expected[field]![0]! ^= 0x80;
          else return { ...reference, expected: { ...expected, globalScale: expected.globalScale * 2 } };
          return reference;
        },
      });
      expect(report.rules[0]).toMatchObject({ mismatches: 4, first: { field, row: 0, byte: 0 } });
    }
  });

  test('stops when its time is up, and refuses rules that do not exist', async () => {
    const report = await quantizerSelfTest(context.gpu, { rules, values: 1e9, seconds: 0 });
    expect(report).toMatchObject({ complete: false, values: 0 });
    await expect(quantizerSelfTest(context.gpu, { rules: ['mxfp4.none'] })).rejects.toThrow(
      InvalidArgumentError,
    );
  });

  test('its values are finite, reach both ends of f32, and hold zeros of either sign', () => {
    const values = quantizerTestValues(1 << 18, 1);
    const magnitudes = values.map(Math.abs);
    expect(values.every(Number.isFinite)).toBe(true);
    expect(magnitudes.some((x) => x > 2 ** 127)).toBe(true);
    expect(magnitudes.some((x) => x > 0 && x < 2 ** -126)).toBe(true);
    expect(values.some((x) => Object.is(x, 0))).toBe(true);
    expect(values.some((x) => Object.is(x, -0))).toBe(true);
    const tiny = quantizerTestValues(1 << 12, 1, { oneScale: true })
      .map(Math.abs)
      .filter((x) => x > 0);
    expect(Math.max(...tiny) / Math.min(...tiny)).toBeLessThan(2 ** 52);
  });
});
