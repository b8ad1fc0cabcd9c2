/** Threefry-2x32-20 (Salmon et al., SC 2011) on BigInts, round by round as the paper writes it. */

const MASK = 0xffffffffn;
const ROTATIONS = [13n, 15n, 26n, 6n, 17n, 29n, 16n, 24n];

export function referenceThreefry(key: [bigint, bigint], counter: [bigint, bigint]): [bigint, bigint] {
  const keys = [key[0], key[1], 0x1bd11bdan ^ key[0] ^ key[1]];
  let x0 = (counter[0] + keys[0]!) & MASK;
  let x1 = (counter[1] + keys[1]!) & MASK;
  for (let round = 0; round < 20; round++) {
    const r = ROTATIONS[round % 8]!;
    x0 = (x0 + x1) & MASK;
    x1 = (((x1 << r) & MASK) | (x1 >> (32n - r))) ^ x0;
    if (round % 4 === 3) {
      const injection = (round + 1) / 4;
      x0 = (x0 + keys[injection % 3]!) & MASK;
      x1 = (x1 + keys[(injection + 1) % 3]! + BigInt(injection)) & MASK;
    }
  }
  return [x0, x1];
}

/** Random byte of an element: byte index % 8 of the 64 little-endian bits for counter floor(index / 8). */
export function randomByte(seed: number, index: number): number {
  const split = (n: bigint): [bigint, bigint] => [n & MASK, n >> 32n];
  const [x0, x1] = referenceThreefry(split(BigInt(seed)), split(BigInt(Math.floor(index / 8))));
  return Number(((x0 | (x1 << 32n)) >> BigInt(8 * (index % 8))) & 255n);
}
