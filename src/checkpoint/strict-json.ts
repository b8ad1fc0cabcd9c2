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
const ESCAPES: ReadonlyMap<string, string> = new Map([
  ['"', '"'],
  ['\\', '\\'],
  ['/', '/'],
  ['b', '\b'],
  ['f', '\f'],
  ['n', '\n'],
  ['r', '\r'],
  ['t', '\t'],
]);
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
  { maxDepth = 32, numbers = 'integer' }: StrictJsonOptions = {},
): JsonValue {
  // Characters are scanned by hand: a greedy expression over a long run can exhaust the matcher's own stack.
  let at = 0;
  const path: string[] = [];

  const root = value(0);
  skipWhitespace();
  if (at < text.length) failAt(`${found()} after the end of the document`);
  return root;

  function value(depth: number): JsonValue {
    skipWhitespace();
    const character = text.charAt(at);
    if (character === '{' || character === '[') {
      if (depth === maxDepth) failAt(`more than ${maxDepth} nested objects and arrays`);
      return character === '{' ? object(depth + 1) : array(depth + 1);
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

  function object(depth: number): Map<string, JsonValue> {
    const members = new Map<string, JsonValue>();
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
      members.set(key, value(depth));
      path.pop();
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
    let result = '';
    let runStart = at;
    for (;;) {
      const unit = text.charCodeAt(at);
      if (unit === 0x22) {
        result += text.slice(runStart, at++);
        break;
      }
      if (unit === 0x5c) {
        result += text.slice(runStart, at) + escapedCharacter();
        runStart = at;
      } else if (unit >= 0x20) {
        at++;
      } else {
        failAt(
          at < text.length ? `unescaped control character ${hex(unit)} in a string` : 'unterminated string',
        );
      }
    }
    if (LONE_SURROGATE.test(result)) failAt(`half a surrogate pair in string ${quote(result)}`, start);
    return result;
  }

  function escapedCharacter(): string {
    const start = at;
    const letter = text.charAt(at + 1);
    const digits = text.slice(at + 2, at + 6);
    if (letter === 'u' && /^[0-9a-fA-F]{4}$/.test(digits)) {
      at += 6;
      return String.fromCharCode(Number.parseInt(digits, 16));
    }
    at += 2;
    return ESCAPES.get(letter) ?? failAt('malformed escape in a string', start);
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
