/** Two checkpoints compared, whatever each is stored as. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { quantizeModel } from '../../../src/cli/quantize.js';
import { verify } from '../../../src/cli/verify.js';
import { bf16, type FileTensors, f32, safetensorsFile, u8 } from '../../support/checkpoint-files.js';
import {
  ctNvfp4,
  logicalValue,
  randomLogical,
  weightScaleMxfp4,
} from '../../support/checkpoint-producers.js';
import { smallModel, writeModel } from '../../support/model-folder.js';

let folder: string;
let printed: string[];

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fp4-verify-'));
  printed = [];
  vi.spyOn(console, 'log').mockImplementation((text: string) => void printed.push(text));
});
afterEach(async () => {
  process.exitCode = undefined;
  vi.restoreAllMocks();
  await rm(folder, { recursive: true });
});

const write = async (name: string, tensors: FileTensors) => {
  const path = join(folder, `${name}.safetensors`);
  await writeFile(path, safetensorsFile(tensors));
  return path;
};

/** What `--json` prints, and the exit code. */
async function compare(a: string, b: string, minSqnr?: number) {
  process.exitCode = undefined;
  printed = [];
  await verify(a, b, { json: true, ...(minSqnr !== undefined && { minSqnr }) });
  return { ...JSON.parse(printed.join('\n')), exitCode: process.exitCode };
}

test('decibels by hand, worst first, with the largest error', async () => {
  const a = await write('a', {
    'x.weight': f32([1, 4], [1, -2, 3, -4]),
    'y.weight': f32([2, 1], [10, 0]),
    'z.weight': bf16([1, 2], [1, 2]),
    'norm.weight': f32([2], [1, 1]),
    'norm.count': f32([1], [5]),
    'ids.weight': u8([2], [1, 2]),
  });
  const b = await write('b', {
    'x.weight': f32([1, 4], [1, -2.5, 2, -4]),
    'y.weight': f32([2, 1], [9, 0]),
    'z.weight': f32([1, 2], [1, 2]),
    'norm.weight': bf16([2], [1, 1.5]),
    'norm.count': f32([1], [6]),
    'ids.weight': u8([2], [3, 4]),
  });
  const { summary, tensors, problems, exitCode } = await compare(a, b);
  expect(tensors.map(({ name, sqnr, maxError, exact }: never) => [name, sqnr, maxError, exact])).toEqual([
    ['norm.weight', expect.closeTo(10 * Math.log10(2 / 0.25), 9), 0.5, false],
    ['x.weight', expect.closeTo(10 * Math.log10(30 / 1.25), 9), 1, false],
    ['y.weight', expect.closeTo(20, 9), 1, false],
    ['z.weight', null, 0, true],
  ]);
  expect(tensors[3]).toMatchObject({ a: 'BF16', b: 'F32', shape: [1, 2] });
  expect(summary).toMatchObject({ compared: 4, exact: 1, below: 0 });
  expect(problems).toEqual([]);
  expect(exitCode).toBeUndefined();

  expect(await compare(a, b, 13.7)).toMatchObject({ summary: { below: 1 }, exitCode: 1 });
  expect(await compare(a, b, 9)).toMatchObject({ summary: { below: 0 }, exitCode: undefined });
});

test('FP4 of any producer against floats and against each other', async () => {
  const nv = ctNvfp4(randomLogical('nvfp4', 5, 96, 1, { scales: [0x20, 0x50] }));
  const mx = weightScaleMxfp4(randomLogical('mxfp4', 4, 96, 4, { scales: [100, 140] }));
  const floats = (fixture: typeof nv) => {
    const logical = fixture.logical as Exclude<typeof fixture.logical, unknown[]>;
    const values = logical.codes.flatMap((row, r) => row.map((_, c) => logicalValue(logical, r, c)));
    return f32([logical.codes.length, 96], values);
  };
  const fp4 = await write('fp4', { ...nv.tensors, ...mx.tensors });
  const plain = await write('floats', { [nv.matrix]: floats(nv), [mx.matrix]: floats(mx) });
  for (const [a, b] of [
    [fp4, plain],
    [plain, fp4],
    [fp4, fp4],
  ] as const) {
    const { summary, problems } = await compare(a, b, 200);
    expect(summary).toMatchObject({ compared: 2, exact: 2 });
    expect(problems).toEqual([]);
  }
});

test('what is missing, what has another shape and what cannot be loaded fail', async () => {
  const weight = (rows: number) => f32([rows, 2], new Array(2 * rows).fill(1));
  const a = await write('a', {
    'x.weight': weight(2),
    'gone.weight': weight(1),
    'shape.weight': weight(2),
    'norm.weight': f32([2], [1, 1]),
    'norm.bias': f32([2], [1, 1]),
    'bad.weight': u8([1, 16], new Array(16).fill(0)),
    'bad.weight_scale': u8([1, 3], [1, 1, 1]),
  });
  const b = await write('b', {
    'x.weight': weight(2),
    'shape.weight': weight(3),
    'new.weight': weight(1),
    'norm.bias': f32([3], [1, 1, 1]),
    'bad.weight': weight(1),
  });
  const { problems, tensors, exitCode } = await compare(a, b);
  expect(problems).toEqual([
    { name: 'gone.weight', problem: 'is missing in B' },
    { name: 'shape.weight', problem: 'is [2, 2] in A and [3, 2] in B' },
    { name: 'bad.weight', problem: expect.stringContaining('need scales of') },
    { name: 'new.weight', problem: 'is missing in A' },
    { name: 'norm.weight', problem: 'is missing in B' },
    { name: 'norm.bias', problem: 'is F32 [2] in A and F32 [3] in B' },
  ]);
  expect(tensors.length).toBe(1);
  expect(exitCode).toBe(1);
  await verify(a, b, {});
  expect(printed.join('\n')).toContain('gone.weight: is missing in B');
  expect(printed.at(-1)).toBe('1 tensors compared, 1 of them exact; 6 not compared');
});

test('a NaN is worse than anything', async () => {
  const a = await write('a', { 'x.weight': f32([1, 2], [1, 1]), 'y.weight': f32([1, 2], [1, 1]) });
  const b = await write('b', { 'x.weight': f32([1, 2], [9, 9]), 'y.weight': f32([1, 2], [1, Number.NaN]) });
  const { tensors, exitCode } = await compare(a, b, -100);
  expect(tensors[0]).toMatchObject({ name: 'y.weight', sqnr: null, exact: false, maxError: null });
  expect(exitCode).toBe(1);
});

test.each([{ format: 'mxfp4', macro: 'dynamic', hadamard: true }, { format: 'nvfp4' }] as const)(
  'a model and what quantize made of it agree with its summary: %o',
  async (rules) => {
    const small = smallModel();
    const [model, out] = [join(folder, 'model'), join(folder, 'out')];
    await mkdir(model);
    await writeModel(model, small, 2);
    const summary = await quantizeModel(model, { output: out, gpu: 'off', threads: 0, ...rules });
    const { tensors, problems, exitCode } = await compare(model, out, 15);
    expect(problems).toEqual([]);
    expect(exitCode).toBeUndefined();
    expect(tensors[0].name).toBe(summary.worst);
    for (const { name, sqnr } of summary.matrices) {
      expect(tensors.find((tensor: { name: string }) => tensor.name === name).sqnr).toBeCloseTo(sqnr!, 9);
    }
    await verify(model, out, { minSqnr: 15 });
    expect(printed.at(-1)).toMatch(
      /^\d+ tensors compared, \d+ of them exact; SQNR mean .* dB, worst .* dB \(.*\); 0 below 15 dB$/,
    );
  },
);
