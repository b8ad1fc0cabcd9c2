/** Where peers are installed: in bench/peers, in what `pack.mjs` made of it, or on NODE_PATH. */
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Onnxruntime } from './onnxruntime.js';

const FOLDERS = ['bench/peers', 'dist-bench/peers'].map((folder) => resolve(folder));

/** onnxruntime-node, or undefined where it is not installed. */
export function loadOnnxruntimeNode(): Onnxruntime | undefined {
  for (const from of [...FOLDERS, dirname(fileURLToPath(import.meta.url))]) {
    const require = createRequire(join(from, 'package.json'));
    try {
      return require('onnxruntime-node') as Onnxruntime;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error;
    }
  }
  console.error(
    'onnxruntime-node is not installed (npm ci --prefix bench/peers): the library is measured alone',
  );
  return undefined;
}

/** The folder of onnxruntime-web's modules, or undefined where it is not installed. */
export function onnxruntimeWebFolder(): string | undefined {
  const found = FOLDERS.map((folder) => join(folder, 'node_modules/onnxruntime-web/dist')).find((path) =>
    existsSync(path),
  );
  if (!found) {
    console.error(
      'onnxruntime-web is not installed (npm ci --prefix bench/peers): the library is measured alone',
    );
  }
  return found;
}
