/** A run on some host: options in, a results file out. */
import { isSoftware } from '../src/gpu/caps.js';
import type { Gpu } from '../src/gpu/gpu.js';
import { type CaseSelection, selectCases } from './cases.js';
import type { Report } from './context.js';
import { type HarnessOptions, runBench } from './harness.js';
import type { Onnxruntime } from './peers/onnxruntime.js';
import { runPeers } from './peers/run.js';
import {
  type BenchFile,
  type Ceilings,
  type Environment,
  type PeerRow,
  type PlanRow,
  type QuantizerRow,
  type Row,
  SCHEMA,
} from './schema.js';

/** What both hosts are given; plain JSON. */
export interface RunOptions extends CaseSelection, HarnessOptions {
  /** Whether the cases are measured; true by default. */
  readonly cases?: boolean | undefined;
  /** Whether chains of layers are measured, with peers where they are installed; false by default. */
  readonly peers?: boolean | undefined;
}

/** What is known of a run so far, as it grows. */
export type Progress =
  | { readonly kind: 'environment'; readonly environment: Environment }
  | { readonly kind: 'ceilings'; readonly ceilings: Ceilings }
  | { readonly kind: 'row'; readonly row: Row }
  | { readonly kind: 'quantizer'; readonly row: QuantizerRow }
  | { readonly kind: 'plan'; readonly row: PlanRow }
  | { readonly kind: 'peer'; readonly row: PeerRow }
  | { readonly kind: 'progress'; readonly done: number; readonly total: number; readonly what: string }
  | { readonly kind: 'end'; readonly complete: boolean };

/**
 * Runs the cases and chains that the options select, and tells everything as it comes.
 * @param loadPeer gives undefined where the peer is not installed
 */
export async function run(
  gpu: Gpu,
  options: RunOptions,
  tell: (progress: Progress) => void,
  loadPeer: () => Promise<Onnxruntime | undefined>,
): Promise<void> {
  const start = performance.now();
  const report: Report = {
    ceilings: (ceilings) => tell({ kind: 'ceilings', ceilings }),
    row: (row) => tell({ kind: 'row', row }),
    quantizer: (row) => tell({ kind: 'quantizer', row }),
    plan: (row) => tell({ kind: 'plan', row }),
    progress: (done, total, what) => tell({ kind: 'progress', done, total, what }),
  };
  let complete = true;
  const cases = (options.cases ?? true) ? selectCases(options) : [];
  if (cases.length || options.quantizers) complete = await runBench(gpu, cases, options, report);
  if (options.peers) {
    const { timeLimit } = options;
    const rest = timeLimit && Math.max(0, timeLimit - (performance.now() - start) / 1000);
    const tellPeer = (row: PeerRow) => tell({ kind: 'peer', row });
    const software = isSoftware(gpu.adapterInfo);
    const peerOptions = { shapes: options.shapes, m: options.m, timeLimit: rest };
    const peerReport = { row: tellPeer, progress: report.progress };
    complete = (await runPeers(gpu, loadPeer, peerOptions, software, peerReport)) && complete;
  }
  tell({ kind: 'end', complete });
}

/** A results file that grows by what is told. */
export class Collector {
  #environment: Environment;
  #ceilings: Ceilings | undefined;
  #complete = false;
  readonly #rows: Row[];
  readonly #quantizers: QuantizerRow[];
  readonly #plans: PlanRow[] = [];
  readonly #peers: PeerRow[] = [];

  /** @param kept what an earlier run got to */
  constructor(environment: Environment, kept?: Pick<BenchFile, 'rows' | 'quantizers'>) {
    this.#environment = environment;
    this.#rows = [...(kept?.rows ?? [])];
    this.#quantizers = [...(kept?.quantizers ?? [])];
  }

  add(progress: Progress): void {
    if (progress.kind === 'environment') this.#environment = progress.environment;
    else if (progress.kind === 'ceilings') this.#ceilings = progress.ceilings;
    else if (progress.kind === 'row') this.#rows.push(progress.row);
    else if (progress.kind === 'quantizer') this.#quantizers.push(progress.row);
    else if (progress.kind === 'plan') this.#plans.push(progress.row);
    else if (progress.kind === 'peer') this.#peers.push(progress.row);
    else if (progress.kind === 'end') this.#complete = progress.complete;
  }

  get file(): BenchFile {
    return {
      schema: SCHEMA,
      environment: this.#environment,
      ...(this.#ceilings && { ceilings: this.#ceilings }),
      complete: this.#complete,
      rows: [...this.#rows],
      ...(this.#quantizers.length && { quantizers: [...this.#quantizers] }),
      ...(this.#plans.length && { plans: [...this.#plans] }),
      ...(this.#peers.length && { peers: [...this.#peers] }),
    };
  }
}
