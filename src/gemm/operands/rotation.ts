import type { Gpu } from '../../gpu/gpu.js';
import { acquireScratch, type Scratch } from '../../gpu/scratch.js';
import { HADAMARD_SIZE } from '../../quantize/hadamard.js';
import type { GemmProblem } from '../problem.js';
import { HADAMARD, X_MODULES } from '../shaders.js';
import { compileStage, Stage, type StagePipeline } from './stage.js';

const WORKGROUP = 64;

/** Rotates x[m, k] by the random Hadamard transform into a scratch buffer, for weights that were rotated. */
export class Rotation {
  readonly #stage: Stage;
  readonly #out: Scratch;

  private constructor(gpu: Gpu, pipeline: StagePipeline, m: number, k: number) {
    const tiles = (m * k) / HADAMARD_SIZE;
    this.#out = acquireScratch(gpu.device, 'rotated x', m * k * 4);
    this.#stage = new Stage(gpu, pipeline, {
      label: 'rotation',
      uniform: [tiles],
      workgroups: Math.ceil(tiles / WORKGROUP),
      buffers: [this.#out.buffer],
    });
  }

  static async create(gpu: Gpu, { m, k, x }: Pick<GemmProblem, 'm' | 'k' | 'x'>): Promise<Rotation> {
    const pipeline = await compileStage(gpu, {
      label: `hadamard.${x}`,
      constants: { WORKGROUP },
      modules: [X_MODULES[x], HADAMARD],
    });
    return new Rotation(gpu, pipeline, m, k);
  }

  /** Where the result is, in f32. */
  get rotated(): GPUBufferBinding {
    return { buffer: this.#out.buffer };
  }

  /** Adds the rotation of x to the pass and returns where the result is. */
  encode(pass: GPUComputePassEncoder, x: GPUBufferBinding): GPUBufferBinding {
    this.#stage.encode(pass, x);
    return this.rotated;
  }

  destroy(): void {
    this.#stage.destroy();
    this.#out.release();
  }
}
