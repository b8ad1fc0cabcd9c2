/**
 * Random x, and w of the plain kernels. What they are does not change the speed; that they are random makes results
 * worth checking.
 */

import { fromF16, toF16 } from '../src/formats/f16.js';
import { Random } from '../src/random.js';

// A prime: long operands repeat a pool of random values, and no two rows of a matrix begin at the same place of it.
const POOL = 1048583;

type Pool = Uint8Array | Uint16Array | Float32Array;

/** `length` values of a pool, from the start again where it ends. */
export function cycle<T extends Pool>(pool: T, length: number): T {
  if (length <= pool.length) return pool.slice(0, length) as T;
  const values = new (pool.constructor as new (length: number) => T)(length);
  values.set(pool);
  for (let filled = pool.length; filled < length; filled *= 2) values.copyWithin(filled, 0, length - filled);
  return values;
}

type Type = 'f32' | 'f16';

/** Standard normal values, as they are stored and as the numbers that are then multiplied. */
interface NormalPool {
  readonly stored: Float32Array | Uint16Array;
  readonly values: Float32Array;
}

const pools = new Map<Type, NormalPool>();

function normalPool(type: Type): NormalPool {
  let pool = pools.get(type);
  if (!pool) {
    const values = new Random(2).normals(POOL);
    const halves = type === 'f16' ? toF16(values) : undefined;
    pool = halves ? { stored: halves, values: fromF16(halves) } : { stored: values, values };
    pools.set(type, pool);
  }
  return pool;
}

/** `length` standard normal values as they are stored. */
export const randomNormals = (length: number, type: Type = 'f32'): Float32Array | Uint16Array =>
  cycle(normalPool(type).stored as Float32Array, length);

/** Values `from` to `to` of what {@link randomNormals} gives, as numbers. */
export function normalsBetween(from: number, to: number, type: Type): Float32Array {
  const { values } = normalPool(type);
  const part = new Float32Array(to - from);
  for (let i = 0, at = from % POOL; i < part.length; i++, at = at + 1 === POOL ? 0 : at + 1) {
    part[i] = values[at]!;
  }
  return part;
}

/** Where the largest magnitude of the first `length` normals is. */
export function largestNormal(length: number, type: Type): number {
  const { values } = normalPool(type);
  let best = 0;
  for (let i = 1; i < Math.min(length, POOL); i++)
    if (Math.abs(values[i]!) > Math.abs(values[best]!)) best = i;
  return best;
}
