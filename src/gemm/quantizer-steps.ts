/** Which kernels quantize a matrix, in which order, and what each is given. */
import { UnsupportedError } from '../errors.js';
import { f32FromBits, f32ToBits } from '../formats/bits.js';
import { decodeE0M8 } from '../formats/e0m8.js';
import { E2M1_MAX, E2M1_VALUES } from '../formats/e2m1.js';
import { E4M3_MAX } from '../formats/e4m3.js';
import type { Caps, Limits } from '../gpu/caps.js';
import { foldGrid } from '../gpu/grid.js';
import { type ComposedShader, composeShader } from '../gpu/shader.js';
import { HADAMARD_SIZE } from '../quantize/hadamard.js';
import type { MxScaleRule, NvScaleRule, QuantizeSpec } from '../quantize/options.js';
import { type QuantizerModule, quantizerModules } from './quantizer-shaders.js';

/** Binding numbers, the same in every shader of shaders/quantize. */
export const BINDINGS = {
  problem: 0,
  x: 1,
  codes: 2,
  scales: 3,
  factors: 4,
  status: 5,
  partials: 6,
  tensor: 7,
  global_scale: 8,
  rotated: 9,
  macro_thresholds: 10,
} as const;
export type BindingName = keyof typeof BINDINGS;

/** One dispatch. */
export interface QuantizerStep {
  readonly shader: ComposedShader;
  readonly bindings: readonly BindingName[];
  /** Whether x is bound to what an earlier step has rotated. */
  readonly takesRotated: boolean;
  readonly workgroups: readonly [number, number];
}

/** What rounds a block's maximum up to the next power of two, by rule: see `Quantization.bump` of problem.wgsl. */
const BUMPS: Readonly<Record<MxScaleRule, number>> = {
  floor: 0,
  ceil: 0x7fffff,
  rceil: 0x3fffff,
  even: 0x200000,
  oas: 0x1fffff,
  // Not used: the search has its own.
  mse: 0,
};

/** NVFP4 maps the tensor's maximum to 6 times this: see `src/quantize/nv.ts`. */
const SCALE_MAX = { te: E4M3_MAX, 'four-over-six': 256 } as const;

const WORKGROUP = 64;
const AMAX_WORKGROUP = 256;
const DYNAMIC_CANDIDATES = 16;
/** Enough to fill a large GPU: each computes the tensor's scales anew. */
const NV_WORKGROUPS = 1024;

/** Workgroups that share the search for a tensor's maximum. */
function partialMaxima({ rows, cols }: QuantizeSpec): number {
  return Math.min(1024, Math.ceil((rows * cols) / 4 / AMAX_WORKGROUP));
}

/** Least bits of y that round to codes 1 to 7: midpoints go to the even code. As in thresholds_none.wgsl. */
const LEAST_SCALED = [1, 2, 3, 4, 5, 6, 7].map(
  (code) => f32ToBits((E2M1_VALUES[code - 1]! + E2M1_VALUES[code]!) / 2) + (code & 1),
);

/** Least bits of x for which fl32(x · (1 + byte/256)) rounds to codes 1 to 7, eight words for each byte. */
export function macroThresholds(): Uint32Array<ArrayBuffer> {
  const table = new Uint32Array(256 * 8);
  for (let byte = 0; byte < 256; byte++) {
    const f = decodeE0M8(byte);
    LEAST_SCALED.forEach((least, i) => {
      const y = f32FromBits(least);
      let bits = f32ToBits(y / f);
      while (Math.fround(f32FromBits(bits - 1) * f) >= y) bits--;
      while (Math.fround(f32FromBits(bits) * f) < y) bits++;
      table[byte * 8 + i] = bits;
    });
  }
  return table;
}

/** Bytes of the buffers that pass from one step to the next. */
export function scratchSizes(spec: QuantizeSpec): Partial<Record<BindingName, number>> {
  return {
    ...(spec.hadamard && { rotated: spec.rows * spec.cols * 4 }),
    // 'tensor' is `Tensor` of tensor.wgsl.
    ...(spec.format === 'nvfp4' && { partials: partialMaxima(spec) * 4, tensor: 128 * 4 }),
  };
}

/** The uniform `Quantization` of problem.wgsl. */
export function quantizationUniform(spec: QuantizeSpec): Uint32Array<ArrayBuffer> {
  const tall = spec.tile === '2d';
  const hasMacro = spec.macroScale !== 'none';
  const scaleMax = SCALE_MAX[spec.format === 'nvfp4' ? (spec.scaleRule as NvScaleRule) : 'te'];
  return Uint32Array.of(
    spec.rows,
    spec.cols,
    spec.blockSize,
    tall ? spec.blockSize : 1,
    hasMacro ? spec.macroSize : 0,
    hasMacro && tall ? spec.macroSize : 1,
    spec.format === 'mxfp4' ? BUMPS[spec.scaleRule as MxScaleRule] : 0,
    f32ToBits(E2M1_MAX * scaleMax),
    spec.seed >>> 0,
    Math.floor(spec.seed / 2 ** 32),
    spec.fourOverSixError === 'mae' ? 1 : 0,
    partialMaxima(spec),
  );
}

/** What a device is asked for: subgroups make one pass of what else takes workgroup memory or several kernels. */
export type QuantizerCaps = Pick<Caps, 'limits' | 'tiers' | 'subgroupMinSize'>;

/** @throws UnsupportedError for matrices above the dispatch limits */
export function quantizerSteps(spec: QuantizeSpec, caps: QuantizerCaps): QuantizerStep[] {
  const step: MakeStep = (
    name,
    { threads, workgroup = WORKGROUP, constants = {}, aliases = {}, modules, bindings },
  ) => ({
    shader: composeShader({
      enables: modules.some((module) => SUBGROUP_MODULES.includes(module)) ? ['subgroups'] : [],
      // The search goes on while any thread of a subgroup has candidates left, which the rules do not follow.
      quietDiagnostics: modules.includes('factor_dynamic') ? ['subgroup_uniformity'] : [],
      label: ['quantize', name, ...Object.values(constants)].join('.'),
      constants: { WORKGROUP: workgroup, ...constants },
      aliases,
      modules: quantizerModules(['f32_bits', 'problem', ...modules]),
    }),
    bindings,
    takesRotated: spec.hadamard && name !== 'hadamard_exact',
    workgroups: grid(Math.ceil(threads / workgroup), caps.limits),
  });
  const { rows, cols } = spec;
  const rotation = step('hadamard_exact', {
    threads: (rows * cols) / HADAMARD_SIZE,
    modules: ['soft_float', 'hadamard_exact'],
    bindings: ['problem', 'x', 'rotated'],
  });
  const lanes = caps.tiers.includes('subgroups') ? (caps.subgroupMinSize ?? 0) : 0;
  const steps = spec.format === 'mxfp4' ? mxSteps(spec, step, lanes) : nvSteps(spec, step, lanes);
  return [...(spec.hadamard ? [rotation] : []), ...steps];
}

const SUBGROUP_MODULES: readonly QuantizerModule[] = ['maxima_subgroup', 'bytes_subgroup', 'factor_dynamic'];

type MakeStep = (
  name: string,
  parts: {
    threads: number;
    workgroup?: number;
    constants?: Record<string, number | boolean>;
    aliases?: Record<string, string>;
    modules: readonly QuantizerModule[];
    bindings: readonly BindingName[];
  },
) => QuantizerStep;

/** Values that a thread of mx_stream.wgsl and nv_stream.wgsl takes. */
const THREAD_VALUES = 16;

/** Workgroups of 64 where 256 would be too few of them to occupy a large GPU. */
const streamWorkgroup = (threads: number) => (threads < 2 ** 15 ? 64 : 256);

/** `lanes` is the least size of a subgroup, 0 without subgroups. */
function mxSteps(spec: QuantizeSpec, step: MakeStep, lanes: number): QuantizerStep[] {
  const { rows, cols, blockSize, macroSize, macroScale, scaleRule } = spec;
  const hasMacro = macroScale !== 'none';
  const factors = hasMacro ? (['factors'] as const) : [];
  const thresholds = hasMacro ? (['macro_thresholds'] as const) : [];
  const codes: readonly QuantizerModule[] = [
    'e2m1_encode',
    'codes8',
    'thresholds',
    hasMacro ? 'thresholds_macro' : 'thresholds_none',
    'mx_encoder',
    'status',
  ];
  const STOCHASTIC = spec.rounding === 'stochastic';
  const widest = Math.max(blockSize, hasMacro ? macroSize : 0) / THREAD_VALUES;
  const maxima = widest <= lanes ? 'maxima_subgroup' : 'maxima_workgroup';
  const search: readonly QuantizerModule[] = ['scaled_mx', 'grid_distance', 'residuals'];
  if (
    spec.tile === '1d' &&
    scaleRule !== 'mse' &&
    (macroScale !== 'dynamic' || maxima === 'maxima_subgroup')
  ) {
    const ragged = hasMacro && cols % macroSize !== 0;
    const threads = (rows * (ragged ? Math.ceil(cols / macroSize) * macroSize : cols)) / THREAD_VALUES;
    return [
      step('mx_stream', {
        threads,
        workgroup: streamWorkgroup(threads),
        constants: {
          BLOCK_SIZE: blockSize,
          MACRO_SIZE: hasMacro ? macroSize : 0,
          COLS: ragged ? cols : 0,
          STOCHASTIC,
        },
        modules: [
          'macro_factor',
          'mx_scale',
          ...codes,
          'sixteen',
          maxima,
          ragged || 4 * widest > lanes ? 'bytes_workgroup' : 'bytes_subgroup',
          'store_scales',
          ...(hasMacro ? (['store_factors'] as const) : []),
          ...(macroScale === 'dynamic' ? search : []),
          `factor_${macroScale}`,
          'mx_stream',
        ],
        bindings: ['problem', 'x', 'codes', 'scales', ...factors, ...thresholds, 'status'],
      }),
    ];
  }

  const errors: readonly QuantizerModule[] = ['e2m1_encode', ...search, 'residuals_region'];
  const rule: readonly QuantizerModule[] =
    scaleRule === 'mse'
      ? ['macro_factor', 'mx_scale', ...errors, 'rule_mse']
      : ['macro_factor', 'mx_scale', 'rule_bump'];
  const macros = Math.ceil(cols / macroSize) * tileRows(spec, macroSize);
  const loadFactors = hasMacro ? 'load_factors' : 'load_factors_none';
  return [
    ...(macroScale === 'static'
      ? [
          step('factors_static', {
            threads: macros,
            modules: ['macro_factor', 'store_factors', 'factors_static'],
            bindings: ['problem', 'x', 'factors'],
          }),
        ]
      : []),
    ...(macroScale === 'dynamic'
      ? [
          step('factors_dynamic', {
            threads: macros * DYNAMIC_CANDIDATES,
            modules: [...(scaleRule === 'mse' ? [] : errors), ...rule, 'store_factors', 'factors_dynamic'],
            bindings: ['problem', 'x', 'factors'],
          }),
        ]
      : []),
    step('scales_mx', {
      threads: (cols / blockSize) * tileRows(spec, blockSize),
      modules: [...rule, loadFactors, 'store_scales', 'scales_mx', 'scales'],
      bindings: ['problem', 'x', 'scales', ...factors],
    }),
    step('elements_mx', {
      threads: (rows * cols) / 8,
      constants: { STOCHASTIC },
      modules: ['macro_factor', ...codes, 'load_scales', loadFactors, 'elements_mx', 'elements'],
      bindings: ['problem', 'x', 'codes', 'scales', ...factors, ...thresholds, 'status'],
    }),
  ];
}

function nvSteps(spec: QuantizeSpec, step: MakeStep, lanes: number): QuantizerStep[] {
  const { rows, cols, blockSize } = spec;
  const STOCHASTIC = spec.rounding === 'stochastic';
  const numbers = ['soft_float', 'e4m3', 'e2m1_encode', 'scaled_nv'] as const;
  const codes = ['codes8', 'nv_codes', 'status'] as const;
  const rule = (errors: QuantizerModule): readonly QuantizerModule[] =>
    spec.scaleRule === 'te' ? ['rule_te'] : ['grid_distance', 'residuals', errors, 'rule_four_over_six'];
  const amax = step('tensor_amax', {
    threads: partialMaxima(spec) * AMAX_WORKGROUP,
    workgroup: AMAX_WORKGROUP,
    modules: ['tensor_amax'],
    bindings: ['problem', 'x', 'partials'],
  });
  if (spec.tile === '1d') {
    const threads = (rows * cols) / THREAD_VALUES;
    const workgroup = threads < 2 ** 15 ? 128 : 256;
    return [
      amax,
      step('nv_stream', {
        threads: Math.min(threads, NV_WORKGROUPS * workgroup),
        workgroup,
        constants: { BLOCK_SIZE: blockSize, STOCHASTIC },
        aliases: { Block: 'Values' },
        modules: [
          ...numbers,
          'tensor',
          ...codes,
          'sixteen',
          ...rule('residuals_values'),
          4 > lanes ? 'bytes_workgroup' : 'bytes_subgroup',
          'store_scales',
          'factor_none',
          'nv_stream',
        ],
        bindings: ['problem', 'x', 'codes', 'scales', 'partials', 'global_scale', 'status'],
      }),
    ];
  }
  return [
    amax,
    step('tensor_scale', {
      threads: 128,
      workgroup: 128,
      modules: ['soft_float', 'e4m3', 'tensor', 'tensor_scale'],
      bindings: ['problem', 'partials', 'tensor', 'global_scale'],
    }),
    step('scales_nv', {
      threads: (cols / blockSize) * tileRows(spec, blockSize),
      aliases: { Block: 'Region' },
      modules: [
        ...numbers,
        'load_tensor',
        ...rule('residuals_region'),
        'store_scales',
        'scales_nv',
        'scales',
      ],
      bindings: ['problem', 'x', 'scales', 'tensor'],
    }),
    step('elements_nv', {
      threads: (rows * cols) / 8,
      constants: { STOCHASTIC },
      modules: [...numbers, 'load_tensor', ...codes, 'load_scales', 'elements_nv', 'elements'],
      bindings: ['problem', 'x', 'codes', 'scales', 'tensor', 'status'],
    }),
  ];
}

/** Tiles of a square of `size`, or of rows, one above the other. */
function tileRows({ rows, tile }: QuantizeSpec, size: number): number {
  return tile === '2d' ? Math.ceil(rows / size) : rows;
}

/** Workgroups in one dimension if they fit, else in two. */
function grid(workgroups: number, limits: Limits): readonly [number, number] {
  const most = limits.maxComputeWorkgroupsPerDimension;
  const [x, y] = foldGrid(workgroups, most);
  if (y > most) {
    throw new UnsupportedError(
      'quantize',
      `${workgroups} workgroups are more than the device's ${most}²; split the matrix along its rows`,
    );
  }
  return [x, y];
}
