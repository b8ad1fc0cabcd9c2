/** Whole models quantized into a folder: what comes out, what is kept, what is refused, and what an interruption leaves. */
import { existsSync } from 'node:fs';
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, test } from 'vitest';
import { readMatrix } from '../../../src/checkpoint/matrix-source.js';
import { readSafetensorsHeader } from '../../../src/checkpoint/safetensors.js';
import { type QuantizeCommandOptions, type QuantizeRun, quantizeModel } from '../../../src/cli/quantize.js';
import { InvalidArgumentError } from '../../../src/errors.js';
import type { QuantizedMatrix } from '../../../src/matrix/quantized-matrix.js';
import { openCheckpointFile, openFile } from '../../../src/node.js';
import { errorMetrics } from '../../../src/quantize/metrics.js';
import { dequantize, quantize } from '../../../src/quantize/quantize.js';
import { expectSameElements, expectSameMatrix } from '../../support/bytes.js';
import { bf16, f32, safetensorsFile } from '../../support/checkpoint-files.js';
import { WHOLE } from '../../support/gguf-samples.js';
import { expertValues, type ModelFolder, smallModel, writeModel } from '../../support/model-folder.js';
import { rejection } from '../../support/rejection.js';

let folder: string;
let model: string;
let out: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'fp4-quantize-'));
  model = join(folder, 'model');
  out = join(folder, 'out');
});
afterEach(() => rm(folder, { recursive: true }));

type Rules = Partial<QuantizeCommandOptions>;

const run = (options: Rules = {}, how?: QuantizeRun) =>
  quantizeModel(model, { output: out, format: 'mxfp4', gpu: 'off', threads: 0, ...options }, how);

async function contents(directory: string): Promise<Map<string, string>> {
  const names = (await readdir(directory)).sort();
  return new Map(
    await Promise.all(
      names.map(async (name) => [name, (await readFile(join(directory, name))).toString('latin1')] as const),
    ),
  );
}

/** All fields, and the values that they stand for. */
function expectSame(actual: QuantizedMatrix, expected: QuantizedMatrix, name: string): void {
  const { codes, scales, macroScales, ...rest } = expected;
  expect(actual, name).toMatchObject(rest);
  expectSameMatrix(actual, expected, name);
  expectSameElements(dequantize(actual), dequantize(expected), name);
}

/** That every matrix is what `quantize` makes of its values, and everything else what it was. */
async function expectQuantized({ matrices, others }: ModelFolder, rules: Rules): Promise<void> {
  const { format = 'mxfp4', block, scale, macro, macroSize, tile, rounding, seed, hadamard } = rules;
  const options = {
    format,
    blockSize: block,
    scaleRule: scale,
    macroScale: macro,
    macroSize,
    tile,
    rounding,
  };
  await using checkpoint = await openCheckpointFile(out);
  expect(checkpoint.refused).toEqual([]);
  for (const [name, matrix] of Object.entries(matrices)) {
    const { rows, cols, experts } = matrix;
    const info = checkpoint.matrices.find((found) => found.name === name);
    expect(info).toMatchObject({ producer: 'fp4-webgpu', format, shape: [rows, cols], experts });
    for (let expert = 0; expert < (experts ?? 1); expert++) {
      const expected = quantize(expertValues(matrix, expert), {
        ...(options as { format: 'mxfp4' }),
        seed,
        hadamard,
        rows,
        cols,
      });
      const loaded = await checkpoint.matrix(name, experts === undefined ? {} : { expert });
      expectSame(loaded as QuantizedMatrix, expected, name);
    }
  }
  for (const [name, { dtype, shape, bytes }] of Object.entries(others)) {
    const tensor = checkpoint.tensors.find((found) => found.name === name)!;
    expect(tensor).toMatchObject({ dtype, shape });
    expect(Buffer.from(await checkpoint.read(tensor)).equals(bytes)).toBe(true);
  }
  const parts = rules.macro && rules.macro !== 'none' ? 4 : 3;
  const perMatrix = format === 'nvfp4' ? 4 : parts;
  expect(checkpoint.tensors.length).toBe(
    Object.keys(others).length + perMatrix * Object.keys(matrices).length,
  );
}

describe('a quantized model', () => {
  it.each<Rules>([
    {},
    { macro: 'dynamic' },
    { macro: 'static', macroSize: 32, scale: 'rceil' },
    { block: 16, scale: 'mse', hadamard: true },
    { tile: '2d', macro: 'dynamic', macroSize: 64 },
    { rounding: 'stochastic', seed: 7 },
    { format: 'nvfp4' },
    { format: 'nvfp4', scale: 'four-over-six', tile: '2d', rounding: 'stochastic' },
  ])('has what quantize makes of each matrix, and the rest as it was: %o', async (rules) => {
    const small = smallModel();
    await writeModel(model, small, 3);
    const summary = await run(rules);
    await expectQuantized(small, rules);
    expect(summary.matrices.map(({ name }) => name).sort()).toEqual(Object.keys(small.matrices).sort());
  });

  it('is the same for matrices of many stripes, experts among them', { timeout: 60_000 }, async () => {
    const normal = (seed: number, count: number) => {
      const values = new Float32Array(count);
      let state = seed;
      for (let i = 0; i < count; i++) {
        state = (Math.imul(state, 1664525) + 1013904223) | 0;
        values[i] = (state >> 8) / 2 ** 20;
      }
      // The largest in the last stripe: it decides the scale of all.
      values[count - 5] = 31;
      return values;
    };
    const matrices = {
      'a.weight': { rows: 2200, cols: 1024, values: normal(1, 2200 * 1024) },
      experts: { experts: 2, rows: 1100, cols: 1024, values: normal(2, 2200 * 1024) },
    };
    const tensors = Object.entries(matrices).map(([name, matrix]) => {
      const { rows, cols, values } = matrix;
      const shape = 'experts' in matrix ? [2, rows, cols] : [rows, cols];
      return [name, { dtype: 'F32', shape, bytes: new Uint8Array(values.buffer) }] as const;
    });
    await mkdir(model);
    await writeFile(join(model, 'model.safetensors'), safetensorsFile(Object.fromEntries(tensors)));
    for (const rules of [
      { format: 'nvfp4' },
      { rounding: 'stochastic', seed: 2 ** 40 + 1, tile: '2d' },
    ] as const) {
      await run({ ...rules, overwrite: true });
      await expectQuantized({ matrices, others: {}, config: '' }, rules);
    }
  });

  it('says what was done, and what not and why', async () => {
    const small = smallModel();
    await writeModel(model, small, 2);
    await writeFile(join(model, 'pytorch_model.bin'), '');
    await writeFile(join(model, '.hidden'), '');
    await mkdir(join(model, 'original'));
    const summary = await run({ macro: 'static' });
    expect(summary).toMatchObject({
      device: 'CPU, 1 thread',
      resumed: false,
      format: 'mxfp4 oas, block 32, macro static 128',
      bitsPerWeight: 4.3125,
      weights: 70 * 96 + 96 * 160 + 3 * 40 * 96 + 3 * 96 * 32,
      kept: {
        embedding: ['model.embed_tokens.weight'],
        'output head': ['lm_head.weight'],
        router: ['model.layers.1.mlp.gate.weight'],
        'k = 100 is not a multiple of 32': ['model.layers.0.self_attn.k_proj.weight'],
        'no linear layer by its name': expect.arrayContaining([
          'model.layers.1.mlp.experts.gate_up_proj_bias',
        ]),
      },
      alreadyQuantized: ['model.layers.0.mlp.experts.gate_up_proj'],
      onCpu: [],
      files: {
        written: ['model.safetensors', 'config.json', 'tokenizer.json'],
        leftOut: ['.hidden', 'original', 'pytorch_model.bin'],
      },
    });
    const after = [...(await contents(out)).keys()];
    expect(after).toEqual(['config.json', 'model.safetensors', 'tokenizer.json']);
    await using checkpoint = await openCheckpointFile(out);
    expect(summary.bytes.after).toBe(checkpoint.tensors.reduce((sum, { byteLength }) => sum + byteLength, 0));

    // The errors by hand, from what was loaded.
    const sqnr = await Promise.all(
      Object.entries(small.matrices).map(async ([name, matrix]) => {
        const loaded = await Promise.all(
          Array.from({ length: matrix.experts ?? 1 }, async (_, expert) =>
            dequantize((await checkpoint.matrix(name, matrix.experts ? { expert } : {})) as QuantizedMatrix),
          ),
        );
        const values = Float32Array.from(loaded.flatMap((part) => [...part]));
        return { name, sqnr: errorMetrics(matrix.values, values).sqnr };
      }),
    );
    for (const { name, sqnr: expected } of sqnr) {
      expect(summary.matrices.find((found) => found.name === name)!.sqnr).toBeCloseTo(expected, 9);
    }
    const worst = sqnr.reduce((a, b) => (b.sqnr < a.sqnr ? b : a));
    expect(summary.worst).toBe(worst.name);
    expect(summary.sqnr.worst).toBeCloseTo(worst.sqnr, 9);
    expect(summary.sqnr.mean).toBeCloseTo(sqnr.reduce((sum, one) => sum + one.sqnr, 0) / sqnr.length, 9);
  });

  it('keeps config.json byte for byte, with one entry more', async () => {
    await writeModel(model, smallModel());
    await run({ macro: 'dynamic', keep: ['*.down_proj'] });
    const text = await readFile(join(out, 'config.json'), 'utf8');
    const before = await readFile(join(model, 'config.json'), 'utf8');
    expect(text.startsWith(before.slice(0, before.lastIndexOf('\n}')))).toBe(true);
    expect(text).toContain('"rms_norm_eps": 1e-05');
    const { quantization_config: entry, ...rest } = JSON.parse(text);
    expect(rest).toEqual(JSON.parse(before));
    expect(entry).toMatchObject({
      quant_method: 'fp4-webgpu',
      format: 'mxfp4',
      block_size: 32,
      scale_rule: 'oas',
      macro_scale: 'dynamic',
      macro_size: 128,
    });
    expect(entry.modules_to_not_convert).toContain('model.layers.0.mlp.down_proj');
    expect(entry.modules_to_not_convert).toContain('lm_head');
  });

  it('of a model that was quantized in part keeps the entry that its loaders look for', async () => {
    const config = '{"quantization_config": {"quant_method": "mxfp4"}}';
    await writeModel(model, { ...smallModel(), config });
    await run();
    const value = JSON.parse(await readFile(join(out, 'config.json'), 'utf8'));
    expect(value.quantization_config).toEqual({ quant_method: 'mxfp4' });
    expect(value.fp4_webgpu_config).toMatchObject({ quant_method: 'fp4-webgpu' });
  });

  it('needs no config.json, and takes one that is empty', async () => {
    await writeModel(model, smallModel());
    await rm(join(model, 'config.json'));
    await run();
    expect(await readdir(out)).not.toContain('config.json');
    await writeFile(join(model, 'config.json'), '{}');
    await run({ overwrite: true });
    const value = JSON.parse(await readFile(join(out, 'config.json'), 'utf8'));
    expect(Object.keys(value)).toEqual(['quantization_config']);
  });

  it('comes from read-only files too, and is not read-only itself', async () => {
    await writeModel(model, smallModel());
    await chmod(join(model, 'tokenizer.json'), 0o444);
    await run();
    expect((await stat(join(out, 'tokenizer.json'))).mode & 0o200).toBe(0o200);
  });

  it('is spread over files of the size asked for', async () => {
    const small = smallModel();
    await writeModel(model, small);
    await run({ shardSize: 15_000 });
    expect((await readdir(out)).filter((name) => name.endsWith('.safetensors')).length).toBeGreaterThan(3);
    await expectQuantized(small, {});
  });
});

describe('an interruption', () => {
  it.each([{ macro: 'dynamic', shardSize: 12_000 }, { format: 'nvfp4' }] as const)(
    'at any place leaves what the same command completes: %o',
    { timeout: 60_000 },
    async (rules) => {
      await writeModel(model, smallModel(), 2);
      await run(rules);
      const whole = await contents(out);
      let steps = 0;
      for (let cut = 1; ; cut++) {
        await rm(out, { recursive: true });
        const interrupt = new AbortController();
        let calls = 0;
        const outcome = await run(rules, {
          signal: interrupt.signal,
          onProgress: () => {
            if (++calls === cut) interrupt.abort();
          },
        }).then(
          () => 'complete',
          (error: Error) => error.name,
        );
        if (calls < cut) break;
        if (outcome === 'complete') continue;
        expect(outcome).toBe('AbortError');
        expect((await readdir(out)).some((name) => name.endsWith('.safetensors'))).toBe(false);
        const summary = await run(rules);
        expect(summary.resumed).toBe(true);
        // What was done before is in the figures.
        expect(summary.matrices.every(({ sqnr }) => sqnr! > 10)).toBe(true);
        expect(await contents(out)).toEqual(whole);
        steps++;
      }
      expect(steps).toBeGreaterThan(8);
    },
  );

  const interrupted = async (rules: Rules = {}) => {
    const interrupt = new AbortController();
    let calls = 0;
    const onProgress = () => {
      if (++calls === 6) interrupt.abort();
    };
    await expect(run(rules, { signal: interrupt.signal, onProgress })).rejects.toThrow();
  };

  it('is not gone on with under other rules, nor with another model', async () => {
    await writeModel(model, smallModel());
    await interrupted();
    for (const [rules, message] of [
      [{ macro: 'static' }, 'another macroScale: "none" there, "static" now'],
      [{ scale: 'floor' }, 'another scaleRule: "oas" there, "floor" now'],
      [{ seed: 1 }, 'another seed: "0" there, "1" now'],
      [{ keep: ['*.q_proj'] }, 'another tensors'],
      [{ shardSize: 20_000 }, 'another tensors'],
    ] as const) {
      const error = await rejection(run(rules as Rules));
      expect(error).toBeInstanceOf(InvalidArgumentError);
      expect(error.message).toContain(message);
    }
    await utimes(join(model, 'model.safetensors'), 1, 1);
    expect((await rejection(run())).message).toContain('another model, or its files were changed');
    const small = smallModel();
    await run({ overwrite: true });
    await expectQuantized(small, {});
  });

  it('by a value that FP4 does not hold is one like any other', async () => {
    const small = smallModel();
    const name = 'model.layers.1.mlp.experts.down_proj';
    small.matrices[name]!.values[96 * 32 + 33] = Number.NaN;
    await writeModel(model, small);
    const error = await rejection(run({ format: 'nvfp4' }));
    expect(error).toBeInstanceOf(InvalidArgumentError);
    expect(error.message).toBe(
      `quantize: ${name}, expert 1: value at row 1, col 1 is NaN; FP4 holds finite values only`,
    );
    // Kept out, it does no harm; the other run is told apart.
    await run({ format: 'nvfp4', keep: [name], overwrite: true });
  });
});

describe('refused before anything is written', () => {
  const refuse = async (options: Rules, message: string | RegExp) => {
    const before = existsSync(out) ? await contents(out) : undefined;
    const error = await rejection(run(options));
    expect(error.message).toMatch(message);
    expect(existsSync(out) ? await contents(out) : undefined).toEqual(before);
  };

  it('options that do not go together', async () => {
    await writeModel(model, smallModel());
    await refuse({ format: 'nvfp4', macro: 'static' }, "macroScale = 'static' goes with mxfp4");
    await refuse({ scale: 'te' }, 'mxfp4 scaleRule = "te"');
    await refuse({ block: 64 }, 'blockSize = 64');
    await refuse({ macro: 'often' }, 'macroScale = "often"');
    await refuse({ tile: '3d' }, 'tile = "3d"');
    await refuse({ rounding: 'up' }, 'rounding = "up"');
    await refuse({ shardSize: -1 }, 'maxShardBytes = -1');
  });

  it('patterns that match nothing, and nothing left', async () => {
    await writeModel(model, smallModel());
    await refuse({ keep: ['*.q_proj', 'lm_haed'] }, "pattern 'lm_haed' matches none of the");
    await refuse({ also: ['q'] }, "pattern 'q' matches none of the");
    await refuse({ keep: ['*'] }, /no matrix is left to quantize; \d+ are kept \(--keep \*\)/);
  });

  it("the model's own folder, by any path", async () => {
    await writeModel(model, smallModel(), 2);
    const own = "is the model's own folder";
    await refuse({ output: model }, own);
    await refuse({ output: `${model}/../model/`, overwrite: true }, own);
    await symlink(model, join(folder, 'link'));
    await refuse({ output: join(folder, 'link'), overwrite: true }, own);
    model = join(model, 'model.safetensors.index.json');
    await refuse({ output: join(folder, 'model'), overwrite: true }, own);
  });

  it('a folder that holds something else', async () => {
    await writeModel(model, smallModel());
    await mkdir(out);
    await writeFile(join(out, 'thesis.txt'), 'all of it');
    await refuse({}, 'is not empty');
    await run({ overwrite: true });
    expect(await readFile(join(out, 'thesis.txt'), 'utf8')).toBe('all of it');
  });

  it('what is no safetensors model, and a config.json that is none', async () => {
    await mkdir(model);
    await refuse({}, 'holds no checkpoint');
    await writeFile(join(model, 'model.gguf'), WHOLE);
    await refuse({}, 'quantizes safetensors models, and this is gguf');
    await rm(join(model, 'model.gguf'));
    for (const config of ['[]', 'null', '{', '"x"']) {
      await writeModel(model, { ...smallModel(), config });
      await refuse({}, 'config.json: is no JSON object');
    }
    const twice = '{"quantization_config": {}, "fp4_webgpu_config": {}}';
    await writeModel(model, { ...smallModel(), config: twice });
    await refuse({}, 'has a fp4_webgpu_config already');
  });

  it('a GPU that is required and not there', async () => {
    await writeModel(model, smallModel());
    await refuse({ gpu: 'require', backend: 'null', adapter: 'no such adapter' }, /gpu|adapter|webgpu/i);
  });
});

describe('what is kept', () => {
  /** Reasons by name, for tensors of these shapes. */
  const keptOf = async (shapes: Record<string, number[]>, config = '{}', rules: Rules = {}) => {
    const tensors = Object.entries({ 'x.weight': [2, 32], ...shapes }).map(([name, shape]) => {
      const count = shape.reduce((product, size) => product * size);
      return [
        name,
        bf16(
          shape,
          Array.from({ length: count }, () => 1),
        ),
      ] as const;
    });
    await writeModel(model, { matrices: {}, others: Object.fromEntries(tensors), config });
    const { kept, matrices } = await run({ ...rules, overwrite: true });
    const reasons = Object.entries(kept).flatMap(([reason, names]) => names.map((name) => [name, reason]));
    expect([...reasons.map(([name]) => name), ...matrices.map(({ name }) => name)].sort()).toEqual(
      tensors.map(([name]) => name).sort(),
    );
    return Object.fromEntries(reasons) as Record<string, string>;
  };

  it('by name: what recipes for FP4 leave out, and nothing that looks like it', async () => {
    const square = [32, 32];
    const kept = {
      'model.embed_tokens.weight': 'embedding',
      'transformer.wte.weight': 'embedding',
      'shared.weight': 'embedding',
      'lm_head.weight': 'output head',
      'output.weight': 'output head',
      'transformer.output_layer.weight': 'output head',
      'proj_out.weight': 'output head',
      'score.weight': 'output head',
      'model.layers.1.mlp.gate.weight': 'router',
      'model.layers.1.mlp.shared_expert_gate.weight': 'router',
      'model.layers.1.block_sparse_moe.gate.weight': 'router',
      'layers.3.ffn.gate.weight': 'router',
      'model.layers.0.feed_forward.router.weight': 'router',
      'model.layers.0.mlp.router.weight': 'router',
      'transformer_blocks.0.norm1.linear.weight': 'norm',
      'model.layers.0.linear_attn.conv1d.weight': 'convolution',
      'model.visual.blocks.0.attn.qkv.weight': 'vision or audio part',
      'vision_tower.encoder.layers.0.fc1.weight': 'vision or audio part',
      'multi_modal_projector.linear_1.weight': 'vision or audio part',
      'model.layers.0.mixer.A_log': 'no linear layer by its name',
      'model.layers.0.mlp.experts.down_proj_bias': 'no linear layer by its name',
    };
    const quantized = [
      'model.layers.0.mlp.gate_proj.weight',
      'model.layers.0.mlp.gate_up_proj.weight',
      'model.layers.0.self_attn.o_proj.weight',
      'encoder.layer.0.attention.output.dense.weight',
      'model.layers.0.mlp.experts.0.w1.weight',
      'transformer.h.0.attn.c_attn.weight',
      'model.layers.0.linear_attn.in_proj_qkvz.weight',
    ];
    const shapes = Object.fromEntries([...Object.keys(kept), ...quantized].map((name) => [name, square]));
    expect(await keptOf(shapes)).toEqual(kept);
  });

  it('by option, on which --also gives way to --keep and a width', async () => {
    const shapes = { 'lm_head.weight': [4, 64], 'embed.weight': [4, 40], 'layers.0.a.weight': [4, 64] };
    expect(await keptOf(shapes, '{}', { also: ['lm_head', 'embed.weight'] })).toEqual({
      'embed.weight': 'k = 40 is not a multiple of 32',
    });
    expect(await keptOf(shapes, '{}', { also: ['*'], keep: ['l*d', '*.a'] })).toEqual({
      'lm_head.weight': '--keep l*d',
      'embed.weight': 'k = 40 is not a multiple of 32',
      'layers.0.a.weight': '--keep *.a',
    });
    // A dot is a dot.
    expect((await rejection(keptOf(shapes, '{}', { keep: ['lm.head'] }))).message).toContain("'lm.head'");
  });

  it('what is stored [k, n], by the sizes in config.json', async () => {
    const config = (sizes: object) => JSON.stringify(sizes);
    const [right, turned] = [
      [2, 64, 96],
      [2, 96, 64],
    ];
    const reason = 'stored [k, n], and blocks run along k';
    const up = 'layers.0.mlp.experts.gate_up_proj';
    const down = 'layers.0.mlp.experts.down_proj';
    expect(await keptOf({ [up]: right, [down]: turned }, config({ hidden_size: 96 }))).toEqual({});
    expect(await keptOf({ [up]: turned, [down]: right }, config({ hidden_size: 96 }))).toEqual({
      [up]: reason,
      [down]: reason,
    });
    expect(
      await keptOf({ [up]: turned, [down]: right }, config({ text_config: { hidden_size: 96 } })),
    ).toEqual({ [up]: reason, [down]: reason });
    // A square one is like the other, as in gpt-oss.
    const square = [2, 96, 96];
    expect(await keptOf({ [up]: turned, [down]: square }, config({ hidden_size: 96 }))).toEqual({
      [up]: reason,
      [down]: reason,
    });
    expect(await keptOf({ [up]: right, [down]: square }, config({ hidden_size: 96 }))).toEqual({});
    const conv1d = keptOf({ 'h.0.attn.c_attn.weight': [32, 96] }, config({ model_type: 'gpt2' }));
    expect((await rejection(conv1d)).message).toContain(`2 are kept (${reason})`);
  });

  it('types that have been narrowed already', async () => {
    const narrow = { dtype: 'F8_E4M3', shape: [2, 32], bytes: new Uint8Array(64).fill(0x38) };
    const double = { dtype: 'F64', shape: [1, 32], bytes: new Uint8Array(256) };
    const others = {
      'a.weight': narrow,
      'b.weight': double,
      'c.weight': f32([1, 32], new Array(32).fill(1)),
    };
    await writeModel(model, { matrices: {}, others, config: '{}' });
    const { kept, matrices } = await run();
    expect(kept).toEqual({ 'F8_E4M3 already': ['a.weight'] });
    expect(matrices.map(({ name }) => name)).toEqual(['c.weight']);
  });
});

const dictionary = resolve(import.meta.dirname, '../../../../shared/models/dictionary-lm');
describe('dictionary-lm', () => {
  test.for([{ format: 'mxfp4', scale: 'oas', macro: 'dynamic' }, { format: 'nvfp4' }] as const)(
    'loads back as quantize made it: %o',
    { timeout: 120_000 },
    async (rules, { skip }) => {
      if (!existsSync(dictionary)) skip(`${dictionary} is not there`);
      model = dictionary;
      const { matrices, kept } = await run(rules);
      expect(matrices.length).toBe(42);
      expect(kept).toEqual({ embedding: ['model.embed_tokens.weight'] });
      await using checkpoint = await openCheckpointFile(out);
      for (const file of ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']) {
        await using source = await openFile(join(dictionary, file));
        const header = await readSafetensorsHeader(source);
        for (const name of header.tensors.keys()) {
          if (!matrices.some((matrix) => matrix.name === name)) continue;
          const { rows, cols, values } = await readMatrix(source, header, name);
          const options = {
            format: rules.format,
            rows,
            cols,
            macroScale: 'macro' in rules ? rules.macro : 'none',
          } as const;
          const loaded = (await checkpoint.matrix(name)) as QuantizedMatrix;
          expectSame(loaded, quantize(values, options), name);
        }
      }
    },
  );
});
