import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type JsonValue,
  parseStrictJson,
  parseStrictMembers,
  type StrictJsonOptions,
} from '../../src/checkpoint/strict-json.js';

const parse = (text: string, options?: StrictJsonOptions) =>
  parseStrictJson(
    text,
    (message) => {
      throw new Error(message);
    },
    options,
  );

/** The same document with Maps in place of objects, from `JSON.parse`'s answer. */
function toMaps(value: unknown): JsonValue {
  if (Array.isArray(value)) return value.map(toMaps);
  if (typeof value !== 'object' || value === null) return value as JsonValue;
  return new Map(Object.entries(value).map(([key, item]) => [key, toMaps(item)]));
}

describe('documents', () => {
  it.each([
    ['null', null],
    [' true ', true],
    ['\t\r\nfalse', false],
    ['0', 0],
    ['-7', -7],
    ['9007199254740991', 2 ** 53 - 1],
    ['""', ''],
    ['"a\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\u20AC\\ud83d\\ude00"', 'a"\\/\b\f\n\r\té€😀'],
    ['"é€😀\u007f"', 'é€😀\u007f'],
    ['[]', []],
    ['[ ]', []],
    ['[1, [2], "3"]', [1, [2], '3']],
    ['{}', new Map()],
    ['{ "a" : 1 , "b" : { } }', new Map<string, JsonValue>([['a', 1]]).set('b', new Map())],
  ])('%s', (text, expected) => {
    expect(parse(text)).toEqual(expected);
  });

  it('keeps keys in the order written, and makes nothing of __proto__', () => {
    const parsed = parse('{"z": 1, "2": 2, "__proto__": {"x": 1}, "constructor": 3, "1": 4}') as Map<
      string,
      JsonValue
    >;
    expect([...parsed.keys()]).toEqual(['z', '2', '__proto__', 'constructor', '1']);
    expect(parsed.get('__proto__')).toEqual(new Map([['x', 1]]));
    expect(({} as { x?: number }).x).toBeUndefined();
  });

  it('agrees with JSON.parse on whatever JSON.stringify writes', () => {
    const documents = fc.jsonValue({ maxDepth: 6 });
    fc.assert(
      fc.property(documents, fc.constantFrom(0, 1, '\t'), (document, indent) => {
        const text = JSON.stringify(document, null, indent);
        expect(parse(text, { numbers: 'any' })).toEqual(toMaps(JSON.parse(text)));
      }),
      { seed: 1, numRuns: 500 },
    );
  });

  it('refuses every text that JSON.parse refuses', () => {
    const pieces = [
      '{',
      '}',
      '[',
      ']',
      ':',
      ',',
      '"',
      '"a"',
      '0',
      '1',
      '-',
      '.',
      'e',
      'null',
      'tru',
      '\\u',
      ' ',
      '\u0001',
    ];
    let accepted = 0;
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...pieces), { maxLength: 6 }), (parts) => {
        const text = parts.join('');
        let ours: JsonValue | undefined;
        try {
          ours = parse(text, { numbers: 'any' });
        } catch {
          return;
        }
        accepted++;
        expect(ours).toEqual(toMaps(JSON.parse(text)));
      }),
      { seed: 1, numRuns: 5000 },
    );
    expect(accepted).toBeGreaterThan(50);
  });
});

describe('duplicate keys', () => {
  it.each([
    ['{"a": 1, "a": 1}', 'duplicate key "a" at character 9'],
    ['{"w": {"dtype": 1, "dtype": 2}}', 'duplicate key "dtype" in "w" at character 19'],
    ['{"a": 1, "\\u0061": 1}', 'duplicate key "a" at character 9'],
    ['{"__proto__": 1, "__proto__": 1}', 'duplicate key "__proto__" at character 17'],
    ['[{"a": {"b": [{"c": 1, "c": 1}]}}]', 'duplicate key "c" in "a"."b" at character 23'],
  ])('%s', (text, message) => {
    expect(() => parse(text)).toThrow(message);
  });

  it('are keys of one object, not of two', () => {
    expect(() => parse('{"a": {"a": 1}, "b": {"a": 1}}')).not.toThrow();
  });
});

describe('numbers', () => {
  it.each([
    ['1e3', 'number 1e3 is not written as an integer at character 0'],
    ['[1, 1E0]', 'number 1E0 is not written as an integer at character 4'],
    ['1.0', 'number 1.0 is not written as an integer'],
    ['0.5', 'number 0.5 is not written as an integer'],
    ['-0', 'number -0 is not written as an integer'],
    ['9007199254740992', 'integer 9007199254740992 is beyond 2^53 - 1'],
    ['9007199254740993', 'integer 9007199254740993 is beyond 2^53 - 1'],
    ['-9007199254740992', 'integer -9007199254740992 is beyond 2^53 - 1'],
    ['18446744073709551614', 'integer 18446744073709551614 is beyond 2^53 - 1'],
  ])('as integers: %s', (text, message) => {
    expect(() => parse(text)).toThrow(message);
  });

  it('may be fractions where the caller says so', () => {
    expect(parse('[1e-05, 1.5, -0, 1000000000000000019884624838656]', { numbers: 'any' })).toEqual([
      1e-5, 1.5, -0, 1e30,
    ]);
    expect(() => parse('1e999', { numbers: 'any' })).toThrow('number 1e999 is beyond the range of f64');
  });

  it.each(['01', '+1', '1.', '.5', '-', '1e', '1e+', '--1', '1-1', '0x10', '1e1.5'])(
    'malformed: %s',
    (text) => {
      expect(() => parse(text)).toThrow();
      expect(() => parse(text, { numbers: 'any' })).toThrow();
    },
  );

  it('are cut in messages, and refused when absurdly long', () => {
    expect(() => parse('1'.repeat(1_000_000))).toThrow(
      /^number 1{80}… of more than 64 characters at character 0$/,
    );
  });
});

describe('malformed texts say where', () => {
  it.each([
    ['', 'end of the text instead of a value at character 0'],
    ['  ', 'end of the text instead of a value at character 2'],
    ['{', 'end of the text instead of a key at character 1'],
    ['{"a"', 'end of the text instead of ":" at character 4'],
    ['{"a":', 'end of the text instead of a value in "a" at character 5'],
    ['{"a":1', 'end of the text instead of "," or "}" at character 6'],
    ['{"a":1,}', '"}" instead of a key at character 7'],
    ['{a:1}', '"a" instead of a key at character 1'],
    ["{'a':1}", '"\'" instead of a key at character 1'],
    ['{"a" 1}', '"1" instead of ":" at character 5'],
    ['[1,]', '"]" instead of a value at character 3'],
    ['[1 2]', '"2" instead of "," or "]" at character 3'],
    ['[1', 'end of the text instead of "," or "]" at character 2'],
    ['{} x', '"x" after the end of the document at character 3'],
    ['{}{}', '"{" after the end of the document at character 2'],
    ['{}\0', '"\\u0000" after the end of the document at character 2'],
    ['nul', '"n" instead of a value'],
    ['NaN', '"N" instead of a value'],
    ['/* */ 1', '"/" instead of a value'],
    ['\uFEFF{}', '"\uFEFF" instead of a value at character 0'],
    ['\u00a0{}', 'instead of a value at character 0'],
    ['"a', 'unterminated string at character 2'],
    ['"a\nb"', 'unescaped control character U+000A in a string at character 2'],
    ['"\u0000"', 'unescaped control character U+0000 in a string at character 1'],
    ['"\\x41"', 'malformed escape in a string at character 1'],
    ['"\\u12g4"', 'malformed escape in a string at character 1'],
    ['"\\u123', 'malformed escape in a string at character 1'],
    ['"\\', 'malformed escape in a string at character 1'],
    ['"a\\ud83d"', 'half a surrogate pair in string "a\\ud83d" at character 0'],
    ['"\\ude00\\ud83d"', 'half a surrogate pair'],
  ])('%j', (text, message) => {
    expect(() => parse(text)).toThrow(message);
  });
});

describe('depth', () => {
  const nested = (depth: number) => '['.repeat(depth) + ']'.repeat(depth);

  it('is capped, at 32 by default', () => {
    expect(() => parse(nested(32))).not.toThrow();
    expect(() => parse(nested(33))).toThrow('more than 32 nested objects and arrays at character 32');
    expect(() => parse('{"a": {"b": []}}', { maxDepth: 2 })).toThrow(
      'more than 2 nested objects and arrays in "a"."b"',
    );
  });

  it('does not reach the stack', () => {
    expect(() => parse('['.repeat(5_000_000))).toThrow('more than 32 nested');
    expect(() => parse('{"a":'.repeat(1_000_000))).toThrow('more than 32 nested');
  });
});

describe('size', () => {
  it('takes long runs of anything without trouble', () => {
    const long = 'x'.repeat(5_000_000);
    expect(parse(`${' '.repeat(5_000_000)}"${long}"`)).toBe(long);
    expect(() => parse(`{"${long}": 1, "${long}": 1}`)).toThrow(/^duplicate key "x{80}…" at character \d+$/);
  });
});

describe('how many values', () => {
  it('is capped, whatever they are', () => {
    const options = { maxValues: 4 };
    expect(parse('[1,[],{}]', options)).toEqual([1, [], new Map()]);
    expect(() => parse('[1,[],{},""]', options)).toThrow('more than 4 values at character 9');
    expect(() => parse('{"a":[1,2,3]}', options)).toThrow('more than 4 values in "a" at character 10');
  });

  it('is two million by default: an array of empty objects takes sixty times its text', () => {
    expect(() => parse(`[${'{},'.repeat(1 << 21)}0]`)).toThrow('more than 2097152 values');
  });
});

describe('members one by one', () => {
  const members = <T>(
    text: string,
    take: (key: string, value: JsonValue) => T,
    options?: StrictJsonOptions,
  ) =>
    parseStrictMembers(
      text,
      (message) => {
        throw new Error(message);
      },
      take,
      options,
    );

  it('are kept as what is made of them', () => {
    const seen: unknown[] = [];
    const parsed = members(' { "b" : [1, 2] , "__proto__": {"c": 3}, "a": null } ', (key, value) => {
      seen.push(key, value);
      return key.length;
    });
    expect(seen).toEqual(['b', [1, 2], '__proto__', new Map([['c', 3]]), 'a', null]);
    expect(parsed).toEqual(
      new Map([
        ['b', 1],
        ['__proto__', 9],
        ['a', 1],
      ]),
    );
    expect(members('{}', () => 0)).toEqual(new Map());
  });

  it('are of a document that is an object; others come back', () => {
    const take = () => expect.unreachable('it has no members');
    expect(members('[{"a": 1}]', take)).toEqual([new Map([['a', 1]])]);
    expect(members(' "a"', take)).toBe('a');
    expect(() => members('{"a": 1} {}', () => 0)).toThrow('"{" after the end of the document at character 9');
    expect(() => members('', take)).toThrow('end of the text instead of a value at character 0');
  });

  it('are distinct, and handed over before what follows is read', () => {
    expect(() => members('{"a": 1, "a": 2}', () => 0)).toThrow('duplicate key "a" at character 9');
    const stop = () => members('{"a": 1, %', (key) => expect.unreachable(key));
    expect(stop).toThrow('a');
    expect(stop).not.toThrow('%');
  });

  it('have as many values each as the option says', () => {
    const options = { maxValues: 3 };
    expect(members('{"a":[1,2],"b":[3,4]}', (_, value) => value, options)).toEqual(
      new Map([
        ['a', [1, 2]],
        ['b', [3, 4]],
      ]),
    );
    expect(() => members('{"a":[1,2],"b":[3,4,5]}', () => 0, options)).toThrow('more than 3 values in "b"');
  });
});
