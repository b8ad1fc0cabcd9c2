import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { divisorOf, globalMultiplier } from '../../../src/checkpoint/global-scale.js';
import { openCheckpoint } from '../../../src/checkpoint/open.js';
import { writeGguf } from '../../../src/checkpoint/write-gguf.js';
import { writeSafetensors } from '../../../src/checkpoint/write-safetensors.js';
import { compressedTensorsConfig } from '../../../src/checkpoint/writers/compressed-tensors.js';
import { expertName, expertStacks } from '../../../src/checkpoint/writers/experts.js';
import { type Convention, headersAs, tensorsAs, WRITERS } from '../../../src/checkpoint/writers/index.js';
import { InvalidArgumentError, UnsupportedError } from '../../../src/errors.js';
import type { Format } from '../../../src/formats/formats.js';
import type { QuantizedMatrix } from '../../../src/matrix/quantized-matrix.js';
import type { NvScaleRule } from '../../../src/quantize/options.js';
import { quantize } from '../../../src/quantize/quantize.js';
import type { FileTensors } from '../../support/checkpoint-files.js';
import {
  ctMxfp4,
  ctNvfp4,
  expectedMatrix,
  gptOss,
  type Logical,
  ours,
  oursExperts,
  randomLogical,
} from '../../support/checkpoint-producers.js';
import { ggufFile } from '../../support/gguf-writer.js';
import { ggufMatrix, orderedSafetensors } from '../../support/naive-writers.js';

const many = (count: number, make: (seed: number) => Logical) =>
  Array.from({ length: count }, (_, i) => make(i + 1));

/** A file of the one matrix, in the container that the convention is for. */
function fileAs(
  convention: Convention,
  name: string,
  matrix: QuantizedMatrix | readonly QuantizedMatrix[],
): Uint8Array<ArrayBuffer> {
  return convention === 'gguf'
    ? writeGguf(tensorsAs('gguf', name, matrix))
    : writeSafetensors(tensorsAs(convention, name, matrix));
}

/** The tensors of a fixture that are the matrix's own. */
const only = (tensors: FileTensors, ends: RegExp): FileTensors =>
  Object.fromEntries(Object.entries(tensors).filter(([name]) => ends.test(name)));

interface Case {
  readonly convention: Convention;
  readonly name: string;
  readonly logical: Logical | Logical[];
  readonly extra?: Partial<QuantizedMatrix>;
  /** The file, written by test/support. */
  readonly file: Uint8Array<ArrayBuffer>;
}

const CASES: Readonly<Record<string, () => Case>> = {
  'compressed-tensors mxfp4': () => {
    const logical = randomLogical('mxfp4', 3, 96, 1);
    const { matrix: name, tensors } = ctMxfp4(logical);
    return { convention: 'compressed-tensors', name, logical, file: orderedSafetensors(tensors) };
  },
  'compressed-tensors nvfp4': () => {
    const logical = randomLogical('nvfp4', 5, 48, 2);
    const { matrix: name, tensors } = ctNvfp4(logical);
    const file = orderedSafetensors(only(tensors, /weight_/));
    return { convention: 'compressed-tensors', name, logical, file };
  },
  'gpt-oss experts': () => {
    const logical = many(3, (seed) => randomLogical('mxfp4', 6, 96, seed));
    const { matrix: name, tensors } = gptOss(logical);
    return {
      convention: 'gpt-oss',
      name,
      logical,
      file: orderedSafetensors(only(tensors, /_(blocks|scales)$/)),
    };
  },
  'ours mxfp4 16': () => {
    const logical = randomLogical('mxfp4', 4, 48, 3, { blockSize: 16 });
    const { matrix: name, tensors } = ours(logical);
    return { convention: 'fp4-webgpu', name, logical, file: orderedSafetensors(tensors) };
  },
  'ours mxfp4 MBS, rotated': () => {
    const logical = randomLogical('mxfp4', 3, 160, 4);
    const { matrix: name, tensors, extra } = ours(logical, { macroSize: 64, hadamard: true });
    return { convention: 'fp4-webgpu', name, logical, extra: extra!, file: orderedSafetensors(tensors) };
  },
  'ours nvfp4 experts': () => {
    const logical = many(2, (seed) => randomLogical('nvfp4', 4, 48, seed));
    const { matrix: name, tensors } = oursExperts(logical);
    return { convention: 'fp4-webgpu', name, logical, file: orderedSafetensors(tensors) };
  },
  'gguf mxfp4': () => {
    const logical = randomLogical('mxfp4', 3, 96, 5);
    return {
      convention: 'gguf',
      name: 'blk.0.a.weight',
      logical,
      file: ggufFile({ tensors: ggufMatrix('blk.0.a.weight', logical) }),
    };
  },
  'gguf nvfp4': () => {
    const logical = randomLogical('nvfp4', 3, 128, 6);
    return {
      convention: 'gguf',
      name: 'a.weight',
      logical,
      file: ggufFile({ tensors: ggufMatrix('a.weight', logical) }),
    };
  },
  'gguf nvfp4 experts': () => {
    const logical = many(3, (seed) => randomLogical('nvfp4', 2, 64, seed));
    const name = 'blk.1.ffn_up_exps.weight';
    return { convention: 'gguf', name, logical, file: ggufFile({ tensors: ggufMatrix(name, logical) }) };
  },
};

describe.each(Object.entries(CASES))('%s', (_, make) => {
  const { convention, name, logical, extra, file } = make();
  const all = [logical].flat();
  const matrices = all.map((one) => expectedMatrix(one, extra));
  const matrix = Array.isArray(logical) ? matrices : matrices[0]!;

  it('is, byte for byte, the file that the description gives', () => {
    expect(fileAs(convention, name, matrix)).toEqual(file);
  });

  it('has the same headers before there are bytes', () => {
    const headers = tensorsAs(convention, name, matrix).map(({ bytes: _, ...header }) => header);
    expect(headersAs(convention, name, matrix)).toEqual(headers);
  });

  it('is read back', async () => {
    const checkpoint = await openCheckpoint(file);
    expect(checkpoint.matrices).toMatchObject([
      { name, producer: convention, experts: Array.isArray(logical) ? all.length : undefined },
    ]);
    expect(checkpoint.matrices[0]!.tensors.toSorted()).toEqual(
      checkpoint.tensors.map((t) => t.name).toSorted(),
    );
    for (const [i, q] of matrices.entries()) {
      const expert = Array.isArray(logical) ? i : undefined;
      expect(await checkpoint.matrix(name, { expert })).toEqual(q);
      const { codes: _, scales: __, macroScales: ___, ...header } = q;
      expect(await checkpoint.header(name, { expert })).toEqual(header);
    }
  });
});

describe('experts', () => {
  it('gpt-oss has a dimension less without them', async () => {
    const q = expectedMatrix(randomLogical('mxfp4', 6, 96, 1));
    expect(headersAs('gpt-oss', 'x', q)).toEqual([
      { name: 'x_blocks', dtype: 'U8', shape: [6, 3, 16] },
      { name: 'x_scales', dtype: 'U8', shape: [6, 3] },
    ]);
    const checkpoint = await openCheckpoint(fileAs('gpt-oss', 'x', q));
    expect(checkpoint.matrices).toMatchObject([{ name: 'x', experts: undefined, shape: [6, 96] }]);
    expect(await checkpoint.matrix('x')).toEqual(q);
  });

  it('compressed-tensors has a module for each', async () => {
    const matrices = many(3, (seed) => randomLogical('nvfp4', 2, 32, seed)).map((one) => expectedMatrix(one));
    const checkpoint = await openCheckpoint(fileAs('compressed-tensors', 'l.0.experts.up_proj', matrices));
    expect(checkpoint.matrices.map(({ name }) => name).toSorted()).toEqual(
      [0, 1, 2].map((i) => `l.0.experts.${i}.up_proj.weight`),
    );
    for (const [i, q] of matrices.entries()) {
      expect(await checkpoint.matrix(`l.0.experts.${i}.up_proj.weight`)).toEqual(q);
    }
  });

  it.each([
    ['model.layers.0.mlp.experts.gate_up_proj', 'model.layers.0.mlp.experts.3.gate_up_proj.weight'],
    ['l.0.mlp.switch_mlp.up_proj.weight', 'l.0.mlp.switch_mlp.experts.3.up_proj.weight'],
    ['block.1.mlp.mlp1_weight', 'block.1.mlp.experts.3.mlp1_weight.weight'],
    ['w', 'experts.3.w.weight'],
  ])('the names of %s', (stack, alone) => {
    expect(expertName(stack, 3)).toBe(alone);
  });

  it('names make stacks where none is missing', () => {
    const names = (count: number, last: string, from = 0) =>
      Array.from({ length: count }, (_, i) => `a.experts.${from + i}.${last}.weight`);
    const all = [
      ...names(11, 'up').toReversed(),
      ...names(2, 'down', 1),
      'layers.0.up.weight',
      'a.experts.00.x.weight',
    ];
    expect([...expertStacks(all)]).toEqual([['a.experts.up', names(11, 'up')]]);
    expect(expertStacks([...names(1, 'x'), ...names(1, 'x', 2)]).size).toBe(0);
    expect(expertStacks([...names(1, 'x'), ...names(1, 'x', 4e9), ...names(1, 'y', 1e21)]).size).toBe(0);
  });

  it('of a stack are alike', () => {
    const [a, b] = [randomLogical('mxfp4', 2, 32, 1), randomLogical('mxfp4', 2, 64, 2)].map((one) =>
      expectedMatrix(one),
    );
    const message = 'checkpoint: matrix "w": cols is 32 in expert 0 and 64 in expert 1; experts are alike';
    expect(() => headersAs('gguf', 'w', [a!, b!])).toThrow(message);
    expect(() => tensorsAs('fp4-webgpu', 'w', [a!, b!])).toThrow(InvalidArgumentError);
    for (const convention of Object.keys(WRITERS) as Convention[]) {
      expect(() => tensorsAs(convention, 'w', [])).toThrow('checkpoint: matrix "w": no experts are given');
      expect(() => headersAs(convention, '', a!)).toThrow('checkpoint: a matrix needs a name');
    }
    expect(() => headersAs('modelopt' as Convention, 'w', a!)).toThrow(
      'unknown convention "modelopt"; known are fp4-webgpu, compressed-tensors, gpt-oss, gguf',
    );
  });
});

describe('what a convention cannot hold', () => {
  const matrices = {
    plain: expectedMatrix(randomLogical('mxfp4', 2, 64, 1)),
    'block 16': expectedMatrix(randomLogical('mxfp4', 2, 64, 1, { blockSize: 16 })),
    MBS: {
      ...expectedMatrix(randomLogical('mxfp4', 2, 64, 1)),
      macroSize: 64,
      macroScales: new Uint8Array(2),
    },
    rotated: { ...expectedMatrix(randomLogical('mxfp4', 2, 64, 1)), hadamard: true },
    nvfp4: expectedMatrix(randomLogical('nvfp4', 2, 64, 1)),
    'nvfp4 of 48 columns': expectedMatrix(randomLogical('nvfp4', 2, 48, 1)),
    // The f32s next to its reciprocal, 0.5 and 0.5 + 2^-24, have 2 and 2 - 2^-22.
    'nvfp4 times 2 - 2^-23': {
      ...expectedMatrix(randomLogical('nvfp4', 2, 64, 1)),
      globalScale: 2 - 2 ** -23,
    },
  } as const satisfies Record<string, QuantizedMatrix>;
  const PROBLEMS: Record<
    Exclude<Convention, 'fp4-webgpu'>,
    Partial<Record<keyof typeof matrices, string>>
  > = {
    'compressed-tensors': {
      'block 16': 'compressed-tensors has MXFP4 in blocks of 32, not of 16',
      MBS: 'compressed-tensors has no Macro Block Scaling factors',
      rotated: 'compressed-tensors cannot say that values are rotated',
      'nvfp4 times 2 - 2^-23': 'no f32 has the tensor scale 1.9999998807907104 as its reciprocal',
    },
    'gpt-oss': {
      'block 16': 'gpt-oss has MXFP4 in blocks of 32, not of 16',
      MBS: 'gpt-oss has no Macro Block Scaling factors',
      rotated: 'gpt-oss cannot say that values are rotated',
      nvfp4: 'gpt-oss files have MXFP4, not NVFP4',
      'nvfp4 of 48 columns': 'gpt-oss files have MXFP4, not NVFP4',
      'nvfp4 times 2 - 2^-23': 'gpt-oss files have MXFP4, not NVFP4',
    },
    gguf: {
      'block 16': 'GGUF has MXFP4 in blocks of 32, not of 16',
      MBS: 'GGUF has no Macro Block Scaling factors',
      rotated: 'GGUF cannot say that values are rotated',
      'nvfp4 of 48 columns': 'GGUF has NVFP4 in blocks of 64; 48 columns are no multiple',
    },
  };

  for (const [convention, problems] of Object.entries(PROBLEMS) as [Convention, Record<string, string>][]) {
    it.each(Object.entries(matrices))(`${convention}: %s`, async (which, q) => {
      const write = () => tensorsAs(convention, 'a.weight', q);
      if (!problems[which]) {
        const checkpoint = await openCheckpoint(fileAs(convention, 'a.weight', q));
        expect(await checkpoint.matrix('a.weight')).toEqual(q);
        return;
      }
      expect(write).toThrow(UnsupportedError);
      expect(write).toThrow(/^checkpoint: matrix "a\.weight": .*; 'fp4-webgpu' holds every matrix$/);
      expect(write).toThrow(problems[which]);
      expect(() => headersAs(convention, 'a.weight', [q, q])).toThrow('matrix "a.weight", expert 0: ');
      expect(WRITERS[convention].problems(q)).toHaveLength(1);
    });
  }

  it('every reason is given', () => {
    const { MBS } = matrices;
    expect(WRITERS.gguf.problems({ ...MBS, blockSize: 16, hadamard: true })).toHaveLength(3);
  });

  it('ours holds all', async () => {
    for (const q of Object.values(matrices)) {
      const checkpoint = await openCheckpoint(fileAs('fp4-webgpu', 'a', q));
      expect(await checkpoint.matrix('a')).toEqual(q);
    }
  });

  it('wrong arrays and headers are no matter of conventions', () => {
    const { plain } = matrices;
    const wrong = { ...plain, codes: plain.codes.subarray(1) };
    expect(() => tensorsAs('gpt-oss', 'a', wrong)).toThrow('matrix: codes has 63 bytes; [2, 64] needs 64');
    expect(() => headersAs('gpt-oss', 'a', { ...plain, cols: 33 })).toThrow('cols = 33 is not a multiple');
  });
});

describe('divisorOf', () => {
  const multiplierOf = (divisor: number) =>
    globalMultiplier(divisor, 'divisor', (message) => {
      throw new Error(message);
    });
  const f32 = (bits: number) => new Float32Array(Uint32Array.of(bits).buffer)[0]!;
  const bitsOf = (value: number) => new Uint32Array(Float32Array.of(value).buffer)[0]!;

  it('reads back to the last bit, and is there for what a divisor makes', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0x01000000, max: 0x7e000000 }), (bits) => {
        const scale = multiplierOf(f32(bits));
        const divisor = divisorOf(scale);
        expect(divisor).toBeDefined();
        expect(multiplierOf(divisor!)).toBe(scale);
      }),
      { numRuns: 5000 },
    );
  });

  it('is missing only where no f32 near the reciprocal will do, a sixth of all', () => {
    let missing = 0;
    const count = 20_000;
    for (let i = 0; i < count; i++) {
      const scale = f32(0x3a000000 + Math.floor((i * 2 ** 23) / count));
      if (divisorOf(scale) !== undefined) continue;
      missing++;
      for (let d = -4; d <= 4; d++) expect(multiplierOf(f32(bitsOf(1 / scale) + d))).not.toBe(scale);
    }
    // Above √2 a share of 1 - 2 / s² of the significands s.
    expect(missing / count).toBeCloseTo(3 - 2 * Math.SQRT2, 2);
  });

  it('is there for every scale that `quantize` gives', () => {
    const values = fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), {
      minLength: 16,
      maxLength: 16,
    });
    fc.assert(
      fc.property(values, fc.constantFrom<NvScaleRule>('te', 'four-over-six'), (row, scaleRule) => {
        const options = { rows: 1, cols: 16, format: 'nvfp4', scaleRule } as const;
        const { globalScale } = quantize(Float32Array.from(row), options);
        const divisor = divisorOf(globalScale);
        expect(divisor && multiplierOf(divisor)).toBe(globalScale);
      }),
      { numRuns: 3000 },
    );
  });

  it('near the ends of f32', () => {
    expect(divisorOf(2 ** -149)).toBeUndefined();
    expect(divisorOf(2 ** -127)).toBe(2 ** 127);
    expect(divisorOf(2 ** 127)).toBe(2 ** -127);
    expect(divisorOf(f32(0x7f7fffff))).toBeUndefined();
  });
});

describe('the configuration of compressed-tensors', () => {
  it('names modules, one group a format', () => {
    const of = (...pairs: [string, Format][]) => compressedTensorsConfig(new Map(pairs), ['lm_head']);
    expect(of(['a.weight', 'mxfp4'])).toEqual({
      quant_method: 'compressed-tensors',
      format: 'mxfp4-pack-quantized',
      quantization_status: 'compressed',
      config_groups: {
        group_0: {
          targets: ['a'],
          format: 'mxfp4-pack-quantized',
          weights: {
            num_bits: 4,
            type: 'float',
            symmetric: true,
            strategy: 'group',
            group_size: 32,
            dynamic: false,
            scale_dtype: 'torch.uint8',
          },
          input_activations: null,
          output_activations: null,
        },
      },
      ignore: ['lm_head'],
    });
    expect(of(['a.weight', 'mxfp4'], ['b.weight', 'nvfp4'])).toMatchObject({
      format: 'mixed-precision',
      config_groups: {
        group_0: {
          targets: ['b'],
          format: 'nvfp4-pack-quantized',
          weights: { strategy: 'tensor_group', group_size: 16, scale_dtype: 'torch.float8_e4m3fn' },
        },
        group_1: { targets: ['a'], format: 'mxfp4-pack-quantized' },
      },
    });
  });
});

describe('any matrix', () => {
  /** One, or experts that are alike. Most have nothing that only this library's convention holds. */
  const matrices = fc
    .record({
      format: fc.constantFrom<Format>('mxfp4', 'nvfp4'),
      rows: fc.integer({ min: 1, max: 5 }),
      cols: fc.constantFrom(16, 32, 64, 64, 128, 128, 160),
      blockSize: fc.constantFrom(32, 32, 32, 16),
      macroSize: fc.constantFrom(undefined, undefined, undefined, undefined, undefined, 32, 64, 128),
      hadamard: fc.constantFrom(false, false, false, false, false, false, true),
      experts: fc.array(fc.record({ seed: fc.nat(), globalBits: fc.integer({ min: 1, max: 0x7f7fffff }) }), {
        minLength: 1,
        maxLength: 3,
      }),
    })
    .map(({ format, rows, cols, blockSize, macroSize, hadamard, experts }) =>
      experts.map(({ seed, globalBits }): QuantizedMatrix => {
        const size = format === 'nvfp4' || cols % blockSize ? 16 : blockSize;
        const logical = randomLogical(format, rows, cols, seed, { blockSize: size });
        if (format === 'nvfp4') {
          const globalScale = new Float32Array(Uint32Array.of(globalBits).buffer)[0]!;
          return { ...expectedMatrix(logical), globalScale, hadamard };
        }
        const macros = macroSize && rows * Math.ceil(cols / macroSize);
        const macroScales = Uint8Array.from({ length: macros ?? 0 }, (_, i) => (i * 91 + seed) & 255);
        const macro = (macroSize ? { macroSize, macroScales } : {}) as Partial<QuantizedMatrix>;
        return { ...expectedMatrix(logical, macro), hadamard };
      }),
    );

  it.each(Object.keys(WRITERS) as Convention[])('comes back from %s, or is refused', async (convention) => {
    let held = 0;
    await fc.assert(
      fc.asyncProperty(matrices, fc.boolean(), async (all, stack) => {
        const matrix = stack ? all : all[0]!;
        const given = [matrix].flat();
        if (given.some((q) => WRITERS[convention].problems(q).length)) {
          expect(() => tensorsAs(convention, 'a.experts.w', matrix)).toThrow(UnsupportedError);
          return;
        }
        held++;
        const checkpoint = await openCheckpoint(fileAs(convention, 'a.experts.w', matrix));
        expect(checkpoint.refused).toEqual([]);
        const stacks = stack && convention !== 'compressed-tensors';
        for (const [i, q] of given.entries()) {
          const alone = stack ? `a.experts.${i}.w.weight` : 'a.experts.w.weight';
          const name = convention === 'compressed-tensors' ? alone : 'a.experts.w';
          expect(await checkpoint.matrix(name, stacks ? { expert: i } : {})).toEqual(q);
        }
        expect(checkpoint.matrices).toHaveLength(stacks ? 1 : given.length);
      }),
      { numRuns: 300 },
    );
    expect(held).toBeGreaterThan(10);
  });
});
