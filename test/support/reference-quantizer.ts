/**
 * A second quantizer, written from the formats' definitions and sharing nothing with src/quantize: slow, with index
 * lists for tiles, brute force for rounding, loops for exponents and fractions of BigInts for NVFP4's f32 steps.
 *
 * Choices by least error (rule 'mse', dynamic Macro Block Scaling, four over six) are promised to be within 0.1 % of
 * the least exact error only. For these the reference takes the choice under test where it keeps that promise, and
 * its own otherwise, so that a byte comparison fails exactly when the promise is broken.
 */
import type { QuantizedMatrix } from '../../src/matrix/quantized-matrix.js';
import type { QuantizeOptions, ScaleRule } from '../../src/quantize/options.js';
import { divide, exact, roundF64ToF32, roundToF32 } from './exact.js';
import { FLOAT_MAX } from './random-data.js';
import { randomByte } from './reference-threefry.js';

const GRID = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
/** Slack of choices by least error: 0.1 %. */
const TOLERANCE = 1.001;

/** Code of the grid magnitude nearest to m, ties to the even code, by trying all eight. */
export function nearestCode(m: number): number {
  // Far above the grid all distances round to the same number.
  if (m >= 6) return 7;
  let best = 0;
  for (let code = 1; code < 8; code++) {
    const distance = Math.abs(GRID[code]! - m);
    const least = Math.abs(GRID[best]! - m);
    if (distance < least || (distance === least && code % 2 === 0)) best = code;
  }
  return best;
}

/** Code after adding random/256 of a step and truncating to the grid. */
function stochasticCode(m: number, random: number): number {
  if (m >= 6) return 7;
  let low = 0;
  while (GRID[low + 1]! <= m) low++;
  const fraction = (m - GRID[low]!) / (GRID[low + 1]! - GRID[low]!);
  return 256 * fraction + random >= 256 ? low + 1 : low;
}

/** Smallest E ≥ -127 that lets a block with maximum `a` in; each rule is a bound of a / 2^E. */
export function referenceExponent(a: number, rule: ScaleRule): number {
  const tooLarge: Partial<Record<ScaleRule, (scaled: number) => boolean>> = {
    floor: (scaled) => scaled >= 8,
    ceil: (scaled) => scaled > 4,
    rceil: (scaled) => scaled > 6,
    even: (scaled) => scaled >= 7,
    oas: (scaled) => scaled > 7,
  };
  let exponent = -127;
  if (a === 0) return exponent;
  while (tooLarge[rule]!(a * 2 ** -exponent)) exponent++;
  return exponent;
}

/** Index lists of the height × width tiles of a matrix in reading order, those at the edges cut short. */
function tiles(rows: number, cols: number, height: number, width: number): number[][] {
  const list: number[][] = [];
  for (let top = 0; top < rows; top += height) {
    for (let left = 0; left < cols; left += width) {
      const tile: number[] = [];
      for (let row = top; row < Math.min(top + height, rows); row++) {
        for (let col = left; col < Math.min(left + width, cols); col++) tile.push(row * cols + col);
      }
      list.push(tile);
    }
  }
  return list;
}

const largest = (values: ArrayLike<number>, tile: number[]): number =>
  tile.reduce((max, i) => Math.max(max, Math.abs(values[i]!)), 0);

/** Sum of (|y| - q · 2^E)² over a tile. Differences are exact; squares and sums lose 2^-52, relatively. */
function squaredErrorOf(y: ArrayLike<number>, tile: number[], exponent: number): number {
  let sum = 0;
  for (const i of tile) {
    const magnitude = Math.abs(y[i]!);
    const approximation = GRID[nearestCode(magnitude * 2 ** -exponent)]! * 2 ** exponent;
    sum += (magnitude - approximation) ** 2;
  }
  return sum;
}

function firstWithLeast(errors: Map<number, number>): number {
  const least = Math.min(...errors.values());
  return [...errors.keys()].find((key) => errors.get(key) === least)!;
}

/** The claimed choice where its error is within the tolerance of the least, else the first with the least. */
function choose(errors: Map<number, number>, claimed: number): number {
  const best = firstWithLeast(errors);
  return errors.has(claimed) && errors.get(claimed)! <= errors.get(best)! * TOLERANCE ? claimed : best;
}

function leastSquaresExponents(y: ArrayLike<number>, tile: number[]): Map<number, number> {
  const a = largest(y, tile);
  if (a === 0) return new Map([[-127, 0]]);
  const top = referenceExponent(a, 'floor') + 2;
  const errors = new Map<number, number>();
  for (let e = Math.max(top - 12, -127); e <= top; e++) errors.set(e, squaredErrorOf(y, tile, e));
  return errors;
}

/** fl32(x · f) whose exponent may exceed f32's; the product is exact in f64, as f has 9 bits. */
export const referenceScaleUp = (x: number, f: number): number => roundF64ToF32(x * f, 'unbounded above');

/** Largest m with 1 + m/256 ≤ (6/A) · 2^j in [1, 2), in integers. */
export function referenceStaticByte(a: number): number {
  if (a === 0) return 0;
  let { num, den } = divide(exact(6), exact(a));
  while (num >= 2n * den) den *= 2n;
  while (num < den) num *= 2n;
  return Number(((num - den) * 256n) / den);
}

type Claim = Pick<QuantizedMatrix, 'scales' | 'macroScales'>;
export type ReferenceBytes = Pick<QuantizedMatrix, 'codes' | 'scales' | 'macroScales' | 'globalScale'>;

export function referenceQuantize(
  values: Float32Array,
  options: QuantizeOptions,
  claim: Claim,
): ReferenceBytes {
  return options.format === 'mxfp4'
    ? referenceMx(values, options, claim)
    : referenceNv(values, options, claim);
}

function referenceMx(values: Float32Array, o: QuantizeOptions, claim: Claim): ReferenceBytes {
  const { rows, cols } = o;
  const blockSize = o.blockSize ?? 32;
  const rule = o.scaleRule ?? 'oas';
  const blockHeight = o.tile === '2d' ? blockSize : 1;
  const blockIndex = (i: number) => Math.floor(i / blockSize);

  let y: ArrayLike<number> = values;
  let macroScales: Uint8Array | undefined;
  if (o.macroScale === 'static' || o.macroScale === 'dynamic') {
    const macroSize = o.macroSize ?? 128;
    const macrosPerRow = Math.ceil(cols / macroSize);
    const macroIndex = (i: number) =>
      Math.floor(i / cols) * macrosPerRow + Math.floor((i % cols) / macroSize);
    const scaled = new Float64Array(values.length);
    macroScales = new Uint8Array(rows * macrosPerRow);
    for (const macro of tiles(rows, cols, o.tile === '2d' ? macroSize : 1, macroSize)) {
      const byte =
        o.macroScale === 'static'
          ? referenceStaticByte(largest(values, macro))
          : dynamicByte(
              values,
              macro,
              cols,
              blockSize,
              blockHeight,
              rule,
              claim.macroScales![macroIndex(macro[0]!)]!,
            );
      for (const i of macro) {
        scaled[i] = referenceScaleUp(values[i]!, 1 + byte / 256);
        macroScales[macroIndex(i)] = byte;
      }
    }
    y = scaled;
  }

  const codes = new Uint8Array(values.length);
  const scales = new Uint8Array(values.length / blockSize);
  for (const block of tiles(rows, cols, blockHeight, blockSize)) {
    const exponent =
      rule === 'mse'
        ? choose(leastSquaresExponents(y, block), claim.scales[blockIndex(block[0]!)]! - 127)
        : referenceExponent(largest(y, block), rule);
    encode(codes, block, (i) => y[i]! * 2 ** -exponent, o);
    for (const i of block) scales[blockIndex(i)] = exponent + 127;
  }
  return { codes: pack(codes), scales, ...(macroScales && { macroScales }), globalScale: 1 };
}

/** Dynamic byte of a macro block: the errors of all 16 candidates in the domain of x, with x̂ = q · 2^E / f. */
function dynamicByte(
  values: Float32Array,
  macro: number[],
  cols: number,
  blockSize: number,
  blockHeight: number,
  rule: ScaleRule,
  claimed: number,
): number {
  if (largest(values, macro) === 0) return 0;
  const errors = dynamicErrors(values, macro, cols, blockSize, blockHeight, rule);
  return choose(new Map(errors.map((error, j) => [16 * j, error])), claimed);
}

export function dynamicErrors(
  values: Float32Array,
  macro: number[],
  cols: number,
  blockSize: number,
  blockHeight: number,
  rule: ScaleRule,
): number[] {
  const blocks = new Map<number, number[]>();
  for (const i of macro) {
    const key = Math.floor(i / cols / blockHeight) * cols + Math.floor((i % cols) / blockSize);
    if (!blocks.has(key)) blocks.set(key, []);
    blocks.get(key)!.push(i);
  }
  return Array.from({ length: 16 }, (_, j) => {
    const f = 1 + j / 16;
    let sum = 0;
    for (const block of blocks.values()) {
      const y = block.map((i) => referenceScaleUp(values[i]!, f));
      const all = y.map((_, i) => i);
      const exponent =
        rule === 'mse'
          ? firstWithLeast(leastSquaresExponents(y, all))
          : referenceExponent(largest(y, all), rule);
      for (let i = 0; i < block.length; i++) {
        const approximation = GRID[nearestCode(Math.abs(y[i]!) * 2 ** -exponent)]! * 2 ** exponent;
        sum += ((Math.abs(values[block[i]!]!) * f - approximation) / f) ** 2;
      }
    }
    return sum;
  });
}

/** TransformerEngine's order of operations, each step a fraction rounded to f32 once. */
function referenceNv(values: Float32Array, o: QuantizeOptions, claim: Claim): ReferenceBytes {
  const { rows, cols } = o;
  const fourOverSix = o.scaleRule === 'four-over-six';
  const codes = new Uint8Array(values.length);
  const scales = new Uint8Array(values.length / 16);
  const amax = largest(values, [...values.keys()]);
  const encodeTensor = amax === 0 ? 1 : Math.min(quotient(6 * (fourOverSix ? 256 : 448), amax), FLOAT_MAX);
  const decodeTensor = quotient(1, encodeTensor);
  const multiplier = product(encodeTensor, roundToF32({ num: 1n, den: 6n }));

  for (const block of tiles(rows, cols, o.tile === '2d' ? 16 : 1, 16)) {
    const a = largest(values, block);
    let byte = nearestScaleByte(product(a, multiplier));
    if (fourOverSix) {
      const base = product(quotient(a, 6), encodeTensor);
      byte = nearestScaleByte(base);
      const four = nearestScaleByte(product(1.5, base));
      const claimed = claim.scales[Math.floor(block[0]! / 16)]!;
      // Documented exception: no choice where the elements' multiplier saturates.
      const saturates = byte !== 0 && nvScale(byte, decodeTensor) === FLOAT_MAX;
      if (four !== byte && !saturates) {
        byte = choose(
          new Map(
            [byte, four].map((b) => [
              b,
              nvError(values, block, b, decodeTensor, o.fourOverSixError ?? 'mse'),
            ]),
          ),
          claimed,
        );
      }
    }
    for (const i of block) scales[Math.floor(i / 16)] = byte;
    if (byte === 0) continue;
    const scale = nvScale(byte, decodeTensor);
    encode(codes, block, (i) => product(values[i]!, scale), o);
  }
  return { codes: pack(codes), scales, globalScale: decodeTensor };
}

/** f32 multiplier of a block's elements, from the rounded scale. */
const nvScale = (byte: number, decodeTensor: number): number =>
  Math.min(quotient(1, product(scaleValue(byte), decodeTensor)), FLOAT_MAX);

/** Exact error of a block against the original values. */
export function nvError(
  values: Float32Array,
  block: number[],
  byte: number,
  decodeTensor: number,
  metric: 'mae' | 'mse',
): number {
  const scale = byte === 0 ? 0 : nvScale(byte, decodeTensor);
  let sum = 0;
  for (const i of block) {
    const magnitude = Math.abs(values[i]!);
    const approximation =
      byte === 0 ? 0 : GRID[nearestCode(product(magnitude, scale))]! * scaleValue(byte) * decodeTensor;
    const error = Math.abs(magnitude - approximation);
    sum += metric === 'mae' ? error : error * error;
  }
  return sum;
}

// The product of two f32 is exact in f64; a quotient is not.
const product = (a: number, b: number): number => roundF64ToF32(a * b);
const quotient = (a: number, b: number): number => roundToF32(divide(exact(a), exact(b)));

/** Non-negative E4M3 value from its fields. */
export function scaleValue(byte: number): number {
  const exponent = Math.floor(byte / 8);
  const mantissa = byte % 8;
  return exponent === 0 ? mantissa / 512 : (1 + mantissa / 8) * 2 ** (exponent - 7);
}

/** Byte 0..0x7e nearest to a non-negative value, ties to the even byte, by trying all. */
export function nearestScaleByte(value: number): number {
  if (value >= 448) return 0x7e;
  let best = 0;
  for (let byte = 1; byte <= 0x7e; byte++) {
    const distance = Math.abs(scaleValue(byte) - value);
    const least = Math.abs(scaleValue(best) - value);
    if (distance < least || (distance === least && byte % 2 === 0)) best = byte;
  }
  return best;
}

function encode(
  codes: Uint8Array,
  block: number[],
  scaled: (i: number) => number,
  o: Pick<QuantizeOptions, 'rounding' | 'seed'>,
): void {
  // A block of zeros has codes 0, whatever the signs.
  if (block.every((i) => scaled(i) === 0)) return;
  for (const i of block) {
    const y = scaled(i);
    const magnitude = Math.abs(y);
    const code =
      o.rounding === 'stochastic'
        ? stochasticCode(magnitude, randomByte(o.seed ?? 0, i))
        : nearestCode(magnitude);
    codes[i] = code + (y < 0 || Object.is(y, -0) ? 8 : 0);
  }
}

function pack(codes: Uint8Array): Uint8Array {
  return Uint8Array.from({ length: codes.length / 2 }, (_, i) => codes[2 * i]! + 16 * codes[2 * i + 1]!);
}

/** f32 values of canonical bytes: one product per element, exact in f64 (at most 30 bits), rounded once. */
export function referenceDequantize(q: QuantizedMatrix): Float32Array {
  const blocksPerRow = q.cols / q.blockSize;
  const macrosPerRow = Math.ceil(q.cols / (q.macroSize ?? q.cols));
  return Float32Array.from({ length: q.rows * q.cols }, (_, i) => {
    const row = Math.floor(i / q.cols);
    const col = i % q.cols;
    const code = Math.floor(q.codes[Math.floor(i / 2)]! / (i % 2 ? 16 : 1)) % 16;
    const byte = q.scales[row * blocksPerRow + Math.floor(col / q.blockSize)]!;
    let value = GRID[code % 8]! * (code >= 8 ? -1 : 1) * q.globalScale;
    value *= q.format === 'nvfp4' ? scaleValue(byte) : 2 ** (byte - 127);
    if (q.macroScales) {
      value *= INVERSE_FACTORS[q.macroScales[row * macrosPerRow + Math.floor(col / q.macroSize!)]!]!;
    }
    return roundF64ToF32(value);
  });
}

const INVERSE_FACTORS = Array.from({ length: 256 }, (_, m) =>
  roundToF32({ num: 256n, den: 256n + BigInt(m) }),
);
