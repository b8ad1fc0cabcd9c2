/** fp4-webgpu: 4-bit floating-point quantization and matrix multiplication on WebGPU. */
export { CheckpointError, Fp4Error, InvalidArgumentError, ShaderError, UnsupportedError } from './errors.js';
export { decodeE0M8, encodeE0M8 } from './formats/e0m8.js';
export { decodeE2M1, E2M1_VALUES, encodeE2M1, packE2M1, unpackE2M1 } from './formats/e2m1.js';
export { decodeE4M3, E4M3_VALUES, encodeE4M3 } from './formats/e4m3.js';
export { decodeE8M0, encodeE8M0 } from './formats/e8m0.js';
export { type BlockFormat, FORMATS, type Format, MACRO_SIZES, type MacroSize } from './formats/formats.js';
export {
  bitsPerValue,
  byteLength,
  type QuantizedMatrix,
  validateMatrix,
} from './matrix/quantized-matrix.js';
export { HADAMARD_SIGNS } from './quantize/hadamard.js';
export {
  type BlockMetrics,
  blockMetrics,
  type ErrorMetrics,
  errorMetrics,
} from './quantize/metrics.js';
export {
  type MacroScale,
  type MxScaleRule,
  type NvScaleRule,
  type QuantizeOptions,
  type Rounding,
  SCALE_RULES,
  type ScaleRule,
} from './quantize/options.js';
export { dequantize, quantize } from './quantize/quantize.js';
