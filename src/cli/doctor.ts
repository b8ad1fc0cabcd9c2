import Table from 'cli-table3';
import { TIER_NEEDS, TIERS, type Tier } from '../gpu/caps.js';
import { adapterName, type GpuOptions, openGpu } from './gpu-options.js';

/** What a missing tier would bring, and how a user of this host may get it. */
const TIER_REMEDIES: Readonly<Record<Tier, string>> = {
  base: '',
  subgroups: 'faster reductions; newer driver or browser',
  dp4a: 'int8 dot products; newer browser (not in Safari or Firefox)',
  f16: 'f16 operands; on NVIDIA with Vulkan only with --experimental',
  'f16-products': 'decode with products of halves',
  'matrix-f16': 'tensor cores on f16; --experimental, and a GPU that has them',
  'matrix-i8': 'tensor cores on int8; --experimental, and a GPU that has them',
};

export async function doctor(options: GpuOptions): Promise<void> {
  using gpu = await openGpu(options);
  const { adapterInfo } = gpu;
  const [probe, caps] = await Promise.all([gpu.probe(), gpu.usableCaps()]);
  if (options.json) {
    console.log(JSON.stringify({ adapterInfo, caps, probe }, null, 2));
    return;
  }
  console.log(`adapter      ${adapterName(gpu)}`);
  console.log(`vendor       ${[adapterInfo.vendor, adapterInfo.architecture].filter(Boolean).join(', ')}`);
  if (caps.subgroupMinSize)
    console.log(`subgroups    ${caps.subgroupMinSize} to ${caps.subgroupMaxSize} lanes`);
  console.log(`features     ${caps.features.join(', ')}`);
  for (const { componentType, resultComponentType, M, N, K } of caps.subgroupMatrixConfigs) {
    console.log(`matrix       ${M} × ${N} × ${K}, ${componentType} → ${resultComponentType}`);
  }

  if (probe.matrixDialect && probe.matrixDialect !== 'template') {
    console.log(
      'matrix       this WebGPU speaks an older dialect of subgroup matrices than the kernels; update it',
    );
  }

  const tiers = new Table({ head: ['tier', 'needs', 'here', 'if missing'], style: { head: [], border: [] } });
  for (const tier of TIERS) {
    const present = caps.tiers.includes(tier);
    tiers.push([tier, TIER_NEEDS[tier], present ? 'yes' : 'no', present ? '' : TIER_REMEDIES[tier]]);
  }
  console.log(tiers.toString());

  const limits = new Table({
    head: ['limit', 'value'],
    colAligns: ['left', 'right'],
    style: { head: [], border: [] },
  });
  for (const [name, value] of Object.entries(caps.limits)) limits.push([name, value.toLocaleString('en')]);
  console.log(limits.toString());
  if (!caps.timestampQuery)
    console.log('no timestamp-query: times are measured on the CPU and include submission');
}
