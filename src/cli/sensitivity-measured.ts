import type { Configuration } from '../../demo/lm/format-names.js';
import { bitsPerValue } from '../matrix/quantized-matrix.js';
import { resolveOptions } from '../quantize/options.js';
import type { ActivationSummary } from '../sensitivity/activation-statistics.js';
import type { LayerError } from '../sensitivity/output-error.js';
import type { LayerBits } from '../sensitivity/recommend.js';
import type { SensitivityReport } from '../sensitivity/report.js';
import type { MatrixRules } from './quantize-plan.js';

/** What `sensitivity` measures a model by, whichever way. */
export interface Measured {
  readonly formats: readonly MeasuredFormat[];
  /** Of the inputs of each layer, where they were seen. */
  readonly inputs?: ReadonlyMap<string, ActivationSummary> | undefined;
  /** What the numbers say and what they do not, in a sentence. */
  readonly note: string;
  readonly adapter?: string;
}

export interface MeasuredFormat {
  readonly configuration: Configuration;
  /** Of the layers in FP4. */
  readonly bitsPerWeight: number;
  readonly report: SensitivityReport;
  /** Where errors are of single layers. */
  readonly errors?: readonly LayerError[];
  readonly layers: ReadonlyMap<string, LayerBits>;
  /** The loss with all that is recommended kept together, where the model can be run with it. */
  readonly recommendedLoss?: number;
}

export { configurationName } from '../../demo/lm/format-names.js';

/** Bits of a weight, scales included. */
export function fp4Bits(rules: MatrixRules): number {
  const { macroSize, ...spec } = resolveOptions({ ...rules, rows: 1, cols: 32 });
  return bitsPerValue(spec.macroScale === 'none' ? spec : { ...spec, macroSize });
}
