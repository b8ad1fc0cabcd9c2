import { DeviceLostError, ShaderError } from '../errors.js';
import { whileAlive } from './loss.js';
import { type ComposedShader, shaderError } from './shader.js';

const caches = new WeakMap<GPUDevice, Map<string, Promise<GPUComputePipeline>>>();

/**
 * Compute pipeline of a shader's entry point `main`, compiled once a device and text. Requests that arrive while it
 * compiles share the work; a failure is not remembered.
 * @throws ShaderError with the composed source and the lines at fault; DeviceLostError where the device is lost meanwhile
 */
export function getPipeline(device: GPUDevice, shader: ComposedShader): Promise<GPUComputePipeline> {
  let cache = caches.get(device);
  if (!cache) {
    cache = new Map();
    caches.set(device, cache);
  }
  const cached = cache.get(shader.source);
  if (cached) return cached;
  const pipeline = compile(device, shader);
  cache.set(shader.source, pipeline);
  pipeline.catch(() => cache.delete(shader.source));
  return pipeline;
}

async function compile(device: GPUDevice, shader: ComposedShader): Promise<GPUComputePipeline> {
  const alive = <T>(work: Promise<T>) => whileAlive(device, `compiling ${shader.label}`, work);
  // The scope is closed before anything is awaited, so that it catches this module's errors and no one else's.
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ label: shader.label, code: shader.source });
  const validation = device.popErrorScope();
  const [info, error] = await alive(Promise.all([module.getCompilationInfo(), validation]));
  const errors = info.messages.filter((message) => message.type === 'error');
  if (errors.length) throw shaderError(shader, errors);
  if (error) throw new ShaderError(`${shader.label}: ${error.message}`, shader.source);
  try {
    return await alive(
      device.createComputePipelineAsync({
        label: shader.label,
        layout: 'auto',
        compute: { module, entryPoint: 'main' },
      }),
    );
  } catch (cause) {
    if (cause instanceof DeviceLostError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ShaderError(`${shader.label}: no pipeline: ${reason}`, shader.source);
  }
}
