/**
 * JSON for untrusted headers. `JSON.parse` keeps the last of two equal keys, turns 1e3 and 1.0 into integers and
 * rounds those above 2^53 - 1, all without a word; here each of them is an error that says where.
 * Grammar: RFC 8259, with the members of an object required to have distinct names.
 */

/** A parsed document. Objects are Maps, so that `__proto__` is a key like any other. */
export type JsonValue = null | boolean | number | string | JsonValue[] | Map<string, JsonValue>;

export interface StrictJsonOptions {
  /** How many objects and arrays may contain each other. Default 32. */
  readonly maxDepth?: number;
  /**
   * 'integer' (default): a number must be written as an integer no further from zero than 2^53 - 1, -0 excluded.
   * 'any': fractions and exponents too, and integers round to f64, as in model configurations.
   */
  readonly numbers?: 'integer' | 'any';
  /**
   * How many values, those inside others counted too; of `parseStrictMembers`, in one member. Default 2^21. Three
   * characters (`{},`) are a Map of two hundred bytes: a text that fits in memory may not fit once it is parsed.
   */
  readonly maxValues?: number;
}

const NUMBER = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$/;
const INTEGER = /^(?:0|-?[1-9][0-9]*)$/;
const NUMBER_CHARACTERS = '-+.0123456789eE';
const MAX_NUMBER_CHARACTERS = 64;
const WHITESPACE = ' \t\n\r';
const LITERALS = [
  ['true', true],
  ['false', false],
  ['null', null],
] as const;
/** Letters after a backslash, `u` apart. */
const ESCAPES = '"\\/bfnrt';
/** With the u flag a surrogate matches only where its other half is missing. */
const LONE_SURROGATE = /\p{Surrogate}/u;

/**
 * Parses a whole JSON text.
 * @param fail throws the caller's error, given what is wrong, the keys that lead there and the position, as in
 * `duplicate key "dtype" in "w" at character 53` (UTF-16 units from 0)
 */
export function parseStrictJson(
  text: string,
  fail: (message: string) => never,
  options?: StrictJsonOptions,
): JsonValue {
  return parser(text, fail, options).document();
}

/**
 * Parses a text that is an object with very many members: each is kept as what `take` makes of it as soon as it is read,
 * so that their values need not all be there at a time. A document of another kind comes back as it is.
 */
export function parseStrictMembers<T>(
  text: string,
  fail: (message: string) => never,
  take: (key: string, value: JsonValue) => T,
  options?: StrictJsonOptions,
): Map<string, T> | Exclude<JsonValue, Map<string, JsonValue>> {
  return parser(text, fail, options).members(take);
}

function parser(
  text: string,
  fail: (message: string) => never,
  { maxDepth = 32, numbers = 'integer', maxValues = 1 << 21 }: StrictJsonOptions = {},
) {
  // Characters are scanned by hand: a greedy expression over a long run can exhaust the matcher's own stack.
  let at = 0;
  let values = 0;
  const path: string[] = [];

  return {
    document: (): JsonValue => whole(() => value(0)),
    members: <T>(take: (key: string, value: JsonValue) => T) =>
      whole(() => {
        skipWhitespace();
        if (text.charAt(at) !== '{') return value(0) as Exclude<JsonValue, Map<string, JsonValue>>;
        return object(1, (key, member) => {
          values = 0;
          return take(key, member);
        });
      }),
  };

  function whole<T>(parse: () => T): T {
    const root = parse();
    skipWhitespace();
    if (at < text.length) failAt(`${found()} after the end of the document`);
    return root;
  }

  function value(depth: number): JsonValue {
    skipWhitespace();
    if (++values > maxValues) failAt(`more than ${maxValues} values`);
    const character = text.charAt(at);
    if (character === '{' || character === '[') {
      if (depth === maxDepth) failAt(`more than ${maxDepth} nested objects and arrays`);
      return character === '{' ? object(depth + 1, (_, member) => member) : array(depth + 1);
    }
    if (character === '"') return string();
    if (character !== '' && NUMBER_CHARACTERS.includes(character)) return number();
    for (const [word, meaning] of LITERALS) {
      if (text.startsWith(word, at)) {
        at += word.length;
        return meaning;
      }
    }
    return failAt(`${found()} instead of a value`);
  }

  function object<T>(depth: number, take: (key: string, member: JsonValue) => T): Map<string, T> {
    const members = new Map<string, T>();
    at++;
    if (takeIf('}')) return members;
    do {
      skipWhitespace();
      const keyAt = at;
      if (text.charAt(at) !== '"') failAt(`${found()} instead of a key`);
      const key = string();
      if (members.has(key)) failAt(`duplicate key ${quote(key)}`, keyAt);
      if (!takeIf(':')) failAt(`${found()} instead of ":"`);
      path.push(key);
      const member = value(depth);
      path.pop();
      members.set(key, take(key, member));
    } while (takeIf(','));
    if (!takeIf('}')) failAt(`${found()} instead of "," or "}"`);
    return members;
  }

  function array(depth: number): JsonValue[] {
    const items: JsonValue[] = [];
    at++;
    if (takeIf(']')) return items;
    do items.push(value(depth));
    while (takeIf(','));
    if (!takeIf(']')) failAt(`${found()} instead of "," or "]"`);
    return items;
  }

  function number(): number {
    const start = at;
    while (at < text.length && NUMBER_CHARACTERS.includes(text.charAt(at))) at++;
    const written = text.slice(start, at);
    if (written.length > MAX_NUMBER_CHARACTERS) {
      failAt(`number ${shorten(written)} of more than ${MAX_NUMBER_CHARACTERS} characters`, start);
    }
    if (!NUMBER.test(written)) failAt(`malformed number ${written}`, start);
    const parsed = Number(written);
    if (numbers === 'integer') {
      if (!INTEGER.test(written)) failAt(`number ${written} is not written as an integer`, start);
      if (!Number.isSafeInteger(parsed)) failAt(`integer ${written} is beyond 2^53 - 1`, start);
    } else if (!Number.isFinite(parsed)) {
      failAt(`number ${written} is beyond the range of f64`, start);
    }
    return parsed;
  }

  function string(): string {
    const start = at++;
    let escaped = false;
    for (;;) {
      const unit = text.charCodeAt(at);
      if (unit === 0x22) break;
      if (unit === 0x5c) {
        skipEscape();
        escaped = true;
      } else if (unit >= 0x20) {
        at++;
      } else {
        failAt(
          at < text.length ? `unescaped control character ${hex(unit)} in a string` : 'unterminated string',
        );
      }
    }
    const written = text.slice(start, ++at);
    // What has been checked, `JSON.parse` may put together: escape by escape, it would take ten times the text's memory.
    const result = escaped ? (JSON.parse(written) as string) : written.slice(1, -1);
    if (LONE_SURROGATE.test(result)) failAt(`half a surrogate pair in string ${quote(result)}`, start);
    return result;
  }

  function skipEscape(): void {
    const letter = text.charAt(at + 1);
    if (letter === 'u' && /^[0-9a-fA-F]{4}$/.test(text.slice(at + 2, at + 6))) at += 6;
    else if (letter !== '' && ESCAPES.includes(letter)) at += 2;
    else failAt('malformed escape in a string');
  }

  function takeIf(character: string): boolean {
    skipWhitespace();
    if (text.charAt(at) !== character) return false;
    at++;
    return true;
  }

  function skipWhitespace(): void {
    while (at < text.length && WHITESPACE.includes(text.charAt(at))) at++;
  }

  function found(): string {
    return at < text.length ? quote(String.fromCodePoint(text.codePointAt(at)!)) : 'end of the text';
  }

  function failAt(problem: string, position = at): never {
    const where = path.length > 0 ? ` in ${path.map(quote).join('.')}` : '';
    return fail(`${problem}${where} at character ${position}`);
  }
}

/** A string as messages show it: in quotes, escaped, cut short, since a hostile file may name a tensor by a megabyte. */
export function quote(text: string): string {
  return JSON.stringify(shorten(text));
}

/** Text as messages show it: its first 80 characters. */
export function shorten(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

function hex(unit: number): string {
  return `U+${unit.toString(16).toUpperCase().padStart(4, '0')}`;
}
