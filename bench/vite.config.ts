/** Bundles the benchmark to plain files that run on a machine with Node.js alone: `--mode node`, then `--mode page`. */
import { execFileSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const root = fileURLToPath(new URL('..', import.meta.url));

/** Baked in, as the machine that measures may have no repository. */
function commit(): string {
  const git = (...args: string[]) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
  try {
    return git('rev-parse', '--short=12', 'HEAD') + (git('status', '--porcelain', '-uno') ? '+changes' : '');
  } catch {
    return 'unknown';
  }
}

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
