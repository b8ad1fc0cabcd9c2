/** What the inputs of linear layers are like: their magnitudes counted on the GPU while a model runs. */
import { asBinding, createStorageBuffer, readBuffer } from '../../src/gpu/buffers.js';
import {
  type ActivationSummary,
  InvalidArgumentError,
  MAGNITUDE_BINS,
  MagnitudeStatistics,
} from '../../src/index.js';
import type { Linear } from './linear.js';
import { HEAD, type Llama, type SharedWeights } from './llama.js';
import { withLinears } from './mix.js';
import countSource from './shaders/count_magnitudes.wgsl?raw';
import { compileStep } from './step.js';

/** Layers whose input others have too: they are counted once. */
const SAME_INPUT: readonly (readonly [others: RegExp, counted: string])[] = [
  [/\.[kv]_proj\./, '.q_proj.'],
  [/\.up_proj\./, '.gate_proj.'],
];

const THREADS = 64;

/**
 * A model that computes what `llama` does and counts the inputs of its linear layers, but for the head's. A megabyte of
 * counts for each input of a block, of which there are four.
 */
export class WatchedLlama {
  readonly llama: Llama;
  readonly #counts = new Map<string, GPUBuffer>();
  readonly #device: GPUDevice;

  constructor(llama: Llama, shared: SharedWeights) {
    this.#device = llama.gpu.device;
    this.llama = withLinears(llama, shared, (name, own) => {
      if (name === HEAD || countedName(name) !== name) return own;
      const counts = createStorageBuffer(this.#device, `lm counts of ${name}`, 4 * (MAGNITUDE_BINS + 1));
      this.#counts.set(name, counts);
      return countingLinear(llama, own, counts);
    });
  }

  /**
   * Of all that the model has computed so far, by the names of weights, in their order. Means are by up to 2^-11 off.
   * @throws InvalidArgumentError where an input was NaN or Inf
   */
  async read(): Promise<Map<string, ActivationSummary>> {
    const counted = new Map<string, ActivationSummary>();
    for (const [name, buffer] of this.#counts) {
      const counts = new Uint32Array(await readBuffer(this.#device, buffer));
      const max = new Float32Array(counts.buffer, 4 * MAGNITUDE_BINS, 1)[0]!;
      if (!Number.isFinite(max)) throw new InvalidArgumentError('lm', `an input of ${name} is ${max}`);
      const statistics = new MagnitudeStatistics();
      statistics.addCounts(counts.subarray(0, MAGNITUDE_BINS), max);
      counted.set(name, statistics.summary());
    }
    const names = [...this.llama.linears.keys()].filter((name) => name !== HEAD);
    return new Map(names.map((name) => [name, counted.get(countedName(name))!]));
  }

  destroy(): void {
    for (const buffer of this.#counts.values()) buffer.destroy();
  }

  [Symbol.dispose](): void {
    this.destroy();
  }
}

function countedName(name: string): string {
  const same = SAME_INPUT.find(([others]) => others.test(name));
  return same ? name.replace(same[0], same[1]) : name;
}

function countingLinear({ gpu }: Llama, linear: Linear, counts: GPUBuffer): Linear {
  return {
    ...linear,
    async createProduct(shape) {
      const product = await linear.createProduct(shape);
      const values = shape.m * linear.k;
      const count = await compileStep(gpu, {
        label: 'lm count magnitudes',
        sources: [countSource],
        constants: { BINS: MAGNITUDE_BINS },
        workgroups: Math.ceil(values / THREADS),
      });
      return {
        ...product,
        bind(x, y, xUnchanged) {
          const counting = count([{ ...asBinding(x), size: values * 4 }, counts]);
          const multiplying = product.bind(x, y, xUnchanged);
          return {
            encode(pass) {
              counting.encode(pass);
              multiplying.encode(pass);
            },
          };
        },
      };
    },
  };
}
