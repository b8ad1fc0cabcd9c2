/** The page's device, and its end. */
import { DeviceLostError, type Gpu, requestGpu } from '../src/index.js';

export interface Session {
  readonly gpu: Gpu;
  /** Resolves when the device is lost, to the error that says so. */
  readonly lost: Promise<DeviceLostError>;
  readonly lostError: DeviceLostError | undefined;
}

/** @throws UnsupportedError where there is no WebGPU or no adapter */
export async function openSession(): Promise<Session> {
  const gpu = await requestGpu();
  const session: { gpu: Gpu; lost: Promise<DeviceLostError>; lostError: DeviceLostError | undefined } = {
    gpu,
    lostError: undefined,
    lost: gpu.device.lost.then(({ reason, message }) => {
      const why = message || (reason === 'destroyed' ? 'it was destroyed' : 'no reason was given');
      session.lostError = new DeviceLostError('demo', `the device was lost: ${why}`);
      return session.lostError;
    }),
  };
  return session;
}
