/** Thousands of damaged files: each is refused with a typed error, or what is said of it is true. */
import { describe, expect, it } from 'vitest';
import type { Container } from '../../../src/checkpoint/container.js';
import { fromGgufBlocks, toGgufBlocks } from '../../../src/checkpoint/ggml-blocks.js';
import { GGML_TYPES } from '../../../src/checkpoint/ggml-types.js';
import { openGguf } from '../../../src/checkpoint/gguf.js';
import { CheckpointError, InvalidArgumentError, UnsupportedError } from '../../../src/errors.js';
import { SPLIT_1, SPLIT_2, WHOLE } from '../../support/gguf-samples.js';
import { concat, ggufFile, items, pair, u32, u64 } from '../../support/gguf-writer.js';
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

const HUGE = [
  ...[31n, 32n, 40n, 52n, 53n, 61n, 62n, 63n].map((bits) => 2n ** bits),
  ...[32n, 53n, 63n, 64n].map((bits) => 2n ** bits - 1n),
  2n ** 64n - 32n,
  0n,
];

function mutate(file: Uint8Array): Uint8Array {
  // Half of them in the first bytes, where the counts are, or wherever.
  const at = random.integer(0, random.unit() < 0.5 ? Math.min(file.length, 400) - 1 : file.length - 1);
  const before = file.subarray(0, at);
  const rest = (skipped: number) => file.subarray(Math.min(at + skipped, file.length));
  switch (random.integer(0, 7)) {
    case 0: {
      const flipped = file.slice();
      flipped[at]! ^= 1 << random.integer(0, 7);
      return flipped;
    }
    case 1:
      return before;
    case 2:
      return concat(before, u64(random.pick(HUGE)), rest(8));
    case 3:
      return concat(before, u32(random.pick([0, 1, 8, 9, 13, 39, 40, 2 ** 31, 2 ** 32 - 1])), rest(4));
    case 4: {
      // A piece of any file, in place of as many bytes or between them.
      const other = random.pick(FILES);
      const start = random.integer(0, other.length - 1);
      const piece = other.subarray(start, start + random.integer(1, 64));
      return concat(before, piece, rest(random.pick([0, piece.length])));
    }
    case 5:
      return concat(before, rest(random.integer(1, 16)));
    case 6:
      return concat(before, randomBytes(random.integer(1, 8)), rest(0));
    default: {
      const small = file.slice();
      small[at] = random.integer(0, 9);
      return small;
    }
  }
}

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
