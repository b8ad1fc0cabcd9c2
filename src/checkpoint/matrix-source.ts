/** Float matrices out of checkpoints: what `quantize` takes. */
import { InvalidArgumentError } from '../errors.js';
import type { ByteSource, ReadOptions } from './byte-source.js';
import { requireFloatDtype, showShape, toFloat32 } from './dtype.js';
import { readTensorBytes, type SafetensorsFile, type TensorInfo } from './safetensors.js';
import { quote } from './strict-json.js';

/** A matrix of f32 values [rows, cols], cols contiguous; a linear layer's weight has rows = n and cols = k. */
export interface FloatMatrix {
  readonly name: string;
  readonly rows: number;
  readonly cols: number;
  /** f32[rows, cols], the caller's own. */
  readonly values: Float32Array;
}

/**
 * Reads one rank-2 tensor as f32.
 * @param file the header of `source`
 * @throws InvalidArgumentError when there is no tensor of that name (near ones are listed) or it is not a matrix
 * @throws UnsupportedError when its dtype has no conversion to f32
 */
export async function readMatrix(
  source: ByteSource,
  file: SafetensorsFile,
  name: string,
  options?: ReadOptions,
): Promise<FloatMatrix> {
  const info = requireTensor(source, file, name);
  const { dtype, shape } = info;
  if (shape.length !== 2) {
    throw new InvalidArgumentError(
      'checkpoint',
      `${source.name}: tensor ${quote(name)} has shape ${showShape(shape)}; a matrix has two dimensions`,
    );
  }
  // Before the read: a quantized tensor may be gigabytes.
  requireFloatDtype(dtype);
  const values = toFloat32(await readTensorBytes(source, info, options), dtype);
  const [rows, cols] = shape as [number, number];
  return { name, rows, cols, values };
}

/** How many names an error about an unknown one suggests. */
const SUGGESTIONS = 3;

function requireTensor(source: ByteSource, file: SafetensorsFile, name: string): TensorInfo {
  const info = file.tensors.get(name);
  if (info) return info;
  const remedy = suggestNames(name, [...file.tensors.keys()]);
  throw new InvalidArgumentError('checkpoint', `${source.name}: no tensor ${quote(name)}; ${remedy}`);
}

/** What an error about an unknown name says of those that there are. */
export function suggestNames(name: string, names: readonly string[]): string {
  const near = nearNames(name, names);
  return near.length > 0 ? `near it: ${near.map(quote).join(', ')}` : `none of its ${names.length} is near`;
}

/** The names that share the most letter pairs with `name`, best first. */
function nearNames(name: string, names: Iterable<string>): string[] {
  const wanted = letterPairs(name);
  return Array.from(names, (candidate) => {
    const pairs = letterPairs(candidate);
    let shared = 0;
    for (const pair of wanted) if (pairs.has(pair)) shared++;
    return { candidate, likeness: (2 * shared) / (wanted.size + pairs.size) };
  })
    .filter(({ likeness }) => likeness >= 0.5)
    .sort((a, b) => b.likeness - a.likeness)
    .slice(0, SUGGESTIONS)
    .map(({ candidate }) => candidate);
}

function letterPairs(text: string): Set<string> {
  const pairs = new Set<string>();
  for (let i = 0; i + 1 < text.length; i++) pairs.add(text.slice(i, i + 2).toLowerCase());
  return pairs;
}
