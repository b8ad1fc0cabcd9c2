/** Reads, quantizes and compares off the main thread. One request at a time; a newer one ends the one before. */
import { toFloat32 } from '../src/checkpoint/dtype.js';
import {
  type Checkpoint,
  type FloatDtype,
  InvalidArgumentError,
  type MatrixInfo,
  openCheckpoint,
} from '../src/index.js';
import {
  cropColumns,
  DISTRIBUTIONS,
  generate,
  type Matrix,
  measure,
  measuredPart,
  WAYS,
} from './accuracy-data.js';
import type { Answer, ListedMatrix, Request, Source } from './accuracy-messages.js';

/** What an answer is but for its id. */
type Body<T = Answer> = T extends Answer ? Omit<T, 'id'> : never;
type Send = (body: Body) => void;

let current: { readonly id: number; readonly abort: AbortController } | undefined;

addEventListener('message', ({ data: request }: MessageEvent<Request>) => {
  if (request.type === 'cancel') {
    if (current?.id === request.id) current.abort.abort();
    return;
  }
  current?.abort.abort();
  const abort = new AbortController();
  current = { id: request.id, abort };
  const send: Send = (body) => {
    if (!abort.signal.aborted) postMessage({ ...body, id: request.id } satisfies Answer);
  };
  const work =
    request.type === 'list'
      ? list(request.file, abort.signal, send)
      : measureAll(request.source, abort.signal, send);
  work.catch((error: unknown) => {
    const { name, message } = error instanceof Error ? error : new Error(String(error));
    send({ type: 'failed', name, message });
  });
});

async function list(file: File, signal: AbortSignal, send: Send): Promise<void> {
  const checkpoint = await openCheckpoint(file, { signal });
  const matrices: ListedMatrix[] = [
    ...checkpoint.matrices.map(({ name, shape, experts, format, producer, blockSize }) => {
      const size = blockSize === undefined ? '' : `, block ${blockSize}`;
      return {
        name,
        shape,
        experts,
        format: producer === 'float' ? format : `${format} (${producer}${size})`,
        refusal: refusalOf({ producer, shape }),
      };
    }),
    ...checkpoint.refused.map(({ name, producer, error }) => ({
      name,
      shape: [0, 0] as const,
      format: producer,
      refusal: error.message,
    })),
  ];
  send({ type: 'listed', container: checkpoint.container, matrices });
}

function refusalOf({ producer, shape }: Pick<MatrixInfo, 'producer' | 'shape'>): string | undefined {
  if (producer !== 'float') return 'already FP4: there are no floats to compare with';
  return measuredPart(...shape).cols === 0 ? 'has fewer columns than a block of 32' : undefined;
}

async function measureAll(source: Source, signal: AbortSignal, send: Send): Promise<void> {
  send({ type: 'progress', done: 0, total: WAYS.length, label: 'the data' });
  await breathe(signal);
  const { matrix, note } =
    source.kind === 'generated'
      ? {
          matrix: generate(source.distribution, source.seed),
          note: `${DISTRIBUTIONS[source.distribution].about} Seed ${source.seed}.`,
        }
      : await readPart(await openCheckpoint(source.file, { signal }), source.matrix, signal);
  send({ type: 'data', rows: matrix.rows, cols: matrix.cols, note });
  for (const [done, way] of WAYS.entries()) {
    send({ type: 'progress', done, total: WAYS.length, label: way.label });
    await breathe(signal);
    send({ type: 'measured', result: measure(matrix, way) });
  }
  send({ type: 'done' });
}

/** Lets a message in, which may be to stop. */
async function breathe(signal: AbortSignal): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve));
  signal.throwIfAborted();
}

/** The first rows of a matrix of floats; no other bytes are read. */
async function readPart(
  checkpoint: Checkpoint,
  name: string,
  signal: AbortSignal,
): Promise<{ matrix: Matrix; note: string }> {
  const info = checkpoint.matrices.find((candidate) => candidate.name === name);
  const tensor = checkpoint.tensors.find((candidate) => candidate.name === info?.tensors[0]);
  const refusal = info && refusalOf(info);
  if (!info || !tensor || refusal) {
    throw new InvalidArgumentError('accuracy', `matrix ${name} ${refusal ?? 'is not there'}; choose another`);
  }
  const [storedRows, storedCols] = info.shape;
  const { rows, cols } = measuredPart(storedRows, storedCols);
  const rowBytes = tensor.byteLength / ((info.experts ?? 1) * storedRows);
  const bytes = await checkpoint.read(tensor, { start: 0, end: rows * rowBytes, signal });
  const values = cropColumns(toFloat32(bytes, info.format as FloatDtype), storedCols, cols);
  const parts = [
    rows < storedRows && `the first ${rows} of ${storedRows} rows`,
    cols < storedCols && `the first ${cols} of ${storedCols} columns`,
    info.experts !== undefined && `expert 0 of ${info.experts}`,
  ].filter((part) => part !== false);
  const note = `${name} of ${checkpoint.name}: ${parts.join(', ') || 'all of it'}.`;
  return { matrix: { rows, cols, values }, note };
}
