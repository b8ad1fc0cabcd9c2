/**
 * Shaders are plain .wgsl modules that are put together, never edited: the only generated text is a head of `enable`
 * lines, `const` lines and `alias` lines. WGSL allows any order at module scope, so joining needs no linker.
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
  /** `alias NAME = type`. */
  readonly aliases?: Readonly<Record<string, string>>;
  readonly modules: readonly ShaderModuleText[];
}

export interface ComposedShader {
  readonly label: string;
  readonly source: string;
  /** Where each part starts in `source`, lines counted from 1. */
  readonly parts: readonly { readonly name: string; readonly firstLine: number }[];
}

export function composeShader({
  label,
  enables = [],
  quietDiagnostics = [],
  constants,
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
  const parts = [{ name: `${label} (generated head)`, firstLine: 1 }];
  let source = head;
  for (const module of modules) {
    parts.push({ name: module.name, firstLine: source.split('\n').length });
    source += module.source.endsWith('\n') ? module.source : `${module.source}\n`;
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
    const place = `${part.name}:${lineNum - part.firstLine + 1}:${linePos}`;
    return `${place} (composed line ${lineNum}): ${message}\n    ${lines[lineNum - 1]?.trim() ?? ''}`;
  });
  return new ShaderError(`${shader.label} does not compile\n  ${text.join('\n  ')}`, shader.source);
}
