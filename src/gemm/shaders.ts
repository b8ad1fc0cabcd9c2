/** The WGSL modules of the products, inlined at build time. */
import biasAdd from '../../shaders/bias_add.wgsl?raw';
import biasNone from '../../shaders/bias_none.wgsl?raw';
import epilogue from '../../shaders/epilogue.wgsl?raw';
import epilogueEach from '../../shaders/epilogue_each.wgsl?raw';
import epiloguePartial from '../../shaders/epilogue_partial.wgsl?raw';
import epiloguePartialQuads from '../../shaders/epilogue_partial_quads.wgsl?raw';
import epilogueQuads from '../../shaders/epilogue_quads.wgsl?raw';
import chunk from '../../shaders/formats/chunk.wgsl?raw';
import e2m1Half from '../../shaders/formats/e2m1_half.wgsl?raw';
import e2m1HalfSafe from '../../shaders/formats/e2m1_half_safe.wgsl?raw';
import e2m1Halves from '../../shaders/formats/e2m1_halves.wgsl?raw';
import e2m1Int8 from '../../shaders/formats/e2m1_int8.wgsl?raw';
import e2m1Int8Floats from '../../shaders/formats/e2m1_int8_floats.wgsl?raw';
import e2m1Int8Halves from '../../shaders/formats/e2m1_int8_halves.wgsl?raw';
import e2m1Pairs from '../../shaders/formats/e2m1_pairs.wgsl?raw';
import halfChunk from '../../shaders/formats/half_chunk.wgsl?raw';
import macroMbs from '../../shaders/formats/macro_mbs.wgsl?raw';
import macroNone from '../../shaders/formats/macro_none.wgsl?raw';
import mxfp4 from '../../shaders/formats/mxfp4.wgsl?raw';
import mxfp4Halves from '../../shaders/formats/mxfp4_halves.wgsl?raw';
import mxfp4HalvesMbs from '../../shaders/formats/mxfp4_halves_mbs.wgsl?raw';
import nvfp4 from '../../shaders/formats/nvfp4.wgsl?raw';
import nvfp4Halves from '../../shaders/formats/nvfp4_halves.wgsl?raw';
import order from '../../shaders/formats/order.wgsl?raw';
import relativeMxfp4 from '../../shaders/formats/relative_mxfp4.wgsl?raw';
import relativeNvfp4 from '../../shaders/formats/relative_nvfp4.wgsl?raw';
import rowMax from '../../shaders/formats/row_max.wgsl?raw';
import scaleWords from '../../shaders/formats/scale_words.wgsl?raw';
import gemmDp4a from '../../shaders/gemm_dp4a.wgsl?raw';
import gemmDp4aRows from '../../shaders/gemm_dp4a_rows.wgsl?raw';
import gemmSubgroupMatrix from '../../shaders/gemm_subgroup_matrix.wgsl?raw';
import gemmSubgroupMatrixDirect from '../../shaders/gemm_subgroup_matrix_direct.wgsl?raw';
import gemmSubgroupMatrixSkinny from '../../shaders/gemm_subgroup_matrix_skinny.wgsl?raw';
import gemmTiled from '../../shaders/gemm_tiled.wgsl?raw';
import gemmTiledF16 from '../../shaders/gemm_tiled_f16.wgsl?raw';
import gemv from '../../shaders/gemv.wgsl?raw';
import hadamard from '../../shaders/hadamard.wgsl?raw';
import int8Weights from '../../shaders/int8_weights.wgsl?raw';
import kConstant from '../../shaders/k_constant.wgsl?raw';
import kProblem from '../../shaders/k_problem.wgsl?raw';
import matrixF16 from '../../shaders/matrix_f16.wgsl?raw';
import matrixI8 from '../../shaders/matrix_i8.wgsl?raw';
import nanRows from '../../shaders/nan_rows.wgsl?raw';
import nanRowsNone from '../../shaders/nan_rows_none.wgsl?raw';
import conversionImmediates from '../../shaders/operands/conversion_immediates.wgsl?raw';
import conversionUniform from '../../shaders/operands/conversion_uniform.wgsl?raw';
import fp4Rows from '../../shaders/operands/fp4_rows.wgsl?raw';
import halfFragments from '../../shaders/operands/half_fragments.wgsl?raw';
import int8Expand from '../../shaders/operands/int8_expand.wgsl?raw';
import int8Layout from '../../shaders/operands/int8_layout.wgsl?raw';
import int8MacroMbs from '../../shaders/operands/int8_macro_mbs.wgsl?raw';
import int8MacroNone from '../../shaders/operands/int8_macro_none.wgsl?raw';
import int8Round from '../../shaders/operands/int8_round.wgsl?raw';
import int8Rows from '../../shaders/operands/int8_rows.wgsl?raw';
import int8ScaleMxfp4 from '../../shaders/operands/int8_scale_mxfp4.wgsl?raw';
import int8ScaleNvfp4 from '../../shaders/operands/int8_scale_nvfp4.wgsl?raw';
import int8Words from '../../shaders/operands/int8_words.wgsl?raw';
import rowValues from '../../shaders/operands/row_values.wgsl?raw';
import widen from '../../shaders/operands/widen.wgsl?raw';
import packBytes from '../../shaders/pack/bytes.wgsl?raw';
import packCodes from '../../shaders/pack/codes.wgsl?raw';
import packProblem from '../../shaders/pack/problem.wgsl?raw';
import packRowMax from '../../shaders/pack/row_max.wgsl?raw';
import partialsEach from '../../shaders/partials_each.wgsl?raw';
import partialsQuads from '../../shaders/partials_quads.wgsl?raw';
import problem from '../../shaders/problem.wgsl?raw';
import problemImmediates from '../../shaders/problem_immediates.wgsl?raw';
import problemUniform from '../../shaders/problem_uniform.wgsl?raw';
import reduceSplits from '../../shaders/reduce_splits.wgsl?raw';
import rows from '../../shaders/rows.wgsl?raw';
import tileFill from '../../shaders/tile_fill.wgsl?raw';
import tileVec2 from '../../shaders/tile_vec2.wgsl?raw';
import tileVec4 from '../../shaders/tile_vec4.wgsl?raw';
import xF16 from '../../shaders/x_f16.wgsl?raw';
import xF32 from '../../shaders/x_f32.wgsl?raw';
import xFloats from '../../shaders/x_floats.wgsl?raw';
import xHalves from '../../shaders/x_halves.wgsl?raw';
import xRows1 from '../../shaders/x_rows_1.wgsl?raw';
import xRows2 from '../../shaders/x_rows_2.wgsl?raw';
import xRows4 from '../../shaders/x_rows_4.wgsl?raw';
import xSums1 from '../../shaders/x_sums_1.wgsl?raw';
import xSums2 from '../../shaders/x_sums_2.wgsl?raw';
import xSums4 from '../../shaders/x_sums_4.wgsl?raw';
import xTiles from '../../shaders/x_tiles.wgsl?raw';
import xTilesRows from '../../shaders/x_tiles_rows.wgsl?raw';
import { FORMATS } from '../formats/formats.js';
import type { Probe } from '../gpu/probe.js';
import type { ShaderModuleText } from '../gpu/shader.js';
import type { UniformSource } from '../gpu/uniform-data.js';
import type { GemmProblem } from './problem.js';

const module = (name: string, source: string): ShaderModuleText => ({ name: `${name}.wgsl`, source });

export const MODULES = {
  e2m1Half: module('formats/e2m1_half', e2m1Half),
  e2m1HalfSafe: module('formats/e2m1_half_safe', e2m1HalfSafe),
  e2m1Pairs: module('formats/e2m1_pairs', e2m1Pairs),
  e2m1Int8: module('formats/e2m1_int8', e2m1Int8),
  rowMax: module('formats/row_max', rowMax),
  gemv: module('gemv', gemv),
  gemmTiled: module('gemm_tiled', gemmTiled),
  gemmTiledF16: module('gemm_tiled_f16', gemmTiledF16),
  gemmDp4a: module('gemm_dp4a', gemmDp4a),
  gemmDp4aRows: module('gemm_dp4a_rows', gemmDp4aRows),
  gemmSubgroupMatrix: module('gemm_subgroup_matrix', gemmSubgroupMatrix),
  gemmSubgroupMatrixDirect: module('gemm_subgroup_matrix_direct', gemmSubgroupMatrixDirect),
  gemmSubgroupMatrixSkinny: module('gemm_subgroup_matrix_skinny', gemmSubgroupMatrixSkinny),
  rows: module('rows', rows),
  scaleWords: module('formats/scale_words', scaleWords),
} as const;

/** Decoding of codes to f32, on a device that keeps subnormal halves or not. */
export const floatCodes = (f16Subnormals: boolean): readonly ShaderModuleText[] =>
  f16Subnormals ? [MODULES.e2m1Pairs, MODULES.e2m1Half] : [MODULES.e2m1HalfSafe];

/** The problem of a product, and where it lies. */
export const PROBLEM_MODULES: Readonly<Record<UniformSource, readonly ShaderModuleText[]>> = {
  buffer: [module('problem', problem), module('problem_uniform', problemUniform)],
  immediates: [module('problem', problem), module('problem_immediates', problemImmediates)],
};

/** Where a conversion finds its sizes, which it declares itself. */
export const CONVERSION_MODULES: Readonly<Record<UniformSource, ShaderModuleText>> = {
  buffer: module('operands/conversion_uniform', conversionUniform),
  immediates: module('operands/conversion_immediates', conversionImmediates),
};

const X_SUMS: Readonly<Record<number, ShaderModuleText>> = {
  1: module('x_sums_1', xSums1),
  2: module('x_sums_2', xSums2),
  4: module('x_sums_4', xSums4),
};
const X_ROWS: Readonly<Record<number, ShaderModuleText>> = {
  1: module('x_rows_1', xRows1),
  2: module('x_rows_2', xRows2),
  4: module('x_rows_4', xRows4),
};
const X_FLOATS = module('x_floats', xFloats);
const X_HALVES = module('x_halves', xHalves);

/** Multiplying with `rows` rows of x at a time, with products of a type. */
export const xRows = (products: 'f32' | 'f16', rows: number): readonly ShaderModuleText[] => [
  X_SUMS[rows]!,
  ...(products === 'f32' ? [X_FLOATS, X_ROWS[rows]!] : [X_HALVES]),
];

/** Reading x as the type it has in its buffer. */
export const X_MODULES: Readonly<Record<GemmProblem['x'], ShaderModuleText>> = {
  f32: module('x_f32', xF32),
  f16: module('x_f16', xF16),
};

/** Block scales of weights as halves relative to their row's largest. */
function halfScales(p: Pick<GemmProblem, 'format' | 'macroSize'>): ShaderModuleText {
  if (p.format === 'nvfp4') return module('formats/nvfp4_halves', nvfp4Halves);
  return p.macroSize
    ? module('formats/mxfp4_halves_mbs', mxfp4HalvesMbs)
    : module('formats/mxfp4_halves', mxfp4Halves);
}

/** Chunks of weights on their way to workgroup memory, and the rows' largest scales. */
const CHUNK_MODULES: readonly ShaderModuleText[] = [
  MODULES.scaleWords,
  module('formats/chunk', chunk),
  MODULES.rowMax,
];

/** Likewise, decoded to halves relative to their row's largest scale. */
export const halfChunks = (p: Pick<GemmProblem, 'format' | 'macroSize'>): readonly ShaderModuleText[] => [
  ...CHUNK_MODULES,
  MODULES.e2m1Pairs,
  module('formats/e2m1_halves', e2m1Halves),
  halfScales(p),
  module('formats/half_chunk', halfChunk),
];

/** Adding up parts of k, with rows of parts that are whole vec4s or not. */
export const reduceSplitsModules = (aligned: boolean): readonly ShaderModuleText[] => [
  aligned ? module('partials_quads', partialsQuads) : module('partials_each', partialsEach),
  module('reduce_splits', reduceSplits),
];

const NAN_ROWS = module('nan_rows', nanRows);
export const HADAMARD = module('hadamard', hadamard);
const ROW_VALUES = module('operands/row_values', rowValues);
export const HALF_FRAGMENTS = [ROW_VALUES, module('operands/half_fragments', halfFragments)];
const INT8_WORDS = module('operands/int8_words', int8Words);
export const INT8_ROWS = [ROW_VALUES, INT8_WORDS, module('operands/int8_rows', int8Rows)];

/** What elements of tiles are, how they are brought, and the words that they lie in. */
export const TILE_MODULES = {
  f16: module('matrix_f16', matrixF16),
  i8: module('matrix_i8', matrixI8),
  xTiles: module('x_tiles', xTiles),
  xTilesRows: module('x_tiles_rows', xTilesRows),
  fill: module('tile_fill', tileFill),
  tileVec2: module('tile_vec2', tileVec2),
  tileVec4: module('tile_vec4', tileVec4),
} as const;

/** Likewise, decoded to int8 relative to their row's largest scale: through f16 where a device multiplies subnormals. */
export const int8Chunks = (
  { format }: Pick<GemmProblem, 'format'>,
  { f16Subnormals, f16SubnormalProducts }: Probe,
): readonly ShaderModuleText[] => [
  ...CHUNK_MODULES,
  ...(f16SubnormalProducts
    ? [MODULES.e2m1Pairs, module('formats/e2m1_int8_halves', e2m1Int8Halves)]
    : [module('formats/e2m1_int8_floats', e2m1Int8Floats), ...floatCodes(f16Subnormals)]),
  format === 'nvfp4'
    ? module('formats/relative_nvfp4', relativeNvfp4)
    : module('formats/relative_mxfp4', relativeMxfp4),
  module('int8_weights', int8Weights),
];

/** Bringing x to int8. */
export const INT8_MODULES = {
  layout: module('operands/int8_layout', int8Layout),
  words: INT8_WORDS,
  round: module('operands/int8_round', int8Round),
  expand: module('operands/int8_expand', int8Expand),
  decode: MODULES.e2m1Int8,
  scaleMxfp4: module('operands/int8_scale_mxfp4', int8ScaleMxfp4),
  scaleNvfp4: module('operands/int8_scale_nvfp4', int8ScaleNvfp4),
  macroMbs: module('operands/int8_macro_mbs', int8MacroMbs),
  macroNone: module('operands/int8_macro_none', int8MacroNone),
  fp4Rows: module('operands/fp4_rows', fp4Rows),
  widen: module('operands/widen', widen),
} as const;

/** Bringing canonical bytes to kernel order. */
export const PACK_MODULES = {
  problem: module('pack/problem', packProblem),
  codes: module('pack/codes', packCodes),
  bytes: module('pack/bytes', packBytes),
  rowMax: module('pack/row_max', packRowMax),
} as const;

/**
 * What every kernel is composed with: the problem and the scales of the weight format.
 * @param constantK whether k is the constant K of the shader
 */
export function commonModules(
  p: Pick<GemmProblem, 'format' | 'macroSize'>,
  source: UniformSource,
  constantK = false,
): ShaderModuleText[] {
  return [
    ...PROBLEM_MODULES[source],
    constantK ? module('k_constant', kConstant) : module('k_problem', kProblem),
    module('formats/order', order),
    p.format === 'mxfp4' ? module('formats/mxfp4', mxfp4) : module('formats/nvfp4', nvfp4),
    p.macroSize ? module('formats/macro_mbs', macroMbs) : module('formats/macro_none', macroNone),
  ];
}

/** Scale byte of a block that had NaN or Inf. No other byte is larger, but for those with a sign, which scales have not. */
export const nanByte = ({ format }: Pick<GemmProblem, 'format'>) => FORMATS[format].maxScaleByte + 1;

/**
 * Where sums go: into y, or one of several parts of k into scratch memory.
 * @param checksRows whether rows of w may be NaN, which their largest scale bytes tell
 * @param columns how many neighbouring columns a kernel hands over at a time, and whether those of y are whole vec4s
 */
export function epilogueModules(
  p: Pick<GemmProblem, 'format' | 'y' | 'bias' | 'accumulate'>,
  checksRows: boolean,
  splits = 1,
  columns: 'one' | 'four' | 'four-aligned' = 'one',
) {
  const each = columns === 'four' ? [module('epilogue_each', epilogueEach)] : [];
  const quads = columns === 'four-aligned';
  if (splits > 1) {
    return {
      enables: [],
      constants: {},
      aliases: {},
      modules: quads
        ? [module('epilogue_partial_quads', epiloguePartialQuads)]
        : [module('epilogue_partial', epiloguePartial), ...each],
    };
  }
  return {
    enables: p.y === 'f16' ? ['f16'] : [],
    constants: { BIAS: p.bias, ACCUMULATE: p.accumulate, ...(checksRows && { NAN_BYTE: nanByte(p) }) },
    aliases: { y_type: p.y },
    modules: [
      quads ? module('epilogue_quads', epilogueQuads) : module('epilogue', epilogue),
      ...each,
      p.bias ? module('bias_add', biasAdd) : module('bias_none', biasNone),
      ...(checksRows ? [MODULES.rowMax, NAN_ROWS] : [module('nan_rows_none', nanRowsNone)]),
    ],
  };
}
