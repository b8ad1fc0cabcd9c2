/** What x goes through before a kernel reads it: rotation, rounding to FP4, another order or type. */
import type { Gpu } from '../../gpu/gpu.js';
import type { GemmProblem } from '../problem.js';
import { Fp4Rows } from './int8.js';
import { createOperand, type Operand, type OperandSpec } from './operand.js';
import { Rotation } from './rotation.js';

/** What a slice of a buffer holds, as long as the caller says that it is the same. */
interface Content {
  readonly offset: number;
}

/** What a scratch buffer was last made of, and how. */
interface Mark {
  readonly content: Content;
  readonly how: string;
}

/** What was last multiplied of each buffer. */
const contents = new WeakMap<GPUBuffer, Content>();
const marks = new WeakMap<GPUBuffer, Mark>();

/** Whoever says that x is unchanged gets what the last product with that buffer had, if it was the same slice. */
function contentOf({ buffer, offset = 0 }: GPUBufferBinding, unchanged: boolean): Content {
  const last = contents.get(buffer);
  if (unchanged && last?.offset === offset) return last;
  const content = { offset };
  contents.set(buffer, content);
  return content;
}

export interface Preparation {
  /** The problem as the caller has it. */
  readonly problem: GemmProblem;
  /** What is left of it for the operand and the kernel. */
  readonly inner: GemmProblem;
  readonly hadamard: boolean;
  readonly takesFp4Rows: boolean;
  readonly operandSpec: OperandSpec;
}

export class PreparedX {
  readonly #how: string;
  readonly #rotation: Rotation | undefined;
  readonly #fp4Rows: Fp4Rows | undefined;
  readonly #operand: Operand | undefined;
  /** What holds the result, all of it; none where the kernel reads x itself. */
  readonly #outputs: readonly GPUBuffer[];
  /** Those and what lies between. */
  readonly #written: readonly GPUBuffer[];

  private constructor(
    how: string,
    rotation: Rotation | undefined,
    fp4Rows: Fp4Rows | undefined,
    operand: Operand | undefined,
  ) {
    this.#how = how;
    this.#rotation = rotation;
    this.#fp4Rows = fp4Rows;
    this.#operand = operand;
    const stages = [[rotation?.rotated], [fp4Rows?.rows], [operand?.x, operand?.scales]].map((bindings) =>
      bindings.flatMap((binding) => binding?.buffer ?? []),
    );
    this.#outputs = stages.findLast(({ length }) => length) ?? [];
    this.#written = stages.flat();
  }

  static async create(gpu: Gpu, p: Preparation): Promise<PreparedX> {
    const { problem, inner, hadamard, takesFp4Rows, operandSpec } = p;
    const { m, k, x, activations } = problem;
    const [rotation, fp4Rows, operand] = await Promise.all([
      hadamard ? Rotation.create(gpu, problem) : undefined,
      takesFp4Rows ? Fp4Rows.create(gpu, hadamard ? { ...problem, x: 'f32' } : problem) : undefined,
      createOperand(gpu, operandSpec, inner),
    ]);
    const how = JSON.stringify({ m, k, x, activations, hadamard, takesFp4Rows, operandSpec });
    return new PreparedX(how, rotation, fp4Rows, operand);
  }

  /** Bound in place of x; undefined where the kernel reads x itself. */
  get x(): GPUBufferBinding | undefined {
    return this.#outputs[0] && { buffer: this.#outputs[0] };
  }

  get scales(): GPUBufferBinding | undefined {
    return this.#operand?.scales;
  }

  /**
   * Adds all of it to a pass.
   * @param unchanged whether x holds what it did when it was last prepared: then that is used where it still stands
   */
  encode(pass: GPUComputePassEncoder, x: GPUBufferBinding, unchanged: boolean): void {
    // Of products that read x themselves as well: after them others may not take what older content was turned into.
    const content = contentOf(x, unchanged);
    if (!this.#outputs.length || this.#stands(content)) return;
    const rotated = this.#rotation?.encode(pass, x) ?? x;
    const rows = this.#fp4Rows?.encode(pass, rotated) ?? rotated;
    this.#operand?.encode(pass, rows);
    const mark = { content, how: this.#how };
    for (const buffer of this.#written) marks.set(buffer, mark);
  }

  /** Scratch buffers are shared: all of them have to be of this content still, and of one conversion like this one. */
  #stands(content: Content): boolean {
    const mark = marks.get(this.#outputs[0]!);
    return (
      mark?.content === content &&
      mark.how === this.#how &&
      this.#outputs.every((output) => marks.get(output) === mark)
    );
  }

  destroy(): void {
    this.#rotation?.destroy();
    this.#fp4Rows?.destroy();
    this.#operand?.destroy();
  }
}
