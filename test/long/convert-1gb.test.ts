/** A checkpoint of 1 GB, in two files, goes through every convention in less memory than it has, and comes back. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { layoutSafetensors, type TensorHeader } from '../../src/checkpoint/write-safetensors.js';
import { BuiltCli } from '../support/built-cli.js';
import { uniform } from '../support/random-data.js';

/** Most that the process may have had in memory. */
const LIMIT = 600e6;
const [EXPERTS, HIDDEN] = [32, 2880];
let cli: BuiltCli;
let folder: string;
let bytes = 0;

/** Experts as gpt-oss has them: bytes below 255, as scales have to be, drawn once and repeated. */
async function writeShard(name: string, tensors: readonly TensorHeader[], drawn: Uint8Array): Promise<void> {
  const { header, byteLength } = layoutSafetensors(tensors, { format: 'pt' });
  const handle = await open(join(folder, name), 'w');
  await handle.write(header);
  for (let at = header.length; at < byteLength; at += drawn.length) {
    await handle.write(drawn, 0, Math.min(drawn.length, byteLength - at), at);
  }
  await handle.close();
  bytes += byteLength;
}

beforeAll(async () => {
  cli = await BuiltCli.build();
  folder = await mkdtemp(join(tmpdir(), 'fp4-1gb-'));
  const draw = uniform(1);
  const drawn = Uint8Array.from({ length: 2 ** 20 + 1 }, () => Math.floor(draw() * 255));
  const map: Record<string, string> = {};
  for (const layer of [0, 1]) {
    const name = `model-0000${layer + 1}-of-00002.safetensors`;
    const matrices = ['gate_up_proj', 'down_proj'].flatMap((part): TensorHeader[] => {
      const [rows, stem] = [part === 'down_proj' ? HIDDEN : 2 * HIDDEN, `l.${layer}.mlp.experts.${part}`];
      const shape = [EXPERTS, rows, HIDDEN / 32];
      return [
        { name: `${stem}_blocks`, dtype: 'U8', shape: [...shape, 16] },
        { name: `${stem}_scales`, dtype: 'U8', shape },
      ];
    });
    const embedding: TensorHeader = { name: `l.${layer}.embed.weight`, dtype: 'BF16', shape: [60_000, 1024] };
    await writeShard(name, [...matrices, embedding], drawn);
    for (const tensor of [...matrices, embedding]) map[tensor.name] = name;
  }
  await writeFile(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map: map }));
  expect(bytes).toBeGreaterThan(1e9);
}, 300_000);

afterAll(async () => {
  await cli[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

async function convert(from: string, to: string, out: string): Promise<void> {
  const command = ['convert', from, '-o', out, '--to', to, '--json'];
  const { code, stdout, stderr } = await cli.run(command);
  expect(stderr).toBe('');
  expect(code).toBe(0);
  const { peakMemory, seconds } = JSON.parse(stdout);
  console.log(
    `${to}: ${(bytes / 1e6).toFixed(0)} MB in ${seconds.toFixed(1)} s, at most ${(peakMemory / 1e6).toFixed(0)} MB of memory`,
  );
  expect(peakMemory).toBeLessThan(LIMIT);
}

async function digest(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest('hex');
}

test.each(['fp4-webgpu', 'compressed-tensors', 'gguf'])('%s and back', async (to) => {
  const there = join(folder, to === 'gguf' ? 'there.gguf' : 'there');
  const [back, whole] = [join(folder, 'back'), join(folder, 'whole')];
  await convert(folder, 'gpt-oss', whole);
  await convert(folder, to, there);
  await convert(there, 'gpt-oss', back);
  expect(await digest(join(back, 'model.safetensors'))).toBe(await digest(join(whole, 'model.safetensors')));
  for (const path of [there, back, whole]) await rm(path, { recursive: true });
});
