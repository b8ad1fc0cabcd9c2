/** Whole models quantized on this adapter: the same files as on the CPU. */
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type QuantizeCommandOptions, quantizeModel } from '../../src/cli/quantize.js';
import { useGpu } from '../support/gpu.js';
import { smallModel, writeModel } from '../support/model-folder.js';

useGpu({ leftTo: 'lavapipe', what: 'quantized models', narrow: true });

let folder: string;
let model: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fp4-quantize-gpu-'));
  model = join(folder, 'model');
});
afterEach(() => rm(folder, { recursive: true }));

const run = (gpu: 'off' | 'require', rules: Partial<QuantizeCommandOptions>) =>
  quantizeModel(model, { output: join(folder, gpu), format: 'mxfp4', gpu, threads: 0, ...rules });

async function contents(directory: string): Promise<Map<string, string>> {
  const names = (await readdir(join(folder, directory))).sort();
  return new Map(
    await Promise.all(
      names.map(
        async (name) => [name, (await readFile(join(folder, directory, name))).toString('latin1')] as const,
      ),
    ),
  );
}

test.each<Partial<QuantizeCommandOptions>>([
  {},
  { macro: 'dynamic', tile: '2d', macroSize: 64 },
  { hadamard: true, block: 16, scale: 'mse' },
  { rounding: 'stochastic', seed: 5 },
  { format: 'nvfp4' },
  { format: 'nvfp4', scale: 'four-over-six', rounding: 'stochastic' },
])('are the same files as on the CPU: %o', async (rules) => {
  await writeModel(model, smallModel());
  const onCpu = await run('off', rules);
  const onGpu = await run('require', rules);
  expect(onGpu.device).not.toContain('CPU, 1 thread');
  expect(onGpu.onCpu).toEqual([]);
  expect(onGpu.sqnr).toEqual(onCpu.sqnr);
  expect(await contents('require')).toEqual(await contents('off'));
});

test.each(['mxfp4', 'nvfp4'] as const)(
  '%s: a value that FP4 does not hold is named as on the CPU',
  async (format) => {
    const small = smallModel();
    small.matrices['model.layers.1.mlp.experts.down_proj']!.values[96 * 32 + 33] = Number.NaN;
    await writeModel(model, small);
    for (const gpu of ['off', 'require'] as const) {
      await expect(run(gpu, { format })).rejects.toThrow(
        'quantize: model.layers.1.mlp.experts.down_proj, expert 1: value at row 1, col 1 is NaN; FP4 holds finite values only',
      );
    }
  },
);
