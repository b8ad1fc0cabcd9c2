/** `fp4-webgpu perplexity` on a small model. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { type PerplexityCommandOptions, type PerplexityRow, perplexity } from '../../src/cli/perplexity.js';
import { adapterId, useGpu } from '../support/gpu.js';
import { loadLlamaF64, perplexity as perplexityF64, quantizedLinear } from '../support/llama-f64.js';
import { randomTokens, TINY, type TinyLlama, writeTinyLlama } from '../support/tiny-llama.js';

useGpu({ leftTo: 'lavapipe', what: 'the perplexity command', narrow: true });
const model: TinyLlama = { ...TINY, intermediate: 64 };
// So few tokens that their kernels are quick to compile on the CPU.
const length = 8;
const tokens = randomTokens(model.vocabulary, 3 * length);

let folder = '';
let file = '';
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fp4-webgpu-lm-'));
  file = join(folder, 'tokens.u16');
  await writeTinyLlama(folder, model);
  await writeFile(file, Uint16Array.from(tokens));
  await writeFile(join(folder, 'tokens.u32'), tokens);
  await writeFile(join(folder, 'odd.u16'), new Uint8Array(7));
});
afterAll(() => rm(folder, { recursive: true }));

let printed: string[] = [];
beforeEach(() => {
  printed = [];
  vi.spyOn(console, 'log').mockImplementation((...parts) => void printed.push(parts.join(' ')));
});
afterEach(() => void vi.restoreAllMocks());

const run = async (options: Partial<PerplexityCommandOptions>) => {
  await perplexity(folder, {
    tokens: file,
    length,
    precision: 'f32',
    inputType: 'f32',
    decode: 0,
    baselines: true,
    json: true,
    ...options,
  });
  return printed.splice(0).join('\n');
};

/** It compiles kernels anew for each command. */
const isSlow = adapterId() === 'swiftshader';
if (isSlow) console.warn('the perplexity command is not tested: it takes SwiftShader minutes');

describe.skipIf(isSlow)('perplexity', () => {
  test('has a row for each configuration, against the weights as they are and NVFP4', async () => {
    const summary = JSON.parse(await run({ formats: ['nvfp4/nvfp4', 'nvfp4'] }));
    expect(summary).toMatchObject({
      model: folder,
      storedAs: 'BF16',
      sequences: 3,
      length,
      predictedTokens: 21,
    });
    const rows = summary.rows as PerplexityRow[];
    expect(rows.map(({ weights, activations }) => `${weights}/${activations}`)).toEqual([
      'float/float',
      'nvfp4:te/nvfp4:te',
      'nvfp4:te/float',
    ]);
    const reference = await loadLlamaF64(folder);
    const sequences = [0, 1, 2].map((i) => tokens.subarray(i * length, (i + 1) * length));
    const weights = { format: 'nvfp4' } as const;
    const wanted = [
      perplexityF64(reference.nlls(sequences)),
      perplexityF64(
        reference.nlls(sequences, { linear: quantizedLinear(reference, { weights, activations: weights }) }),
      ),
      perplexityF64(reference.nlls(sequences, { linear: quantizedLinear(reference, { weights }) })),
    ];
    rows.forEach((row, i) => {
      // An element of x next to a midpoint may be rounded the other way.
      expect(Math.abs(row.perplexity / wanted[i]! - 1)).toBeLessThan(i === 1 ? 0.01 : 1e-4);
      expect(row.percentOverFloat).toBeCloseTo((row.perplexity / rows[0]!.perplexity - 1) * 100, 10);
      expect(row.percentOverNvfp4).toEqual(i === 0 ? undefined : 0);
      expect(row.bitsPerWeight).toBe(i === 0 ? 16 : 4.5);
      expect(row.prefillTokensPerSecond).toBeGreaterThan(0);
      expect(row.decodeTokensPerSecond).toBeUndefined();
      expect(row.lossPerSequence.length).toBe(3);
      expect(row.kernels.some((kernel) => kernel.includes(['plain', 'nvfp4.xnvfp4', 'nvfp4.f32'][i]!))).toBe(
        true,
      );
    });
    expect(rows[1]!.weightBytes).toBeLessThan(rows[0]!.weightBytes);
  });

  test('gives the same again, from tokens of either width, and of some sequences what all of them have', async () => {
    const losses = async (options: Partial<PerplexityCommandOptions>) =>
      (JSON.parse(await run({ formats: ['float'], ...options })).rows as PerplexityRow[])[0]!.lossPerSequence;
    const all = await losses({});
    expect(await losses({})).toEqual(all);
    expect(await losses({ tokens: join(folder, 'tokens.u32') })).toEqual(all);
    expect(await losses({ sequences: 2, batch: 1 })).toEqual(all.slice(0, 2));
  });

  test('times decoding', async () => {
    const { rows } = JSON.parse(await run({ formats: ['float'], sequences: 1, decode: 3 }));
    expect(rows[0].decodeTokensPerSecond).toBeGreaterThan(0);
  });

  test('prints a table', async () => {
    const text = await run({ json: false, formats: ['float'], keep: ['*.o_proj'], sequences: 1 });
    for (const part of [
      'adapter:',
      '1 sequences of 8 tokens',
      'kept as they are: *.o_proj',
      '% over BF16',
      '│ BF16',
    ]) {
      expect(text).toContain(part);
    }
  });

  test.each<[Partial<PerplexityCommandOptions>, RegExp]>([
    [{ formats: ['fp5'] }, /'fp5' is no format/],
    [{}, /nothing to measure/],
    [{ formats: ['float'], tokens: 'no-such-file' }, /no-such-file: cannot be read/],
    [{ formats: ['float'], sequences: 4 }, /has 24 tokens; 4 sequences of 8 are 32/],
    [{ formats: ['float'], length: 7 }, /24 tokens are no whole number of sequences of 7/],
    [{ formats: ['float'], length: 72 }, /24 tokens are no whole number of sequences of 72/],
    [{ formats: ['float'], keep: ['*.no_proj'] }, /'\*.no_proj' matches none/],
  ])('refuses %o', async (options, message) => {
    await expect(run(options)).rejects.toThrow(message);
    await expect(run({ formats: ['float'], tokens: join(folder, 'odd.u16') })).rejects.toThrow(
      /7 bytes are no whole number/,
    );
    expect(printed).toEqual([]);
  });
});
