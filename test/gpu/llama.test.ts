/** The language model of demo/lm against a forward pass in f64 on the CPU. */

import { existsSync } from 'node:fs';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Forward, KvCache } from '../../demo/lm/forward.js';
import { type GenerateOptions, generate } from '../../demo/lm/generate.js';
import type { WeightOptions } from '../../demo/lm/layers.js';
import { createLinear, plainLinear } from '../../demo/lm/linear.js';
import { createLlama, type Llama, type LlamaOptions, uploadShared } from '../../demo/lm/llama.js';
import { openLlamaFolder } from '../../demo/lm/node.js';
import { perplexity } from '../../demo/lm/perplexity.js';
import { createPlainProduct, PlainWeights } from '../../demo/lm/plain.js';
import roundBf16Source from '../../demo/lm/shaders/round_bf16.wgsl?raw';
import sampleSource from '../../demo/lm/shaders/sample.wgsl?raw';
import { createStep } from '../../demo/lm/step.js';
import { fromF16, toF16 } from '../../src/formats/f16.js';
import { createStorageBuffer, readBuffer } from '../../src/gpu/buffers.js';
import { BufferUsage } from '../../src/gpu/constants.js';
import {
  type ActivationOptions,
  type Dtype,
  dequantize,
  type FloatMatrix,
  type Gpu,
  quantize,
  type TensorData,
  tensorsAs,
  writeSafetensors,
} from '../../src/index.js';
import { openCheckpointFile } from '../../src/node.js';
import { roundToBf16 } from '../support/exact.js';
import { adapterId, useGpu } from '../support/gpu.js';
import {
  HEAD,
  type LlamaF64,
  loadLlamaF64,
  product as productF64,
  quantizedLinear,
} from '../support/llama-f64.js';
import { fill, gaussian } from '../support/random-data.js';
import { submitPass } from '../support/submit-pass.js';
import { randomTokens, TINY, type TinyLlama, writeTinyLlama } from '../support/tiny-llama.js';

const suite = useGpu({ leftTo: 'lavapipe', what: 'the language model', narrow: true });
const dictionary = resolve(import.meta.dirname, '../../../shared/models/dictionary-lm');
/** SwiftShader compiles each kernel anew for every pipeline: it does the first model only. */
const isSlow = adapterId() === 'swiftshader';
if (isSlow) console.warn('most tests of the language model are skipped: they take SwiftShader minutes');
const hasDictionary = existsSync(dictionary);
if (!hasDictionary) console.warn(`tests of the dictionary model are skipped: ${dictionary} is not there`);

let root = '';
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'fp4-webgpu-lm-'));
});
afterAll(() => rm(root, { recursive: true }));

/** Mean loss of each sequence in f64. */
function lossesF64(model: LlamaF64, tokens: ArrayLike<number>, length: number, options = {}): number[] {
  const sequences = Array.from({ length: tokens.length / length }, (_, i) =>
    Array.from(tokens).slice(i * length, (i + 1) * length),
  );
  return model.nlls(sequences, options).map((nll) => nll.reduce((sum, value) => sum + value, 0) / nll.length);
}

type Linear = NonNullable<Parameters<LlamaF64['nlls']>[1]>['linear'];

/**
 * How far losses may be from those of f64: three times as far as they move when each value that a linear layer gives is off
 * by what f32 sums of its k products are likely to be (Higham and Mary 2019: √k · 2^-24 · Σ|x · w|), one way or the other by
 * chance. The model itself tells what that does to it.
 * @param exact the losses of f64, one a sequence
 */
function f32Bound(
  model: LlamaF64,
  tokens: ArrayLike<number>,
  exact: readonly number[],
  linear?: Linear,
): number {
  const length = tokens.length / exact.length;
  let state = 1;
  const noisy: NonNullable<Linear> = (name, x, m) => {
    const y = linear?.(name, x, m) ?? productF64(x, model.weight(name), m);
    const magnitudes = productF64(x.map(Math.abs), model.weight(name).map(Math.abs), m);
    const step = Math.sqrt(x.length / m) * 2 ** -24;
    for (let i = 0; i < y.length; i++) {
      state = (Math.imul(state, 0x343fd) + 0x269ec3) >>> 0;
      y[i]! += (state & 0x10000 ? step : -step) * magnitudes[i]!;
    }
    return y;
  };
  const moved = lossesF64(model, tokens, length, { linear: noisy });
  const bound = 3 * Math.max(...exact.map((loss, i) => Math.abs(loss - moved[i]!)));
  // One that a wrong model is far outside of.
  expect(bound).toBeLessThan(2e-3);
  return bound;
}

function expectWithin(values: ArrayLike<number>, wanted: ArrayLike<number>, bound: number): void {
  expect(values.length).toBe(wanted.length);
  let worst = 0;
  for (let i = 0; i < values.length; i++) worst = Math.max(worst, Math.abs(values[i]! - wanted[i]!) || 0);
  expect(Array.from(values).every(Number.isFinite)).toBe(true);
  expect(worst).toBeLessThanOrEqual(bound);
}

const MODELS: [string, TinyLlama][] = [
  ['grouped queries, tied head', TINY],
  [
    'one key head, heads of 100, own head, f32 weights, llama3 positions',
    {
      ...TINY,
      hidden: 80,
      heads: 3,
      kvHeads: 1,
      headDim: 100,
      tied: false,
      vocabulary: 257,
      dtype: 'f32',
      config: {
        rope_parameters: {
          rope_type: 'llama3',
          rope_theta: 500,
          factor: 8,
          low_freq_factor: 1,
          high_freq_factor: 4,
          original_max_position_embeddings: 32,
        },
      },
    },
  ],
];
describe.each(isSlow ? MODELS.slice(0, 1) : MODELS)('a Llama with %s', (name, tiny) => {
  const length = 50;
  const tokens = randomTokens(tiny.vocabulary, 3 * length);
  const folder = () => join(root, name.replaceAll(/\W/g, '-'));
  beforeAll(() => writeTinyLlama(folder(), tiny, { files: 2 }));

  test('has the losses and logits of f64', async () => {
    const reference = await loadLlamaF64(folder());
    await using source = await openLlamaFolder(folder());
    using llama = await createLlama(suite.gpu, source, { precision: 'f32' });
    const wanted = lossesF64(reference, tokens, length);
    const { lossPerSequence, loss, ...rest } = await perplexity(llama, tokens, {
      sequenceLength: length,
      batch: 2,
    });
    expect(rest.tokens).toBe(3 * (length - 1));
    expect(rest.perplexity).toBeCloseTo(Math.exp(loss), 12);
    expectWithin(lossPerSequence, wanted, f32Bound(reference, tokens, wanted));

    using cache = new KvCache(llama, 3, length);
    using forward = await Forward.create(llama, { cache, length, output: 'logits' });
    forward.writeTokens(tokens);
    forward.submit();
    const logits = await forward.readLogits();
    for (let i = 0; i < 3; i++) {
      const all = reference.logits(tokens.subarray(i * length, (i + 1) * length));
      const last = all.subarray((length - 1) * tiny.vocabulary);
      expectWithin(logits.subarray(i * tiny.vocabulary, (i + 1) * tiny.vocabulary), last, 1e-3);
    }
  });

  test('gives the same token by token as all at once', async () => {
    await using source = await openLlamaFolder(folder());
    using llama = await createLlama(suite.gpu, source, { precision: 'f32' });
    const sequences = 2;
    const run = async (lengths: readonly number[]) => {
      using cache = new KvCache(llama, sequences, 40);
      let logits: Float32Array = new Float32Array();
      for (const count of lengths) {
        using forward = await Forward.create(llama, { cache, length: count, output: 'logits' });
        const at = (i: number) => i * length + cache.past;
        forward.writeTokens([
          ...tokens.subarray(at(0), at(0) + count),
          ...tokens.subarray(at(1), at(1) + count),
        ]);
        forward.submit();
        logits = await forward.readLogits();
      }
      return logits;
    };
    const whole = await run([39]);
    const largest = whole.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    for (const lengths of [
      [1, 35, 1, 1, 1],
      [33, 6],
    ]) {
      const parts = await run(lengths);
      // Sums in another order, each within its roundings, go through the same layers.
      expectWithin(parts, whole, 1e-4 * largest);
    }
  });
});

const gaussians = (count: number) => fill(count, gaussian(3));

/** The same rules for x as for weights. */
function activationsOf({ format, ...rules }: WeightOptions): ActivationOptions {
  return { kind: format, ...rules } as ActivationOptions;
}

describe.skipIf(isSlow).each([
  ['f32', 3],
  ['f32', 70],
  ['f16', 2],
  ['f16', 65],
] as const)('plain products with %s weights', (type, m) => {
  test(`of ${m} rows are those of f64, into some columns of y`, async (context) => {
    const { device, caps } = suite.gpu;
    if (type === 'f16' && !caps.tiers.includes('f16')) context.skip('the adapter has no f16');
    const [n, k, stride, first] = [66, 36, 80, 9];
    const round = (values: Float32Array) => (type === 'f16' ? fromF16(toF16(values)) : values);
    const stored = (values: Float32Array) => (type === 'f16' ? toF16(values) : values);
    const x = round(gaussians(m * k));
    const w = round(gaussians(n * k));
    const y = gaussians(m * stride);
    const buffers = {
      x: createStorageBuffer(device, 'x', stored(x)),
      w: createStorageBuffer(device, 'w', stored(w)),
      y: createStorageBuffer(device, 'y', y),
    };
    const product = await createPlainProduct(suite.gpu, {
      m,
      n,
      k,
      stride,
      first,
      x: type,
      w: type,
      accumulate: true,
    });
    submitPass(device, (pass) => product.bind(buffers).encode(pass));
    const sums = productF64(Float64Array.from(x), w, m);
    const wanted = Float64Array.from(y);
    for (let i = 0; i < m; i++) {
      for (let j = 0; j < n; j++) wanted[i * stride + first + j]! += sums[i * n + j]!;
    }
    const magnitudes = productF64(Float64Array.from(x, Math.abs), w.map(Math.abs), m);
    // A rounding a product, and some for the sum with what was there.
    expectWithin(
      new Float32Array(await readBuffer(device, buffers.y)),
      wanted,
      (k + 8) * 2 ** -24 * Math.max(...magnitudes),
    );
    product.destroy();
  });
});

test('rounding to BF16 is to nearest, ties to even; Inf and NaN stay', async () => {
  const { device } = suite.gpu;
  const ties = [1 + 2 ** -8, 1 + 3 * 2 ** -8, -(1 + 2 ** -8 + 2 ** -20), 2 ** -126, 3.4e38, -0];
  const special = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN];
  const values = Float32Array.from([...gaussians(500), ...ties, ...special, 0, 0, 0]);
  const x = createStorageBuffer(device, 'x', values);
  const step = await createStep(suite.gpu, {
    label: 'round',
    sources: [roundBf16Source],
    buffers: [x],
    workgroups: Math.ceil(values.length / 4 / 64),
  });
  submitPass(device, (pass) => step.encode(pass));
  const rounded = new Float32Array(await readBuffer(device, x));
  expect(rounded).toEqual(values.map((value) => (Number.isFinite(value) ? roundToBf16(value) : value)));
});

/** All products have the same k, so that there are few kernels to compile, and few enough rows for the quick ones. */
const SQUARE: TinyLlama = { ...TINY, intermediate: 64 };

describe.skipIf(isSlow)('formats', () => {
  const length = 12;
  const tokens = randomTokens(SQUARE.vocabulary, 2 * length);
  const folder = () => join(root, 'formats');
  beforeAll(() => writeTinyLlama(folder(), SQUARE));

  const losses = async (options: LlamaOptions, from = folder()) => {
    await using source = await openLlamaFolder(from);
    using llama = await createLlama(suite.gpu, source, { precision: 'f32', ...options });
    const { lossPerSequence } = await perplexity(llama, tokens, { sequenceLength: length });
    return { lossPerSequence, bits: llama.bitsPerWeight, bytes: llama.storedBytes };
  };

  test.each<[string, WeightOptions, number]>([
    [
      'MXFP4 with MBS and blocks of 16',
      { format: 'mxfp4', blockSize: 16, macroScale: 'dynamic', macroSize: 32 },
      4.75,
    ],
    ['four-over-six, rotated', { format: 'nvfp4', scaleRule: 'four-over-six', hadamard: true }, 4.5],
  ])('%s weights: the losses of f64 with what they stand for', async (_, weights, bits) => {
    const reference = await loadLlamaF64(folder());
    const result = await losses({ weights });
    const linear = quantizedLinear(reference, { weights });
    const wanted = lossesF64(reference, tokens, length, { linear });
    expectWithin(result.lossPerSequence, wanted, f32Bound(reference, tokens, wanted, linear));
    expect(result.bits).toBe(bits);
    const { hidden, vocabulary, layers } = SQUARE;
    const blockWeights = layers * (4 * hidden * hidden + 3 * hidden * hidden - hidden * hidden);
    expect(result.bytes).toBe(
      (blockWeights * bits) / 8 + 2 * vocabulary * hidden + 4 * hidden * (2 * layers + 1),
    );
  });

  test.each<[string, WeightOptions, WeightOptions]>([
    ['NVFP4', { format: 'nvfp4' }, { format: 'nvfp4' }],
    [
      'MBS, dynamic for weights and static for x',
      { format: 'mxfp4', blockSize: 16, macroScale: 'dynamic', macroSize: 32 },
      { format: 'mxfp4', blockSize: 16, macroScale: 'static', macroSize: 32 },
    ],
  ])('%s on both sides: the losses of f64 with what both stand for', async (_, weights, x) => {
    const reference = await loadLlamaF64(folder());
    const { lossPerSequence } = await losses({
      weights,
      activations: activationsOf(x),
    });
    const both = quantizedLinear(reference, { weights, activations: x });
    const wanted = lossesF64(reference, tokens, length, { linear: both });
    // An element of x that is next to a midpoint may be rounded the other way, which moves a loss by a little.
    expectWithin(lossPerSequence, wanted, 0.01);
    const alone = lossesF64(reference, tokens, length, { linear: quantizedLinear(reference, { weights }) });
    expect(Math.max(...wanted.map((loss, i) => Math.abs(loss - alone[i]!)))).toBeGreaterThan(0.03);
  });

  test('inputs rounded to BF16 first: the losses of f64 with such inputs', async () => {
    const reference = await loadLlamaF64(folder());
    const format: WeightOptions = { format: 'mxfp4', scaleRule: 'floor' };
    const { lossPerSequence } = await losses({
      weights: format,
      activations: activationsOf(format),
      inputType: 'bf16',
    });
    const linear = quantizedLinear(reference, { weights: format, activations: format });
    const wanted = lossesF64(reference, tokens, length, {
      linear: ((name, x, m) => linear(name, name === HEAD ? x : x.map(roundToBf16), m)) satisfies Linear,
    });
    expectWithin(lossPerSequence, wanted, 0.01);
    const unrounded = lossesF64(reference, tokens, length, { linear });
    expect(Math.max(...wanted.map((loss, i) => Math.abs(loss - unrounded[i]!)))).toBeGreaterThan(0.02);
  });

  test('weights that the GPU quantizes give what those of the CPU do', async () => {
    // On software adapters the CPU does it.
    const info = { ...suite.gpu.adapterInfo, description: 'a GPU', device: '', isFallbackAdapter: false };
    const hardware: Gpu = Object.create(suite.gpu, { adapterInfo: { value: info } });
    await using source = await openLlamaFolder(folder());
    const name = 'model.layers.0.mlp.up_proj.weight';
    const matrix = await source.matrix(name, 64, 64);
    const m = 20;
    const x = createStorageBuffer(suite.gpu.device, 'x', gaussians(m * 64));
    const format = { weights: { format: 'nvfp4' }, activations: 'nvfp4', precision: 'f32' } as const;
    const multiply = async (gpu: Gpu) => {
      const linear = await createLinear(gpu, name, matrix, format);
      const product = await linear.createProduct({ m });
      const y = createStorageBuffer(gpu.device, 'y', m * 64 * 4);
      submitPass(gpu.device, (pass) => product.bind(x, y).encode(pass));
      const result = new Float32Array(await readBuffer(gpu.device, y));
      product.destroy();
      linear.destroy();
      return result;
    };
    const wanted = await multiply(suite.gpu);
    expectWithin(await multiply(hardware), wanted, 1e-5 * Math.max(...wanted));
  });

  test('layers are kept or have a format of their own by patterns', async () => {
    const reference = await loadLlamaF64(folder());
    const weights: WeightOptions = { format: 'mxfp4', blockSize: 16, macroScale: 'static', macroSize: 32 };
    const { lossPerSequence, bits } = await losses({
      weights: { format: 'nvfp4' },
      layers: [{ names: ['*'], weights }],
      keep: ['model.layers.0.*', '*.o_proj', 'lm_head'],
    });
    const keep = (name: string) => /layers\.0\.|o_proj/.test(name);
    const linear = quantizedLinear(reference, { weights, keep });
    const wanted = lossesF64(reference, tokens, length, { linear });
    expectWithin(lossPerSequence, wanted, f32Bound(reference, tokens, wanted, linear));
    // Of a block's six hidden × hidden matrices' worth, one block and one matrix have 16 bits.
    expect(bits).toBeCloseTo((7 * 16 + 5 * 4.75) / 12, 10);
    await expect(losses({ keep: ['model.layers.2.*'] })).rejects.toThrow(/'model.layers.2.\*' matches none/);
    await expect(losses({ activations: 'int8' })).rejects.toThrow(/int8 activations go with FP4 weights/);
  });

  test('a head is quantized where a pattern names it', async () => {
    const reference = await loadLlamaF64(folder());
    const weights: WeightOptions = { format: 'mxfp4', blockSize: 16, macroScale: 'static', macroSize: 32 };
    const { lossPerSequence } = await losses({ layers: [{ names: ['lm_head'], weights }] });
    const head = Float64Array.from(
      dequantize(
        quantize(Float32Array.from(reference.weight(HEAD)), {
          ...weights,
          rows: SQUARE.vocabulary,
          cols: SQUARE.hidden,
        }),
      ),
    );
    const linear: Linear = (name, x, m) => (name === HEAD ? productF64(x, head, m) : undefined);
    const wanted = lossesF64(reference, tokens, length, { linear });
    expectWithin(lossPerSequence, wanted, f32Bound(reference, tokens, wanted, linear));
  });

  test('FP4 matrices of a checkpoint are used as they are', async () => {
    const weights: WeightOptions = { format: 'mxfp4', blockSize: 16, macroScale: 'static', macroSize: 32 };
    const quantized = join(root, 'fp4');
    await using checkpoint = await openCheckpointFile(folder());
    const written: TensorData[] = [];
    for (const tensor of checkpoint.tensors) {
      if (/_proj/.test(tensor.name)) {
        const { rows, cols, values } = (await checkpoint.matrix(tensor.name)) as FloatMatrix;
        written.push(...tensorsAs('fp4-webgpu', tensor.name, quantize(values, { ...weights, rows, cols })));
      } else {
        const { name, dtype, shape } = tensor;
        written.push({ name, dtype: dtype as Dtype, shape, bytes: await checkpoint.read(tensor) });
      }
    }
    await mkdir(quantized);
    await writeFile(join(quantized, 'model.safetensors'), writeSafetensors(written));
    await copyFile(join(folder(), 'config.json'), join(quantized, 'config.json'));
    const here = await losses({ weights });
    const loaded = await losses({ weights: { format: 'nvfp4' } }, quantized);
    expect(loaded.bits).toBe(4.75);
    expectWithin(loaded.lossPerSequence, here.lossPerSequence, 1e-6);
  });
});

describe.skipIf(isSlow)('a device that holds little', () => {
  const folder = () => join(root, 'parts');
  const tiny: TinyLlama = { ...SQUARE, tied: false, vocabulary: 150 };
  beforeAll(() => writeTinyLlama(folder(), tiny));

  test('has the embedding, the head and the logits in parts, with the same losses', async () => {
    await using source = await openLlamaFolder(folder());
    using whole = await createLlama(suite.gpu, source, { precision: 'f32' });
    const shared = await uploadShared(suite.gpu, source);
    const embedding = (await source.matrix('model.embed_tokens.weight', 150, 64)) as FloatMatrix;
    const head = (await source.matrix('lm_head.weight', 150, 64)) as FloatMatrix;
    // 2 bytes of 64 values a row: parts of 62, 62 and 26 rows.
    const cut = (matrix: FloatMatrix) => PlainWeights.upload(suite.gpu, 'cut', matrix, 62 * 128 + 50);
    expect(cut(embedding).parts.map(({ rows }) => rows)).toEqual([62, 62, 26]);
    using parts = await createLlama(suite.gpu, source, {
      precision: 'f32',
      shared: { ...shared, embedding: cut(embedding) },
    });
    Object.assign(parts, { head: plainLinear(suite.gpu, cut(head)) });
    const tokens = randomTokens(150, 3 * 50);
    const run = async (llama: Llama, logitsBytes?: number) => {
      using cache = new KvCache(llama, 3, 50, true);
      using forward = await Forward.create(llama, { cache, length: 50, output: 'losses', logitsBytes });
      forward.writeTokens(tokens);
      forward.submit();
      return new Float32Array(await readBuffer(suite.gpu.device, forward.losses!)).slice();
    };
    const losses = await run(whole);
    expect(losses.some((loss) => loss > 1)).toBe(true);
    expect(await run(parts, 1)).toEqual(losses);
  });
});

describe.skipIf(isSlow)('generation', () => {
  const folder = () => join(root, 'generation');
  beforeAll(() => writeTinyLlama(folder(), SQUARE));
  const prompt = [5, 17, 42];
  const collect = async (llama: Llama, options: GenerateOptions = {}) => {
    const tokens: number[] = [];
    for await (const token of generate(llama, prompt, { maxTokens: 20, endTokens: [], ...options }))
      tokens.push(token);
    return tokens;
  };

  test('takes the likeliest token each time, ends where it should, draws by a seed', async () => {
    const reference = await loadLlamaF64(folder());
    await using source = await openLlamaFolder(folder());
    using llama = await createLlama(suite.gpu, source, { precision: 'f32' });
    const greedy = await collect(llama);
    const { vocabulary } = SQUARE;
    const all = reference.logits([...prompt, ...greedy]);
    greedy.forEach((token, i) => {
      const row = all.subarray((prompt.length - 1 + i) * vocabulary, (prompt.length + i) * vocabulary);
      expect(row[token]!).toBeGreaterThan(Math.max(...row) - 1e-3);
    });
    expect(greedy.length).toBe(20);
    expect(await collect(llama, { maxTokens: 7 })).toEqual(greedy.slice(0, 7));
    const end = greedy[4]!;
    expect(await collect(llama, { endTokens: [end] })).toEqual(greedy.slice(0, greedy.indexOf(end)));
    expect(await collect(llama, { temperature: 2, topK: 1, seed: 3 })).toEqual(greedy);
    const drawn = await collect(llama, { temperature: 1, seed: 3 });
    expect(drawn).not.toEqual(greedy);
    expect(await collect(llama, { temperature: 1, seed: 3 })).toEqual(drawn);
    expect(await collect(llama, { temperature: 1, seed: 4 })).not.toEqual(drawn);

    const abort = new AbortController();
    const stopped = (async () => {
      for await (const _ of generate(llama, prompt, { signal: abort.signal }))
        abort.abort(new Error('stopped'));
    })();
    await expect(stopped).rejects.toThrow('stopped');
    await expect(collect(llama, { maxTokens: 62 })).rejects.toThrow(/3 \+ 62 tokens are more than .* 64/);
    await expect(collect(llama, { temperature: -1 })).rejects.toThrow(/temperature = -1/);
    await expect(generate(llama, []).next()).rejects.toThrow(/prompt is empty/);
    await expect(generate(llama, [101]).next()).rejects.toThrow(/token 0 is 101; the vocabulary has 0..100/);
  });

  test('draws tokens as often as the model says, among the likeliest where asked', async () => {
    const { device } = suite.gpu;
    const logits = Float32Array.of(-2, 0.5, 3, 0, 3.5, -1, 2.5, 1);
    const likeliest = [4, 2, 6];
    const temperature = 2;
    const weights = likeliest.map((token) => Math.exp(logits[token]! / temperature));
    const total = weights.reduce((sum, value) => sum + value, 0);
    const draws = 500;
    const draw = device.createBuffer({ size: 16, usage: BufferUsage.UNIFORM | BufferUsage.COPY_DST });
    const token = createStorageBuffer(device, 'token', 4);
    const history = createStorageBuffer(device, 'history', 4 * draws);
    const step = await createStep(suite.gpu, {
      label: 'sample',
      sources: [sampleSource],
      constants: { VOCABULARY: logits.length },
      buffers: [draw, createStorageBuffer(device, 'logits', logits), token, history],
      workgroups: 1,
    });
    for (let i = 0; i < draws; i++) {
      const words = Uint32Array.of(i, 7, 0, likeliest.length);
      new Float32Array(words.buffer)[2] = 1 / temperature;
      device.queue.writeBuffer(draw, 0, words);
      submitPass(device, (pass) => step.encode(pass));
    }
    const drawn = new Uint32Array(await readBuffer(device, history));
    const counts = likeliest.map((wanted) => drawn.filter((value) => value === wanted).length);
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(draws);
    // Four standard deviations.
    counts.forEach((count, i) => {
      const share = weights[i]! / total;
      expect(Math.abs(count - draws * share)).toBeLessThan(4 * Math.sqrt(draws * share * (1 - share)));
    });
  });
});

test('perplexity refuses what it cannot measure', async () => {
  const folder = join(root, 'refusals');
  await writeTinyLlama(folder, SQUARE);
  await using source = await openLlamaFolder(folder);
  using llama = await createLlama(suite.gpu, source);
  const tokens = randomTokens(SQUARE.vocabulary, 128);
  for (const [list, options, message] of [
    [tokens, { sequenceLength: 50 }, /128 tokens are no whole number of sequences of 50/],
    [tokens, { sequenceLength: 1 }, /predict nothing/],
    [tokens, { sequenceLength: 128 }, /128 tokens are more than the model's max_position_embeddings of 64/],
    [[...tokens.subarray(0, 63), 101], {}, /token 63 is 101; the vocabulary has 0..100/],
    [[...tokens.subarray(0, 63), 0.5], {}, /token 63 is 0.5/],
    [[], {}, /no whole number/],
    [tokens, { batch: 0 }, /batch = 0/],
    [tokens, { batch: 2 ** 30 }, /batch = 1073741824 sequences of 64 tokens are more than the/],
    [tokens, { signal: AbortSignal.abort(new Error('stopped')) }, /stopped/],
  ] as const) {
    await expect(perplexity(llama, list, options)).rejects.toThrow(message);
  }
  const progress: number[] = [];
  await perplexity(llama, tokens, {
    batch: 1,
    onProgress: (done, total) => void progress.push(done / total),
  });
  expect(progress).toEqual([0, 0.5, 1]);
});

describe.skipIf(isSlow || !hasDictionary)('the dictionary model', () => {
  const MXFP4_FLOOR = { format: 'mxfp4', scaleRule: 'floor' } as const;
  const length = 16;
  const sequences = 5;
  const read = async (count: number) => {
    const bytes = await readFile(join(dictionary, 'eval_tokens.u16'));
    return new Uint16Array(bytes.buffer, bytes.byteOffset, count);
  };

  test.each<[string, WeightOptions | undefined]>([
    ['BF16', undefined],
    ['W4A16 MXFP4', MXFP4_FLOOR],
  ])('%s: the losses of f64', async (_, weights) => {
    const reference = await loadLlamaF64(dictionary);
    await using source = await openLlamaFolder(dictionary);
    using llama = await createLlama(suite.gpu, source, { weights: weights ?? 'float', precision: 'f32' });
    const tokens = await read(length);
    const { lossPerSequence } = await perplexity(llama, tokens, { sequenceLength: length });
    const linear = weights && quantizedLinear(reference, { weights });
    const wanted = lossesF64(reference, tokens, length, { linear });
    expectWithin(lossPerSequence, wanted, f32Bound(reference, tokens, wanted, linear));
  });

  // Where a value of x lies between two codes, the last bit of an f32 sum decides, and the loss moves by up to 0.14 (so it does
  // in f64, with noise of 2e-7 after each product): some sequences have none such, and agree. A wrong model agrees with none.
  test.each<[string, WeightOptions]>([
    ['W4A4 MXFP4', MXFP4_FLOOR],
    ['W4A4 NVFP4', { format: 'nvfp4' }],
  ])('%s: the losses of f64, but for values between two codes', async (_, format) => {
    const reference = await loadLlamaF64(dictionary);
    await using source = await openLlamaFolder(dictionary);
    using llama = await createLlama(suite.gpu, source, {
      weights: format,
      activations: activationsOf(format),
      precision: 'f32',
    });
    const tokens = await read(sequences * length);
    const { lossPerSequence } = await perplexity(llama, tokens, { sequenceLength: length, batch: sequences });
    const linear = quantizedLinear(reference, { weights: format, activations: format });
    const wanted = lossesF64(reference, tokens, length, { linear });
    expectWithin(lossPerSequence, wanted, 0.3);
    const agreeing = wanted.filter((loss, i) => Math.abs(loss - lossPerSequence[i]!) < 1e-4);
    expect(agreeing.length).toBeGreaterThanOrEqual(2);
  });
});
