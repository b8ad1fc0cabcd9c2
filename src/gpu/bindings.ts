/** Bind groups by the buffers they were made for, so that encoding the same buffers again makes nothing. */
export class BindingCache<T> {
  readonly #entries = new WeakMap<
    GPUBuffer,
    { slices: readonly (GPUBufferBinding | undefined)[]; value: T }[]
  >();

  /**
   * What `create` gave for these slices, a fixed number in a fixed order, the first time. Entries live as long as the
   * buffer of the first slice. Slices are copied, as callers may reuse and change theirs.
   */
  get(first: GPUBufferBinding, rest: readonly (GPUBufferBinding | undefined)[], create: () => T): T {
    const slices = [first, ...rest];
    let entries = this.#entries.get(first.buffer);
    if (!entries) {
      entries = [];
      this.#entries.set(first.buffer, entries);
    }
    const found = entries.find((entry) => entry.slices.every((slice, i) => sameSlice(slice, slices[i])));
    if (found) return found.value;
    const value = create();
    entries.push({ slices: slices.map((slice) => slice && { ...slice }), value });
    return value;
  }
}

function sameSlice(a: GPUBufferBinding | undefined, b: GPUBufferBinding | undefined): boolean {
  if (!a || !b) return a === b;
  return a.buffer === b.buffer && (a.offset ?? 0) === (b.offset ?? 0) && a.size === b.size;
}
