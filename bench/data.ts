/** Random operands. What they are does not change the speed; that they are random makes results worth checking. */
import { FORMATS, type Format } from '../src/formats/formats.js';
import type { QuantizedMatrix } from '../src/matrix/quantized-matrix.js';
import { Random } from '../src/random.js';
import type { WeightFormat } from './cases.js';

// Primes: long operands repeat a pool of random values, and no two rows of a matrix begin at the same place of it.
const LARGE_POOL = 1048583;
const SMALL_POOL = 65521;

type Pool = Uint8Array | Uint16Array | Float32Array;

/** `length` values of a pool, from the start again where it ends. */
function cycle<T extends Pool>(pool: T, length: number): T {
  if (length <= pool.length) return pool.slice(0, length) as T;
  const values = new (pool.constructor as new (length: number) => T)(length);
  values.set(pool);
  for (let filled = pool.length; filled < length; filled *= 2) values.copyWithin(filled, 0, length - filled);
  return values;
}

let normals: Float32Array | undefined;

/** Standard normal values. */
export function randomNormals(length: number): Float32Array {
  normals ??= new Random(2).normals(LARGE_POOL);
  return cycle(normals, length);
}

/** Random codes with block scales around one. */
export function randomWeights(
  { format, blockSize, macroSize }: WeightFormat,
  n: number,
  k: number,
): QuantizedMatrix {
  const random = new Random(1);
  const bytes = (pool: number, next: () => number) => Uint8Array.from({ length: pool }, next);
  const { scaleFormat } = FORMATS[format as Format];
  const one = scaleFormat === 'e8m0' ? 127 : 0x38;
  return {
    format: format as Format,
    rows: n,
    cols: k,
    blockSize: blockSize!,
    codes: cycle(
      bytes(LARGE_POOL, () => random.u32() & 255),
      (n * k) / 2,
    ),
    scales: cycle(
      bytes(SMALL_POOL, () => one + random.integer(-3, 3)),
      (n * k) / blockSize!,
    ),
    ...(macroSize && {
      macroSize,
      macroScales: cycle(
        bytes(SMALL_POOL, () => random.u32() & 255),
        n * Math.ceil(k / macroSize),
      ),
    }),
    globalScale: 1,
    hadamard: false,
  };
}
