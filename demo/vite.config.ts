/**
 * Builds the demo page to plain files that any static server can hold; with `--mode capture`, the tool that measures with
 * it in headless Chromium to one file for Node.js alone.
 */
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';
import { commit } from '../bench/commit.js';

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig(({ mode }) => ({
  root: here('.'),
  // Relative, so that the page works below any path.
  base: './',
  define: { __COMMIT__: JSON.stringify(commit()) },
  build: {
    target: 'es2022',
    emptyOutDir: true,
    ...(mode === 'capture'
      ? {
          ssr: true,
          minify: false,
          outDir: here('../dist-demo-capture'),
          rollupOptions: {
            input: { capture: here('./capture.ts') },
            output: { entryFileNames: '[name].mjs', chunkFileNames: '[name]-[hash].mjs' },
          },
        }
      : { outDir: here('../dist-demo') }),
  },
  ssr: { noExternal: true },
}));
