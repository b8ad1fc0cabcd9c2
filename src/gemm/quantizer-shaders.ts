/** The WGSL modules of the quantizers, inlined at build time. */
import bytesSubgroup from '../../shaders/quantize/bytes_subgroup.wgsl?raw';
import bytesWorkgroup from '../../shaders/quantize/bytes_workgroup.wgsl?raw';
import codes8 from '../../shaders/quantize/codes8.wgsl?raw';
import e2m1Encode from '../../shaders/quantize/e2m1_encode.wgsl?raw';
import e4m3 from '../../shaders/quantize/e4m3.wgsl?raw';
import elements from '../../shaders/quantize/elements.wgsl?raw';
import elementsMx from '../../shaders/quantize/elements_mx.wgsl?raw';
import elementsNv from '../../shaders/quantize/elements_nv.wgsl?raw';
import f32Bits from '../../shaders/quantize/f32_bits.wgsl?raw';
import factorDynamic from '../../shaders/quantize/factor_dynamic.wgsl?raw';
import factorNone from '../../shaders/quantize/factor_none.wgsl?raw';
import factorStatic from '../../shaders/quantize/factor_static.wgsl?raw';
import factorsDynamic from '../../shaders/quantize/factors_dynamic.wgsl?raw';
import factorsStatic from '../../shaders/quantize/factors_static.wgsl?raw';
import gridDistance from '../../shaders/quantize/grid_distance.wgsl?raw';
import hadamardExact from '../../shaders/quantize/hadamard_exact.wgsl?raw';
import loadFactors from '../../shaders/quantize/load_factors.wgsl?raw';
import loadFactorsNone from '../../shaders/quantize/load_factors_none.wgsl?raw';
import loadScales from '../../shaders/quantize/load_scales.wgsl?raw';
import loadTensor from '../../shaders/quantize/load_tensor.wgsl?raw';
import macroFactor from '../../shaders/quantize/macro_factor.wgsl?raw';
import maximaSubgroup from '../../shaders/quantize/maxima_subgroup.wgsl?raw';
import maximaWorkgroup from '../../shaders/quantize/maxima_workgroup.wgsl?raw';
import mxEncoder from '../../shaders/quantize/mx_encoder.wgsl?raw';
import mxScale from '../../shaders/quantize/mx_scale.wgsl?raw';
import mxStream from '../../shaders/quantize/mx_stream.wgsl?raw';
import nvCodes from '../../shaders/quantize/nv_codes.wgsl?raw';
import nvStream from '../../shaders/quantize/nv_stream.wgsl?raw';
import problem from '../../shaders/quantize/problem.wgsl?raw';
import residuals from '../../shaders/quantize/residuals.wgsl?raw';
import residualsRegion from '../../shaders/quantize/residuals_region.wgsl?raw';
import residualsValues from '../../shaders/quantize/residuals_values.wgsl?raw';
import ruleBump from '../../shaders/quantize/rule_bump.wgsl?raw';
import ruleFourOverSix from '../../shaders/quantize/rule_four_over_six.wgsl?raw';
import ruleMse from '../../shaders/quantize/rule_mse.wgsl?raw';
import ruleTe from '../../shaders/quantize/rule_te.wgsl?raw';
import scaledMx from '../../shaders/quantize/scaled_mx.wgsl?raw';
import scaledNv from '../../shaders/quantize/scaled_nv.wgsl?raw';
import scales from '../../shaders/quantize/scales.wgsl?raw';
import scalesMx from '../../shaders/quantize/scales_mx.wgsl?raw';
import scalesNv from '../../shaders/quantize/scales_nv.wgsl?raw';
import sixteen from '../../shaders/quantize/sixteen.wgsl?raw';
import softFloat from '../../shaders/quantize/soft_float.wgsl?raw';
import status from '../../shaders/quantize/status.wgsl?raw';
import storeFactors from '../../shaders/quantize/store_factors.wgsl?raw';
import storeScales from '../../shaders/quantize/store_scales.wgsl?raw';
import tensor from '../../shaders/quantize/tensor.wgsl?raw';
import tensorAmax from '../../shaders/quantize/tensor_amax.wgsl?raw';
import tensorScale from '../../shaders/quantize/tensor_scale.wgsl?raw';
import thresholds from '../../shaders/quantize/thresholds.wgsl?raw';
import thresholdsMacro from '../../shaders/quantize/thresholds_macro.wgsl?raw';
import thresholdsNone from '../../shaders/quantize/thresholds_none.wgsl?raw';
import type { ShaderModuleText } from '../gpu/shader.js';

const SOURCES = {
  bytes_subgroup: bytesSubgroup,
  bytes_workgroup: bytesWorkgroup,
  codes8,
  e2m1_encode: e2m1Encode,
  e4m3,
  elements,
  elements_mx: elementsMx,
  elements_nv: elementsNv,
  f32_bits: f32Bits,
  factor_dynamic: factorDynamic,
  factor_none: factorNone,
  factor_static: factorStatic,
  factors_dynamic: factorsDynamic,
  factors_static: factorsStatic,
  grid_distance: gridDistance,
  hadamard_exact: hadamardExact,
  load_factors: loadFactors,
  load_factors_none: loadFactorsNone,
  load_scales: loadScales,
  load_tensor: loadTensor,
  macro_factor: macroFactor,
  maxima_subgroup: maximaSubgroup,
  maxima_workgroup: maximaWorkgroup,
  mx_encoder: mxEncoder,
  mx_scale: mxScale,
  mx_stream: mxStream,
  nv_codes: nvCodes,
  nv_stream: nvStream,
  problem,
  residuals,
  residuals_region: residualsRegion,
  residuals_values: residualsValues,
  rule_bump: ruleBump,
  rule_four_over_six: ruleFourOverSix,
  rule_mse: ruleMse,
  rule_te: ruleTe,
  scaled_mx: scaledMx,
  scaled_nv: scaledNv,
  scales,
  scales_mx: scalesMx,
  scales_nv: scalesNv,
  sixteen,
  soft_float: softFloat,
  status,
  store_factors: storeFactors,
  store_scales: storeScales,
  tensor,
  tensor_amax: tensorAmax,
  tensor_scale: tensorScale,
  thresholds,
  thresholds_macro: thresholdsMacro,
  thresholds_none: thresholdsNone,
} as const;

export type QuantizerModule = keyof typeof SOURCES;

export function quantizerModules(names: readonly QuantizerModule[]): ShaderModuleText[] {
  return names.map((name) => ({ name: `quantize/${name}.wgsl`, source: SOURCES[name] }));
}
