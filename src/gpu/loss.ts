/**
 * A lost device, told from other failures.
 *
 * WebGPU says twice that a device is gone: `device.lost` resolves, and what is pending on it rejects, resolves to nothing
 * of use, or does neither. In browsers the two come through different queues, so a rejection can be there long before the
 * loss. Whatever awaits a device does it through {@link whileAlive}, which waits for the one where it has the other.
 */
import { DeviceLostError, Fp4Error } from '../errors.js';

type OnLoss = (info: GPUDeviceLostInfo) => void;

interface State {
  info?: GPUDeviceLostInfo;
  /** Work that is pending. */
  readonly pending: Set<OnLoss>;
}

/**
 * How long a failure may wait for the device to say that it was lost, in ms. Chromium takes up to a second when its GPU
 * process ends; only failures wait, and only those that a loss could be the cause of.
 */
const LOSS_GRACE = 2000;

const states = new WeakMap<GPUDevice, State>();

/** One reaction a device, however many ask: its promise lives as long as it does, and would keep all of them. */
function watch(device: GPUDevice): State {
  let state = states.get(device);
  if (!state) {
    const fresh: State = { pending: new Set() };
    states.set(device, fresh);
    // A borrowed device may be a stand-in without the promise.
    void device.lost?.then((info) => {
      fresh.info = info;
      for (const onLoss of [...fresh.pending]) onLoss(info);
    });
    state = fresh;
  }
  return state;
}

function lostError(what: string, { reason, message }: GPUDeviceLostInfo, cause?: unknown): DeviceLostError {
  return new DeviceLostError(
    'gpu',
    `${what}: the device was lost${reason === 'destroyed' ? ' (it was destroyed)' : ''}: ${message || 'no reason given'}; ` +
      'request a new device and rebuild weights and Gemms on it from each QuantizedMatrix',
    { cause },
  );
}

/** Whether it may turn out that a loss was the reason: not of our own errors, nor of what a device said of a shader. */
const mayBeLoss = (cause: unknown): boolean =>
  !(cause instanceof Fp4Error) && (cause as Partial<GPUPipelineError> | undefined)?.reason !== 'validation';

/**
 * The result of work on a device. Where the work fails, the error waits up to two seconds for the device to say that it
 * was lost; where the device is lost, the work is waited for no longer.
 * @param what names the work in errors
 * @throws DeviceLostError where the device was lost meanwhile, whether the work failed by it or not; else what the work
 * throws
 */
export function whileAlive<T>(device: GPUDevice, what: string, work: Promise<T>): Promise<T> {
  const state = watch(device);
  return new Promise<T>((resolve, reject) => {
    let failure: unknown;
    let grace: ReturnType<typeof setTimeout> | undefined;
    const settle = (act: () => void) => {
      state.pending.delete(onLoss);
      clearTimeout(grace);
      act();
    };
    const onLoss: OnLoss = (info) => settle(() => reject(lostError(what, info, failure)));
    state.pending.add(onLoss);
    if (state.info) onLoss(state.info);
    work.then(
      (result) => settle(() => resolve(result)),
      (cause: unknown) => {
        if (!mayBeLoss(cause) || !device.lost || state.info) {
          settle(() => reject(cause));
          return;
        }
        failure = cause;
        grace = setTimeout(() => settle(() => reject(cause)), LOSS_GRACE);
      },
    );
  });
}
