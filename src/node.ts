/** fp4-webgpu/node: what only Node.js has, a WebGPU implementation to load (Dawn) and files to read. */
import { UnsupportedError } from './errors.js';
import { type Gpu, type RequestGpuOptions, requestGpu } from './gpu/gpu.js';

export { openFile } from './checkpoint/file-source.js';

export interface DawnOptions {
  /** 'vulkan', 'metal', 'd3d12', …; Dawn's choice by default. */
  backend?: string | undefined;
  /** Part of the adapter's name, where a machine has several. */
  adapter?: string | undefined;
  /**
   * Enables what a stock browser page does not get: subgroup matrices (`allow_unsafe_apis`) and, on NVIDIA, f16
   * (`vulkan_enable_f16_on_nvidia`, which fails some conformance tests). False by default.
   */
  experimental?: boolean | undefined;
  /** Further Dawn toggles to enable or disable. */
  enable?: readonly string[] | undefined;
  disable?: readonly string[] | undefined;
}

/**
 * A WebGPU entry point from Dawn (npm package `webgpu`, an optional peer dependency). Timestamps are not quantized.
 * Node stays alive while the returned object is referenced.
 * @throws UnsupportedError where the package is not installed
 */
export async function createDawn(options: DawnOptions = {}): Promise<GPU> {
  let dawn: { create(flags: string[]): GPU };
  try {
    dawn = await import('webgpu');
  } catch (cause) {
    throw new UnsupportedError(
      'node',
      "the package 'webgpu' (Dawn for Node) cannot be loaded; npm install webgpu",
      {
        cause,
      },
    );
  }
  const enable = [
    ...(options.experimental ? ['allow_unsafe_apis', 'vulkan_enable_f16_on_nvidia'] : []),
    ...(options.enable ?? []),
  ];
  const disable = ['timestamp_quantization', ...(options.disable ?? [])];
  return dawn.create([
    ...(options.backend ? [`backend=${options.backend}`] : []),
    ...(options.adapter ? [`adapter=${options.adapter}`] : []),
    // One comma list a key: a repeated key replaces the earlier one.
    ...(enable.length ? [`enable-dawn-features=${enable.join(',')}`] : []),
    `disable-dawn-features=${disable.join(',')}`,
  ]);
}

/** {@link requestGpu} on Dawn. @throws UnsupportedError as both do */
export async function requestNodeGpu(
  options: DawnOptions & Omit<RequestGpuOptions, 'gpu'> = {},
): Promise<Gpu> {
  return requestGpu({ ...options, gpu: await createDawn(options) });
}
