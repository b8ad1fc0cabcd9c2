/** Checks every plan for the layers of models against f64, on random weights and a sample of y. */
import { UnsupportedError } from '../errors.js';
import type { Caps } from '../gpu/caps.js';
import type { Gpu } from '../gpu/gpu.js';
import type { Activations } from './activations.js';
import { KERNELS, type KernelId } from './kernels/index.js';
import { candidatePlans, type GemmPlan, planGemm } from './plan.js';
import {
  formatLabel,
  type GemmProblem,
  resolveProblem,
  WEIGHT_FORMATS,
  type WeightFormat,
} from './problem.js';
import { randomMatrix, Trial } from './trial.js';
import { uploadWeights } from './weights.js';

/** A weight matrix, under a name for people. */
export interface LayerShape {
  readonly name: string;
  readonly n: number;
  readonly k: number;
}

/** What the check takes by default. */
export const LAYER_FORMATS = ['mxfp4', 'mxfp4-mbs128', 'nvfp4'];

/**
 * 'all' (default): every plan. 'first': one of each kernel, as compiling all takes software adapters minutes. 'planned': those
 * that `planGemm` makes.
 */
export type PlansToCheck = 'all' | 'first' | 'planned';

export interface LayersSelfTestOptions {
  readonly layers: readonly LayerShape[];
  /** Labels; {@link LAYER_FORMATS} by default. */
  formats?: readonly string[] | undefined;
  /** Types of x and y, bias and accumulation; as in `GemmOptions` by default. */
  operands?: Partial<Pick<GemmProblem, 'x' | 'y' | 'bias' | 'accumulate'>> | undefined;
  /** Rows of x; 1, 16 and 256 by default. */
  m?: readonly number[] | undefined;
  plans?: PlansToCheck | undefined;
  /** Kernels to check; all by default. */
  kernels?: readonly KernelId[] | undefined;
  /** Begins no further product after that time; what was checked is reported. */
  seconds?: number | undefined;
  /** Called after each layer in each format. */
  onReport?: ((report: LayerReport) => void) | undefined;
}

export interface LayerReport {
  readonly layer: LayerShape;
  readonly format: string;
  /** Products compared with f64, and the kernels that made them, a kernel being a shader. */
  readonly products: number;
  readonly kernels: number;
  /** Largest error in parts of its bound, and the plan that has it; NaN where a product was. */
  readonly worst: number;
  readonly worstPlan?: string;
  /** Plans that are wrong or did not run, with the reason. */
  readonly failures: readonly string[];
  /** Why the layer was left out: the device has no room for it. */
  readonly skipped?: string;
}

export interface LayersSelfTestReport {
  readonly layers: readonly LayerReport[];
  readonly products: number;
  readonly failures: number;
  /** False where time ran out. */
  readonly complete: boolean;
}

/** What x is multiplied as: each kind goes to the kernels that are written for it. */
const ACTIVATIONS: readonly Activations['kind'][] = ['float', 'int8', 'mxfp4', 'nvfp4'];

const SAMPLE = { rows: 8, columns: 12 };

/** Runs the check. Failures are reported, not thrown. */
export async function layersSelfTest(gpu: Gpu, o: LayersSelfTestOptions): Promise<LayersSelfTestReport> {
  const { layers, formats = LAYER_FORMATS, seconds = Number.POSITIVE_INFINITY } = o;
  const started = performance.now();
  // Asked before each piece of work, so that what was the last one cuts nothing off.
  let complete = true;
  const timeIsUp = () => {
    const up = (performance.now() - started) / 1000 >= seconds;
    if (up) complete = false;
    return up;
  };
  const reports: LayerReport[] = [];
  for (const layer of layers) {
    for (const label of formats) {
      if (timeIsUp()) continue;
      const report = await checkLayer(gpu, layer, WEIGHT_FORMATS[label]!, o, timeIsUp);
      reports.push(report);
      o.onReport?.(report);
    }
  }
  return {
    layers: reports,
    products: reports.reduce((sum, { products }) => sum + products, 0),
    failures: reports.reduce((sum, { failures }) => sum + failures.length, 0),
    complete,
  };
}

async function checkLayer(
  gpu: Gpu,
  layer: LayerShape,
  format: WeightFormat,
  { m: sizes = [1, 16, 256], plans = 'all', kernels: wanted, operands }: LayersSelfTestOptions,
  timeIsUp: () => boolean,
): Promise<LayerReport> {
  const caps = await gpu.usableCaps();
  const { n, k } = layer;
  const shape = resolveProblem({ m: 1, n, k, ...format });
  const kernels = new Set<string>();
  const failures: string[] = [];
  let products = 0;
  let worst = 0;
  let worstPlan: string | undefined;

  const check = async (trial: Trial, plan: GemmPlan, m: number) => {
    const what = `m ${m}: ${plan.label}`;
    try {
      using gemm = await trial.createGemm(weights, plan);
      const error = await trial.worstError(gemm);
      products++;
      kernels.add(plan.label);
      // Written so that NaN fails, and stays the worst.
      if (!(error <= 1)) failures.push(`${what}: error ${error.toFixed(3)} of the bound`);
      if (!(error <= worst) && !Number.isNaN(worst)) [worst, worstPlan] = [error, what];
    } catch (error) {
      failures.push(`${what}: ${error instanceof Error ? error.message : error}`);
    }
  };

  const q = randomMatrix(shape);
  let weights: Awaited<ReturnType<typeof uploadWeights>>;
  try {
    weights = await uploadWeights(gpu, q, { label: `${layer.name} ${n}x${k}` });
  } catch (error) {
    if (!(error instanceof UnsupportedError)) throw error;
    const report = { layer, format: formatLabel(shape), products, kernels: 0, worst, failures };
    return { ...report, skipped: error.message };
  }
  try {
    for (const m of sizes) {
      for (const activations of ACTIVATIONS) {
        const problem = resolveProblem({ m, n, k, ...format, ...operands, activations });
        const all = plansFor(problem, caps, plans);
        if (activations === 'float' && !all.length) failures.push(`m ${m}: no kernel can compute it`);
        const candidates = all.filter(({ kernel }) => wanted?.includes(kernel) ?? true);
        if (!candidates.length || timeIsUp()) continue;
        const trial = new Trial(gpu, problem, q, SAMPLE);
        try {
          await trial.compile(candidates);
          for (const plan of candidates) {
            if (timeIsUp()) break;
            await check(trial, plan, m);
          }
        } finally {
          trial.destroy();
        }
      }
    }
  } finally {
    weights.destroy();
  }
  return {
    layer,
    format: formatLabel(shape),
    products,
    kernels: kernels.size,
    worst,
    ...(worstPlan && { worstPlan }),
    failures,
  };
}

/** Plans of kernels that are written for the problem's activations; the planned one may take other kinds as floats. */
function plansFor(problem: GemmProblem, caps: Caps, plans: PlansToCheck): readonly GemmPlan[] {
  const own = candidatePlans(problem, caps).filter(({ kernel }) =>
    KERNELS[kernel].activations.includes(problem.activations.kind),
  );
  if (plans === 'planned') return own.length ? [planGemm(problem, caps)] : [];
  return plans === 'all'
    ? own
    : own.filter((plan, i) => own.findIndex((p) => p.kernel === plan.kernel) === i);
}

/** One line a person can read, and one for each of the first failures. */
export function describeLayerReport(report: LayerReport): string {
  const { layer, format, products, kernels, worst, worstPlan, failures, skipped } = report;
  const head = `${layer.n} × ${layer.k} ${format} (${layer.name}): `;
  if (skipped) return `${head}left out: ${skipped}`;
  const line =
    `${head}${products} products by ${kernels} kernels, ` +
    `largest error ${worst.toFixed(3)} of the bound${worstPlan ? ` (${worstPlan})` : ''}` +
    (failures.length ? `, ${failures.length} wrong` : '');
  return [line, ...failures.slice(0, 5).map((failure) => `  ${failure}`)].join('\n');
}
