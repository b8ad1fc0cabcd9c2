/**
 * compressed-tensors, `nvfp4-pack-quantized` and `mxfp4-pack-quantized`, as producers/compressed-tensors.ts reads them.
 * Every matrix is one module's: experts are written one by one. `X.weight` becomes `X.weight_packed` and its siblings;
 * so does a matrix `X`, which is then read as `X.weight`.
 */
import type { Format } from '../../formats/formats.js';
import type { Dtype } from '../dtype.js';
import { divisorOf } from '../global-scale.js';
import { moduleName } from './experts.js';
import { commonProblems, f32Bytes, type MatrixWriter } from './writer.js';

const FORMAT_NAMES: Readonly<Record<Format, string>> = {
  mxfp4: 'mxfp4-pack-quantized',
  nvfp4: 'nvfp4-pack-quantized',
};

export const compressedTensors: MatrixWriter<Dtype> = {
  stacks: false,
  problems(matrix) {
    const problems = commonProblems(matrix, 'compressed-tensors');
    if (matrix.format === 'nvfp4' && divisorOf(matrix.globalScale) === undefined) {
      problems.push(
        `compressed-tensors stores what to divide by, and no f32 has the tensor scale ${matrix.globalScale} as its reciprocal`,
      );
    }
    return problems;
  },
  headers(name, { format, rows, cols, blockSize }) {
    const prefix = tensorPrefix(name);
    const scales = { name: `${prefix}_scale`, shape: [rows, cols / blockSize] };
    return [
      { name: `${prefix}_packed`, dtype: 'U8', shape: [rows, cols / 2] },
      { ...scales, dtype: format === 'nvfp4' ? 'F8_E4M3' : 'U8' },
      ...(format === 'nvfp4' ? [{ name: `${prefix}_global_scale`, dtype: 'F32', shape: [1] } as const] : []),
    ];
  },
  parts(name, q) {
    const prefix = tensorPrefix(name);
    const divisor = q.format === 'nvfp4' ? divisorOf(q.globalScale) : undefined;
    return [
      { name: `${prefix}_packed`, bytes: q.codes, per: 'row' },
      { name: `${prefix}_scale`, bytes: q.scales, per: 'row' },
      ...(divisor === undefined
        ? []
        : [{ name: `${prefix}_global_scale`, bytes: f32Bytes(divisor), per: 'tensor' } as const]),
    ];
  },
};

function tensorPrefix(name: string): string {
  const module = moduleName(name);
  return module === '' ? 'weight' : `${module}.weight`;
}

/** A group of a `quantization_config`: which modules, and how their weights are stored. */
interface ConfigGroup {
  readonly targets: readonly string[];
  readonly format: string;
  readonly weights: Readonly<Record<string, unknown>>;
  readonly input_activations: null;
  readonly output_activations: null;
}

/**
 * What config.json has to say under `quantization_config` of matrices written so, and of what stays as it was.
 * Activations stay floats (W4A16). Modules are named one by one, because nothing else is certain to mean the same ones.
 * @param matrices by the names under which they are read
 * @param ignore names of modules whose weights are not quantized
 */
export function compressedTensorsConfig(
  matrices: ReadonlyMap<string, Format>,
  ignore: readonly string[],
): Record<string, unknown> {
  const groups = (['nvfp4', 'mxfp4'] as const)
    .map((format): ConfigGroup => {
      const names = [...matrices].filter(([, of]) => of === format).map(([name]) => moduleName(name));
      return {
        targets: names,
        format: FORMAT_NAMES[format],
        weights: { ...WEIGHTS[format], num_bits: 4, type: 'float', symmetric: true, dynamic: false },
        input_activations: null,
        output_activations: null,
      };
    })
    .filter(({ targets }) => targets.length > 0);
  return {
    quant_method: 'compressed-tensors',
    format: groups.length === 1 ? groups[0]!.format : 'mixed-precision',
    quantization_status: 'compressed',
    config_groups: Object.fromEntries(groups.map((group, i) => [`group_${i}`, group])),
    ignore,
  };
}

const WEIGHTS: Readonly<Record<Format, Readonly<Record<string, unknown>>>> = {
  mxfp4: { strategy: 'group', group_size: 32, scale_dtype: 'torch.uint8' },
  nvfp4: { strategy: 'tensor_group', group_size: 16, scale_dtype: 'torch.float8_e4m3fn' },
};
