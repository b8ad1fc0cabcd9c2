import { availableParallelism } from 'node:os';
import { playwright } from '@vitest/browser-playwright';
import { defineConfig } from 'vitest/config';
import { chromiumArgs } from './scripts/lib/chromium-args.mjs';

// Chromium on Linux is tested on SwiftShader, which every machine has; a GPU is used when asked for.
const browserAdapter =
  process.env.FP4_BROWSER_ADAPTER === 'system' || process.platform !== 'linux' ? 'system' : 'swiftshader';
const chromiumPath = process.env.CHROMIUM_PATH;

export default defineConfig({
  build: {
    target: 'es2022',
    minify: false,
    sourcemap: true,
    // Built for Node because of the command line; the library's own entry imports nothing that a browser lacks.
    ssr: true,
    rollupOptions: {
      input: {
        index: 'src/index.ts',
        node: 'src/node.ts',
        'cli/main': 'src/cli/main.ts',
        'cli/quantize-worker': 'src/cli/quantize-worker.ts',
        'cli/rows-worker': 'src/cli/rows-worker.ts',
      },
      external: ['webgpu'],
      output: { entryFileNames: '[name].js', chunkFileNames: 'chunks/[name]-[hash].js' },
    },
  },
  // The command line's packages are bundled, so that installing the library installs nothing else.
  ssr: { noExternal: true, external: ['webgpu'] },
  test: {
    projects: [
      {
        extends: true,
        test: {
          name: 'cpu',
          include: ['test/cpu/**/*.test.ts'],
          environment: 'node',
          // Vitest leaves one core idle by itself.
          maxWorkers: availableParallelism(),
          // Other work may have the cores.
          testTimeout: 30_000,
        },
      },
      {
        // Minutes, and gigabytes now and then: not part of `npm test`.
        extends: true,
        test: {
          name: 'long',
          include: ['test/long/**/*.test.ts'],
          environment: 'node',
          pool: 'forks',
          fileParallelism: false,
          testTimeout: 600_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'gpu',
          include: ['test/gpu/**/*.test.ts'],
          environment: 'node',
          setupFiles: ['test/support/patient-polling.ts'],
          // A process per file: Dawn keeps its process alive. Two at a time, as a software GPU compiles on one core.
          pool: 'forks',
          maxWorkers: 2,
          testTimeout: 300_000,
          hookTimeout: 120_000,
        },
      },
      {
        // The built demo page, driven from Node.
        extends: true,
        test: {
          name: 'demo',
          include: ['test/demo/**/*.test.ts'],
          environment: 'node',
          globalSetup: ['test/support/build-demo.ts'],
          maxWorkers: 2,
          testTimeout: 180_000,
          hookTimeout: 120_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'browser',
          include: ['test/browser/**/*.test.ts'],
          env: { FP4_ADAPTER: browserAdapter },
          fileParallelism: false,
          testTimeout: 120_000,
          hookTimeout: 120_000,
          browser: {
            enabled: true,
            headless: true,
            screenshotFailures: false,
            provider: playwright({
              launchOptions: {
                args: chromiumArgs(browserAdapter),
                // Without a path, Playwright's own Chromium: its full build, as only that has the GPU.
                ...(chromiumPath ? { executablePath: chromiumPath } : { channel: 'chromium' }),
              },
            }),
            instances: [{ browser: 'chromium' }],
          },
        },
      },
    ],
  },
});
