/**
 * Names of experts: one tensor for all of them, `P.experts.gate_up_proj`, or a module for each,
 * `P.experts.3.gate_up_proj.weight`, as compressed-tensors has them (its packing takes matrices only).
 */

const SPLIT = /^((?:.*\.)?experts)\.(0|[1-9]\d*)\.([^.]+)\.weight$/;

/**
 * What an expert of a stack is called alone. Where no part of the name is `experts`, one is put before the last:
 * `P.switch_mlp.gate_proj.weight` becomes `P.switch_mlp.experts.3.gate_proj.weight`.
 */
export function expertName(stack: string, expert: number): string {
  const parts = moduleName(stack).split('.');
  const last = parts.pop()!;
  if (parts.at(-1) !== 'experts') parts.push('experts');
  return [...parts, expert, last, 'weight'].join('.');
}

/** The module that a weight belongs to: the name without `.weight`, if it ends so. */
export function moduleName(name: string): string {
  return name === 'weight' ? '' : name.replace(/\.weight$/, '');
}

/**
 * The stacks that names of experts make, by the name of the stack, each name in the order of its number. Experts from 0
 * on without a gap make one; others stay alone.
 */
export function expertStacks(names: Iterable<string>): Map<string, string[]> {
  const stacks = new Map<string, { number: number; name: string }[]>();
  for (const name of names) {
    const [, parent, number, last] = SPLIT.exec(name) ?? [];
    if (parent === undefined) continue;
    const stack = `${parent}.${last}`;
    const experts = stacks.get(stack) ?? [];
    experts.push({ number: Number(number), name });
    stacks.set(stack, experts);
  }
  // Sorted rather than put at their numbers, which a file may choose as large as it likes.
  for (const experts of stacks.values()) experts.sort((a, b) => a.number - b.number);
  const whole = [...stacks].filter(([, experts]) => experts.every(({ number }, i) => number === i));
  return new Map(whole.map(([stack, experts]) => [stack, experts.map(({ name }) => name)]));
}
