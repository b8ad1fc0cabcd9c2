/** A lost device, told from other failures. */
import { DeviceLostError } from '../errors.js';

interface State {
  info?: GPUDeviceLostInfo;
}

const states = new WeakMap<GPUDevice, State>();

/** Has to run once, before a loss can be asked for without waiting. One reaction a device, however many ask. */
function watch(device: GPUDevice): State {
  let state = states.get(device);
  if (!state) {
    const fresh: State = {};
    states.set(device, fresh);
    // A borrowed device may be a stand-in without the promise.
    void device.lost?.then((info) => {
      fresh.info = info;
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

/**
 * The result of work on a device.
 * @param what names the work in errors
 * @throws DeviceLostError where the device was lost meanwhile, whether the work failed by it or not; else what the work
 * throws
 */
export async function whileAlive<T>(device: GPUDevice, what: string, work: Promise<T>): Promise<T> {
  const state = watch(device);
  let result: T;
  try {
    result = await work;
  } catch (cause) {
    // What is pending can fail before the device's promise says why: give it one turn.
    if (!state.info) await new Promise((resolve) => void setTimeout(resolve));
    if (state.info && !(cause instanceof DeviceLostError)) throw lostError(what, state.info, cause);
    throw cause;
  }
  if (state.info) throw lostError(what, state.info);
  return result;
}
