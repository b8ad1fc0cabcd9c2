/**
 * Mutants of every producer's file: each either ends in a typed error or gives a matrix that is right, and nothing is
 * read beyond what headers allow. The seed is fixed; FUZZ_SEED and FUZZ_MUTANTS try others, and more.
 */
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../../src/checkpoint/open.js';
import { Fp4Error } from '../../../src/errors.js';
import { type QuantizedMatrix, validateMatrix } from '../../../src/matrix/quantized-matrix.js';
import { Random } from '../../../src/random.js';
import { type FileTensor, type FileTensors, safetensorsFile } from '../../support/checkpoint-files.js';
import { expectedMatrix, FIXTURES, type Fixture, fileOf } from '../../support/checkpoint-producers.js';
import { watchedSource } from '../../support/watched-source.js';

const SEED = Number(process.env.FUZZ_SEED ?? 1);
/** Of each kind and fixture. */
const MUTANTS = Number(process.env.FUZZ_MUTANTS ?? 60);

const DTYPES = [
  'U8',
  'I8',
  'F8_E4M3',
  'F8_E8M0',
  'F8_E5M2',
  'F4',
  'BOOL',
  'U32',
  'F32',
  'BF16',
  'I32',
  'U64',
];
const BITS: Record<string, number> = { F4: 4, U32: 32, F32: 32, I32: 32, BF16: 16, U64: 64 };

/** Names that mean something to one of the producers. */
const SUFFIXES = [
  'weight',
  'weight_packed',
  'weight_scale',
  'weight_scale_2',
  'weight_global_scale',
  'weight_g_idx',
  'scale',
  'scales',
  'biases',
  'blocks',
  '_blocks',
  '_scales',
  'comfy_quant',
  '_weight_qdata',
  '_weight_scale',
  'fp4_codes',
  'fp4_scales',
  'fp4_layout',
  'fp4_macro_scales',
  'pre_quant_scale',
  'weight.absmax',
  'global_scale',
];

interface Outcome {
  readonly error?: Fp4Error;
  readonly q?: QuantizedMatrix;
}

/** Opens, and loads every matrix, the first and last expert of each; the outcome of the one that is asked about. */
async function run(file: Uint8Array, name: string, expert: number | undefined): Promise<Outcome> {
  const source = watchedSource(file);
  const typed = (error: unknown): Outcome => {
    // One of `validateMatrix` is what a loader should have found.
    if (!(error instanceof Fp4Error) || error.module === 'matrix') throw error;
    return { error };
  };
  try {
    const checkpoint = await openCheckpoint(source);
    expect(source.total).toBeLessThanOrEqual(file.length + 16);
    for (const info of checkpoint.matrices) {
      const before = source.total;
      const last = info.experts && info.experts - 1;
      const matrix = await checkpoint.matrix(info.name, { expert: last }).catch(typed);
      // A mark of 64 KiB at most, or 4 bytes of layout and 4 of a tensor scale.
      expect(source.total - before).toBeLessThanOrEqual(info.bytes / (info.experts ?? 1) + 65_536);
      if (!('error' in matrix)) expectConsistent(matrix as QuantizedMatrix, info.shape);
    }
    for (const { name: refused, error } of checkpoint.refused) {
      expect(error).toBeInstanceOf(Fp4Error);
      await expect(checkpoint.matrix(refused)).rejects.toBe(error);
    }
    return { q: (await checkpoint.matrix(name, { expert })) as QuantizedMatrix };
  } catch (error) {
    return typed(error);
  }
}

function expectConsistent(matrix: QuantizedMatrix, [rows, cols]: readonly [number, number]): void {
  expect([matrix.rows, matrix.cols]).toEqual([rows, cols]);
  if ('values' in matrix) expect((matrix.values as Float32Array).length).toBe(rows * cols);
  else validateMatrix(matrix);
}

const differences = (a: Uint8Array, b: Uint8Array) =>
  a.reduce((sum, byte, i) => sum + (byte === b[i] ? 0 : 1), 0);

/** How many stored numbers two matrices of one shape differ in. */
function distance(a: QuantizedMatrix, b: QuantizedMatrix): number {
  const none = new Uint8Array(0);
  return (
    differences(a.codes, b.codes) +
    differences(a.scales, b.scales) +
    differences(a.macroScales ?? none, b.macroScales ?? none) +
    (a.globalScale === b.globalScale ? 0 : 1) +
    (a.hadamard === b.hadamard && a.macroSize === b.macroSize ? 0 : 1)
  );
}

const sameKind = (a: QuantizedMatrix, b: QuantizedMatrix) =>
  a.format === b.format && a.rows === b.rows && a.cols === b.cols && a.blockSize === b.blockSize;

/** Another shape of the same number of elements, or of another number that is near. */
function mutateShape(shape: readonly number[], random: Random): number[] {
  const out = [...shape];
  const at = random.integer(0, Math.max(0, out.length - 1));
  switch (random.integer(0, 6)) {
    case 0:
      return out.reverse();
    case 1:
      return [1, ...out];
    case 2:
      return [...out, 1];
    case 3:
      return [out.reduce((product, size) => product * size, 1)];
    case 4:
      if (out.length > 1)
        out.splice(at % (out.length - 1), 2, out[at % (out.length - 1)]! * out[(at % (out.length - 1)) + 1]!);
      return out;
    case 5:
      if (out.length && out[at]! % 2 === 0) out.splice(at, 1, 2, out[at]! / 2);
      return out;
    default:
      if (out.length) out[at] = random.pick([0, 1, out[at]! + 1, out[at]! - 1, 2 * out[at]!, out[at]! >> 1]);
      return out;
  }
}

/** A tensor made to fill what its dtype and shape say, so that the container is right and only the producer's rules break. */
function filled({ bytes }: FileTensor, dtype: string, shape: readonly number[]): FileTensor | undefined {
  const bits = shape.reduce((product, size) => product * size, BITS[dtype] ?? 8);
  if (bits % 8 || bits > 1 << 20) return undefined;
  return {
    dtype,
    shape,
    bytes: Uint8Array.from({ length: bits / 8 }, (_, i) => bytes[i % bytes.length] ?? 0),
  };
}

/** One change of names, dtypes, shapes or metadata. `sameBytes`: the matrix, if it still is one of its kind, has not changed. */
function mutateStructure(
  fixture: Fixture,
  random: Random,
): { file: Uint8Array; sameBytes: boolean } | undefined {
  const names = Object.keys(fixture.tensors);
  const name = random.pick(names);
  const tensor = fixture.tensors[name]!;
  const rebuilt = (
    change: (key: string, value: FileTensor) => [string, FileTensor] | undefined,
    metadata = fixture.metadata,
  ) => {
    const entries = Object.entries(fixture.tensors).map(([key, value]) => change(key, value));
    return safetensorsFile(
      Object.fromEntries(entries.filter((entry) => entry !== undefined)) as FileTensors,
      metadata,
    );
  };
  switch (random.integer(0, 5)) {
    case 0:
      return { file: rebuilt((key, value) => (key === name ? undefined : [key, value])), sameBytes: true };
    case 1: {
      const cut = name.lastIndexOf('.') + 1;
      const renamed = name.slice(0, cut) + random.pick(SUFFIXES);
      if (names.includes(renamed)) return undefined;
      return { file: rebuilt((key, value) => [key === name ? renamed : key, value]), sameBytes: true };
    }
    case 2: {
      const dtype = random.pick(DTYPES);
      // The elements of other dtypes are fewer or more, as the bytes are what they were.
      const factor = (BITS[tensor.dtype] ?? 8) / (BITS[dtype] ?? 8);
      const last = (tensor.shape.at(-1) ?? 1) * factor;
      const shape = Number.isInteger(last) ? [...tensor.shape.slice(0, -1), last] : tensor.shape;
      const changed = filled(tensor, dtype, random.integer(0, 1) ? shape : tensor.shape);
      return (
        changed && { file: rebuilt((key, value) => [key, key === name ? changed : value]), sameBytes: false }
      );
    }
    case 3: {
      const changed = filled(tensor, tensor.dtype, mutateShape(tensor.shape, random));
      return (
        changed && { file: rebuilt((key, value) => [key, key === name ? changed : value]), sameBytes: true }
      );
    }
    case 4: {
      // A further tensor, of a name that some producer looks for.
      const cut = name.lastIndexOf('.') + 1;
      const added = name.slice(0, cut) + random.pick(SUFFIXES);
      const extra = filled(tensor, random.pick(DTYPES), random.pick([tensor.shape, [1], [], [2, 2]]));
      if (names.includes(added) || !extra) return undefined;
      const tensors = Object.fromEntries([...Object.entries(fixture.tensors), [added, extra]]);
      return { file: safetensorsFile(tensors, fixture.metadata), sameBytes: false };
    }
    default: {
      const keys = Object.keys(fixture.metadata ?? {});
      if (keys.length === 0) return undefined;
      const key = random.pick(keys);
      const value = fixture.metadata![key]!;
      const at = random.integer(0, value.length - 1);
      const { [key]: _, ...rest } = fixture.metadata!;
      const mutated =
        value.slice(0, at) + random.pick(['', '0', '"', '}', 'null', 'true']) + value.slice(at + 1);
      const metadata = random.integer(0, 2) ? { ...rest, [key]: mutated } : rest;
      return { file: rebuilt((name, tensor) => [name, tensor], metadata), sameBytes: true };
    }
  }
}

/** Bytes of the file changed, cut off or added. */
function mutateBytes(file: Uint8Array, random: Random): Uint8Array {
  const bytes = file.slice();
  const headerEnd = 8 + file[0]! + 256 * file[1]! + 65536 * file[2]!;
  switch (random.integer(0, 3)) {
    case 0:
      return bytes.subarray(0, random.integer(0, bytes.length - 1));
    case 1:
      return Uint8Array.from([...bytes, ...new Array(random.integer(1, 9)).fill(random.integer(0, 255))]);
    default: {
      // The header is the smaller part, and the one where more can break.
      const at = random.integer(0, 1)
        ? random.integer(0, headerEnd - 1)
        : random.integer(0, bytes.length - 1);
      bytes[at] = random.pick([0, 255, 0x30, 0x22, bytes[at]! ^ (1 << random.integer(0, 7))]);
      return bytes;
    }
  }
}

describe.each(Object.entries(FIXTURES))('mutants of %s', (key, make) => {
  const fixture = make();
  const all = [fixture.logical].flat();
  const expert = Array.isArray(fixture.logical) ? all.length - 1 : undefined;
  const expected = expectedMatrix(all.at(-1)!, fixture.extra);
  const file = fileOf(fixture);
  const seedOf = (kind: number) => SEED * 1000 + 7 * key.length + kind + key.charCodeAt(key.length - 1);

  it('in names, dtypes, shapes and metadata', async () => {
    const random = new Random(seedOf(0));
    let errors = 0;
    for (let i = 0; i < MUTANTS; i++) {
      const mutant = mutateStructure(fixture, random);
      if (!mutant) continue;
      const { q, error } = await run(mutant.file, fixture.matrix, expert);
      if (error) errors++;
      else if (mutant.sameBytes && sameKind(q!, expected))
        expect(distance(q!, expected), `mutant ${i}`).toBe(0);
    }
    expect(errors).toBeGreaterThan(0);
  });

  it('in single bytes', async () => {
    const random = new Random(seedOf(1));
    for (let i = 0; i < MUTANTS; i++) {
      const { q } = await run(mutateBytes(file, random), fixture.matrix, expert);
      // A byte of the data is one stored number, wherever the order of the producer puts it.
      if (q && sameKind(q, expected)) expect(distance(q, expected), `mutant ${i}`).toBeLessThanOrEqual(1);
    }
  });

  it('in stored values, of small tensors as often as of large ones', async () => {
    const random = new Random(seedOf(2));
    let loaded = 0;
    for (let i = 0; i < MUTANTS; i++) {
      const name = random.pick(Object.keys(fixture.tensors));
      const { bytes, ...rest } = fixture.tensors[name]!;
      const changed = bytes.slice();
      changed[random.integer(0, bytes.length - 1)] = random.pick([
        0,
        1,
        0x7f,
        0x80,
        255,
        random.integer(0, 255),
      ]);
      const tensors = { ...fixture.tensors, [name]: { ...rest, bytes: changed } };
      const { q } = await run(safetensorsFile(tensors, fixture.metadata), fixture.matrix, expert);
      if (!q) continue;
      loaded++;
      // Of the same kind always: no value changes a shape.
      expect(sameKind(q, expected)).toBe(true);
      expect(distance(q, expected), `mutant ${i}, ${name}`).toBeLessThanOrEqual(1);
    }
    expect(loaded).toBeGreaterThan(MUTANTS / 10);
  });
});
