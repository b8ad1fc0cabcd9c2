/** A trained model, through the forward pass in f64: what holds for it whatever the few tokens are. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import {
  ActivationStatistics,
  componentActivations,
} from '../../../src/sensitivity/activation-statistics.js';
import { leaveOneOut } from '../../../src/sensitivity/leave-one-out.js';
import {
  type LayerError,
  OutputErrorMeter,
  outputErrorReport,
} from '../../../src/sensitivity/output-error.js';
import { HEAD, loadLlamaF64, perplexity, quantizedLinear } from '../../support/llama-f64.js';

const MODEL = fileURLToPath(new URL('../../../../shared/models/dictionary-lm/', import.meta.url));

test('components, outputs and inputs of a trained model', { timeout: 60_000 }, async (context) => {
  if (!existsSync(MODEL)) context.skip(`${MODEL} is not there`);
  const model = await loadLlamaF64(MODEL);
  const bytes = await readFile(`${MODEL}eval_tokens.u16`);
  const sequences = [0, 512].map((start) =>
    Array.from({ length: 9 }, (_, i) => bytes.readUInt16LE(2 * (start + i))),
  );
  const floor = { format: 'mxfp4', scaleRule: 'floor' } as const;
  const rules = { weights: floor, activations: floor };

  const names: string[] = [];
  // Weights are quantized once for all.
  let kept: (name: string) => boolean = () => false;
  const linear = quantizedLinear(model, { ...rules, keep: (name) => kept(name) });
  const lossWith = (keep: (name: string) => boolean) => {
    kept = keep;
    return perplexity(model.nlls(sequences, { linear }));
  };
  const report = await leaveOneOut({
    layers: model.linearNames,
    kinds: ['component'],
    evaluate: (keep, { id }) => {
      names.push(id);
      return lossWith(keep);
    },
  });
  expect(names.length).toBe(9);
  // With everything kept it is the model itself, and with a component kept what a pass without it gives.
  expect(report.reference).toBe(perplexity(model.nlls(sequences)));
  expect(report.baseline).toBe(lossWith(() => false));
  expect(report.components[5]).toMatchObject({
    component: 'up',
    value: lossWith((name) => /up_proj/.test(name)),
  });
  expect(report.components.every(({ layers }) => layers.length === 6)).toBe(true);

  const statistics = new Map<string, ActivationStatistics>();
  const errors: LayerError[] = [];
  model.nlls(sequences, {
    onLinearInput(name, x, m) {
      if (name === HEAD) return;
      const cols = x.length / m;
      const seen = new ActivationStatistics(cols);
      seen.add(x);
      statistics.set(name, seen);
      if (!name.includes('.layers.5.')) return;
      const values = model.weight(name) as Float32Array;
      const layer = { name, rows: values.length / cols, cols, values };
      const [w4a16, w4a4] = [{ weights: floor }, rules].map((how) => {
        const meter = new OutputErrorMeter(layer, how);
        meter.add(Float32Array.from(x));
        return meter.result();
      });
      // Errors of x come on top of those of w.
      expect(w4a4!.noise).toBeGreaterThan(w4a16!.noise);
      expect(w4a4!.sqnr).toBeGreaterThan(10);
      errors.push(w4a4!);
    },
  });
  expect(outputErrorReport(errors).cells.length).toBe(7);
  // As in the paper, outliers are in what the down projection is given.
  const summaries = new Map(Array.from(statistics, ([name, seen]) => [name, seen.summary()]));
  const ratios = componentActivations(summaries).map(({ component, meanRatio }) => ({
    component,
    meanRatio,
  }));
  const down = ratios.find(({ component }) => component === 'down')!.meanRatio;
  for (const { component, meanRatio } of ratios) {
    if (component !== 'down') expect(meanRatio, component).toBeLessThan(down / 2);
  }
});
