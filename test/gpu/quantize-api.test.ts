/** Quantizers on the GPU: compute passes of the caller, NaN and Inf, hard searches, limits, errors. */
import { describe, expect, test } from 'vitest';
import {
  createQuantizer,
  type GpuQuantizer,
  type QuantizerBuffers,
  quantizeOnGpu,
  readbackQuantized,
} from '../../src/gemm/gpu-quantizer.js';
import { createStorageBuffer, readBuffer } from '../../src/gpu/buffers.js';
import { BufferUsage } from '../../src/gpu/constants.js';
import { type Gpu, InvalidArgumentError, UnsupportedError } from '../../src/index.js';
import type { QuantizeOptions } from '../../src/quantize/options.js';
import { quantize } from '../../src/quantize/quantize.js';
import { useGpu } from '../support/gpu.js';
import { DATA, fill, uniform } from '../support/random-data.js';
import { submitPass } from '../support/submit-pass.js';

const context = useGpu({ narrow: true });

/** One of each chain of kernels. */
const CHAINS: readonly Omit<QuantizeOptions, 'rows' | 'cols'>[] = [
  { format: 'mxfp4' },
  { format: 'mxfp4', macroScale: 'static' },
  { format: 'mxfp4', macroScale: 'static', macroSize: 32 },
  { format: 'mxfp4', macroScale: 'dynamic', scaleRule: 'mse' },
  { format: 'mxfp4', tile: '2d', blockSize: 16, macroScale: 'static' },
  { format: 'nvfp4' },
  { format: 'nvfp4', tile: '2d', scaleRule: 'four-over-six' },
];

async function bytesOf(gpu: Gpu, buffer: GPUBuffer): Promise<Uint8Array> {
  return new Uint8Array(await readBuffer(gpu.device, buffer));
}

describe('encode', () => {
  test.each(CHAINS)('%o: twice in one pass, on slices, over old results', async (chain) => {
    const { gpu } = context;
    const options = { rows: 19, cols: 160, ...chain };
    const count = options.rows * options.cols;
    const inputs = [1, 2].map((seed) => DATA.gaussian(count, seed));
    const stride = Math.ceil((count * 4) / 256) * 256;
    const x = createStorageBuffer(gpu.device, 'x', new Float32Array((2 * stride) / 4));
    inputs.forEach((values, i) => {
      gpu.device.queue.writeBuffer(x, i * stride, values as Float32Array<ArrayBuffer>);
    });
    using quantizer = await createQuantizer(gpu, options);
    using first = quantizer.createOutputs();
    using second = quantizer.createOutputs();
    // What was there before must not show.
    for (const q of [first, second]) {
      for (const buffer of [q.codes, q.scales, q.macroScales]) {
        if (buffer) gpu.device.queue.writeBuffer(buffer, 0, new Uint8Array(buffer.size).fill(0xa5));
      }
    }
    for (let turn = 0; turn < 2; turn++) {
      submitPass(gpu.device, (pass) => {
        quantizer.encode(pass, { x, ...first });
        quantizer.encode(pass, { x: { buffer: x, offset: stride }, ...second });
      });
    }
    expect(await readbackQuantized(gpu, first)).toEqual(quantize(inputs[0]!, options));
    expect(await readbackQuantized(gpu, second)).toEqual(quantize(inputs[1]!, options));
    x.destroy();
  });

  test.each([
    { rows: 3, cols: 160, format: 'mxfp4', macroScale: 'static' },
    { rows: 5, cols: 32, format: 'mxfp4' },
    { rows: 5, cols: 16, format: 'nvfp4' },
  ] as QuantizeOptions[])('%o: writes into the caller’s slices and nowhere else', async (options) => {
    const { gpu } = context;
    const values = DATA.gaussian(options.rows * options.cols, 1);
    const expected = quantize(values, options);
    const old = new Uint8Array(1024).fill(0xa5);
    const x = createStorageBuffer(gpu.device, 'x', values);
    const [codes, scales, macroScales] = ['codes', 'scales', 'macro'].map((label) =>
      createStorageBuffer(gpu.device, label, old),
    ) as [GPUBuffer, GPUBuffer, GPUBuffer];
    const globalScale = createStorageBuffer(gpu.device, 'global scale', 4);
    const status = createStorageBuffer(gpu.device, 'status', 4);
    using quantizer = await createQuantizer(gpu, options);
    const slice = (buffer: GPUBuffer) => ({ buffer, offset: 256 });
    submitPass(gpu.device, (pass) => {
      quantizer.encode(pass, {
        x,
        codes: slice(codes),
        scales: slice(scales),
        ...(expected.macroScales && { macroScales: slice(macroScales) }),
        globalScale,
        status,
      });
    });
    for (const [buffer, bytes] of [
      [codes, expected.codes],
      [scales, expected.scales],
      [macroScales, expected.macroScales ?? []],
    ] as const) {
      const whole = old.slice();
      whole.set(bytes, 256);
      expect([...(await bytesOf(gpu, buffer))]).toEqual([...whole]);
      buffer.destroy();
    }
    for (const buffer of [x, globalScale, status]) buffer.destroy();
  });

  test('refuses buffers that are missing, small, misaligned, aliased or of the wrong usage', async () => {
    const { gpu } = context;
    const options = { rows: 4, cols: 64, format: 'mxfp4', macroScale: 'static' } as const;
    using quantizer = await createQuantizer(gpu, options);
    using q = quantizer.createOutputs();
    const x = createStorageBuffer(gpu.device, 'x', 4 * 64 * 4);
    const uniform = gpu.device.createBuffer({ size: 4096, usage: BufferUsage.UNIFORM });
    const encode = (change: Partial<QuantizerBuffers>, on: GpuQuantizer = quantizer) => {
      return () => submitPass(gpu.device, (pass) => on.encode(pass, { x, ...q, ...change }));
    };
    expect(encode({})).not.toThrow();
    const refused = (change: Partial<QuantizerBuffers>, message: RegExp, on?: GpuQuantizer) => {
      expect(encode(change, on)).toThrow(InvalidArgumentError);
      expect(encode(change, on)).toThrow(message);
    };
    refused({ x: q.status }, /x has 16 bytes; f32\[4, 64\] needs 1024/);
    refused({ x: { buffer: x, offset: 256 } }, /x has 768 bytes/);
    refused({ x: uniform }, /x was created without GPUBufferUsage.STORAGE/);
    refused({ codes: x }, /codes shares its buffer with x/);
    refused({ status: q.scales }, /status shares its buffer with scales/);
    refused({ macroScales: undefined }, /macroScales is missing; it is u8\[4, 1\]/);
    const offset = gpu.device.limits.minStorageBufferOffsetAlignment / 2;
    const misaligned = new RegExp(`codes starts at byte ${offset}; .* multiples of ${2 * offset}`);
    refused({ codes: { buffer: x, offset, size: 256 } }, misaligned);
    using plain = await createQuantizer(gpu, { ...options, macroScale: 'none' });
    refused({}, /macroScales were given/, plain);
    using nv = await createQuantizer(gpu, { rows: 4, cols: 64, format: 'nvfp4' });
    refused({ macroScales: undefined, globalScale: undefined }, /globalScale is missing; it is f32\[1\]/, nv);
    for (const buffer of [x, uniform]) buffer.destroy();
  });
});

describe('NaN and Inf', () => {
  test.each(CHAINS)('%o: NaN scales and codes 0 where they are, and a status word', async (chain) => {
    const { gpu } = context;
    const [rows, cols] = [37, 160];
    const options = { rows, cols, ...chain };
    const blockSize = options.blockSize ?? (options.format === 'mxfp4' ? 32 : 16);
    const tall = options.tile === '2d' ? blockSize : 1;
    const values = DATA.gaussian(rows * cols, 3);
    const bad = [
      [5, 150, Number.NaN],
      [2, 100, Number.NEGATIVE_INFINITY],
      [36, 7, Number.POSITIVE_INFINITY],
    ] as const;
    for (const [row, col, value] of bad) values[row * cols + col] = value;
    using q = await quantizeOnGpu(gpu, values, options);
    await expect(readbackQuantized(gpu, q)).rejects.toThrow(InvalidArgumentError);
    await expect(readbackQuantized(gpu, q)).rejects.toThrow('value at row 2, col 100 is NaN or Inf');

    const scales = await bytesOf(gpu, q.scales);
    const codes = await bytesOf(gpu, q.codes);
    const macros = q.macroScales && (await bytesOf(gpu, q.macroScales));
    const isBad = (row: number, col: number, width: number, height: number) =>
      bad.some(
        ([r, c]) =>
          Math.floor(r / height) === Math.floor(row / height) &&
          Math.floor(c / width) === Math.floor(col / width),
      );
    // Everything else is what it is for the finite values, the macro factor of a macro block with a bad value being 1.
    const finite = quantize(
      values.map((value) => (Number.isFinite(value) ? value : 0)),
      options,
    );
    const macroSize = q.macroSize ?? cols;
    for (let row = 0; row < rows; row++) {
      for (let col = 0; col < cols; col += blockSize) {
        const at = (row * cols + col) / blockSize;
        const block = codes.slice((row * cols + col) / 2, (row * cols + col + blockSize) / 2);
        const inBadMacro = isBad(row, col, macroSize, options.tile === '2d' ? macroSize : 1);
        if (macros && inBadMacro) {
          expect(macros[row * Math.ceil(cols / macroSize) + Math.floor(col / macroSize)]).toBe(0);
        }
        if (isBad(row, col, blockSize, tall)) {
          expect(scales[at]).toBe(options.format === 'mxfp4' ? 0xff : 0x7f);
          expect([...block]).toEqual(Array(blockSize / 2).fill(0));
        } else if (!macros || !inBadMacro) {
          expect(scales[at]).toBe(finite.scales[at]);
          expect([...block]).toEqual([
            ...finite.codes.slice((row * cols + col) / 2, (row * cols + col + blockSize) / 2),
          ]);
        } else {
          expect(scales[at]).toBeLessThan(0xff);
        }
      }
    }
    expect(new Float32Array(await readBuffer(gpu.device, q.globalScale, 4))[0]).toBe(finite.globalScale);
  });

  test('the status word keeps the first position until it is cleared', async () => {
    const { gpu } = context;
    const options = { rows: 2, cols: 32, format: 'mxfp4' } as const;
    using quantizer = await createQuantizer(gpu, options);
    using q = quantizer.createOutputs();
    for (const index of [40, 9, 63]) {
      const values = new Float32Array(64).fill(1);
      values[index] = Number.NaN;
      const x = createStorageBuffer(gpu.device, 'x', values);
      submitPass(gpu.device, (pass) => quantizer.encode(pass, { x, ...q }));
      x.destroy();
    }
    await expect(readbackQuantized(gpu, q)).rejects.toThrow('row 0, col 9');
    gpu.device.queue.writeBuffer(q.status, 0, new Uint32Array(1));
    expect((await readbackQuantized(gpu, q)).scales[0]).toBe(125);
  });

  test('a rotation that overflows counts as not finite', async () => {
    const values = new Float32Array(64).fill(1).fill(3.4e38, 16, 32);
    using q = await quantizeOnGpu(context.gpu, values, {
      rows: 2,
      cols: 32,
      format: 'mxfp4',
      blockSize: 16,
      hadamard: true,
    });
    await expect(readbackQuantized(context.gpu, q)).rejects.toThrow(/Hadamard rotation.*row 0, col 1[6-9]/);
    expect((await bytesOf(context.gpu, q.scales)).slice(0, 4)).toEqual(
      quantize(new Float32Array(64).fill(1), {
        rows: 2,
        cols: 32,
        format: 'mxfp4',
        blockSize: 16,
        hadamard: true,
      }).scales.map((byte, i) => (i === 1 ? 0xff : byte)),
    );
  });
});

describe('searches', () => {
  // One large value in each tile of 32 × 32 among small ones of one size: the least error lies below the maximum.
  const outliers = (rows: number, cols: number, seed: number, size: number) => {
    const u = uniform(seed);
    return fill(rows * cols, (i) => {
      const large = Math.floor(i / cols) % 32 === 7 && i % 32 === 9;
      return (u() < 0.5 ? -1 : 1) * (large ? 3.01 + u() : size * (1 - u() / 16));
    });
  };

  test('mse goes as deep as the CPU', async () => {
    const depths = new Set<number>();
    for (const tile of ['1d', '2d'] as const) {
      for (const blockSize of [16, 32] as const) {
        for (let ratio = 0; ratio < 10; ratio++) {
          const options = { rows: 64, cols: 64, format: 'mxfp4', scaleRule: 'mse', tile, blockSize } as const;
          const values = outliers(64, 64, ratio, 2 ** (-1 - ratio / 2));
          const expected = quantize(values, options);
          const unclipped = quantize(values, { ...options, scaleRule: 'rceil' });
          expected.scales.forEach((byte, i) => void depths.add(unclipped.scales[i]! - byte));
          using q = await quantizeOnGpu(context.gpu, values, options);
          expect(await readbackQuantized(context.gpu, q)).toEqual(expected);
        }
      }
    }
    // The data is as hard as it is meant to be.
    expect(Math.max(...depths)).toBeGreaterThanOrEqual(2);
  });

  test('four over six where the smaller scale rounds to zero', async () => {
    // With a maximum of 1536 the tensor's scale is 1. The second block's scale is 0 or 2^-9; under the latter its
    // values become 2.5 and 0.25, the midpoints with the largest errors.
    const values = new Float32Array(64).fill(0.25 / 512, 16);
    values[0] = 1536;
    for (let block = 1; block < 4; block++) values[16 * block] = (2 + block / 4) / 512;
    for (const fourOverSixError of ['mae', 'mse'] as const) {
      const options = {
        rows: 1,
        cols: 64,
        format: 'nvfp4',
        scaleRule: 'four-over-six',
        fourOverSixError,
      } as const;
      using q = await quantizeOnGpu(context.gpu, values, options);
      const expected = quantize(values, options);
      expect(expected.scales[2]).toBe(1);
      expect(await readbackQuantized(context.gpu, q)).toEqual(expected);
    }
  });

  test('dynamic factors and four over six among outliers', async () => {
    for (let ratio = 0; ratio < 4; ratio++) {
      const values = outliers(130, 160, ratio, 2 ** -ratio);
      for (const options of [
        { rows: 130, cols: 160, format: 'mxfp4', macroScale: 'dynamic', tile: '2d' },
        { rows: 130, cols: 160, format: 'nvfp4', scaleRule: 'four-over-six', fourOverSixError: 'mae' },
      ] as const) {
        using q = await quantizeOnGpu(context.gpu, values, options);
        expect(await readbackQuantized(context.gpu, q)).toEqual(quantize(values, options));
      }
    }
  });
});

describe('limits and arguments', () => {
  test('more workgroups than one dimension holds go over two', async () => {
    const gpu = narrow(context.gpu, 7);
    for (const chain of [...CHAINS, { format: 'nvfp4', hadamard: true } as const]) {
      const options = { rows: 42, cols: 288, ...chain };
      const values = DATA.gaussian(42 * 288, 4);
      using q = await quantizeOnGpu(gpu, values, options);
      expect(await readbackQuantized(gpu, q)).toEqual(quantize(values, options));
    }
    await expect(
      createQuantizer(narrow(context.gpu, 1), { rows: 64, cols: 128, format: 'mxfp4' }),
    ).rejects.toThrow(UnsupportedError);
  });

  test('takes a GPU buffer and leaves it alone', async () => {
    const { gpu } = context;
    const values = DATA.gaussian(64 + 96, 5);
    const buffer = createStorageBuffer(gpu.device, 'x', values);
    const options = { rows: 3, cols: 32, format: 'mxfp4' } as const;
    using q = await quantizeOnGpu(gpu, { buffer, offset: 256 }, options);
    expect(await readbackQuantized(gpu, q)).toEqual(quantize(values.subarray(64), options));
    expect(new Float32Array(await readBuffer(gpu.device, buffer))).toEqual(values);
    buffer.destroy();
    q.destroy();
  });

  test('typed errors before anything is allocated', async () => {
    const { gpu } = context;
    const idle = withDevice(gpu, {});
    const x = new Float32Array(64);
    const options = { rows: 2, cols: 32, format: 'mxfp4' } as const;
    await expect(quantizeOnGpu(idle, x, { ...options, cols: 33 })).rejects.toThrow(/cols = 33/);
    await expect(quantizeOnGpu(idle, x, { ...options, rows: 3 })).rejects.toThrow(
      /x has 64 values; \[3, 32\] needs 96/,
    );
    const small = createStorageBuffer(gpu.device, 'x', 128);
    await expect(quantizeOnGpu(idle, small, options)).rejects.toThrow(
      /x has 128 bytes; f32\[2, 32\] needs 256/,
    );
    small.destroy();
    const limit = 128 * 2 ** 20;
    const limits = { ...gpu.caps.limits, maxStorageBufferBindingSize: limit, maxBufferSize: limit };
    await expect(
      createQuantizer(withDevice(gpu, limits), { rows: 4096, cols: 16384, format: 'nvfp4' }),
    ).rejects.toThrow(/maxStorageBufferBindingSize of 134217728/);
  });
});

/** A GPU that says it has other limits. */
function narrow(gpu: Gpu, maxComputeWorkgroupsPerDimension: number): Gpu {
  const limits = { ...gpu.caps.limits, maxComputeWorkgroupsPerDimension };
  return Object.create(gpu, { device: { value: gpu.device }, caps: { value: { ...gpu.caps, limits } } });
}

/** A GPU whose device must not be used. */
function withDevice(gpu: Gpu, limits: object): Gpu {
  const device = new Proxy(gpu.device, {
    get: (_, key) => {
      throw new Error(`device.${String(key)} was used`);
    },
  });
  const caps = { ...gpu.caps, limits: { ...gpu.caps.limits, ...limits } };
  return Object.create(gpu, { device: { value: device }, caps: { value: caps } });
}
