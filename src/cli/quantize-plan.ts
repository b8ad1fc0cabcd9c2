/** Which matrices of a model are quantized, which are kept as they are, and why. */
import type { StoredTensor } from '../checkpoint/container.js';
import type { Dtype, FloatDtype } from '../checkpoint/dtype.js';
import { matchesName, type NamePattern, namePattern } from '../checkpoint/name-pattern.js';
import type { Checkpoint, MatrixInfo } from '../checkpoint/open.js';
import { matrixHeaders } from '../checkpoint/producers/canonical.js';
import type { TensorHeader } from '../checkpoint/write-safetensors.js';
import { InvalidArgumentError } from '../errors.js';
import { type QuantizeOptions, type QuantizeSpec, resolveOptions } from '../quantize/options.js';

export type MatrixRules = Omit<QuantizeOptions, 'rows' | 'cols'>;

export interface PlanOptions {
  readonly rules: MatrixRules;
  /** Names of matrices to keep, `*` for any characters; what a pattern matches without its final `.weight` counts too. */
  readonly keep: readonly string[];
  /** Names of matrices to quantize although names like theirs are kept. */
  readonly also: readonly string[];
}

export interface PlannedMatrix {
  readonly tensor: StoredTensor;
  readonly dtype: FloatDtype;
  /** Of one expert's matrix, or of the only one. */
  readonly options: QuantizeOptions;
  readonly experts: number | undefined;
  readonly headers: readonly TensorHeader[];
}

/** A matrix of floats that stays one. */
export interface KeptMatrix {
  readonly name: string;
  readonly reason: string;
}

export interface QuantizePlan {
  /** With every default filled in, for a matrix of one row of blocks. */
  readonly spec: QuantizeSpec;
  /** What becomes of each tensor, in the order of the files. */
  readonly steps: readonly (PlannedMatrix | StoredTensor)[];
  readonly kept: readonly KeptMatrix[];
  /** Matrices that were FP4 before, by producer. */
  readonly alreadyQuantized: readonly MatrixInfo[];
}

export function isPlanned(step: PlannedMatrix | StoredTensor): step is PlannedMatrix {
  return 'headers' in step;
}

/**
 * Names of what recipes for FP4 leave in floats: ModelOpt's list of quantizers that are off by default, and what
 * llm-compressor's examples ignore. Quantizing a router or a head costs more accuracy than its few bytes are worth.
 */
const KEPT_NAMES: readonly (readonly [reason: string, name: RegExp])[] = [
  ['embedding', /embed|(^|\.)(wte|wpe|shared|relative_attention_bias)\.weight$/],
  ['output head', /(^|\.)(lm_head|output_layer|proj_out|score|classifier)\.|^output\./],
  ['router', /router|(^|[._])gate\.(weight$|wg\.)/],
  ['norm', /norm/],
  ['convolution', /(^|\.)conv\d?d?\.|conv1d/],
  [
    'vision or audio part',
    /(^|\.)(visual|vision_(tower|model|encoder)|audio_(tower|model|encoder)|(multi_modal|mm)_projector)\./,
  ],
];

/** Types whose floats are worth four bits: F8 has been quantized already. */
const WIDE_DTYPES: readonly string[] = ['F32', 'BF16', 'F16'];

/** Models whose linear layers are stored [k, n] (`Conv1D` of transformers). */
const CONV1D_MODELS = ['gpt2', 'openai-gpt', 'imagegpt'];

/**
 * @param config the model's config.json
 * @throws InvalidArgumentError for options that do not go together, a pattern that matches no matrix, and where nothing
 * is left to quantize
 */
export function planQuantization(
  checkpoint: Checkpoint,
  { rules, keep, also }: PlanOptions,
  config: Readonly<Record<string, unknown>>,
): QuantizePlan {
  const spec = resolveOptions({ ...rules, rows: 1, cols: 32 });
  const patterns = { keep: keep.map(namePattern), also: also.map(namePattern) };
  const floats = new Map(
    checkpoint.matrices.filter(({ producer }) => producer === 'float').map((info) => [info.name, info]),
  );
  for (const pattern of [...patterns.keep, ...patterns.also]) {
    if ([...floats.keys()].some((name) => matchesName(pattern, name))) continue;
    throw new InvalidArgumentError(
      'quantize',
      `pattern '${pattern.text}' matches none of the ${floats.size} float matrices; * stands for any characters`,
    );
  }

  const kept: KeptMatrix[] = [];
  const steps = checkpoint.tensors.map((tensor): PlannedMatrix | StoredTensor => {
    const info = floats.get(tensor.name);
    if (!info) return tensor;
    const reason = whyKept(info, spec, patterns, floats, config);
    if (reason !== undefined) {
      kept.push({ name: info.name, reason });
      return tensor;
    }
    const { experts } = info;
    const [rows, cols] = info.shape;
    const { format, blockSize, macroScale, macroSize } = spec;
    const shape = { format, rows, cols, blockSize, experts, ...(macroScale !== 'none' && { macroSize }) };
    return {
      tensor,
      dtype: info.format as FloatDtype,
      options: { ...rules, rows, cols },
      experts,
      headers: matrixHeaders(info.name, shape),
    };
  });
  if (!steps.some(isPlanned)) {
    const reasons = [...new Set(kept.map(({ reason }) => reason))].join(', ');
    throw new InvalidArgumentError(
      'quantize',
      `${checkpoint.name}: no matrix is left to quantize; ${kept.length} are kept${reasons && ` (${reasons})`}`,
    );
  }
  const alreadyQuantized = checkpoint.matrices.filter(({ producer }) => producer !== 'float');
  return { spec, steps, kept, alreadyQuantized };
}

/** A tensor as it is copied. */
export function copiedHeader({ name, dtype, shape }: StoredTensor): TensorHeader {
  return { name, dtype: dtype as Dtype, shape };
}

function whyKept(
  info: MatrixInfo,
  { blockSize }: QuantizeSpec,
  { keep, also }: { keep: readonly NamePattern[]; also: readonly NamePattern[] },
  floats: ReadonlyMap<string, MatrixInfo>,
  config: Readonly<Record<string, unknown>>,
): string | undefined {
  const { name, experts, format } = info;
  const cols = info.shape[1];
  const asked = keep.find((pattern) => matchesName(pattern, name));
  if (asked) return `--keep ${asked.text}`;
  if (!WIDE_DTYPES.includes(format)) return `${format} already`;
  if (cols % blockSize) return `k = ${cols} is not a multiple of ${blockSize}`;
  if (also.some((pattern) => matchesName(pattern, name))) return undefined;
  const byName = KEPT_NAMES.find(([, pattern]) => pattern.test(name));
  if (byName) return byName[0];
  // Biases of experts, states of recurrences and the like are matrices too.
  if (experts === undefined && !name.endsWith('.weight')) return 'no linear layer by its name';
  if (name.endsWith('bias')) return 'bias';
  if (isTransposed(info, floats, config)) return 'stored [k, n], and blocks run along k';
  return undefined;
}

/**
 * Whether a matrix is stored [k, n]: as what x is multiplied by from the right, not as rows of outputs. Experts in one
 * tensor come both ways (gpt-oss, Llama 4 and Qwen3-VL have [k, n]), and the sizes in config.json tell: x is as wide as
 * the model before gate and up, and y after down. Where both of its sizes are that, the other tensor of the MLP tells.
 */
function isTransposed(
  { name, experts, shape }: MatrixInfo,
  floats: ReadonlyMap<string, MatrixInfo>,
  config: Readonly<Record<string, unknown>>,
): boolean {
  const text = (config.text_config ?? {}) as Readonly<Record<string, unknown>>;
  if (experts === undefined) return CONV1D_MODELS.includes(String(config.model_type));
  const hidden = text.hidden_size ?? config.hidden_size;
  const isDown = /(^|[._])(down_proj|w2)($|[._])/.test(name);
  const [rows, cols] = shape;
  const [inPlace, other] = isDown ? [rows, cols] : [cols, rows];
  if ((inPlace === hidden) !== (other === hidden)) return other === hidden;
  if (!isDown) return false;
  const sibling = ['gate_up_proj', 'up_proj', 'w1']
    .map((part) => floats.get(name.replace(/down_proj|w2/, part)))
    .find((matrix) => matrix !== undefined);
  return sibling !== undefined && isTransposed(sibling, floats, config);
}
