/** What of the language model needs no GPU: its configuration, its files, names of formats, its tokenizer. */
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseConfig, ropeFrequencies, ropeTable } from '../../../demo/lm/config.js';
import {
  activationsName,
  parseActivations,
  parseConfiguration,
  parseWeights,
  TABLES,
  weightsName,
} from '../../../demo/lm/format-names.js';
import type { WeightOptions } from '../../../demo/lm/layers.js';
import { openLlamaFolder } from '../../../demo/lm/node.js';
import { openLlamaFiles } from '../../../demo/lm/source.js';
import { openTokenizer } from '../../../demo/lm/tokenizer.js';
import { chooseConfigurations } from '../../../src/cli/perplexity.js';
import { resolveOptions } from '../../../src/quantize/options.js';
import { bf16, type FileTensors, f32 } from '../../support/checkpoint-files.js';
import { TINY, tinyConfig, tinyTensors, writeTinyLlama } from '../../support/tiny-llama.js';

const dictionary = resolve(import.meta.dirname, '../../../../shared/models/dictionary-lm');

describe('config.json', () => {
  const parse = (changes: object) => parseConfig({ ...tinyConfig(TINY), ...changes });

  test('has defaults where files leave things out', () => {
    expect(parse({})).toMatchObject({ hidden: 64, kvHeads: 2, headDim: 16, tiedHead: true, endTokens: [0] });
    expect(parse({ head_dim: undefined, num_key_value_heads: null })).toMatchObject({
      headDim: 16,
      kvHeads: 4,
    });
    expect(parse({ tie_word_embeddings: undefined }).tiedHead).toBe(false);
    expect(parse({ eos_token_id: [1, 2] }).endTokens).toEqual([1, 2]);
    expect(parse({ eos_token_id: null }).endTokens).toEqual([]);
    // As Transformers wrote it before version 5.
    const legacy = { rope_parameters: undefined, rope_theta: 5e5, rope_scaling: null };
    expect(parse(legacy).rope).toEqual({ type: 'default', theta: 5e5 });
    const scaled = { ...legacy, rope_scaling: { type: 'linear', factor: 4 } };
    expect(parse(scaled).rope).toEqual({ type: 'linear', theta: 5e5, factor: 4 });
  });

  test.each([
    [{ model_type: 'gpt2' }, /model_type "gpt2" is not "llama"/],
    [{ hidden_act: 'gelu' }, /hidden_act "gelu"/],
    [{ attention_bias: true }, /attention_bias/],
    [{ mlp_bias: true }, /mlp_bias/],
    [{ partial_rotary_factor: 0.5 }, /partial_rotary_factor/],
    [
      { rope_parameters: { rope_type: 'yarn', rope_theta: 1e4 } },
      /rope_type "yarn" is not one of default, linear, llama3/,
    ],
    [{ rope_parameters: { rope_type: 'llama3', factor: 8 } }, /low_freq_factor = undefined/],
    [{ num_attention_heads: 3 }, /num_attention_heads 3 is no multiple of num_key_value_heads 2/],
    [{ head_dim: 18 }, /head_dim 18 is no multiple of 4/],
    [{ head_dim: 516 }, /head_dim 516 is above 512/],
    [{ vocab_size: 0 }, /vocab_size = 0 is no positive integer/],
    [{ rms_norm_eps: '1e-5' }, /rms_norm_eps = "1e-5" is no positive number/],
    [{ hidden_size: undefined }, /hidden_size = undefined/],
  ])('refuses %o', (changes, message) => {
    expect(() => parse(changes)).toThrow(message);
  });

  test('turns pairs by position and frequency', () => {
    const config = parse({});
    expect([...ropeFrequencies(config.rope, 8)]).toEqual(
      [1, 0.1, 0.01, 0.001].map((value) => expect.closeTo(value, 15)),
    );
    const table = ropeTable(config, 3);
    expect(table.length).toBe(3 * 16);
    expect([...table.subarray(0, 4)]).toEqual([1, 0, 1, 0]);
    expect([...table.subarray(32, 34)]).toEqual([Math.fround(Math.cos(2)), Math.fround(Math.sin(2))]);
    const llama3 = {
      type: 'llama3',
      theta: 10000,
      factor: 8,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalPositions: 1000,
    } as const;
    const [fast, , , slow] = ropeFrequencies(llama3, 8);
    // 159 turns over the original positions stay, 0.16 are stretched, and 1.59 lie between.
    expect(fast).toBe(1);
    expect(slow).toBeCloseTo(0.001 / 8, 15);
    const share = (1000 * 0.01) / (2 * Math.PI) / 3 - 1 / 3;
    expect(ropeFrequencies(llama3, 8)[2]).toBeCloseTo(0.01 * (share + (1 - share) / 8), 15);
  });
});

describe('the files of a model', () => {
  let root = '';
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'fp4-webgpu-lm-'));
  });
  afterAll(() => rm(root, { recursive: true }));

  test('are read from a folder and as files of a page, from one or several shards', async () => {
    for (const files of [1, 3]) {
      const folder = join(root, `shards-${files}`);
      await writeTinyLlama(folder, TINY, { files });
      const index = files > 1 ? ['model.safetensors.index.json'] : ['model.safetensors'];
      const shards = files > 1 ? [1, 2, 3].map((i) => `model-${i}-of-3.safetensors`) : [];
      const names = [...index, ...shards, 'config.json'];
      const pageFiles = await Promise.all(
        names.map(async (name) => new File([await readFile(join(folder, name))], name)),
      );
      await using onDisk = await openLlamaFolder(folder);
      const onPage = await openLlamaFiles(pageFiles);
      const name = 'model.layers.1.mlp.down_proj.weight';
      const matrix = await onDisk.matrix(name, 64, 96);
      expect(await onPage.matrix(name, 64, 96)).toEqual(matrix);
      expect(await onPage.vector('model.norm.weight', 64)).toEqual(
        await onDisk.vector('model.norm.weight', 64),
      );
      expect(onDisk.storedAs).toBe('BF16');
      if (files > 1) {
        await expect(openLlamaFiles(pageFiles.slice(1))).rejects.toThrow(
          /3 safetensors files and no .*index/,
        );
        await expect(openLlamaFiles(pageFiles.filter((file) => file.name !== shards[1]))).rejects.toThrow(
          /model-2-of-3/,
        );
      }
    }
  });

  const without = (name: string) => {
    const { [name]: _, ...rest } = tinyTensors(TINY);
    return rest;
  };
  const withTensor = (tensors: FileTensors) => ({ ...tinyTensors(TINY), ...tensors });
  test.each<[string, FileTensors, RegExp]>([
    [
      'a missing matrix',
      without('model.layers.1.mlp.up_proj.weight'),
      /tensor model.layers.1.mlp.up_proj.weight is missing/,
    ],
    ['a missing norm', without('model.norm.weight'), /tensor model.norm.weight is missing/],
    [
      'a wrong shape',
      withTensor({ 'model.layers.0.self_attn.k_proj.weight': bf16([64, 64], Array(4096).fill(0)) }),
      /k_proj.weight is \[64, 64\]; config.json makes it \[32, 64\]/,
    ],
    [
      'a bias that would be left out',
      withTensor({ 'model.layers.0.self_attn.q_proj.bias': f32([64], Array(64).fill(1)) }),
      /tensor model.layers.0.self_attn.q_proj.bias is none of a Llama's/,
    ],
    [
      'a norm of another model',
      withTensor({ 'model.layers.0.self_attn.q_norm.weight': f32([16], Array(16).fill(1)) }),
      /q_norm.weight is none of a Llama's/,
    ],
    [
      'a block too many',
      withTensor({ 'model.layers.2.mlp.up_proj.weight': bf16([96, 64], Array(6144).fill(0)) }),
      /model.layers.2.mlp.up_proj.weight is none of a Llama's/,
    ],
  ])('%s is an error', async (name, tensors, message) => {
    const folder = join(root, name.replaceAll(' ', '-'));
    await writeTinyLlama(folder, TINY, { tensors });
    await expect(openLlamaFolder(folder)).rejects.toThrow(message);
  });

  test('frequencies and a tied head that are stored once more are let be', async () => {
    const folder = join(root, 'more');
    const head = tinyTensors(TINY)['model.embed_tokens.weight']!;
    const inverse = { 'model.layers.0.self_attn.rotary_emb.inv_freq': f32([8], Array(8).fill(1)) };
    await writeTinyLlama(folder, TINY, { tensors: withTensor({ 'lm_head.weight': head, ...inverse }) });
    await using source = await openLlamaFolder(folder);
    expect(source.config.layers).toBe(2);
    await writeFile(join(folder, 'config.json'), '{');
    await expect(openLlamaFolder(folder)).rejects.toThrow(/config.json is no JSON/);
    await rm(join(folder, 'config.json'));
    await expect(openLlamaFolder(folder)).rejects.toThrow(/config.json: cannot be read/);
  });
});

describe('names of formats', () => {
  test.each([
    ['mxfp4', { format: 'mxfp4' }, 'mxfp4:oas:b32'],
    ['mxfp4:b16:floor', { format: 'mxfp4', blockSize: 16, scaleRule: 'floor' }, 'mxfp4:floor:b16'],
    ['mxfp4:dynamic', { format: 'mxfp4', macroScale: 'dynamic', macroSize: 128 }, 'mxfp4:oas:dynamic128:b32'],
    [
      'mxfp4:oas:static32:b32',
      { format: 'mxfp4', scaleRule: 'oas', macroScale: 'static', macroSize: 32, blockSize: 32 },
      'mxfp4:oas:static32:b32',
    ],
    ['mxfp4:2d', { format: 'mxfp4', tile: '2d' }, 'mxfp4:oas:b32:2d'],
    ['nvfp4', { format: 'nvfp4' }, 'nvfp4:te'],
    [
      'nvfp4:four-over-six:hadamard',
      { format: 'nvfp4', scaleRule: 'four-over-six', hadamard: true },
      'nvfp4:four-over-six:hadamard',
    ],
    ['float', 'float', 'float'],
  ])('%s', (text, options, name) => {
    const parsed = parseWeights(text);
    expect(parsed).toEqual(options);
    expect(weightsName(parsed)).toBe(name);
    if (parsed === 'float') return;
    // The name stands for the same as the text.
    const shape = { rows: 1, cols: 128 };
    const again = parseWeights(name) as typeof parsed;
    expect(resolveOptions({ ...again, ...shape })).toEqual(resolveOptions({ ...parsed, ...shape }));
  });

  test('activations of their own, or as the weights', () => {
    expect(parseActivations('int8')).toBe('int8');
    expect(parseActivations('mxfp4:static64')).toEqual({
      kind: 'mxfp4',
      macroScale: 'static',
      macroSize: 64,
    });
    const { weights, activations } = parseConfiguration('mxfp4:dynamic128:b16/same');
    expect(activations).toEqual({ kind: 'mxfp4', blockSize: 16, macroScale: 'dynamic', macroSize: 128 });
    expect(activationsName(activations, weights)).toBe('mxfp4:oas:dynamic128:b16');
    expect(parseConfiguration('nvfp4:four-over-six:hadamard', 'same').activations).toEqual({
      kind: 'nvfp4',
      scaleRule: 'four-over-six',
    });
    expect(parseConfiguration('float', 'same').activations).toBe('float');
    // As createGemm has it: blocks of x are as long as those of mxfp4 weights.
    expect(activationsName('mxfp4', { format: 'mxfp4', blockSize: 16 })).toBe('mxfp4:oas:b16');
  });

  test.each([
    ['fp5', /'fp5' is no format; there are mxfp4, nvfp4, float/],
    ['mxfp4:te', /'te' in 'mxfp4:te' is unknown/],
    ['nvfp4:dynamic', /'dynamic' in 'nvfp4:dynamic' is unknown/],
    ['mxfp4:b8', /blocks of mxfp4 have 32 or 16 values/],
    ['mxfp4:static48', /macro blocks have 128, 64, 32 values/],
    ['mxfp4:oas:floor', /says scaleRule twice/],
    ['mxfp4/mxfp4/mxfp4', /more than one slash/],
    ['mxfp4/mxfp4:2d', /'2d' in 'mxfp4:2d' is unknown/],
    ['float/same', /floats have no FP4 format/],
  ])('%s is refused', (text, message) => {
    expect(() => parseConfiguration(text)).toThrow(message);
  });

  test('tables have every rule, block and macro block once, behind what they are compared with', () => {
    for (const [name, count] of [
      ['w4a16', 20],
      ['w4a4', 26],
    ] as const) {
      const configurations = TABLES[name].map((text) => parseConfiguration(text));
      const names = configurations.map(
        ({ weights, activations }) => `${weightsName(weights)}/${activationsName(activations, weights)}`,
      );
      expect(new Set(names).size).toBe(count);
      for (const { weights, activations } of configurations) {
        const x = typeof activations === 'string' ? undefined : activations;
        // All of them go with the sizes of the dictionary model's layers.
        for (const cols of [384, 1024]) {
          resolveOptions({ ...(weights as WeightOptions), rows: 1, cols });
          if (x && x.kind !== 'float' && x.kind !== 'int8') {
            const { kind, ...rules } = x;
            resolveOptions({ ...rules, format: kind, rows: 1, cols });
          }
        }
      }
      expect(
        configurations.every(({ activations }) => (activations === 'float') === (name === 'w4a16')),
      ).toBe(true);
    }
    const both = chooseConfigurations({ table: ['w4a16', 'w4a4'], baselines: true });
    expect(both.length).toBe(47);
    expect(both[0]).toEqual({ weights: 'float', activations: 'float' });
    const one = chooseConfigurations({
      formats: ['mxfp4:floor'],
      activations: ['float', 'same'],
      baselines: true,
    });
    expect(
      one.map(
        ({ weights, activations }) => `${weightsName(weights)}/${activationsName(activations, weights)}`,
      ),
    ).toEqual([
      'float/float',
      'nvfp4:te/float',
      'nvfp4:te/nvfp4:te',
      'mxfp4:floor:b32/float',
      'mxfp4:floor:b32/mxfp4:floor:b32',
    ]);
    expect(chooseConfigurations({ formats: ['mxfp4'], baselines: false }).length).toBe(1);
    expect(() => chooseConfigurations({ baselines: true })).toThrow(/nothing to measure/);
    expect(() => chooseConfigurations({ table: ['w8'], baselines: true })).toThrow(/unknown table w8/);
  });
});

test.skipIf(!existsSync(dictionary))(
  'the tokenizer of the dictionary model gives back what it was given',
  async () => {
    await using source = await openLlamaFolder(dictionary);
    const tokenizer = await openTokenizer(source);
    const texts = [
      '',
      ' a',
      'Abacus, n. [L. abacus.]  1. A table\n\tstrewn with sand.',
      'naïve façade — 東京 🙂 e\u0301',
      "it's 1,234 ''",
    ];
    for (const text of texts) {
      const tokens = tokenizer.encode(text);
      expect(tokenizer.decode(tokens)).toBe(text);
      expect(tokens.every((token) => Number.isInteger(token) && token < source.config.vocabulary)).toBe(true);
    }
    // Its texts came from the same tokenizer, but may begin and end inside a word here.
    const bytes = await readFile(join(dictionary, 'eval_tokens.u16'));
    const stored = Array.from(new Uint16Array(bytes.buffer, bytes.byteOffset, 2048));
    const again = tokenizer.encode(tokenizer.decode(stored));
    expect(`,${again.join()},`).toContain(`,${stored.slice(8, -8).join()},`);
  },
);
