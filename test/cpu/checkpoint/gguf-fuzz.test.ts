/** Thousands of damaged files: each is refused with a typed error, or what is said of it is true. */
import { describe, expect, it } from 'vitest';
import type { Container } from '../../../src/checkpoint/container.js';
import { fromGgufBlocks, toGgufBlocks } from '../../../src/checkpoint/ggml-blocks.js';
import { GGML_TYPES } from '../../../src/checkpoint/ggml-types.js';
import { openGguf } from '../../../src/checkpoint/gguf.js';
import { CheckpointError, InvalidArgumentError, UnsupportedError } from '../../../src/errors.js';
import { mutateGguf } from '../../support/gguf-mutants.js';
import { SPLIT_1, SPLIT_2, WHOLE } from '../../support/gguf-samples.js';
import { ggufFile, items, pair } from '../../support/gguf-writer.js';
import { naiveGguf } from '../../support/naive-gguf.js';
import { Random } from '../../support/random.js';
import { watchedSource } from '../../support/watched-source.js';

const random = new Random(20);
const randomBytes = (length: number) => Uint8Array.from({ length }, () => random.integer(0, 255));

/** One of everything; small, so that most mutations hit the header. */
const MIXED = ggufFile({
  version: 2,
  alignment: 64,
  pairs: [
    pair('general.alignment', 'u32', 64),
    pair('s', 'string', 'text'),
    pair('b', 'bool', true),
    pair('words', 'array', items('string', ['a', 'bc', 'é'])),
    pair('nested', 'array', items('array', [items('u16', [1, 2]), items('array', [items('f64', [0.5])])])),
    pair('many', 'array', items('i8', [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])),
  ],
  tensors: [
    { name: 'norm', sizes: [4], type: 0, bytes: randomBytes(16) },
    { name: 'mx', sizes: [64, 2, 3], type: 39, bytes: randomBytes(12 * 17) },
    { name: 'nv', sizes: [128, 2], type: 40, bytes: randomBytes(4 * 36) },
    { name: 'none', sizes: [0, 7], type: 30, bytes: new Uint8Array(0) },
    { name: 'k', sizes: [256], type: 12, bytes: randomBytes(144) },
  ],
});

/** Longer than the first piece that is read. */
const LONG = ggufFile({
  pairs: [
    pair('words', 'array', items('string', new Array(9000).fill('token'))),
    pair('text', 'string', 'x'.repeat(70_000)),
  ],
  tensors: [{ name: 'w', sizes: [32, 2], type: 39, bytes: randomBytes(34) }],
});

const FILES = [WHOLE, SPLIT_1, SPLIT_2, MIXED, LONG];

const mutate = (file: Uint8Array) => mutateGguf(file, FILES, random);

/** Compares an accepted file with a plain reading of it. */
async function expectTrue(container: Container, bytes: Uint8Array): Promise<void> {
  const naive = naiveGguf(bytes);
  expect([...container.metadata.keys()]).toEqual(naive.keys);
  expect([...container.tensors.keys()]).toEqual(naive.tensors.map(({ name }) => name));
  let end = 0n;
  for (const { name, type, sizes, begin } of naive.tensors) {
    const tensor = container.tensors.get(name)!;
    const { name: typeName, blockSize, blockBytes } = GGML_TYPES.get(type)!;
    const length = (sizes.reduce((a, b) => a * b, 1n) / BigInt(blockSize)) * BigInt(blockBytes);
    expect(tensor.dtype).toBe(typeName);
    expect(tensor.shape).toEqual(sizes.map(Number).reverse());
    expect(BigInt(tensor.byteLength)).toBe(length);
    expect(begin).toBeGreaterThanOrEqual(end);
    end = begin + length;
    expect(end).toBeLessThanOrEqual(BigInt(bytes.length));
    const read = await container.read(tensor);
    expect(read).toEqual(bytes.slice(Number(begin), Number(end)));
    expectBlocks(typeName, tensor.shape, read);
  }
}

function expectBlocks(type: string, shape: readonly number[], bytes: Uint8Array): void {
  if ((type !== 'MXFP4' && type !== 'NVFP4') || bytes.length === 0) return;
  const format = type === 'MXFP4' ? 'mxfp4' : 'nvfp4';
  const cols = shape.at(-1)!;
  const rows = shape.slice(0, -1).reduce((a, b) => a * b, 1);
  const blockSize = format === 'mxfp4' ? 32 : 16;
  const matrix = orRefusal(() => fromGgufBlocks(format, rows, cols, bytes));
  if (!matrix) return;
  const again = toGgufBlocks({ format, rows, cols, blockSize, ...matrix, globalScale: 1, hadamard: false });
  const unsigned = bytes.map((byte, i) => (format === 'nvfp4' && i % 36 < 4 ? byte & 0x7f : byte));
  expect(again).toEqual(unsigned);
}

function orRefusal<T>(action: () => T): T | undefined {
  try {
    return action();
  } catch (error) {
    if (!(error instanceof CheckpointError)) throw error;
    return undefined;
  }
}

const isTyped = (error: unknown) =>
  error instanceof CheckpointError ||
  error instanceof UnsupportedError ||
  error instanceof InvalidArgumentError;

describe('mutants', () => {
  it('of one file', { timeout: 60_000 }, async () => {
    let accepted = 0;
    let refused = 0;
    for (let run = 0; run < 6000; run++) {
      // The long file costs more, so it has fewer turns.
      let bytes: Uint8Array = run % 20 === 0 ? LONG : random.pick([WHOLE, MIXED]);
      for (let times = random.integer(1, 3); times > 0 && bytes.length > 0; times--) bytes = mutate(bytes);
      const source = watchedSource(bytes);
      const start = performance.now();
      try {
        const container = await openGguf([source]);
        expect(source.total).toBeLessThanOrEqual(2 * bytes.length);
        await expectTrue(container, bytes);
        accepted++;
      } catch (error) {
        if (!isTyped(error)) throw new Error(`mutant ${run}`, { cause: error });
        expect(source.total).toBeLessThanOrEqual(2 * bytes.length);
        refused++;
      }
      expect(performance.now() - start, `mutant ${run}`).toBeLessThan(2000);
    }
    // Neither side may be empty, or the test would show nothing.
    expect(refused).toBeGreaterThan(2000);
    expect(accepted).toBeGreaterThan(500);
  });

  it('of a split', { timeout: 60_000 }, async () => {
    let accepted = 0;
    let refused = 0;
    for (let run = 0; run < 1500; run++) {
      const files: Uint8Array[] = [SPLIT_1, SPLIT_2];
      const which = random.integer(0, 1);
      files[which] = mutate(files[which]!);
      const sources = files.map((bytes, i) => watchedSource(bytes, `${i}.gguf`));
      try {
        const container = await openGguf(sources);
        expect(container.tensors.size).toBe(3);
        for (const tensor of container.tensors.values()) {
          expect((await container.read(tensor)).length).toBe(tensor.byteLength);
        }
        accepted++;
      } catch (error) {
        if (!isTyped(error)) throw new Error(`mutant ${run}`, { cause: error });
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(500);
    expect(accepted).toBeGreaterThan(100);
  });
});
