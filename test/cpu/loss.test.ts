/** Work on a device, and the device's word that it was lost, in every order that hosts have them. */
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { whileAlive } from '../../src/gpu/loss.js';
import { DeviceLostError, ShaderError } from '../../src/index.js';
import { rejection } from '../support/rejection.js';

const INFO = { reason: 'unknown', message: 'the driver restarted' } as GPUDeviceLostInfo;

/** A device that is lost when it is told to. */
function deviceToLose() {
  let lose!: () => void;
  const lost = new Promise<GPUDeviceLostInfo>((resolve) => {
    lose = () => resolve(INFO);
  });
  return { device: { lost } as unknown as GPUDevice, lose };
}

const never = () => new Promise<never>(() => {});
const failure = new DOMException('A valid external Instance reference no longer exists.', 'AbortError');

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** How work ends, once `milliseconds` have gone by. */
async function outcome(work: Promise<unknown>, milliseconds: number): Promise<unknown> {
  let ended: unknown = 'pending';
  work.then(
    (value) => {
      ended = value;
    },
    (cause: unknown) => {
      ended = cause;
    },
  );
  await vi.advanceTimersByTimeAsync(milliseconds);
  return ended;
}

describe('a loss is told', () => {
  test.each([0, 1, 900, 1900])('%i ms after the work failed', async (delay) => {
    const { device, lose } = deviceToLose();
    setTimeout(lose, delay);
    const error = await outcome(whileAlive(device, 'reading', Promise.reject(failure)), delay + 1);
    expect(error).toBeInstanceOf(DeviceLostError);
    expect(String(error)).toMatch(/reading: the device was lost: the driver restarted; request a new device/);
    expect((error as Error).cause).toBe(failure);
  });

  test('where the work never ends', async () => {
    const { device, lose } = deviceToLose();
    const work = whileAlive(device, 'reading', never());
    expect(await outcome(work, 60_000)).toBe('pending');
    lose();
    expect(await rejection(work)).toBeInstanceOf(DeviceLostError);
  });

  test('where the device had gone before, and the work seems to have been done', async () => {
    const { device, lose } = deviceToLose();
    await whileAlive(device, 'reading', Promise.resolve(1));
    lose();
    await device.lost;
    expect(await rejection(whileAlive(device, 'measuring', Promise.resolve(2)))).toBeInstanceOf(
      DeviceLostError,
    );
    expect(await rejection(whileAlive(device, 'measuring', never()))).toBeInstanceOf(DeviceLostError);
  });
});

describe('what is no loss is itself', () => {
  test('a result', async () => {
    const { device } = deviceToLose();
    expect(await whileAlive(device, 'reading', Promise.resolve(7))).toBe(7);
  });

  test('a failure, once the device has had its time', async () => {
    const { device } = deviceToLose();
    const work = whileAlive(device, 'reading', Promise.reject(failure));
    expect(await outcome(work, 1999)).toBe('pending');
    expect(await outcome(work, 2)).toBe(failure);
  });

  test.each([
    ['of the library', new ShaderError('shader: wrong', 'source')],
    ['of a shader', Object.assign(new Error('wrong'), { reason: 'validation' })],
  ])('an error %s, at once', async (_, error) => {
    const { device } = deviceToLose();
    expect(await outcome(whileAlive(device, 'compiling', Promise.reject(error)), 0)).toBe(error);
  });

  test('a failure of a stand-in that cannot be lost, at once', async () => {
    expect(await outcome(whileAlive({} as GPUDevice, 'reading', Promise.reject(failure)), 0)).toBe(failure);
  });
});

test('however much work there was, the device is asked once', async () => {
  const { device } = deviceToLose();
  const then = vi.spyOn(device.lost, 'then');
  for (let i = 0; i < 100; i++) await whileAlive(device, 'reading', Promise.resolve(i));
  expect(then).toHaveBeenCalledTimes(1);
});
