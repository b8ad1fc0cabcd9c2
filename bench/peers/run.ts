/** Peers and the library on the same chains of layers, one after the other on one GPU. */
import type { Gpu } from '../../src/gpu/gpu.js';
import { type CaseSelection, parseShape } from '../cases.js';
import type { PeerRow } from '../schema.js';
import { mergeShapes } from '../shapes.js';
import { firstLine, GPU_TIMING, layerCount, SOFTWARE_TIMING } from './chain.js';
import { measureOnnxruntime, type Onnxruntime, type PeerCase } from './onnxruntime.js';
import { measureOwn } from './own.js';

export interface PeerOptions extends Pick<CaseSelection, 'shapes' | 'm'> {
  /** Seconds after which nothing is begun. */
  readonly timeLimit?: number | undefined;
}

/** Where results go as they are made. */
export interface PeerReport {
  row(row: PeerRow): void;
  progress(done: number, total: number, what: string): void;
}

const DEFAULT_SHAPES = ['4096x4096'];
const DEFAULT_M = [1, 16, 128, 512, 2048];
const SOFTWARE_SHAPES = ['128x128'];
const SOFTWARE_M = [1, 5];

/**
 * What goes wrong with one of them is a note, and the others are measured all the same.
 * @param loadPeer gives undefined where the peer is not installed: the library is measured alone
 * @param software whether speed is not judged
 * @returns whether there was time for all
 */
export async function runPeers(
  gpu: Gpu,
  loadPeer: () => Promise<Onnxruntime | undefined>,
  { shapes, m, timeLimit }: PeerOptions,
  software: boolean,
  report: PeerReport,
): Promise<boolean> {
  const deadline = performance.now() + (timeLimit ?? Number.POSITIVE_INFINITY) * 1000;
  const late = () => performance.now() >= deadline;
  const timing = software ? SOFTWARE_TIMING : GPU_TIMING;
  const wanted = (shapes ?? (software ? SOFTWARE_SHAPES : DEFAULT_SHAPES)).flatMap(parseShape);
  const sizes = mergeShapes(wanted.map((shape) => ({ ...shape, name: '' })));
  let done = 0;
  for (const { n, k } of sizes) {
    const c: PeerCase = {
      n,
      k,
      layers: layerCount({ n, k }, software),
      m: m ?? (software ? SOFTWARE_M : DEFAULT_M),
    };
    const attempt = async (name: string, measure: () => Promise<void>) => {
      report.progress(done++, 2 * sizes.length, `${name}, layers of ${n}x${k}`);
      try {
        if (!late()) await measure();
      } catch (error) {
        const note = `fails: ${firstLine(error)}`;
        report.row({ name, version: '', m: c.m[0]!, n, k, layers: c.layers, note });
      }
    };
    await attempt('fp4-webgpu', () => measureOwn(gpu, c, timing, report.row, late));
    await attempt('onnxruntime', async () => {
      const ort = await loadPeer();
      if (ort) await measureOnnxruntime(ort, c, timing, report.row, late);
    });
  }
  return !late();
}
