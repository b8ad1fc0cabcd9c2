/** `quantize`, `verify` and `sensitivity` as a user runs them: processes, threads, Ctrl-C, kill. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { quantizeModel } from '../../../src/cli/quantize.js';
import { sensitivityOfModel } from '../../../src/cli/sensitivity.js';
import { BuiltCli } from '../../support/built-cli.js';
import { f32, safetensorsFile } from '../../support/checkpoint-files.js';
import { type ModelFolder, smallModel, writeModel } from '../../support/model-folder.js';
import { fill, uniform } from '../../support/random-data.js';

let cli: BuiltCli;
let folder: string;
let model: string;

/** Some seconds of work with dynamic factors. */
function slowModel(): ModelFolder {
  const { others, config } = smallModel();
  const [rows, cols] = [1300, 1024];
  const draw = uniform(1);
  const layer = () => ({ rows, cols, values: fill(rows * cols, () => Math.floor(draw() * 255) - 127) });
  const names = ['q_proj', 'k_proj', 'v_proj'].map((part) => `model.layers.0.self_attn.${part}.weight`);
  return { matrices: Object.fromEntries(names.map((name) => [name, layer()])), others, config };
}

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fp4-processes-'));
  model = join(folder, 'model');
  await writeModel(model, slowModel(), 2);
  cli = await BuiltCli.build();
}, 60_000);
afterAll(async () => {
  await cli[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

async function contents(directory: string): Promise<Map<string, Buffer>> {
  const names = (await readdir(directory)).sort();
  return new Map(
    await Promise.all(names.map(async (name) => [name, await readFile(join(directory, name))] as const)),
  );
}

const RULES = ['--macro', 'dynamic', '--gpu', 'off', '--threads', '2'];

test('Ctrl-C and kill leave what the same command completes, on threads as on one', {
  timeout: 120_000,
}, async () => {
  const expected = join(folder, 'expected');
  const options = { output: expected, format: 'mxfp4', macro: 'dynamic', gpu: 'off', threads: 0 } as const;
  const before = await quantizeModel(model, options);

  const out = join(folder, 'out');
  const command = ['quantize', model, '-o', out, ...RULES];
  let sent = false;
  const signalOnce =
    (signal: NodeJS.Signals) => (child: { kill(signal: NodeJS.Signals): void }, stderr: string) => {
      if (!sent && stderr.includes('quantizing on CPU, 2 threads')) {
        sent = true;
        child.kill(signal);
      }
    };
  const interrupted = await cli.run(command, signalOnce('SIGINT'));
  expect(interrupted).toMatchObject({ code: 130, stdout: '' });
  expect(interrupted.stderr).toContain('the same command goes on after the last finished matrix');
  expect((await readdir(out)).filter((name) => name.endsWith('.safetensors'))).toEqual([]);

  sent = false;
  expect((await cli.run(command, signalOnce('SIGKILL'))).code).toBe(null);
  const other = await cli.run([...command, '--scale', 'floor']);
  expect(other.code).toBe(1);
  expect(other.stderr).toContain('another scaleRule: "oas" there, "floor" now');

  const completed = await cli.run([...command, '--json']);
  expect(completed.code).toBe(0);
  const summary = JSON.parse(completed.stdout);
  expect(summary).toMatchObject({ resumed: true, device: 'CPU, 2 threads', matrices: before.matrices });
  expect(summary.peakMemory).toBeGreaterThan(3e7);
  expect(await contents(out)).toEqual(await contents(expected));
});

test('verify says in its exit code what it found', { timeout: 60_000 }, async () => {
  const out = join(folder, 'verified');
  const quantized = await cli.run(['quantize', model, '-o', out, '--format', 'nvfp4', '--gpu', 'off']);
  expect(quantized.code).toBe(0);
  for (const text of [
    '3 matrices',
    'in nvfp4 te, block 16',
    'bits a weight   4.5',
    'SQNR',
    'kept',
    'router',
  ]) {
    expect(quantized.stdout).toContain(text);
  }
  expect((await cli.run(['verify', model, out, '--min-sqnr', '15'])).code).toBe(0);
  expect((await cli.run(['verify', model, out, '--min-sqnr', '60'])).code).toBe(1);
  const wrong = await cli.run(['verify', model, join(folder, 'nowhere')]);
  expect(wrong).toMatchObject({ code: 1, stdout: '' });
  expect(wrong.stderr).toMatch(/^error: file: .*nowhere: no such file\n$/);
});

test('sensitivity on threads is what it is on one', { timeout: 60_000 }, async () => {
  const inputs = join(folder, 'inputs.safetensors');
  const names = Object.keys(slowModel().matrices);
  const x = Array.from({ length: 3 * 1024 }, (_, i) => Math.sin(i));
  await writeFile(
    inputs,
    safetensorsFile(Object.fromEntries(names.map((name) => [name, f32([3, 1024], x)]))),
  );
  const options = { formats: ['nvfp4/nvfp4'], inputs, threads: 0 };
  const { summary } = await sensitivityOfModel(model, options);
  const command = ['sensitivity', model, '--formats', 'nvfp4/nvfp4', '--inputs', inputs];
  const { code, stdout } = await cli.run([...command, '--threads', '2', '--json']);
  expect(code).toBe(0);
  expect(JSON.parse(stdout).formats).toEqual(JSON.parse(JSON.stringify(summary.formats)));
});

test.each([
  [['quantize', 'x'], "required option '-o, --output <folder>' not specified"],
  [['quantize', 'x', '-o', 'y', '--format', 'fp4'], 'Allowed choices are mxfp4, nvfp4'],
  [['quantize', 'x', '-o', 'y', '--threads', '-1'], 'It is an integer from 0 on'],
  [['quantize', 'x', '-o', 'y', '--shard-size', 'big'], 'It looks like 5GB or 500MB'],
  [['verify', 'x', 'y', '--min-sqnr', 'high'], 'It is a number'],
])('%o is told what is wrong', async (args, message) => {
  const { code, stderr } = await cli.run(args);
  expect(code).toBe(1);
  expect(stderr).toContain(message);
});
