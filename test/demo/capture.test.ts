/** The command that measures with the built page where nobody looks on: what it keeps, and how it fails. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { build } from 'vite';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { OverheadResult } from '../../demo/overhead.js';
import { useDemo } from '../support/demo.js';

const root = resolve(import.meta.dirname, '../..');
const demo = useDemo();
const folder = mkdtempSync(join(tmpdir(), 'fp4-webgpu-capture-'));
const software =
  process.env.FP4_BROWSER_ADAPTER === 'system' || process.platform !== 'linux' ? [] : ['--software'];

beforeAll(async () => {
  await build({
    configFile: join(root, 'demo/vite.config.ts'),
    mode: 'capture',
    build: { outDir: folder },
    logLevel: 'error',
  });
  writeFileSync(
    join(folder, 'fonts.conf'),
    `<!DOCTYPE fontconfig SYSTEM "fonts.dtd"><fontconfig><cachedir>${folder}</cachedir></fontconfig>`,
  );
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Runs it as on a machine where Playwright is found by NODE_PATH. */
function capture(args: readonly string[], env: Record<string, string> = {}) {
  return new Promise<{ status: number; stdout: string; stderr: string }>((done) => {
    execFile(
      process.execPath,
      [join(folder, 'capture.mjs'), '--page', demo.folder, '--out', join(folder, 'out'), ...args],
      { env: { ...process.env, NODE_PATH: join(root, 'node_modules'), ...env } },
      (error, stdout, stderr) => done({ status: error ? Number(error.code) : 0, stdout, stderr }),
    );
  });
}

test('keeps what the page exports, and how it looks', async () => {
  const link = 'm=1&n=32&k=32&x=float&rounds=1&epilogue=0&formats=mxfp4';
  const { status, stdout, stderr } = await capture(['--settings', link, '--developer-features', ...software]);
  expect(status, stderr).toBe(0);
  const name = 'fp4-overhead-1x32x32-float';
  const pictures = [390, 1280].flatMap((width) =>
    ['dark', 'light'].map((scheme) => `fp4-page-1x32x32-float-${width}-${scheme}.png`),
  );
  const files = [...pictures, `${name}.csv`, `${name}.json`, `${name}.md`, 'capture.json'];
  const out = join(folder, 'out');
  expect(readdirSync(out).sort()).toEqual(files.sort());
  const { settings, rows } = JSON.parse(readFileSync(join(out, `${name}.json`), 'utf8')) as OverheadResult;
  expect(settings).toMatchObject({ m: 1, n: 32, k: 32, rounds: 1, epilogue: false, formats: ['mxfp4'] });
  expect(rows).toMatchObject([{ recipe: 'mxfp4', status: 'ok' }]);
  const markdown = readFileSync(join(out, `${name}.md`), 'utf8');
  expect(markdown).toContain(`| MXFP4, floor | `);
  expect(stdout).toContain(markdown.trim());
  expect(JSON.parse(readFileSync(join(out, 'capture.json'), 'utf8'))).toMatchObject({
    links: [link],
    flags: expect.arrayContaining(['--enable-webgpu-developer-features']),
  });
});

test.each([
  ['a setting that the page does not take', ['--settings', 'k=100'], {}, /k=100; that is taken as 4096/],
  ['a page that is not built', ['--page', '/nowhere'], {}, /\/nowhere has no built page/],
  [
    'a browser that is not there',
    [],
    { CHROMIUM_PATH: '/nowhere/chromium' },
    /CHROMIUM_PATH.*does not start/,
  ],
  [
    'a system without fonts',
    software,
    { FONTCONFIG_FILE: join(folder, 'fonts.conf') },
    /finds no font; install one/,
  ],
  [
    'a run that takes too long',
    ['--settings', 'm=1&n=64&k=64&rounds=9', '--timeout', '0.1', ...software],
    {},
    /took more than 0.1 s, at: .*--timeout allows more/,
  ],
] as const)('%s is an error in words', async (_, args, env, message) => {
  const { status, stderr } = await capture(args, env);
  expect(status).toBe(2);
  expect(stderr).toMatch(message);
  expect(stderr).not.toMatch(/\n {4}at /);
});
