/** Builds the demo page once, before the files that test it. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  interface ProvidedContext {
    /** The folder that the page was built into. */
    demoFolder: string;
  }
}

export default async function buildDemo(project: TestProject) {
  const root = resolve(import.meta.dirname, '../..');
  const folder = mkdtempSync(join(tmpdir(), 'fp4-webgpu-demo-'));
  // In a process of its own: the test runner transforms Vite, and parts of Vite's own text go into the page.
  const vite = join(root, 'node_modules/vite/bin/vite.js');
  const options = ['--outDir', folder, '--emptyOutDir', '--logLevel', 'error'];
  await promisify(execFile)(process.execPath, [vite, 'build', '-c', 'demo/vite.config.ts', ...options], {
    cwd: root,
  });
  project.provide('demoFolder', folder);
  return () => rmSync(folder, { recursive: true, force: true });
}
