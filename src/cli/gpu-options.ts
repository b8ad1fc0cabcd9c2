import { isSoftware } from '../gpu/caps.js';
import type { Gpu } from '../gpu/gpu.js';
import { type DawnOptions, requestNodeGpu } from '../node.js';

export interface GpuOptions {
  backend?: string;
  adapter?: string;
  experimental?: boolean;
  json?: boolean;
}

export function openGpu({ backend, adapter, experimental }: GpuOptions): Promise<Gpu> {
  const options: DawnOptions = { backend, adapter, experimental };
  return requestNodeGpu(options);
}

/** The adapter in a few words; says loudly when it is no GPU. */
export function adapterName(gpu: Gpu): string {
  const { description, device, vendor } = gpu.adapterInfo;
  return `${description || device || vendor || 'unknown adapter'}${isSoftware(gpu.adapterInfo) ? ' (software, not a GPU)' : ''}`;
}
