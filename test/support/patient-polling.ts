/**
 * Leaves the other core to others while a test waits for the GPU. Dawn's Node bindings ask the device again and again, by
 * `setImmediate`, for as long as anything is pending, which takes a whole core all the while that a software GPU compiles.
 * Here they ask at once for two milliseconds, then once a millisecond.
 */
const immediate = globalThis.setImmediate;
const AT_ONCE_MS = 2;

/** When the present row of questions began; set while one of them is being asked. */
let began: number | undefined;

globalThis.setImmediate = Object.assign(
  (callback: (...args: unknown[]) => void, ...args: unknown[]) => {
    // Only those of the bindings are native functions.
    if (!/\[native code\]/.test(Function.prototype.toString.call(callback)))
      return immediate(callback, ...args);
    const start = began ?? performance.now();
    const ask = () => {
      began = start;
      try {
        callback(...args);
      } finally {
        began = undefined;
      }
    };
    if (performance.now() - start < AT_ONCE_MS) return immediate(ask);
    return setTimeout(ask, 1) as unknown as NodeJS.Immediate;
  },
  { __promisify__: immediate.__promisify__ },
) as typeof setImmediate;
