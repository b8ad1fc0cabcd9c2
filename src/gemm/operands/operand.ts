/** Bringing x into the order and type in which a kernel reads it. */
import type { Gpu } from '../../gpu/gpu.js';
import type { GemmProblem } from '../problem.js';
import { createHalfFragments, type HalfFragmentsSpec } from './half-fragments.js';
import { Int8Operand, type Int8Spec } from './int8.js';
import { createInt8Rows, type Int8RowsSpec } from './int8-rows.js';

/** x as it is. */
export interface RowsSpec {
  readonly kind: 'rows';
}

/** How x has to lie for a kernel; plain data, a part of plans. */
export type OperandSpec = RowsSpec | HalfFragmentsSpec | Int8Spec | Int8RowsSpec;

/** x made ready for a kernel in scratch buffers. */
export interface Operand {
  /** Bound in place of the caller's x. */
  readonly x: GPUBufferBinding;
  /** What the stored values have to be multiplied by; which of them share one is up to the kernel. */
  readonly scales: GPUBufferBinding;
  /** Adds the conversion of `x` to a pass; encoding it again with the same slice makes nothing. */
  encode(pass: GPUComputePassEncoder, x: GPUBufferBinding): void;
  destroy(): void;
}

/** Compiles the conversion; undefined where x is taken as it is. */
export async function createOperand(
  gpu: Gpu,
  spec: OperandSpec,
  problem: GemmProblem,
): Promise<Operand | undefined> {
  switch (spec.kind) {
    case 'rows':
      return undefined;
    case 'half-fragments':
      return createHalfFragments(gpu, spec, problem);
    case 'int8':
      return Int8Operand.create(gpu, spec, problem);
    case 'int8-rows':
      return createInt8Rows(gpu, spec, problem);
  }
}

/** What the conversion does, for labels and reasons. */
export function describeOperand(spec: OperandSpec): string | undefined {
  switch (spec.kind) {
    case 'rows':
      return undefined;
    case 'half-fragments':
      return 'x is first rounded to f16, row by row with a power of two, in the order of tiles';
    case 'int8':
      return 'x is first turned into int8 with a scale a block';
    case 'int8-rows':
      return 'x is first turned into int8 with a scale for each row';
  }
}
