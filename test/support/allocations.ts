/** Bytes of typed arrays and buffers that code makes, counted while it runs; too many at once fail where they are made. */

const NAMES = [
  'ArrayBuffer',
  'Uint8Array',
  'Uint16Array',
  'Uint32Array',
  'Float32Array',
  'Float64Array',
] as const;

/** An error of the test, not of the library: nothing catches it as one that was expected. */
export class AllocationError extends Error {
  override name = 'AllocationError';
}

/**
 * Runs `action` and gives what it gives. Views of a buffer that is there already count nothing; copies by `slice` and
 * `map`, which take as much as what they copy, neither.
 * @throws AllocationError where all that is made together passes `limit` bytes, before the memory is taken
 */
export async function withinAllocations<T>(limit: number, action: () => Promise<T>): Promise<T> {
  const globals = globalThis as unknown as Record<string, new (...args: unknown[]) => ArrayBufferView>;
  const originals = NAMES.map((name) => globals[name]!);
  let made = 0;
  NAMES.forEach((name, i) => {
    const original = originals[i]! as unknown as { BYTES_PER_ELEMENT?: number };
    globals[name] = new Proxy(originals[i]!, {
      construct(target, args, newTarget) {
        const [first] = args;
        const isView = first instanceof (originals[0] as unknown as typeof ArrayBuffer);
        const elements = typeof first === 'number' ? first : ((first as { length?: number })?.length ?? 0);
        if (!isView) made += elements * (original.BYTES_PER_ELEMENT ?? 1);
        if (made > limit) throw new AllocationError(`${name}: ${made} bytes in all, of ${limit} allowed`);
        return Reflect.construct(target, args, newTarget === globals[name] ? target : newTarget);
      },
    });
  });
  try {
    return await action();
  } finally {
    NAMES.forEach((name, i) => {
      globals[name] = originals[i]!;
    });
  }
}
