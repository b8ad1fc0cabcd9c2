/** Names of matrices by patterns: `*` stands for any characters, `model.layers.0.*` for a block, `*.o_proj` for a kind. */
export interface NamePattern {
  readonly text: string;
  readonly regExp: RegExp;
}

export function namePattern(text: string): NamePattern {
  const source = text.replace(/[.+^${}()|[\]\\?]/g, '\\$&').replace(/\*+/g, '.*');
  return { text, regExp: new RegExp(`^${source}$`, 's') };
}

/** Whether a pattern matches a name, or the name without its final `.weight`. */
export function matchesName({ regExp }: NamePattern, name: string): boolean {
  return regExp.test(name) || regExp.test(name.replace(/\.weight$/, ''));
}
