import Table from 'cli-table3';
import type { Checkpoint, MatrixInfo } from '../checkpoint/open.js';
import { openModel } from './open-model.js';
import { megabytes } from './progress.js';

export interface InspectOptions {
  json?: boolean;
}

/** Matrices of one producer, in one format. */
interface Group {
  producer: string;
  format: string;
  blockSize: number | undefined;
  matrices: number;
  weights: number;
  bytes: number;
}

export async function inspect(path: string, options: InspectOptions): Promise<void> {
  await using checkpoint = await openModel(path);
  print(checkpoint, options);
}

const weightsOf = ({ shape: [rows, cols], experts = 1 }: MatrixInfo) => experts * rows * cols;

/** By producer, format and block, in the order of the file. */
function groupMatrices(matrices: readonly MatrixInfo[]): Group[] {
  const groups = new Map<string, Group>();
  for (const matrix of matrices) {
    const { producer, format, blockSize } = matrix;
    const key = `${producer} ${format} ${blockSize}`;
    const group = groups.get(key) ?? { producer, format, blockSize, matrices: 0, weights: 0, bytes: 0 };
    group.matrices++;
    group.weights += weightsOf(matrix);
    group.bytes += matrix.bytes;
    groups.set(key, group);
  }
  return [...groups.values()];
}

function print(checkpoint: Checkpoint, { json }: InspectOptions): void {
  const { name, container, tensors, matrices, refused, metadata } = checkpoint;
  const groups = groupMatrices(matrices);
  if (json) {
    const reasons = refused.map((r) => ({ name: r.name, producer: r.producer, reason: r.error.message }));
    const text = {
      name,
      container,
      metadata: Object.fromEntries(metadata),
      groups,
      matrices,
      refused: reasons,
    };
    console.log(JSON.stringify(text, null, 2));
    return;
  }
  const files = new Set(tensors.map(({ file }) => file)).size;
  const bytes = tensors.reduce((sum, { byteLength }) => sum + byteLength, 0);
  console.log(
    `${name}: ${container}, ${files} file${files === 1 ? '' : 's'}, ${tensors.length} tensors, ${megabytes(bytes)}`,
  );

  const style = { head: [], border: [] };
  const summary = new Table({
    head: ['producer', 'format', 'block', 'matrices', 'weights', 'MB', 'bits a weight'],
    colAligns: ['left', 'left', 'right', 'right', 'right', 'right', 'right'],
    style,
  });
  for (const g of groups) {
    summary.push([
      g.producer,
      g.format,
      g.blockSize ?? '',
      g.matrices,
      g.weights.toLocaleString('en'),
      (g.bytes / 1e6).toFixed(1),
      ((8 * g.bytes) / g.weights).toFixed(3),
    ]);
  }
  console.log(summary.toString());

  const all = new Table({
    head: ['matrix', 'producer', 'format', 'experts', 'rows × cols', 'MB'],
    colAligns: ['left', 'left', 'left', 'right', 'right', 'right'],
    // A model has hundreds: no rules between them.
    style: { ...style, compact: true },
  });
  for (const m of matrices) {
    const size = (m.bytes / 1e6).toFixed(m.bytes < 1e7 ? 3 : 1);
    all.push([m.name, m.producer, m.format, m.experts ?? '', m.shape.join(' × '), size]);
  }
  console.log(all.toString());
  for (const { name: refusedName, producer, error } of refused) {
    console.log(`cannot be loaded: ${refusedName} (${producer}): ${error.message}`);
  }
}
