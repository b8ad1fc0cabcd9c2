/**
 * Base of every error this library throws on purpose. The message reads `module: value, rule; remedy`, e.g.
 * `quantize: cols = 100 is not a multiple of the mxfp4 block 32; pad the matrix or choose another blockSize`.
 */
export class Fp4Error extends Error {
  override name = 'Fp4Error';
  /** The part of the library that refused: `quantize`, `gemm`, `safetensors`, … */
  readonly module: string;

  constructor(module: string, message: string, options?: ErrorOptions) {
    super(`${module}: ${message}`, options);
    this.module = module;
  }
}

/** An argument has a value, a length or a combination of options that the function does not take. */
export class InvalidArgumentError extends Fp4Error {
  override name = 'InvalidArgumentError';
}

/** A file is malformed, truncated or says something untrue about itself. */
export class CheckpointError extends Fp4Error {
  override name = 'CheckpointError';
}

/** The device, the adapter or the host lacks something that the request needs. */
export class UnsupportedError extends Fp4Error {
  override name = 'UnsupportedError';
}

/**
 * The device was lost (its driver restarted, its adapter went away, it was destroyed) while work on it was pending. Its
 * buffers are gone: request a new device and rebuild from each QuantizedMatrix.
 */
export class DeviceLostError extends Fp4Error {
  override name = 'DeviceLostError';
}

/** A composed shader did not compile; `source` is the composed text, and the message points into it. */
export class ShaderError extends Fp4Error {
  override name = 'ShaderError';
  readonly source: string;

  constructor(message: string, source: string) {
    super('shader', message);
    this.source = source;
  }
}
