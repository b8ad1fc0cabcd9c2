/** Who may import whom in src/, so that formats, quantizers and loaders stay usable without a GPU. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { expect, test } from 'vitest';

const src = resolve(import.meta.dirname, '../../../src');

/** Folder → folders it may import from, besides itself and the files directly in src/. */
const ALLOWED: Record<string, readonly string[]> = {
  formats: [],
  matrix: ['formats'],
  quantize: ['formats', 'matrix'],
  checkpoint: ['formats', 'matrix'],
  sensitivity: ['formats', 'matrix', 'quantize'],
  gpu: [],
  gemm: ['formats', 'matrix', 'quantize', 'gpu'],
  cli: ['formats', 'matrix', 'quantize', 'checkpoint', 'gpu', 'gemm', 'sensitivity'],
};
const SHARED = ['errors.ts', 'random.ts'];

const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'));

function importsOf(file: string): string[] {
  const text = readFileSync(join(src, file), 'utf8');
  return [...text.matchAll(/\bfrom '([^']+)'|\bimport\('([^']+)'\)/g)].map((match) => match[1] ?? match[2]!);
}

test.each(files.filter((file) => file.includes('/')))('%s keeps to its side of the house', (file) => {
  const folder = file.split('/')[0]!;
  expect(Object.keys(ALLOWED)).toContain(folder);
  for (const target of importsOf(file).filter((name) => name.startsWith('.'))) {
    const path = relative(src, join(src, dirname(file), target)).replace(/\.js$/, '.ts');
    if (path.startsWith('../')) {
      // The command line measures with the example's language model.
      expect(path).toMatch(
        folder === 'cli' ? /^\.\.\/(package\.json|demo\/lm\/[a-z-]+\.ts)$/ : /^\.\.\/shaders\/.*\.wgsl\?raw$/,
      );
    } else if (!path.includes('/')) {
      expect(folder === 'cli' ? [...SHARED, 'node.ts'] : SHARED).toContain(path);
    } else {
      expect([folder, ...ALLOWED[folder]!]).toContain(path.split('/')[0]);
    }
  }
});

test('only the command line uses packages; only Node files use Node', () => {
  for (const file of files) {
    for (const name of importsOf(file).filter((target) => !target.startsWith('.'))) {
      if (file.startsWith('cli/')) continue;
      expect(file, name).toMatch(
        /^(node|checkpoint\/(disk|file-source|gguf-writer|journal|model-writer))\.ts$/,
      );
    }
  }
});
