/**
 * Shaders are .wgsl modules that are put together: the only generated text is a head of `enable` lines, `const` lines and
 * `alias` lines. WGSL allows any order at module scope, so joining needs no linker.
 *
 * WGSL can neither unroll loops nor index names, and what has to stay in registers needs names. So lines may be repeated:
 *
 *     // repeat i < ROWS
 *     let a$i = load($iu);
 *     // end repeat
 *
 * stands ROWS times, with 0, 1, … for `$i`. Repeats may be nested.
 */
import { ShaderError } from '../errors.js';

export interface ShaderModuleText {
  /** File name, for error messages. */
  readonly name: string;
  readonly source: string;
}

export interface ShaderDescription {
  /** Kernel id with format, types and tile: names the pipeline and every error. */
  readonly label: string;
  readonly enables?: readonly string[];
  /** Diagnostics to be turned off. */
  readonly quietDiagnostics?: readonly string[];
  /** `const NAME = value`; numbers are u32. */
  readonly constants: Readonly<Record<string, number | boolean>>;
  /** Further counts of repeated lines, which are not constants of the shader. */
  readonly repeats?: Readonly<Record<string, number>>;
  /** `alias NAME = type`. */
  readonly aliases?: Readonly<Record<string, string>>;
  readonly modules: readonly ShaderModuleText[];
}

export interface ComposedShader {
  readonly label: string;
  readonly source: string;
  /** Where each part starts in `source`, and which of its own lines stand there, lines counted from 1. */
  readonly parts: readonly {
    readonly name: string;
    readonly firstLine: number;
    readonly lines: readonly number[];
  }[];
}

interface Line {
  readonly text: string;
  readonly number: number;
}

/** A module's lines with repeated ones written out. */
function repeatLines(
  { name, source }: ShaderModuleText,
  counts: Readonly<Record<string, number | boolean>>,
): Line[] {
  const lines = source.replace(/\n$/, '').split('\n');
  let next = 0;
  const fail = (line: number, problem: string) => new ShaderError(`${name}:${line}: ${problem}`, source);

  const block = (begin: number): Line[] => {
    const result: Line[] = [];
    while (next < lines.length) {
      const number = ++next;
      const text = lines[number - 1]!;
      if (/^\s*\/\/ end repeat$/.test(text)) {
        if (!begin) throw fail(number, 'ends a repeat that did not begin');
        return result;
      }
      const repeat = /^\s*\/\/ repeat ([a-z]) < (\w+)$/.exec(text);
      if (!repeat) {
        result.push({ text, number });
        continue;
      }
      const [, index, count] = repeat as unknown as [string, string, string];
      const times = /^\d+$/.test(count) ? Number(count) : counts[count];
      if (typeof times !== 'number') throw fail(number, `${count} is no number that the kernel gives`);
      const body = block(number);
      for (let i = 0; i < times; i++) {
        result.push(...body.map((line) => ({ ...line, text: line.text.replaceAll(`$${index}`, `${i}`) })));
      }
    }
    if (begin) throw fail(begin, 'a repeat that does not end');
    return result;
  };
  return block(0);
}

export function composeShader({
  label,
  enables = [],
  quietDiagnostics = [],
  constants,
  repeats = {},
  aliases = {},
  modules,
}: ShaderDescription): ComposedShader {
  const head = [
    ...quietDiagnostics.map((name) => `diagnostic(off, ${name});`),
    ...enables.map((name) => `enable ${name};`),
    ...Object.entries(constants).map(
      ([name, value]) => `const ${name} = ${typeof value === 'number' ? `${value}u` : value};`,
    ),
    ...Object.entries(aliases).map(([name, type]) => `alias ${name} = ${type};`),
    '',
  ].join('\n');
  const parts = [{ name: `${label} (generated head)`, firstLine: 1, lines: [] as number[] }];
  let source = head;
  for (const module of modules) {
    const lines = repeatLines(module, { ...constants, ...repeats });
    const firstLine = source.split('\n').length;
    parts.push({ name: module.name, firstLine, lines: lines.map(({ number }) => number) });
    source += `${lines.map(({ text }) => text).join('\n')}\n`;
  }
  return { label, source, parts };
}

/** Error that shows each message with its file, its line there, its line in the composed text, and that line. */
export function shaderError(
  shader: ComposedShader,
  messages: readonly Omit<GPUCompilationMessage, '__brand'>[],
): ShaderError {
  const lines = shader.source.split('\n');
  const text = messages.map(({ lineNum, linePos, message }) => {
    const part = shader.parts.findLast(({ firstLine }) => firstLine <= lineNum);
    if (!part) return message;
    const line = lineNum - part.firstLine;
    const place = `${part.name}:${part.lines[line] ?? line + 1}:${linePos}`;
    return `${place} (composed line ${lineNum}): ${message}\n    ${lines[lineNum - 1]?.trim() ?? ''}`;
  });
  return new ShaderError(`${shader.label} does not compile\n  ${text.join('\n  ')}`, shader.source);
}
