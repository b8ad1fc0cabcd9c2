/** onnxruntime's WebGPU execution provider: chains of MatMulNBits, int4 in blocks of 32. The same in Node and in a page. */

import { fromF16, toF16 } from '../../src/formats/f16.js';
import { Random } from '../../src/random.js';
import { cycle } from '../data.js';
import type { PeerRow } from '../schema.js';
import {
  type ChainTiming,
  chainInput,
  chainLayers,
  chainReference,
  firstLine,
  relativeError,
  timeChain,
} from './chain.js';
import { BLOCK, chainModel, type Int4Weights, negationModel } from './onnx.js';

/** What is used of the package's interface. */
export interface Onnxruntime {
  readonly env: { readonly versions: Readonly<Record<string, string | undefined>> };
  readonly InferenceSession: { create(model: Uint8Array, options: object): Promise<Session> };
  readonly Tensor: new (type: string, data: ArrayBufferView, dims: readonly number[]) => OrtTensor;
}

interface OrtTensor {
  readonly data: ArrayLike<number> & ArrayBufferView;
  dispose(): void;
}

interface Session {
  run(feeds: Record<string, OrtTensor>): Promise<Record<string, OrtTensor>>;
  release(): Promise<void>;
}

type Type = 'f32' | 'f16';

export interface PeerCase {
  readonly n: number;
  readonly k: number;
  readonly layers: number;
  readonly m: readonly number[];
}

const VARIANTS = (['f32', 'f16'] as const).flatMap((type) =>
  ([0, 4] as const).map((accuracyLevel) => ({ type, accuracyLevel })),
);

/** @param late whether no time is left */
export async function measureOnnxruntime(
  ort: Onnxruntime,
  c: PeerCase,
  timing: ChainTiming,
  tell: (row: PeerRow) => void,
  late: () => boolean,
): Promise<void> {
  const version = ort.env.versions.node ?? ort.env.versions.web ?? ort.env.versions.common ?? '';
  const sizes = chainLayers(c, c.layers);
  let weights: ChainWeights | undefined;
  for (const { type, accuracyLevel } of VARIANTS) {
    if (late()) return;
    const name = `onnxruntime MatMulNBits int4 ${type} accuracy ${accuracyLevel}`;
    const about = { name, version, n: c.n, k: c.k, layers: sizes.length };
    const fail = (m: number, error: unknown) => tell({ ...about, m, note: `fails: ${firstLine(error)}` });
    let chain: OrtChain;
    try {
      weights = weights?.type === type ? weights : new ChainWeights(sizes, type);
      chain = await OrtChain.create(ort, weights, accuracyLevel);
    } catch (error) {
      fail(c.m[0]!, error);
      continue;
    }
    try {
      for (const m of c.m) {
        if (late()) return;
        try {
          await chain.setInput(m);
          const error = await chain.check();
          const time = await timeChain(chain, sizes.length, timing);
          tell({ ...about, m, time, error });
        } catch (error) {
          fail(m, error);
        }
      }
    } finally {
      // After a failure this may fail too, and says no more.
      await chain.destroy().catch(() => {});
    }
  }
}

/** Layers in one type, and what the first row of `chainInput` becomes in them. */
class ChainWeights {
  readonly layers: readonly Int4Weights[];
  #reference: Float64Array | undefined;

  constructor(
    sizes: readonly { n: number; k: number }[],
    readonly type: Type,
  ) {
    this.layers = randomLayers(sizes, type);
  }

  /** The first row is the same for every m. */
  get reference(): Float64Array {
    this.#reference ??= chainReference(chainInput(1, this.layers[0]!.k), this.layers, (i) =>
      decode(this.layers[i]!, this.type),
    );
    return this.#reference;
  }
}

class OrtChain {
  #x: OrtTensor | undefined;

  private constructor(
    readonly ort: Onnxruntime,
    readonly session: Session,
    /** Brings tensors to the GPU, and back. */
    readonly upload: Session,
    readonly download: Session,
    readonly weights: ChainWeights,
  ) {}

  static async create(ort: Onnxruntime, weights: ChainWeights, accuracyLevel: 0 | 4): Promise<OrtChain> {
    const { layers, type } = weights;
    const open = (model: Uint8Array, preferredOutputLocation: string) =>
      ort.InferenceSession.create(model, {
        executionProviders: ['webgpu'],
        preferredOutputLocation,
        // Failures are told by exceptions.
        logSeverityLevel: 4,
      });
    const session = await open(chainModel(layers, type, accuracyLevel), 'gpu-buffer');
    const upload = await open(negationModel(type), 'gpu-buffer');
    const download = await open(negationModel(type), 'cpu');
    return new OrtChain(ort, session, upload, download, weights);
  }

  async setInput(m: number): Promise<void> {
    const { k } = this.weights.layers[0]!;
    this.#x?.dispose();
    this.#x = undefined;
    const negative = chainInput(m, k).map((value) => -value);
    this.#x = (await this.upload.run({ x: this.#tensor(negative, m, k) })).y!;
  }

  /** Relative error of the first row against f64. */
  async check(): Promise<number> {
    const { y } = await this.session.run({ x: this.#x! });
    const negative = (await this.download.run({ x: y! })).y!.data;
    y!.dispose();
    const { layers, type, reference } = this.weights;
    const { n } = layers.at(-1)!;
    const row =
      type === 'f32' || !(negative instanceof Uint16Array)
        ? Float32Array.from({ length: n }, (_, i) => -negative[i]!)
        : fromF16(negative.subarray(0, n)).map((value) => -value);
    return relativeError(row, reference);
  }

  async run(): Promise<void> {
    const { y } = await this.session.run({ x: this.#x! });
    y!.dispose();
  }

  /** Work is done in the order in which it was begun, and this brings a value back. */
  async finish(): Promise<void> {
    await this.download.run({ x: this.#tensor(Float32Array.of(1), 1, 1) });
  }

  async destroy(): Promise<void> {
    this.#x?.dispose();
    for (const session of [this.session, this.upload, this.download]) await session.release();
  }

  #tensor(values: Float32Array, rows: number, columns: number): OrtTensor {
    return this.weights.type === 'f32'
      ? new this.ort.Tensor('float32', values, [rows, columns])
      : new this.ort.Tensor('float16', toF16(values), [rows, columns]);
  }
}

/** Bytes of codes that a layer repeats: a prime, so that its rows differ. */
const POOL = 262147;

/** Random layers that keep the size of what goes through them. */
function randomLayers(sizes: readonly { n: number; k: number }[], type: Type): Int4Weights[] {
  const random = new Random(3);
  return sizes.map(({ n, k }) => {
    // Codes 1 to 15, as 8 stands for zero: a mean other than that would grow from layer to layer.
    const pool = Uint8Array.from(
      { length: POOL },
      () => random.integer(1, 15) | (random.integer(1, 15) << 4),
    );
    const codes = cycle(pool, (n * k) / 2);
    const scale = Float32Array.of(1 / (Math.sqrt(56 / 3) * Math.sqrt(k)));
    const stored = type === 'f32' ? scale : toF16(scale);
    const scales = cycle(new Uint8Array(stored.buffer), ((n * k) / BLOCK) * stored.BYTES_PER_ELEMENT);
    return { n, k, codes, scales };
  });
}

function decode({ n, k, codes, scales }: Int4Weights, type: Type): Float32Array {
  const values = type === 'f32' ? new Float32Array(scales.buffer) : fromF16(new Uint16Array(scales.buffer));
  const w = new Float32Array(n * k);
  for (let block = 0, at = 0; at < w.length; block++) {
    const scale = values[block]!;
    for (const end = at + BLOCK; at < end; at += 2) {
      const byte = codes[at >> 1]!;
      w[at] = ((byte & 15) - 8) * scale;
      w[at + 1] = ((byte >> 4) - 8) * scale;
    }
  }
  return w;
}
