/** Lists of tokens as files have them: one after another, little-endian, without a header. */
import { InvalidArgumentError } from '../../src/index.js';

export type TokenType = 'u16' | 'u32';

const BYTES: Readonly<Record<TokenType, number>> = { u16: 2, u32: 4 };

/** By the end of a file's name, and by what the vocabulary needs. */
export const tokenTypeOf = (name: string, vocabulary: number): TokenType =>
  /\.u32$/.test(name) || vocabulary > 2 ** 16 ? 'u32' : 'u16';

/** @throws InvalidArgumentError where the bytes are no whole number of tokens */
export function tokensOfBytes(name: string, bytes: Uint8Array, type: TokenType): Uint32Array {
  const size = BYTES[type];
  if (bytes.length % size) {
    throw new InvalidArgumentError('lm', `${name}: ${bytes.length} bytes are no whole number of ${type}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Uint32Array.from({ length: bytes.length / size }, (_, i) =>
    size === 2 ? view.getUint16(2 * i, true) : view.getUint32(4 * i, true),
  );
}
