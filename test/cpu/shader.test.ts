import { describe, expect, test } from 'vitest';
import { ShaderError } from '../../src/errors.js';
import { composeShader, shaderError } from '../../src/gpu/shader.js';

const compose = (source: string, constants = {}, repeats = {}) =>
  composeShader({ label: 'test', constants, repeats, modules: [{ name: 'some.wgsl', source }] });
const body = (...args: Parameters<typeof compose>) => {
  const { source, parts } = compose(...args);
  return source.split('\n').slice(parts[1]!.firstLine - 1);
};

describe('repeated lines', () => {
  const nested = `fn main() {
  // repeat i < ROWS
  let row$i = $iu * 2u;
  // repeat j < 2
  let at$i$j = row$i + $ju;
  // end repeat
  // end repeat
}
`;

  test('stand as often as a constant, a count or a number says, with their own number', () => {
    const expected = [
      'fn main() {',
      '  let row0 = 0u * 2u;',
      '  let at00 = row0 + 0u;',
      '  let at01 = row0 + 1u;',
      '  let row1 = 1u * 2u;',
      '  let at10 = row1 + 0u;',
      '  let at11 = row1 + 1u;',
      '}',
      '',
    ];
    expect(body(nested, { ROWS: 2 })).toEqual(expected);
    expect(body(nested, {}, { ROWS: 2 })).toEqual(expected);
    expect(body(nested, { ROWS: 0 })).toEqual(['fn main() {', '}', '']);
  });

  test('errors name the line of the file', () => {
    const shader = compose(nested, { ROWS: 2 });
    const line = shader.source.split('\n').indexOf('  let at11 = row1 + 1u;') + 1;
    const error = shaderError(shader, [
      { lineNum: line, linePos: 3, message: 'no', type: 'error', length: 0, offset: 0 },
    ]);
    expect(error.message).toContain(`some.wgsl:5:3 (composed line ${line}): no\n    let at11`);
  });

  test.each([
    ['// repeat i < ROWS\n', /some\.wgsl:1: a repeat that does not end/],
    ['a\n// end repeat\n', /some\.wgsl:2: ends a repeat that did not begin/],
    ['// repeat i < COLS\n// end repeat\n', /some\.wgsl:1: COLS is no number/],
    ['// repeat i < SIGNED\n// end repeat\n', /some\.wgsl:1: SIGNED is no number/],
  ])('%j is refused', (source, message) => {
    const attempt = () => compose(source, { ROWS: 1, SIGNED: true });
    expect(attempt).toThrow(ShaderError);
    expect(attempt).toThrow(message);
  });
});
