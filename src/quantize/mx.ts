/** MXFP4: E2M1 elements, one E8M0 scale a block, optionally one E0M8 factor a macro block. */
import { decodeE0M8 } from '../formats/e0m8.js';
import { E8M0_BIAS } from '../formats/e8m0.js';
import type { QuantizedMatrix } from '../matrix/quantized-matrix.js';
import { ElementEncoder } from './encoder.js';
import { DynamicFactorSearch, scaleUp, staticFactorByte } from './mbs.js';
import { scaleExponent } from './mx-scale.js';
import type { MxScaleRule, QuantizeSpec } from './options.js';
import { largestMagnitude, mapTile, type Tile } from './tile.js';

/** @param values the rows of a matrix from `firstRow` on */
export function quantizeMx(values: Float32Array, spec: QuantizeSpec, firstRow: number): QuantizedMatrix {
  const { rows, cols, blockSize, macroSize } = spec;
  const rule = spec.scaleRule as MxScaleRule;
  const hasMacro = spec.macroScale !== 'none';
  const blockHeight = spec.tile === '2d' ? blockSize : 1;
  const macroHeight = spec.tile === '2d' ? macroSize : 1;
  const macrosPerRow = Math.ceil(cols / macroSize);
  const blocksPerRow = cols / blockSize;

  const scales = new Uint8Array(rows * blocksPerRow);
  const macroScales = hasMacro ? new Uint8Array(rows * macrosPerRow) : undefined;
  const encoder = new ElementEncoder(rows * cols, spec, firstRow * cols);
  const search =
    spec.macroScale === 'dynamic'
      ? new DynamicFactorSearch(macroSize, macroHeight, blockSize, blockHeight, rule)
      : undefined;

  // One stripe of rows at a time, as y = x · f in f64 (24 significant bits; see `scaleUp` for the range).
  const stripeHeight = hasMacro ? macroHeight : blockHeight;
  const y = new Float64Array(stripeHeight * cols);
  for (let top = 0; top < rows; top += stripeHeight) {
    const height = Math.min(stripeHeight, rows - top);
    y.set(values.subarray(top * cols, (top + height) * cols));

    if (macroScales) {
      for (let macro = 0; macro < macrosPerRow; macro++) {
        const start = macro * macroSize;
        const tile: Tile = { data: y, start, stride: cols, height, width: Math.min(macroSize, cols - start) };
        const byte = search ? search.factorByte(tile) : staticFactorByte(largestMagnitude(tile));
        const f = decodeE0M8(byte);
        mapTile(tile, (x) => scaleUp(x, f));
        for (let row = top; row < top + height; row++) macroScales[row * macrosPerRow + macro] = byte;
      }
    }

    for (let row = 0; row < height; row += blockHeight) {
      for (let block = 0; block < blocksPerRow; block++) {
        const tile: Tile = {
          data: y,
          start: row * cols + block * blockSize,
          stride: cols,
          height: Math.min(blockHeight, height - row),
          width: blockSize,
        };
        const exponent = scaleExponent(tile, rule);
        encoder.encode(tile, top * cols + tile.start, 2 ** -exponent);
        for (let r = 0; r < tile.height; r++) {
          scales[(top + row + r) * blocksPerRow + block] = exponent + E8M0_BIAS;
        }
      }
    }
  }
  return {
    format: 'mxfp4',
    rows,
    cols,
    blockSize,
    codes: encoder.codes,
    scales,
    ...(macroScales && { macroScales, macroSize }),
    globalScale: 1,
    hadamard: spec.hadamard,
  };
}
