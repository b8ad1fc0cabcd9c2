import { describe, expect, it } from 'vitest';
import { Slots, settled } from '../../../src/cli/parallel.js';
import { RowQuantizer } from '../../../src/cli/row-quantizer.js';
import type { Gpu } from '../../../src/gpu/gpu.js';
import type { QuantizedMatrix } from '../../../src/matrix/quantized-matrix.js';
import { quantize } from '../../../src/quantize/quantize.js';
import { expectSameMatrix } from '../../support/bytes.js';
import { fill, gaussian } from '../../support/random-data.js';

describe('RowQuantizer', () => {
  const [rows, cols] = [6, 64];
  const values = fill(rows * cols, gaussian(1));
  const options = { rows, cols, format: 'nvfp4' } as const;
  const source = {
    name: 'w',
    dtype: 'F32',
    options,
    read: async (start: number, end: number) =>
      new Uint8Array(values.buffer, start * cols * 4, (end - start) * cols * 4),
  } as const;

  it('leaves to the CPU what no buffer of the GPU holds, and says so', async () => {
    const limits = { maxBufferSize: 2 ** 30, maxStorageBufferBindingSize: rows * cols * 4 - 1 };
    const gpu = { caps: { limits }, adapterInfo: { description: 'small' } } as unknown as Gpu;
    const quantizer = new RowQuantizer({ gpu, threads: 0, signal: new AbortController().signal });
    const taken: QuantizedMatrix[] = [];
    await quantizer.quantize(source, async (q) => void taken.push(q));
    expect([...quantizer.leftToCpu]).toEqual(['w']);
    expect(taken.length).toBe(1);
    expectSameMatrix(taken[0]!, quantize(values, options), 'w');
  });

  it('stops at the signal', async () => {
    const quantizer = new RowQuantizer({ threads: 0, signal: AbortSignal.abort(new Error('enough')) });
    await expect(quantizer.quantize(source, async () => {})).rejects.toThrow('enough');
  });
});

describe('Slots', () => {
  it('runs no more tasks at a time than it has, in their order, errors or not', async () => {
    const slots = new Slots(2);
    const begun: number[] = [];
    let running = 0;
    let most = 0;
    const results = await Promise.allSettled(
      Array.from({ length: 7 }, (_, i) =>
        slots.run(async () => {
          begun.push(i);
          most = Math.max(most, ++running);
          await new Promise((resolve) => setTimeout(resolve, i % 3));
          running--;
          if (i % 2) throw new Error(`${i}`);
          return i;
        }),
      ),
    );
    expect(most).toBe(2);
    expect(begun).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(results.map(({ status }) => status === 'fulfilled')).toEqual(begun.map((i) => i % 2 === 0));
  });
});

describe('settled', () => {
  it('waits for all before it throws the first error', async () => {
    let ended = false;
    const slow = new Promise<number>((resolve) =>
      setTimeout(() => {
        ended = true;
        resolve(1);
      }, 5),
    );
    await expect(settled([Promise.reject(new Error('first')), slow])).rejects.toThrow('first');
    expect(ended).toBe(true);
    expect(await settled([slow, Promise.resolve(2)])).toEqual([1, 2]);
  });
});
