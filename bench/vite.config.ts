/** Bundles the benchmark to plain files that run on a machine with Node.js alone: `--mode node`, then `--mode page`. */
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';
import { commit } from './commit.js';

const root = fileURLToPath(new URL('..', import.meta.url));

export default defineConfig(({ mode }) => ({
  root: mode === 'page' ? fileURLToPath(new URL('./page', import.meta.url)) : root,
  base: './',
  define: { __COMMIT__: JSON.stringify(commit()) },
  build: {
    target: 'es2022',
    minify: false,
    emptyOutDir: true,
    ...(mode === 'page'
      ? { outDir: `${root}/dist-bench/page` }
      : {
          ssr: true,
          outDir: `${root}/dist-bench/node`,
          rollupOptions: {
            input: { bench: `${root}/bench/main.ts` },
            external: ['webgpu'],
            output: { entryFileNames: '[name].mjs', chunkFileNames: '[name]-[hash].mjs' },
          },
        }),
  },
  ssr: { noExternal: true, external: ['webgpu'] },
}));
