/** Peers and the library on the same chains of layers, one after the other on one GPU. */
import type { Gpu } from '../../src/gpu/gpu.js';
import { type CaseSelection, parseShape } from '../cases.js';
import type { PeerRow } from '../schema.js';
import { mergeShapes } from '../shapes.js';
import { GPU_TIMING, layerCount, SOFTWARE_TIMING } from './chain.js';
import { measureOnnxruntime, type Onnxruntime, type PeerCase } from './onnxruntime.js';
import { measureOwn } from './own.js';

export interface PeerOptions extends Pick<CaseSelection, 'shapes' | 'm'> {
  /** Seconds after which nothing is begun. */
  readonly timeLimit?: number | undefined;
}

const DEFAULT_SHAPES = ['4096x4096'];
const DEFAULT_M = [1, 16, 128, 512, 2048];
const SOFTWARE_SHAPES = ['128x128'];
const SOFTWARE_M = [1, 5];

/**
 * @param ort undefined where it is not installed: the library is measured alone
 * @param software whether speed is not judged
 * @returns whether there was time for all
 */
export async function runPeers(
  gpu: Gpu,
  ort: Onnxruntime | undefined,
  { shapes, m, timeLimit }: PeerOptions,
  software: boolean,
  tell: (row: PeerRow) => void,
): Promise<boolean> {
  const deadline = performance.now() + (timeLimit ?? Number.POSITIVE_INFINITY) * 1000;
  const late = () => performance.now() >= deadline;
  const timing = software ? SOFTWARE_TIMING : GPU_TIMING;
  const wanted = (shapes ?? (software ? SOFTWARE_SHAPES : DEFAULT_SHAPES)).flatMap(parseShape);
  for (const { n, k } of mergeShapes(wanted.map((shape) => ({ ...shape, name: '' })))) {
    const c: PeerCase = {
      n,
      k,
      layers: layerCount({ n, k }, software),
      m: m ?? (software ? SOFTWARE_M : DEFAULT_M),
    };
    await measureOwn(gpu, c, timing, tell, late);
    if (ort) await measureOnnxruntime(ort, c, timing, tell, late);
  }
  return !late();
}
