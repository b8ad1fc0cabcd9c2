/** Damaged GGUF files: bits, numbers and pieces changed, cut out or put in. */
import type { Random } from '../../src/random.js';
import { concat, u32, u64 } from './gguf-writer.js';

const HUGE = [
  ...[31n, 32n, 40n, 52n, 53n, 61n, 62n, 63n].map((bits) => 2n ** bits),
  ...[32n, 53n, 63n, 64n].map((bits) => 2n ** bits - 1n),
  2n ** 64n - 32n,
  0n,
];

/** One change; `files` are those that pieces come from. */
export function mutateGguf(file: Uint8Array, files: readonly Uint8Array[], random: Random): Uint8Array {
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
      const other = random.pick(files);
      const start = random.integer(0, other.length - 1);
      const piece = other.subarray(start, start + random.integer(1, 64));
      return concat(before, piece, rest(random.pick([0, piece.length])));
    }
    case 5:
      return concat(before, rest(random.integer(1, 16)));
    case 6: {
      const inserted = Uint8Array.from({ length: random.integer(1, 8) }, () => random.integer(0, 255));
      return concat(before, inserted, rest(0));
    }
    default: {
      const small = file.slice();
      small[at] = random.integer(0, 9);
      return small;
    }
  }
}
