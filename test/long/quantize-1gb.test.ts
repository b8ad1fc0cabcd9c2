/** A checkpoint of 1 GB, in two files, is quantized in less memory than it has. */
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { layoutSafetensors, type TensorHeader } from '../../src/checkpoint/write-safetensors.js';
import { BuiltCli } from '../support/built-cli.js';
import { gaussian } from '../support/random-data.js';

/** Most that the process may have had in memory, its threads included. */
const LIMIT = 600e6;
const LAYERS = 12;
const HIDDEN = 2048;
const SHAPES = [
  ['self_attn.q_proj.weight', [HIDDEN, HIDDEN]],
  ['self_attn.o_proj.weight', [HIDDEN, HIDDEN]],
  ['mlp.gate_up_proj.weight', [2 * 4096, HIDDEN]],
  ['mlp.down_proj.weight', [HIDDEN, 4096]],
  ['input_layernorm.weight', [HIDDEN]],
] as const;

let cli: BuiltCli;
let folder: string;
let model: string;
let bytes = 0;

/** Writes tensors of BF16 whose values are drawn once and then repeated from changing places. */
async function writeShard(name: string, tensors: readonly TensorHeader[], drawn: Uint8Array): Promise<void> {
  const { header, byteLength, ranges } = layoutSafetensors(tensors, { format: 'pt' });
  const handle = await open(join(model, name), 'w');
  await handle.write(header, 0, header.length, 0);
  let seed = 0;
  for (const { start, end } of ranges.values()) {
    for (let at = start; at < end; ) {
      const from = ((seed++ * 7919) % 4096) * 2;
      const part = drawn.subarray(from, Math.min(drawn.length, from + end - at));
      await handle.write(part, 0, part.length, at);
      at += part.length;
    }
  }
  await handle.close();
  bytes += byteLength;
}

beforeAll(async () => {
  cli = await BuiltCli.build();
  folder = await mkdtemp(join(tmpdir(), 'fp4-1gb-'));
  model = folder;
  const normal = gaussian(1);
  const values = Float32Array.from({ length: 2 ** 20 }, () => normal() / 32);
  const upper = new Uint16Array(values.buffer).filter((_, i) => i % 2 === 1);
  const drawn = new Uint8Array(upper.buffer);
  // One of them as large as a vocabulary: a third of the model.
  const head: TensorHeader = { name: 'model.extra.weight', dtype: 'BF16', shape: [49152, HIDDEN] };
  const layers = Array.from({ length: LAYERS }, (_, layer) =>
    SHAPES.map(
      ([part, shape]): TensorHeader => ({ name: `model.layers.${layer}.${part}`, dtype: 'BF16', shape }),
    ),
  );
  const shards = [layers.slice(0, 6).flat(), [head, ...layers.slice(6).flat()]];
  const weightMap: Record<string, string> = {};
  for (const [i, tensors] of shards.entries()) {
    const name = `model-0000${i + 1}-of-00002.safetensors`;
    await writeShard(name, tensors, drawn);
    for (const tensor of tensors) weightMap[tensor.name] = name;
  }
  await writeFile(join(model, 'model.safetensors.index.json'), JSON.stringify({ weight_map: weightMap }));
  await writeFile(join(model, 'config.json'), '{"model_type": "llama", "hidden_size": 2048}');
  expect(bytes).toBeGreaterThan(1e9);
}, 300_000);

afterAll(async () => {
  await cli[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

test.each(['mxfp4', 'nvfp4'])('%s: in less than 600 MB', async (format) => {
  const out = join(folder, 'out');
  const command = ['quantize', model, '-o', out, '--format', format, '--gpu', 'off', '--overwrite'];
  const { code, stdout, stderr } = await cli.run([...command, '--json']);
  expect(stderr).toBe('');
  expect(code).toBe(0);
  const { peakMemory, seconds, sqnr, matrices, device } = JSON.parse(stdout);
  console.log(
    `${format}: ${(bytes / 1e6).toFixed(0)} MB in ${seconds.toFixed(1)} s on ${device}, ` +
      `at most ${(peakMemory / 1e6).toFixed(0)} MB of memory, SQNR ${sqnr.mean.toFixed(2)} dB`,
  );
  expect(matrices.length).toBe(4 * LAYERS + 1);
  expect(peakMemory).toBeLessThan(LIMIT);
  const verified = await cli.run(['verify', model, out, '--json', '--min-sqnr', '18.5']);
  expect(verified.code).toBe(0);
  expect(JSON.parse(verified.stdout).summary.mean).toBeCloseTo(sqnr.mean, 6);
});
