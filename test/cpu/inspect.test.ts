import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { inspect } from '../../src/cli/inspect.js';
import { WHOLE } from '../support/gguf-samples.js';
import { f32, ggufFile } from '../support/gguf-writer.js';

let folder: string;
let printed: string[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fp4-inspect-'));
  printed = [];
  vi.spyOn(console, 'log').mockImplementation((text: string) => void printed.push(text));
});

afterEach(async () => {
  vi.restoreAllMocks();
  await rm(folder, { recursive: true });
});

test('tables of producers and of matrices', async () => {
  await writeFile(join(folder, 'model.gguf'), WHOLE);
  await inspect(folder, {});
  expect(printed[0]).toMatch(/model\.gguf: gguf, 1 file, 3 tensors, 0\.0 MB$/);
  expect(printed[1]).toMatch(/gguf +│ nvfp4 +│ +16 │ +1 │ +128 │ +0\.0 │ +4\.500/);
  expect(printed[2]).toMatch(/mx\.weight +│ gguf +│ mxfp4 +│ +│ +2 × 64 │ +0\.000/);
});

test('JSON, with what cannot be loaded and why', async () => {
  const tensors = [
    { name: 'a.weight', type: 39, sizes: [32, 1], bytes: new Uint8Array(17) },
    { name: 'a.scale', type: 0, sizes: [1], bytes: f32(1) },
  ];
  await writeFile(join(folder, 'a.gguf'), ggufFile({ tensors }));
  await inspect(join(folder, 'a.gguf'), { json: true });
  expect(JSON.parse(printed.join('\n'))).toMatchObject({
    container: 'gguf',
    groups: [],
    matrices: [],
    refused: [{ name: 'a.weight', producer: 'gguf', reason: expect.stringContaining('a.scale') }],
  });
});

test('what is no checkpoint is an error', async () => {
  await expect(inspect(folder, {})).rejects.toThrow(/no checkpoint/);
});
