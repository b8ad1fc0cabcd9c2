import type { Caps, Gpu } from '../../src/index.js';

/** The same device, of which plans see other caps. */
export const withCaps = (gpu: Gpu, mask: (caps: Caps) => Caps): Gpu =>
  Object.create(gpu, {
    caps: { value: mask(gpu.caps) },
    usableCaps: { value: async () => mask(await gpu.usableCaps()) },
  });
