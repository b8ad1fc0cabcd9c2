/** A thread that computes what quantizers are compared with. */
import { parentPort } from 'node:worker_threads';
import { type QuantizerTask, quantizerReference } from '../gemm/quantizer-selftest.js';

parentPort!.on('message', (task: QuantizerTask) => {
  const result = quantizerReference(task);
  const { codes, scales, macroScales } = result.expected;
  const arrays = [result.values, codes, scales, ...(macroScales ? [macroScales] : [])];
  parentPort!.postMessage(
    result,
    arrays.map(({ buffer }) => buffer as ArrayBuffer),
  );
});
