import { describe, expect, it } from 'vitest';
import { InvalidArgumentError } from '../../../src/errors.js';
import { decodeE4M3, E4M3_VALUES, encodeE4M3 } from '../../../src/formats/e4m3.js';
import { neighbour64 } from '../../support/exact.js';

// By hand: the subnormals in units of 2^-9, then each binade as its first value times 1, 9/8, … 15/8.
const SUBNORMALS = [0, 1, 2, 3, 4, 5, 6, 7].map((n) => n / 512);
const EIGHTHS = [1, 1.125, 1.25, 1.375, 1.5, 1.625, 1.75, 1.875];
const BINADES = [1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16, 32, 64, 128, 256];
const POSITIVE = [...SUBNORMALS, ...BINADES.flatMap((first) => EIGHTHS.map((m) => m * first))];

describe('E4M3', () => {
  it('decodes all 256 bytes', () => {
    expect(POSITIVE).toHaveLength(128);
    for (let byte = 0; byte < 0x7f; byte++) {
      expect(decodeE4M3(byte)).toBe(POSITIVE[byte]);
      expect(decodeE4M3(byte + 128)).toBe(-POSITIVE[byte]!);
    }
    expect(decodeE4M3(0x7f)).toBeNaN();
    expect(decodeE4M3(0xff)).toBeNaN();
    expect(E4M3_VALUES).toHaveLength(256);
  });

  it('has the landmarks of the specification', () => {
    expect(decodeE4M3(0x7e)).toBe(448);
    expect(decodeE4M3(0x38)).toBe(1);
    expect(decodeE4M3(0x08)).toBe(0.015625);
    expect(decodeE4M3(0x01)).toBe(0.001953125);
    expect(decodeE4M3(0x80)).toBe(-0);
  });

  it('encodes every value to its own byte, zeros with their sign', () => {
    for (let byte = 0; byte < 256; byte++) {
      if (byte % 128 !== 127) expect(encodeE4M3(decodeE4M3(byte))).toBe(byte);
    }
  });

  it('rounds at and next to every midpoint, ties to the even byte', () => {
    for (let byte = 0; byte < 0x7e; byte++) {
      const midpoint = (POSITIVE[byte]! + POSITIVE[byte + 1]!) / 2;
      for (const [sign, bit] of [
        [1, 0],
        [-1, 128],
      ] as const) {
        expect(encodeE4M3(sign * midpoint)).toBe((byte % 2 === 0 ? byte : byte + 1) + bit);
        expect(encodeE4M3(sign * neighbour64(midpoint, -1))).toBe(byte + bit);
        expect(encodeE4M3(sign * neighbour64(midpoint, 1))).toBe(byte + 1 + bit);
      }
    }
  });

  it.each([
    [0.3, 0x2a],
    [17, 0x58],
    [19, 0x5a],
    [2 ** -10, 0x00],
    [3 * 2 ** -10, 0x02],
    [448, 0x7e],
  ])('encodes %s as byte %s', (value, byte) => {
    expect(encodeE4M3(value)).toBe(byte);
  });

  it('saturates at ±448', () => {
    for (const large of [neighbour64(448, 1), 463, 464, 465, 480, 512, 1e30, Number.MAX_VALUE, Infinity]) {
      expect(encodeE4M3(large)).toBe(0x7e);
      expect(encodeE4M3(-large)).toBe(0xfe);
    }
  });

  it('rounds tiny values to a zero of their sign', () => {
    for (const tiny of [neighbour64(2 ** -10, -1), 2 ** -126, 2 ** -149, Number.MIN_VALUE]) {
      expect(encodeE4M3(tiny)).toBe(0);
      expect(encodeE4M3(-tiny)).toBe(0x80);
    }
    expect(encodeE4M3(neighbour64(2 ** -10, 1))).toBe(1);
  });

  it('encodes NaN as 0x7F', () => {
    expect(encodeE4M3(Number.NaN)).toBe(0x7f);
  });

  it.each([-1, 256, 0.5, Number.NaN])('refuses %s as a byte', (byte) => {
    expect(() => decodeE4M3(byte)).toThrow(
      new InvalidArgumentError('formats', `E4M3 byte ${byte} is not an integer in 0..255`),
    );
  });
});
