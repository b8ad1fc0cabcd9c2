/** What a device can do, as plain data: everything a plan depends on. */

export interface SubgroupMatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

export interface AdapterInfo {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
  readonly isFallbackAdapter: boolean;
  readonly subgroupMinSize?: number;
  readonly subgroupMaxSize?: number;
  readonly subgroupMatrixConfigs: readonly SubgroupMatrixConfig[];
}

/** Limits that kernels and weights run into. */
export const LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxStorageBuffersPerShaderStage',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupSizeY',
  'maxComputeWorkgroupsPerDimension',
] as const;
export type Limits = Readonly<Record<(typeof LIMITS)[number], number>>;

/** Capability tiers, from what every WebGPU device has upwards; a device can have any set of them. */
export const TIERS = ['base', 'subgroups', 'dp4a', 'f16', 'f16-products', 'matrix-f16', 'matrix-i8'] as const;
export type Tier = (typeof TIERS)[number];

/** What each tier needs, for people. */
export const TIER_NEEDS: Readonly<Record<Tier, string>> = {
  base: 'core WebGPU',
  subgroups: 'feature subgroups',
  dp4a: 'WGSL packed_4x8_integer_dot_product',
  f16: 'feature shader-f16',
  'f16-products': 'feature shader-f16, and products that keep subnormals',
  'matrix-f16': 'subgroup matrices f16 × f16 → f32',
  'matrix-i8': 'subgroup matrices i8 × i8 → i32',
};

export interface Caps {
  readonly features: readonly string[];
  readonly limits: Limits;
  readonly tiers: readonly Tier[];
  readonly timestampQuery: boolean;
  readonly subgroupMinSize?: number;
  readonly subgroupMaxSize?: number;
  readonly subgroupMatrixConfigs: readonly SubgroupMatrixConfig[];
  /**
   * Cores (multiprocessors, compute units) that plans share work out to. WebGPU does not tell: `readCaps` guesses by the
   * vendor, and who knows better may say. Those of a large GPU where absent.
   */
  readonly cores?: number;
}

/** Copies adapter information by name: its fields are prototype getters, which spreading and JSON lose. */
export function copyAdapterInfo(info: GPUAdapterInfo | undefined): AdapterInfo {
  const extended = info as
    | (GPUAdapterInfo & { subgroupMatrixConfigs?: Iterable<SubgroupMatrixConfig> })
    | undefined;
  return {
    vendor: info?.vendor ?? '',
    architecture: info?.architecture ?? '',
    device: info?.device ?? '',
    description: info?.description ?? '',
    isFallbackAdapter: info?.isFallbackAdapter ?? false,
    ...(info?.subgroupMinSize && { subgroupMinSize: info.subgroupMinSize }),
    ...(info?.subgroupMaxSize && { subgroupMaxSize: info.subgroupMaxSize }),
    subgroupMatrixConfigs: [...(extended?.subgroupMatrixConfigs ?? [])].map(
      ({ componentType, resultComponentType, M, N, K }) => ({ componentType, resultComponentType, M, N, K }),
    ),
  };
}

/** Whether an adapter is a CPU in disguise. */
export function isSoftware({ isFallbackAdapter, description, device }: AdapterInfo): boolean {
  return isFallbackAdapter || /swiftshader|llvmpipe|lavapipe/i.test(`${description} ${device}`);
}

/** By vendors whose GPUs mostly share a chip with a CPU. */
const FEW_CORES: Readonly<Record<string, number>> = {
  apple: 16,
  intel: 8,
  qualcomm: 6,
  arm: 6,
  'img-tec': 4,
  samsung: 4,
};
const SOFTWARE_CORES = 4;

export function readCaps(device: GPUDevice, info: AdapterInfo, languageFeatures: ReadonlySet<string>): Caps {
  const features = [...device.features].sort();
  const has = (feature: string) => features.includes(feature);
  const configs = has('chromium-experimental-subgroup-matrix') ? info.subgroupMatrixConfigs : [];
  const matrix = (component: string, result: string) =>
    configs.some((c) => c.componentType === component && c.resultComponentType === result);
  const cores = isSoftware(info) ? SOFTWARE_CORES : FEW_CORES[info.vendor];
  const present: Record<Tier, boolean> = {
    base: true,
    subgroups: has('subgroups'),
    dp4a: languageFeatures.has('packed_4x8_integer_dot_product'),
    f16: has('shader-f16'),
    'f16-products': has('shader-f16'),
    'matrix-f16': has('shader-f16') && matrix('f16', 'f32'),
    'matrix-i8': matrix('i8', 'i32'),
  };
  return {
    features,
    limits: Object.fromEntries(LIMITS.map((name) => [name, device.limits[name]])) as Limits,
    tiers: TIERS.filter((tier) => present[tier]),
    timestampQuery: has('timestamp-query'),
    ...(info.subgroupMinSize && { subgroupMinSize: info.subgroupMinSize }),
    ...(info.subgroupMaxSize && { subgroupMaxSize: info.subgroupMaxSize }),
    subgroupMatrixConfigs: configs,
    ...(cores && { cores }),
  };
}
