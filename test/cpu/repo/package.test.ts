import { readdirSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { expect, test } from 'vitest';

const root = resolve(import.meta.dirname, '../../..');
const manifest = JSON.parse(readFileSync(resolve(root, 'package.json'), 'utf8'));

test('installing the library installs nothing else', () => {
  expect(manifest.dependencies).toBeUndefined();
  expect(manifest.optionalDependencies).toBeUndefined();
  expect(Object.keys(manifest.peerDependencies)).toEqual(
    Object.keys(manifest.peerDependenciesMeta).filter((name) => manifest.peerDependenciesMeta[name].optional),
  );
  expect(manifest.sideEffects).toBe(false);
  expect(manifest.scripts.postinstall ?? manifest.scripts.install).toBeUndefined();
});

test('shaders are plain WGSL: no templates, no preprocessor, one head comment', () => {
  const shaders = readdirSync(resolve(root, 'shaders'), { recursive: true, encoding: 'utf8' }).filter(
    (file) => file.endsWith('.wgsl'),
  );
  expect(shaders.length).toBeGreaterThan(5);
  for (const file of shaders) {
    const text = readFileSync(resolve(root, 'shaders', file), 'utf8');
    expect(text, file).toMatch(/^\/\/ /);
    expect(text, file).not.toMatch(/\$\{|^\s*#/m);
    // A value table indexed at run time ends in local memory.
    expect(text, file).not.toMatch(/^\s*const \w+\s*(:\s*array[^=]*)?=\s*array/m);
  }
});
