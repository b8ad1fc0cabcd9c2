/** fp4-webgpu: 4-bit floating-point quantization and matrix multiplication on WebGPU. */
export { type ByteSource, blobSource, bytesSource } from './checkpoint/byte-source.js';
export type { Container, StoredTensor } from './checkpoint/container.js';
export {
  type Conversion,
  type ConversionStep,
  planConversion,
  type WriteBytes,
} from './checkpoint/convert.js';
export { ggufMetadata, safetensorsMetadata } from './checkpoint/convert-metadata.js';
export type { Dtype, FloatDtype } from './checkpoint/dtype.js';
export type { GgmlTypeName } from './checkpoint/ggml-types.js';
export { type FloatMatrix, readMatrix } from './checkpoint/matrix-source.js';
export {
  type Checkpoint,
  type MatrixInfo,
  type MatrixOptions,
  type OpenCheckpointOptions,
  openCheckpoint,
  type RefusedMatrix,
} from './checkpoint/open.js';
export { readSafetensorsHeader, type SafetensorsFile, type TensorInfo } from './checkpoint/safetensors.js';
export type { OpenSibling, Progress } from './checkpoint/shards.js';
export { type UrlSourceOptions, urlSource } from './checkpoint/url-source.js';
export {
  type GgufItems,
  type GgufLayout,
  type GgufMetadata,
  type GgufTensor,
  type GgufTensorHeader,
  type GgufValue,
  layoutGguf,
  writeGguf,
} from './checkpoint/write-gguf.js';
export {
  layoutSafetensors,
  type SafetensorsLayout,
  type SafetensorsMetadata,
  type TensorData,
  type TensorHeader,
  writeSafetensors,
} from './checkpoint/write-safetensors.js';
export { compressedTensorsConfig } from './checkpoint/writers/compressed-tensors.js';
export { gptOssConfig } from './checkpoint/writers/gpt-oss.js';
export {
  type Convention,
  headersAs,
  tensorsAs,
  type WrittenTensor,
} from './checkpoint/writers/index.js';
export type { WrittenHeader } from './checkpoint/writers/writer.js';
export {
  CheckpointError,
  DeviceLostError,
  Fp4Error,
  InvalidArgumentError,
  ShaderError,
  UnsupportedError,
} from './errors.js';
export { decodeE0M8, encodeE0M8 } from './formats/e0m8.js';
export { decodeE2M1, E2M1_VALUES, encodeE2M1, packE2M1, unpackE2M1 } from './formats/e2m1.js';
export { decodeE4M3, E4M3_VALUES, encodeE4M3 } from './formats/e4m3.js';
export { decodeE8M0, encodeE8M0 } from './formats/e8m0.js';
export { type BlockFormat, FORMATS, type Format, MACRO_SIZES, type MacroSize } from './formats/formats.js';
export type { ActivationOptions, Activations } from './gemm/activations.js';
export {
  createGemm,
  Gemm,
  type GemmBuffers,
  type GemmOptions,
  type MatmulOptions,
  matmul,
  problemOf,
  type WarmUpOptions,
  type WarmUpProblem,
  warmUp,
} from './gemm/gemm.js';
export {
  createQuantizer,
  GpuQuantized,
  GpuQuantizer,
  type QuantizerBuffers,
  quantizeOnGpu,
  readbackQuantized,
} from './gemm/gpu-quantizer.js';
export {
  type ErrorModel,
  KERNELS,
  type Kernel,
  type KernelConstants,
  type KernelId,
} from './gemm/kernels/index.js';
export { candidatePlans, type GemmPlan, planGemm, planWith } from './gemm/plan.js';
export { type GemmProblem, type GemmProblemOptions, resolveProblem } from './gemm/problem.js';
export {
  describeQuantizerReport,
  MAIN_QUANTIZER_RULES,
  QUANTIZER_RULES,
  type QuantizerSelfTestOptions,
  type QuantizerSelfTestReport,
  quantizerSelfTest,
} from './gemm/quantizer-selftest.js';
export { errorBound, type ReferenceProduct, referenceProduct } from './gemm/reference.js';
export {
  describeReport,
  type SelfTestFailure,
  type SelfTestOptions,
  type SelfTestReport,
  selfTest,
} from './gemm/selftest.js';
export { type TuneOptions, type TuneStorage, tuneGemm, tuneKey } from './gemm/tune.js';
export { GpuWeights, type UploadOptions, uploadWeights, weightsFromQuantized } from './gemm/weights.js';
export type { BufferSlice } from './gpu/buffers.js';
export {
  type AdapterInfo,
  type Caps,
  type Limits,
  type SubgroupMatrixConfig,
  TIER_NEEDS,
  TIERS,
  type Tier,
} from './gpu/caps.js';
export { Gpu, gpuFromDevice, type RequestGpuOptions, requestGpu } from './gpu/gpu.js';
export { type TimerOptions, type Timing, time } from './gpu/timer.js';
export {
  bitsPerValue,
  byteLength,
  type MatrixHeader,
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
export {
  ActivationStatistics,
  type ActivationSummary,
  activationTable,
  type ComponentActivations,
  componentActivations,
  MAGNITUDE_BINS,
  MagnitudeStatistics,
} from './sensitivity/activation-statistics.js';
export { type LayerPlace, placeLayer } from './sensitivity/layer-names.js';
export {
  type LeaveOneOutOptions,
  type LeaveOneOutProgress,
  type Loss,
  type LossOf,
  type LossStorage,
  leaveOneOut,
} from './sensitivity/leave-one-out.js';
export {
  type LayerError,
  type LayerInputs,
  type LinearLayer,
  layerErrorTable,
  OutputErrorMeter,
  type OutputErrorRules,
  outputError,
  outputErrorReport,
} from './sensitivity/output-error.js';
export {
  type KeepBudget,
  type KeepCandidate,
  type KeepRecommendation,
  keepCandidates,
  type LayerBits,
  recommendationTable,
  recommendKeep,
} from './sensitivity/recommend.js';
export {
  type HeatMap,
  heatMap,
  type Place,
  type SensitivityReport,
  type SensitivityRow,
  type Subject,
  type SubjectKind,
  sensitivityTables,
  type TextTable,
  tableText,
} from './sensitivity/report.js';
