/** A run on some host: options in, a results file out. */
import type { Gpu } from '../src/gpu/gpu.js';
import { type CaseSelection, selectCases } from './cases.js';
import { type HarnessOptions, type Report, runBench } from './harness.js';
import { type BenchFile, type Ceilings, type Environment, type PlanRow, type Row, SCHEMA } from './schema.js';

/** What both hosts are given; plain JSON. */
export interface RunOptions extends CaseSelection, HarnessOptions {}

/** What is known of a run so far, as it grows. */
export type Progress =
  | { readonly kind: 'environment'; readonly environment: Environment }
  | { readonly kind: 'ceilings'; readonly ceilings: Ceilings }
  | { readonly kind: 'row'; readonly row: Row }
  | { readonly kind: 'plan'; readonly row: PlanRow }
  | { readonly kind: 'progress'; readonly done: number; readonly total: number; readonly what: string }
  | { readonly kind: 'end'; readonly complete: boolean };

/** Runs the cases that the options select, and tells everything as it comes. */
export async function run(gpu: Gpu, options: RunOptions, tell: (progress: Progress) => void): Promise<void> {
  const report: Report = {
    ceilings: (ceilings) => tell({ kind: 'ceilings', ceilings }),
    row: (row) => tell({ kind: 'row', row }),
    plan: (row) => tell({ kind: 'plan', row }),
    progress: (done, total, what) => tell({ kind: 'progress', done, total, what }),
  };
  const complete = await runBench(gpu, selectCases(options), options, report);
  tell({ kind: 'end', complete });
}

/** A results file that grows by what is told. */
export class Collector {
  #environment: Environment;
  #ceilings: Ceilings | undefined;
  #complete = false;
  readonly #rows: Row[] = [];
  readonly #plans: PlanRow[] = [];

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  add(progress: Progress): void {
    if (progress.kind === 'environment') this.#environment = progress.environment;
    else if (progress.kind === 'ceilings') this.#ceilings = progress.ceilings;
    else if (progress.kind === 'row') this.#rows.push(progress.row);
    else if (progress.kind === 'plan') this.#plans.push(progress.row);
    else if (progress.kind === 'end') this.#complete = progress.complete;
  }

  get file(): BenchFile {
    return {
      schema: SCHEMA,
      environment: this.#environment,
      ...(this.#ceilings && { ceilings: this.#ceilings }),
      complete: this.#complete,
      rows: [...this.#rows],
      ...(this.#plans.length && { plans: [...this.#plans] }),
    };
  }
}
