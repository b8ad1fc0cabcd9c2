import { describe, expect, it } from 'vitest';
import { Fp4Error, InvalidArgumentError } from '../../../src/errors.js';
import { type QuantizeOptions, resolveOptions } from '../../../src/quantize/options.js';
import { quantize } from '../../../src/quantize/quantize.js';

/** Options as a JavaScript caller may pass them. */
type Loose = { [K in keyof QuantizeOptions]?: unknown };
const resolve = (options: Loose) => resolveOptions(options as unknown as QuantizeOptions);

const MX: QuantizeOptions = { rows: 2, cols: 64, format: 'mxfp4' };
const NV: QuantizeOptions = { rows: 2, cols: 64, format: 'nvfp4' };

describe('resolveOptions', () => {
  it('fills in the defaults of mxfp4', () => {
    expect(resolveOptions(MX)).toEqual({
      ...MX,
      blockSize: 32,
      scaleRule: 'oas',
      macroScale: 'none',
      macroSize: 128,
      tile: '1d',
      rounding: 'nearest-even',
      seed: 0,
      hadamard: false,
      fourOverSixError: 'mse',
    });
  });

  it('fills in the defaults of nvfp4', () => {
    expect(resolveOptions(NV)).toMatchObject({ blockSize: 16, scaleRule: 'te', macroScale: 'none' });
  });

  it('takes undefined as the default, and keeps what is given', () => {
    const given: QuantizeOptions = {
      ...MX,
      blockSize: 16,
      scaleRule: 'even',
      macroScale: 'dynamic',
      macroSize: 32,
      tile: '2d',
      rounding: 'stochastic',
      seed: 2 ** 53 - 1,
      hadamard: true,
      fourOverSixError: 'mae',
    };
    expect(resolveOptions(given)).toEqual(given);
    expect(resolveOptions({ ...MX, blockSize: undefined, seed: undefined, tile: undefined })).toEqual(
      resolveOptions(MX),
    );
  });

  it.each<[string, Loose]>([
    ['format = "fp4" is not one of mxfp4, nvfp4', { ...MX, format: 'fp4' }],
    ['format = undefined is not one of mxfp4, nvfp4', { rows: 1, cols: 32 }],
    ['format = "toString" is not one of mxfp4, nvfp4', { ...MX, format: 'toString' }],
    ['mxfp4 blockSize = 64 is not one of 32, 16', { ...MX, blockSize: 64 }],
    ['mxfp4 blockSize = "32" is not one of 32, 16', { ...MX, blockSize: '32' }],
    ['nvfp4 blockSize = 32 is not one of 16', { ...NV, blockSize: 32 }],
    ['mxfp4 scaleRule = "te" is not one of floor, ceil, rceil, even, oas, mse', { ...MX, scaleRule: 'te' }],
    ['nvfp4 scaleRule = "oas" is not one of te, four-over-six', { ...NV, scaleRule: 'oas' }],
    ['macroScale = "on" is not one of none, static, dynamic', { ...MX, macroScale: 'on' }],
    ['macroSize = 256 is not one of 128, 64, 32', { ...MX, macroScale: 'static', macroSize: 256 }],
    ['macroSize = 16 is not one of 128, 64, 32', { ...MX, macroSize: 16 }],
    ['tile = "3d" is not one of 1d, 2d', { ...MX, tile: '3d' }],
    ['rounding = "up" is not one of nearest-even, stochastic', { ...MX, rounding: 'up' }],
    ['hadamard = 1 is not one of true, false', { ...MX, hadamard: 1 }],
    ['fourOverSixError = "max" is not one of mae, mse', { ...NV, fourOverSixError: 'max' }],
    ['rows = 0 is not a positive integer', { ...MX, rows: 0 }],
    ['rows = -1 is not a positive integer', { ...MX, rows: -1 }],
    ['rows = 1.5 is not a positive integer', { ...MX, rows: 1.5 }],
    ['rows = NaN is not a positive integer', { ...MX, rows: Number.NaN }],
    ['rows = undefined is not a positive integer', { ...MX, rows: undefined }],
    ['rows = 2 is not a positive integer', { ...MX, rows: '2' }],
    ['cols = 0 is not a positive integer', { ...MX, cols: 0 }],
    ['cols = Infinity is not a positive integer', { ...MX, cols: Infinity }],
    ['4294967296 × 4294967296 values are too many', { ...MX, rows: 2 ** 32, cols: 2 ** 32 }],
    [
      'cols = 100 is not a multiple of the mxfp4 block 32; pad the rows with zeros to 128',
      { ...MX, cols: 100 },
    ],
    [
      'cols = 48 is not a multiple of the mxfp4 block 32; pad the rows with zeros to 64 or choose blockSize 16',
      { ...MX, cols: 48 },
    ],
    [
      'cols = 8 is not a multiple of the mxfp4 block 16; pad the rows with zeros to 16',
      { ...MX, cols: 8, blockSize: 16 },
    ],
    ['cols = 40 is not a multiple of the nvfp4 block 16; pad the rows with zeros to 48', { ...NV, cols: 40 }],
    [
      "macroScale = 'static' goes with mxfp4; nvfp4 has an E4M3 scale and a tensor scale instead",
      { ...NV, macroScale: 'static' },
    ],
    [
      "macroScale = 'dynamic' goes with mxfp4; nvfp4 has an E4M3 scale and a tensor scale instead",
      { ...NV, macroScale: 'dynamic' },
    ],
    ['seed = -1 is not an integer from 0 to 2^53 - 1', { ...MX, seed: -1 }],
    ['seed = 0.5 is not an integer from 0 to 2^53 - 1', { ...MX, seed: 0.5 }],
    [`seed = ${2 ** 53} is not an integer from 0 to 2^53 - 1`, { ...MX, seed: 2 ** 53 }],
    ['seed = NaN is not an integer from 0 to 2^53 - 1', { ...MX, seed: Number.NaN }],
  ])('refuses: %s', (message, options) => {
    expect(() => resolve(options)).toThrow(new InvalidArgumentError('quantize', message));
    // `quantize` checks the options before it looks at the values.
    expect(() => quantize(new Float32Array(0), options as unknown as QuantizeOptions)).toThrow(
      new InvalidArgumentError('quantize', message),
    );
  });

  it('throws errors of a type of its own that name the module', () => {
    try {
      resolve({ ...MX, rows: 0 });
      expect.unreachable();
    } catch (error) {
      expect(error).toBeInstanceOf(InvalidArgumentError);
      expect(error).toBeInstanceOf(Fp4Error);
      expect(error).toMatchObject({ module: 'quantize', name: 'InvalidArgumentError' });
    }
  });

  it('refuses a bigint with a typed error too', () => {
    expect(() => resolve({ ...MX, blockSize: 32n })).toThrow(InvalidArgumentError);
  });
});

describe('quantize refuses values', () => {
  const refuses = (values: unknown, options: QuantizeOptions, message: string) =>
    expect(() => quantize(values as Float32Array, options)).toThrow(
      new InvalidArgumentError('quantize', message),
    );

  it('of a wrong length', () => {
    refuses(new Float32Array(127), MX, 'values has 127 elements; [2, 64] needs 128');
    refuses(new Float32Array(129), MX, 'values has 129 elements; [2, 64] needs 128');
    refuses(new Float32Array(0), MX, 'values has 0 elements; [2, 64] needs 128');
  });

  it.each([
    ['a number array', Array(128).fill(0)],
    ['a Float64Array', new Float64Array(128)],
    ['a Uint16Array', new Uint16Array(128)],
    ['a buffer', new ArrayBuffer(512)],
    ['nothing', undefined],
  ])('that are %s', (_, values) => {
    refuses(values, MX, 'values is not a Float32Array');
  });

  it.each([
    [Number.NaN, 0, 0, 0],
    [Number.NaN, 127, 1, 63],
    [Infinity, 64, 1, 0],
    [-Infinity, 63, 0, 63],
  ])('with %s at index %i, and names row and column', (bad, index, row, col) => {
    for (const options of [MX, NV, { ...MX, hadamard: true }, { ...NV, rounding: 'stochastic' as const }]) {
      const values = new Float32Array(128).fill(1);
      values[index] = bad;
      refuses(values, options, `value at row ${row}, col ${col} is ${bad}; FP4 holds finite values only`);
    }
  });

  it('and names the first of several', () => {
    const values = new Float32Array(128);
    values[70] = Number.NaN;
    values[3] = Infinity;
    refuses(values, MX, 'value at row 0, col 3 is Infinity; FP4 holds finite values only');
  });
});
