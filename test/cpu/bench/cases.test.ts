import { describe, expect, test } from 'vitest';
import { parseActivations, parseFormat, parseShape, selectCases } from '../../../bench/cases.js';
import { FULL_M, MODELS, mergeShapes } from '../../../bench/shapes.js';
import { resolveProblem } from '../../../src/gemm/problem.js';

describe('formats', () => {
  test.each([
    ['mxfp4', { format: 'mxfp4', blockSize: 32 }],
    ['mxfp4b16', { format: 'mxfp4', blockSize: 16 }],
    ['mxfp4-mbs128', { format: 'mxfp4', blockSize: 32, macroSize: 128 }],
    ['mxfp4b16-mbs32', { format: 'mxfp4', blockSize: 16, macroSize: 32 }],
    ['nvfp4', { format: 'nvfp4', blockSize: 16 }],
    ['f16', { format: 'f16' }],
  ])('%s', (label, expected) => {
    expect(parseFormat(label)).toEqual({ label, ...expected });
  });

  test.each(['fp4', 'mxfp4b8', 'nvfp4b32', 'nvfp4-mbs128', 'mxfp4-mbs100', 'mxfp4-', ''])(
    '%j is none',
    (label) => {
      expect(() => parseFormat(label)).toThrow(/^bench: unknown format/);
    },
  );
});

test('unknown activations are refused', () => {
  expect(parseActivations('int8')).toBe('int8');
  expect(() => parseActivations('int4')).toThrow('int4');
});

describe('shapes', () => {
  test('sizes, models, layers', () => {
    expect(parseShape('48x96')).toEqual([{ names: ['48x96'], n: 48, k: 96 }]);
    expect(parseShape('llama-3.1-8b.gate_proj')).toEqual([
      { names: ['llama-3.1-8b.gate_proj'], n: 14336, k: 4096 },
    ]);
    expect(parseShape('gpt-oss-20b').length).toBe(7);
    expect(() => parseShape('llama-9')).toThrow('llama-9');
  });

  test('layers of one size are one shape with all names', () => {
    const merged = mergeShapes(Object.values(MODELS).flat());
    const square = merged.filter(({ n, k }) => n === 4096 && k === 4096);
    expect(square.length).toBe(1);
    expect(square[0]!.names).toEqual(
      expect.arrayContaining([
        'square.4096',
        'llama-3.1-8b.q_proj',
        'llama-3.1-8b.o_proj',
        'qwen3-8b.q_proj',
      ]),
    );
  });

  test('what models are known by', () => {
    const size = (name: string) => {
      const { n, k } = parseShape(name)[0]!;
      return [n, k];
    };
    expect(size('llama-3.1-8b.k_proj')).toEqual([1024, 4096]);
    expect(size('qwen3-8b.down_proj')).toEqual([4096, 12288]);
    expect(size('gpt-oss-20b.expert.gate_up_proj')).toEqual([5760, 2880]);
    expect(size('nemotron-49b.lm_head')).toEqual([128256, 8192]);
    expect(size('nemotron-253b.gate_proj.53248')).toEqual([53248, 16384]);
  });
});

describe('cases', () => {
  test('ids are unique, and every FP4 case is a problem that the library takes', () => {
    const cases = selectCases({ preset: 'full' });
    expect(new Set(cases.map(({ id }) => id)).size).toBe(cases.length);
    for (const m of FULL_M) expect(cases.some((c) => c.m === m)).toBe(true);
    expect(cases.some(({ m, n, k }) => m === 8192 && n === 8192 && k === 8192)).toBe(true);
    for (const c of cases) {
      const { format, blockSize, macroSize } = parseFormat(c.format);
      if (format === 'f32' || format === 'f16') continue;
      const activations = c.activations === 'f32' ? 'float' : c.activations;
      const { m, n, k, x, y } = c;
      const options = { m, n, k, format, x, y, activations, ...(blockSize && { blockSize }) };
      expect(() => resolveProblem({ ...options, ...(macroSize && { macroSize }) }), c.id).not.toThrow();
    }
  });

  test('options replace what the preset says', () => {
    const cases = selectCases({
      shapes: ['64x128'],
      m: [3],
      formats: ['nvfp4'],
      activations: ['float'],
      types: ['f16'],
    });
    expect(cases.map(({ id }) => id)).toEqual(['3x64x128.nvfp4.float.f16.f16']);
  });

  test('FP4 activations come with weights of their format, plain weights with float alone', () => {
    const selection = { shapes: ['64x128'], m: [1], types: ['f32'] };
    const cases = selectCases({
      ...selection,
      formats: ['f32', 'mxfp4', 'nvfp4'],
      activations: ['float', 'mxfp4'],
    });
    expect(cases.map(({ id }) => id)).toEqual([
      '1x64x128.f32.float.f32.f32',
      '1x64x128.mxfp4.float.f32.f32',
      '1x64x128.mxfp4.mxfp4.f32.f32',
      '1x64x128.nvfp4.float.f32.f32',
    ]);
  });

  test('a filter looks at ids and layers', () => {
    const all = {
      preset: 'full' as const,
      types: ['f32'],
      activations: ['float'],
      formats: ['mxfp4'],
      m: [1],
    };
    expect(
      selectCases({ ...all, filter: 'q_proj' }).every(({ names }) => names.some((n) => n.includes('q_proj'))),
    ).toBe(true);
    expect(selectCases({ ...all, filter: '^1x4096x4096' }).length).toBe(1);
    expect(() => selectCases({ ...all, filter: 'no such layer' })).toThrow('leave no case');
    const [first, ...rest] = selectCases(all);
    expect(selectCases({ ...all, skip: [first!.id] })).toEqual(rest);
    expect(() => selectCases({ ...all, filter: '(' })).toThrow('regular expression');
  });
});
