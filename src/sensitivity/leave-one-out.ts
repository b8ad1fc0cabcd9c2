/**
 * Which layers FP4 hurts, from losses of a whole model: everything in FP4 but one component, block, or component of a
 * block. After 'Diagnosing FP4 inference' (arXiv 2603.08747), whose tables have the same two numbers: the loss and what is
 * gained over everything in FP4.
 */
import { InvalidArgumentError } from '../errors.js';
import {
  checkLoss,
  type MeasuredLoss,
  type Place,
  type SensitivityReport,
  type Subject,
  type SubjectKind,
  sensitivityReport,
  subjectsOf,
} from './report.js';

/** One evaluation of the model. */
export interface LossOf {
  /** `none`, `all`, or the id of a {@link Subject}: what is kept in high precision. */
  readonly id: string;
  /** Absent for `none` and `all`. */
  readonly subject?: Subject;
  readonly signal?: AbortSignal | undefined;
}

/**
 * A loss, or natural logs of the losses of parts of the data, the same parts each time: exp of their mean is the loss. Of
 * perplexity, the mean negative log likelihoods of sequences of one length.
 */
export type Loss = number | { readonly logSamples: ArrayLike<number> };

/** Where losses are kept: a Map, or in Node `tuneFile` of `fp4-webgpu/node`, which is a storage of texts as well. */
export interface LossStorage {
  get(key: string): string | null | undefined | Promise<string | null | undefined>;
  set(key: string, value: string): unknown;
}

export interface LeaveOneOutProgress {
  /** As in {@link LossOf}. */
  readonly id: string;
  readonly value: number;
  /** Whether it comes from the storage. */
  readonly isStored: boolean;
  readonly done: number;
  readonly total: number;
}

export interface LeaveOneOutOptions {
  /** Names of the linear layers that are FP4 unless kept, in the order of the model. */
  readonly layers: readonly string[];
  /**
   * The loss (perplexity, or any other that is smaller where the model is better and above zero) of the model with the
   * layers for which `keep` holds in high precision and all others of `layers` in FP4. Called with one at a time; it has
   * to be deterministic. Where it gives logs of losses by part of the data, rows get standard errors.
   */
  readonly evaluate: (keep: (name: string) => boolean, of: LossOf) => Loss | Promise<Loss>;
  /** What is kept in turn: components, blocks, and components of blocks, by default all three. */
  readonly kinds?: readonly SubjectKind[] | undefined;
  /** Also evaluates with everything kept, so that rows say which share of FP4's whole cost they are; true by default. */
  readonly reference?: boolean | undefined;
  /** What the loss is called. */
  readonly metric?: string | undefined;
  /** Where layers are, by their names; `placeLayer` by default. */
  readonly place?: Place | undefined;
  /** Losses are read from and written to it one by one, so that a run can be interrupted and go on later. */
  readonly storage?: LossStorage | undefined;
  /** What the losses hold for (model, format, tokens), in the storage's keys; required with a storage. */
  readonly identity?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Before the first evaluation; how many there are, those in the storage as well. */
  readonly onStart?: ((total: number) => void) | undefined;
  readonly onProgress?: ((progress: LeaveOneOutProgress) => void) | undefined;
}

/**
 * Evaluates the model with each subject kept in turn, after everything in FP4 and nothing, in the order of the model.
 * Subjects that are the same layers (a component of a model with one block) are evaluated once.
 *
 * ```ts
 * const report = await leaveOneOut({
 *   layers: names,
 *   evaluate: (keep) => perplexity(model, tokens, { keep }),
 *   storage: new Map(),
 *   identity: 'llama mxfp4',
 * });
 * ```
 * @throws InvalidArgumentError for no layers or one twice, and for a loss that is no finite number; what `evaluate`
 * throws; the signal's reason where it aborts
 */
export async function leaveOneOut(options: LeaveOneOutOptions): Promise<SensitivityReport> {
  const { layers, kinds, place, reference = true, metric = 'loss', storage, identity, signal } = options;
  if (storage && identity === undefined) {
    throw new InvalidArgumentError(
      'sensitivity',
      'a storage needs an identity: what its losses hold for, as model, format and tokens',
    );
  }
  const subjects = subjectsOf(layers, kinds, place);
  const runs: { of: LossOf; kept: ReadonlySet<string> }[] = [
    { of: { id: 'none', signal }, kept: new Set() },
    ...(reference ? [{ of: { id: 'all', signal }, kept: new Set(layers) }] : []),
    ...subjects.map((subject) => ({
      of: { id: subject.id, subject, signal },
      kept: new Set(subject.layers),
    })),
  ];
  // Layers of a subject are in the order of `layers`, so equal sets have equal texts.
  const keyOf = (kept: ReadonlySet<string>) => JSON.stringify([...kept]);
  const total = new Set(runs.map(({ kept }) => keyOf(kept))).size;
  const known = new Map<string, MeasuredLoss>();
  const measure = async ({ of, kept }: (typeof runs)[number]): Promise<MeasuredLoss> => {
    const key = keyOf(kept);
    const before = known.get(key);
    if (before) return before;
    signal?.throwIfAborted();
    const storageKey = `${identity} ${of.id}`;
    const stored = await storage?.get(storageKey);
    const isStored = stored !== undefined && stored !== null;
    const loss = isStored ? parseLoss(stored) : await options.evaluate((name) => kept.has(name), of);
    const measured = measuredLoss(loss);
    checkLoss(`${isStored ? 'stored ' : ''}of ${of.id}`, measured.value);
    known.set(key, measured);
    if (!isStored) await storage?.set(storageKey, lossText(loss));
    options.onProgress?.({ id: of.id, value: measured.value, isStored, done: known.size, total });
    return measured;
  };
  options.onStart?.(total);
  const losses = new Map<string, MeasuredLoss>();
  for (const run of runs) losses.set(run.of.id, await measure(run));
  return sensitivityReport(
    metric,
    losses.get('none')!,
    losses.get('all'),
    subjects.map((subject) => ({ subject, loss: losses.get(subject.id)! })),
  );
}

function measuredLoss(loss: Loss): MeasuredLoss {
  if (typeof loss === 'number') return { value: loss };
  const samples = Array.from(loss.logSamples);
  return { value: Math.exp(samples.reduce((sum, sample) => sum + sample, 0) / samples.length), samples };
}

const lossText = (loss: Loss): string =>
  JSON.stringify(typeof loss === 'number' ? loss : Array.from(loss.logSamples));

/** @returns NaN for what is no loss's text */
function parseLoss(text: string): Loss {
  try {
    const value: unknown = JSON.parse(text);
    if (Array.isArray(value)) return { logSamples: value };
    return typeof value === 'number' ? value : Number.NaN;
  } catch {
    return Number.NaN;
  }
}
