/** The command line's main job on this adapter, as a user would see it. */
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { doctor } from '../../src/cli/doctor.js';
import { type GemmCommandOptions, gemm } from '../../src/cli/gemm.js';
import { selftest } from '../../src/cli/selftest.js';
import type { LayersSelfTestReport } from '../../src/gemm/layers-selftest.js';
import { useGpu } from '../support/gpu.js';

const context = useGpu({ leftTo: 'lavapipe', what: 'the command line', narrow: true });
const model = resolve(import.meta.dirname, '../../../shared/models/dictionary-lm');

let printed: string[] = [];
beforeEach(() => {
  printed = [];
  vi.spyOn(console, 'log').mockImplementation((...parts) => void printed.push(parts.join(' ')));
});
afterEach(() => {
  vi.restoreAllMocks();
});

async function run(options: Partial<GemmCommandOptions>) {
  await gemm({ m: [1], seed: 1, ...options });
  return JSON.parse(printed.join('\n'));
}

async function doctorJson(): Promise<string> {
  await doctor({ json: true });
  return printed.splice(0).join('\n');
}

describe('gemm', () => {
  test('runs with no argument on the sample and prints one table', async () => {
    await gemm({ m: [1], seed: 1 });
    const [table] = printed;
    for (const text of ['adapter:', 'model.layers.3.mlp.down_proj.weight', 'SQNR w dB', 'four-over-six']) {
      expect(table).toContain(text);
    }
    expect(table).toMatch(/gemv(_f16)?\.nvfp4/);
    expect(process.exitCode).toBeUndefined();
  });

  test('gives every figure as JSON, within its bound of f64', async () => {
    const { adapter, tensor, rows } = await run({
      json: true,
      m: [1, 5],
      format: ['mxfp4'],
      scale: ['floor', 'oas'],
      macro: ['none', 'dynamic'],
    });
    expect(adapter).toBeTruthy();
    expect(tensor).toEqual({ name: 'model.layers.3.mlp.down_proj.weight', n: 384, k: 1024 });
    expect(rows.length).toBe(8);
    for (const row of rows) {
      expect(row.errorOfBound).toBeLessThanOrEqual(1);
      expect(row.errorOfBound).toBeGreaterThan(0);
      expect(row.microseconds).toBeGreaterThan(0);
      expect(row.checkedColumns).toBe(384);
      // Quantization noise passes through a product with random x unchanged, up to the spread of a small sample.
      expect(Math.abs(row.sqnrY - row.sqnrWeights)).toBeLessThan(1.5);
    }
    const sqnr = (rule: string, macro: string) =>
      rows.find((row: { rule: string; macro: string }) => row.rule === rule && row.macro === macro)
        .sqnrWeights;
    expect(sqnr('oas', 'none')).toBeGreaterThan(sqnr('floor', 'none'));
    expect(sqnr('oas', 'dynamic 128')).toBeGreaterThan(sqnr('oas', 'none') + 0.8);
  });

  test('multiplies with each kind of activations, x and y in the types asked for', async () => {
    const activations = ['float', 'int8', 'mxfp4', 'nvfp4'] as const;
    const { rows } = await run({
      json: true,
      m: [5],
      format: ['nvfp4'],
      activations: [...activations],
      x: 'f16',
    });
    expect(rows.map((row: { activations: string }) => row.activations)).toEqual(activations);
    for (const row of rows) {
      expect(row.errorOfBound).toBeGreaterThan(0);
      expect(row.errorOfBound).toBeLessThanOrEqual(1);
      expect(row).toMatchObject({ xType: 'f16', yType: 'f32' });
      expect(row.kernel).toContain(
        row.activations === 'float' ? 'nvfp4.f16.' : `nvfp4.x${row.activations}.f16.`,
      );
    }
    // x in eight bits costs little beside weights in four, x in four bits about as much as they do.
    const [float, int8, mxfp4, nvfp4] = rows.map((row: { sqnrY: number }) => row.sqnrY);
    expect(Math.abs(int8 - float)).toBeLessThan(0.5);
    for (const sqnr of [mxfp4, nvfp4]) expect(sqnr).toBeLessThan(float - 1.5);
  });

  test('y in f16', async (context) => {
    const { caps } = JSON.parse(await doctorJson());
    if (!caps.tiers.includes('f16')) context.skip('the adapter has no f16');
    const { rows } = await run({ json: true, m: [161], format: ['mxfp4'], y: 'f16', precision: 'f32' });
    expect(rows[0].kernel).toMatch(/^(gemv|gemm_tiled)\.mxfp4\.f32\.y16\./);
    expect(rows[0].errorOfBound).toBeLessThanOrEqual(1);
    // Most of the bound is the rounding to f16, and some sum comes near it.
    expect(rows[0].errorOfBound).toBeGreaterThan(0.2);
  });

  test('takes the kernel that was measured to be the fastest, and keeps the measurements', async () => {
    const file = join(await mkdtemp(join(tmpdir(), 'fp4-webgpu-')), 'tune.json');
    const options = { json: true, format: ['nvfp4'], tune: file };
    const [row] = (await run(options)).rows;
    const stored = Object.values(JSON.parse(await readFile(file, 'utf8'))).map((value) =>
      JSON.parse(value as string),
    );
    expect(stored.length).toBe(1);
    expect(stored[0][row.kernel]).toBe(Math.min(...(Object.values(stored[0]) as number[])));
    await rm(dirname(file), { recursive: true });
  });

  test.each([
    [{ file: 'no-such-file.safetensors' }, /no-such-file/],
    [{ file: 'package.json' }, /safetensors/],
    [{ tensor: 'model.layers.3.mlp.up_proj.weight' }, /down_proj/],
    [{ format: ['fp5'] }, /unknown format fp5/],
    [{ scale: ['best'] }, /unknown scale rule best/],
    [{ format: ['nvfp4'], block: [32] }, /no combination/],
    [{ macro: ['sometimes'] }, /macroScale = "sometimes"/],
    [{ activations: ['fp8' as 'int8'] }, /activations "fp8" are unknown/],
  ])('refuses %o', async (options, message) => {
    await expect(run(options)).rejects.toThrow(message);
    expect(printed).toEqual([]);
  });

  test("runs on every linear layer of a block of the real model's checkpoint", async (context) => {
    if (!existsSync(model)) context.skip(`${model} is not there`);
    for (const part of ['self_attn.q_proj', 'self_attn.o_proj', 'mlp.gate_proj', 'mlp.down_proj']) {
      printed = [];
      const tensor = `model.layers.0.${part}.weight`;
      const file = `${model}/model-00001-of-00002.safetensors`;
      const { rows } = await run({ json: true, file, tensor, macro: ['dynamic'] });
      expect(rows.length).toBe(2);
      for (const row of rows) expect(row.errorOfBound, `${part} ${row.kernel}`).toBeLessThanOrEqual(1);
    }
  });
});

test('doctor names the adapter, its tiers and limits', async () => {
  await doctor({});
  const text = printed.join('\n');
  for (const word of ['adapter', 'base', 'matrix-i8', 'maxStorageBufferBindingSize'])
    expect(text).toContain(word);
  printed = [];
  await doctor({ json: true });
  expect(JSON.parse(printed.join('\n')).caps.tiers).toContain('base');
});

test('selftest --layers prints a line for each layer and format, and refuses what it does not know', async () => {
  const options = { cases: 1, maxSize: 1, seed: 1, layers: true, plans: 'planned' } as const;
  // All of k = 32, so that they share their kernels.
  const small = { ...options, models: ['gpt-oss-20b'], formats: ['mxfp4'], m: [1], scaleDown: 600 };
  await selftest(small);
  const lines = printed.slice(1, -1);
  expect(lines.length).toBe(5);
  for (const line of lines) expect(line).toMatch(/^\d+ × \d+ mxfp4 \(gpt-oss-20b .*: [1-9]\d* products by/);
  expect(printed.at(-1)).toMatch(/^[1-9]\d* products, 0 wrong$/);
  printed = [];
  await selftest({ ...options, shapes: [{ n: 40, k: 32 }], formats: ['mxfp4'], m: [1] });
  expect(printed.slice(1, -1)).toEqual([
    expect.stringMatching(/^40 × 32 mxfp4 \(as asked\): [1-9]\d* products/),
  ]);

  printed = [];
  const y = context.gpu.caps.tiers.includes('f16') ? 'f16' : 'f32';
  const types = { x: 'f16', y, bias: true, accumulate: true } as const;
  await selftest({ ...small, ...types, formats: ['mxfp4b16-mbs32'], json: true });
  const { layers, failures } = JSON.parse(printed.join('\n')) as LayersSelfTestReport;
  expect(failures).toBe(0);
  for (const { format, worstPlan } of layers) {
    expect(format).toBe('mxfp4b16-mbs32');
    expect(worstPlan).toContain(`.f16${y === 'f16' ? '.y16' : ''}.bias.add.`);
  }
  await expect(selftest({ ...small, models: ['gpt-2'] })).rejects.toThrow(/model 'gpt-2'.*llama-3.1-8b/);
  await expect(selftest({ ...small, formats: ['fp8'] })).rejects.toThrow(/format 'fp8'.*mxfp4-mbs128/);
});

test('selftest prints what it checked', async () => {
  const options = { cases: 2, maxSize: 64, seed: 3 };
  await selftest({ ...options, kernels: ['gemv', 'gemm_tiled'] });
  expect(printed.join('\n')).toMatch(/\n4 products \(2 bit for bit\) by 2 compiled kernels: 0 wrong/);
  await expect(selftest({ ...options, kernels: ['gemm'] })).rejects.toThrow(/kernel 'gemm'.*gemm_tiled_f16/);
});
