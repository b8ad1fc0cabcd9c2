import { expect, test } from 'vitest';
import { usableCaps } from '../../src/gpu/probe.js';
import { adapterId, useGpu } from '../support/gpu.js';

const context = useGpu();

test('the probe finds out what is left open, and only where there is something to ask', async () => {
  const { caps } = context.gpu;
  const probe = await context.gpu.probe();
  expect(probe.f16SubnormalProducts === undefined).toBe(!caps.features.includes('shader-f16'));
  const matrices = caps.features.includes('chromium-experimental-subgroup-matrix');
  expect(probe.matrixDialect).toBe(matrices ? 'template' : undefined);
  if (adapterId() === 'lavapipe')
    expect(probe).toEqual({
      f16Subnormals: true,
      f16SubnormalProducts: true,
      matrixDialect: 'template',
      immediates: true,
    });
});

test('tiers that a probe refutes are not planned with', async () => {
  const { caps } = context.gpu;
  const all = { ...caps, tiers: ['base', 'f16', 'f16-products', 'matrix-f16', 'matrix-i8'] as const };
  const tiers = (probe: Partial<Parameters<typeof usableCaps>[1]>) =>
    usableCaps(all, { f16Subnormals: true, immediates: true, ...probe }).tiers;
  expect(tiers({ matrixDialect: 'template', f16SubnormalProducts: true })).toEqual(all.tiers);
  expect(tiers({ matrixDialect: 'template', f16SubnormalProducts: false })).toEqual([
    'base',
    'f16',
    'matrix-i8',
  ]);
  expect(tiers({ matrixDialect: 'boolean', f16SubnormalProducts: true })).toEqual([
    'base',
    'f16',
    'f16-products',
  ]);
  expect(tiers({})).toEqual(['base', 'f16']);
});
