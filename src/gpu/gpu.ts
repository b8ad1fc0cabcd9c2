import { InvalidArgumentError, UnsupportedError } from '../errors.js';
import { type AdapterInfo, type Caps, copyAdapterInfo, readCaps } from './caps.js';
import { type Probe, probeDevice, usableCaps } from './probe.js';
import type { UniformSource } from './uniform-data.js';

/** Features that some kernel or measurement uses; requested where the adapter has them. */
const USEFUL_FEATURES = [
  'timestamp-query',
  'subgroups',
  'subgroup-size-control',
  'shader-f16',
  'chromium-experimental-subgroup-matrix',
];

/** Limits raised to what the adapter offers; the rest stays at WebGPU's defaults. */
const RAISED_LIMITS = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
  'maxComputeWorkgroupSizeY',
] as const;

/** A device and what is known about it. Owns the device only where {@link requestGpu} made it. */
export class Gpu {
  readonly device: GPUDevice;
  readonly adapterInfo: AdapterInfo;
  readonly caps: Caps;
  /** The entry point of a device that is owned: Dawn in Node ends with it, and the process lives as long. */
  #owner: GPU | undefined;

  /** @internal Use {@link requestGpu} or {@link gpuFromDevice}. */
  constructor(device: GPUDevice, adapterInfo: AdapterInfo, caps: Caps, owner?: GPU) {
    this.device = device;
    this.adapterInfo = adapterInfo;
    this.caps = caps;
    this.#owner = owner;
  }

  /** What the device's arithmetic does where WGSL leaves it open; found out once a device. */
  probe(): Promise<Probe> {
    return probeDevice(this.device);
  }

  /** The capabilities without tiers that the probe found unusable: what `createGemm` plans with. */
  async usableCaps(): Promise<Caps> {
    return usableCaps(this.caps, await this.probe());
  }

  /** Where kernels find the few words they are given beside their buffers. */
  async uniformSource(): Promise<UniformSource> {
    return (await this.probe()).immediates ? 'immediates' : 'buffer';
  }

  /** Destroys the device if this object owns it; does nothing for a borrowed one or the second time. */
  destroy(): void {
    if (this.#owner) this.device.destroy();
    this.#owner = undefined;
  }

  [Symbol.dispose](): void {
    this.destroy();
  }
}

export interface RequestGpuOptions {
  /** Entry point; `navigator.gpu` by default. In Node pass one made by `createDawn` of `fp4-webgpu/node`. */
  gpu?: GPU | undefined;
  /** 'high-performance' by default. */
  powerPreference?: GPUPowerPreference | undefined;
  /** Features the caller cannot do without, besides those the library asks for where they exist. */
  requiredFeatures?: Iterable<GPUFeatureName> | undefined;
}

/**
 * Requests a device with every feature and limit the kernels can use.
 * @throws UnsupportedError where there is no WebGPU, no adapter, or a required feature is missing
 */
export async function requestGpu(options: RequestGpuOptions = {}): Promise<Gpu> {
  const entry = options.gpu ?? globalThis.navigator?.gpu;
  if (!entry) {
    throw new UnsupportedError(
      'gpu',
      "this host has no WebGPU (navigator.gpu is missing); use a browser that has it, or in Node requestNodeGpu of 'fp4-webgpu/node'",
    );
  }
  const adapter = await entry
    .requestAdapter({ powerPreference: options.powerPreference ?? 'high-performance' })
    .catch((cause: Error) => {
      // Dawn in Node does not resolve to null where it has no adapter of the backend or name that it was given.
      throw new UnsupportedError('gpu', `WebGPU found no adapter: ${cause.message}`, { cause });
    });
  if (!adapter)
    throw new UnsupportedError('gpu', 'WebGPU found no adapter; check the driver and its blocklist');

  const required = [...(options.requiredFeatures ?? [])];
  const missing = required.filter((feature) => !adapter.features.has(feature));
  if (missing.length) {
    throw new UnsupportedError('gpu', `the adapter ${describe(adapter.info)} lacks ${missing.join(', ')}`);
  }
  const useful = USEFUL_FEATURES.filter((feature) => adapter.features.has(feature)) as GPUFeatureName[];
  const device = await adapter.requestDevice({
    label: 'fp4-webgpu',
    requiredFeatures: [...new Set([...required, ...useful])],
    requiredLimits: Object.fromEntries(RAISED_LIMITS.map((name) => [name, adapter.limits[name]])),
  });
  const info = copyAdapterInfo(adapter.info);
  return new Gpu(device, info, readCaps(device, info, entry.wgslLanguageFeatures ?? new Set()), entry);
}

/**
 * Wraps a device that the caller owns; kernels are chosen from the features and limits it was made with.
 * @param adapterInfo says what the device does not about its adapter (subgroup sizes and matrices);
 * `device.adapterInfo` by default
 * @param languageFeatures `gpu.wgslLanguageFeatures` of the device's entry point; `navigator.gpu`'s by default
 */
export function gpuFromDevice(
  device: GPUDevice,
  adapterInfo?: GPUAdapterInfo,
  languageFeatures: ReadonlySet<string> = globalThis.navigator?.gpu?.wgslLanguageFeatures ?? new Set(),
): Gpu {
  if (!(device?.features && device.limits && device.queue)) {
    throw new InvalidArgumentError('gpu', 'gpuFromDevice needs a GPUDevice');
  }
  const info = copyAdapterInfo(adapterInfo ?? device.adapterInfo);
  return new Gpu(device, info, readCaps(device, info, languageFeatures));
}

function describe(info: GPUAdapterInfo): string {
  return [info.vendor, info.description || info.device || info.architecture].filter(Boolean).join(' ');
}
