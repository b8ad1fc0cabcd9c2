/** Several files at a time, but never hundreds: a name or an index may ask for thousands. */
const PARALLEL = 8;

/** `action` of each item, in order, a few at a time; after one that fails no more are begun. */
export async function inBatches<T, R>(
  items: readonly T[],
  action: (item: T) => Promise<R>,
  afterBatch?: (done: number) => void,
): Promise<R[]> {
  const results: R[] = [];
  for (let i = 0; i < items.length; i += PARALLEL) {
    results.push(...(await Promise.all(items.slice(i, i + PARALLEL).map(action))));
    afterBatch?.(results.length);
  }
  return results;
}
