/** The benchmark in Node, on Dawn. */
import { createRequire } from 'node:module';
import { type DawnOptions, requestNodeGpu } from '../src/node.js';
import { loadOnnxruntimeNode } from './peers/locate.js';
import { type Progress, type RunOptions, run } from './run.js';
import type { Environment } from './schema.js';

declare const __COMMIT__: string;

export type NodeHostOptions = Pick<DawnOptions, 'backend' | 'adapter' | 'experimental' | 'enable'>;

export async function runOnNode(
  host: NodeHostOptions,
  options: RunOptions,
  tell: (progress: Progress) => void,
): Promise<void> {
  using gpu = await requestNodeGpu(host);
  const experimental = host.experimental ?? false;
  const environment: Environment = {
    host: 'node',
    experimental,
    adapter: gpu.adapterInfo,
    driver: gpu.adapterInfo.description,
    hostVersion: process.version,
    dawn: dawnVersion(),
    platform: `${process.platform} ${process.arch}`,
    flags: [
      ...(host.backend ? [`backend=${host.backend}`] : []),
      ...(experimental ? ['enable allow_unsafe_apis', 'enable vulkan_enable_f16_on_nvidia'] : []),
      ...(host.enable ?? []).map((toggle) => `enable ${toggle}`),
      'disable timestamp_quantization',
    ],
    tiers: (await gpu.usableCaps()).tiers,
    commit: __COMMIT__,
    date: new Date().toISOString(),
  };
  tell({ kind: 'environment', environment });
  await run(gpu, options, tell, async () => loadOnnxruntimeNode());
}

function dawnVersion(): string {
  try {
    return (createRequire(import.meta.url)('webgpu/package.json') as { version: string }).version;
  } catch {
    return 'unknown';
  }
}
