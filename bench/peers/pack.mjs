/**
 * Packs the installed peers for a machine without network: only what one platform and host loads, of 400 MB.
 *
 *   node bench/peers/pack.mjs node|web [platform-arch]     e.g. node linux-x64
 *
 * makes dist-bench/peers-<host>.tar.xz; there, `tar -xf dist-bench/peers-node.tar.xz -C dist-bench` from the project's root.
 */
import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';

const root = resolve(import.meta.dirname, '../..');
const modules = join(import.meta.dirname, 'node_modules');
const [host, platform = 'linux-x64'] = process.argv.slice(2);
if (host !== 'node' && host !== 'web') {
  console.error('usage: node bench/peers/pack.mjs node|web [platform-arch]');
  process.exit(2);
}

const work = mkdtempSync(join(tmpdir(), 'fp4-webgpu-peers-'));
try {
  const target = join(work, 'peers/node_modules');
  if (host === 'node') packNode(target);
  else packWeb(target);
  mkdirSync(join(root, 'dist-bench'), { recursive: true });
  const file = join(root, `dist-bench/peers-${host}.tar.xz`);
  execFileSync('tar', ['-cJf', file, 'peers'], { cwd: work, env: { ...process.env, XZ_OPT: '-T0 -6' } });
  console.log(`${file}: ${(statSync(file).size / 2 ** 20).toFixed(1)} MiB`);
} finally {
  rmSync(work, { recursive: true, force: true });
}

/** @param {string} target */
function packNode(target) {
  const other = (/** @type {string} */ path) => {
    const binary = /\/bin\/napi-v\d+\/([^/]+)\/([^/]+)/.exec(path);
    return binary !== null && `${binary[1]}-${binary[2]}` !== platform;
  };
  for (const name of ['onnxruntime-node', 'onnxruntime-common']) {
    cpSync(join(modules, name), join(target, name), {
      recursive: true,
      filter: (path) => !other(path) && !path.endsWith('.map'),
    });
  }
}

/** @param {string} target */
function packWeb(target) {
  const dist = join(modules, 'onnxruntime-web/dist');
  for (const name of readdirSync(dist)) {
    if (/^ort\.webgpu\.bundle\.min\.mjs$|\.asyncify\.(mjs|wasm)$/.test(name)) {
      cpSync(join(dist, name), join(target, 'onnxruntime-web/dist', name));
    }
  }
}
