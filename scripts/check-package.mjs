/**
 * Installs the packed package into an empty folder and imports it with plain Node, as its users do: the
 * main entry on its own, the Node entry beside the peer dependency.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { hostNode, inNodeModules, root } from './lib/paths.mjs';

const folder = mkdtempSync(join(tmpdir(), 'fp4-webgpu-package-'));
try {
  const packed = npm(['pack', '--json', '--ignore-scripts', '--pack-destination', folder], root);
  const [{ filename, size, files }] = JSON.parse(packed);
  writeFileSync(join(folder, 'package.json'), '{ "private": true, "type": "module" }\n');
  npm(['install', '--offline', '--omit=peer', '--no-audit', '--no-fund', join(folder, filename)], folder);
  console.log(`${filename}: ${files.length} files, ${(size / 1024).toFixed(0)} KiB`);
  importEntry('fp4-webgpu');
  mkdirSync(join(folder, 'node_modules'), { recursive: true });
  symlinkSync(inNodeModules('webgpu'), join(folder, 'node_modules/webgpu'), 'junction');
  importEntry('fp4-webgpu/node');
  const help = execFileSync(hostNode, [join(folder, 'node_modules/fp4-webgpu/dist/cli/main.js'), '--help'], {
    encoding: 'utf8',
  });
  console.log(`fp4-webgpu --help: ${help.split('\n')[0]}`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/**
 * @param {string[]} args
 * @param {string} cwd
 */
function npm(args, cwd) {
  return execFileSync('npm', args, {
    cwd,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'inherit'],
    shell: process.platform === 'win32',
  });
}

/** @param {string} entry */
function importEntry(entry) {
  const script = `
    const names = Object.keys(await import('${entry}'));
    if (names.length === 0) throw new Error('${entry} exports nothing');
    console.log('${entry} exports ' + names.length + ' names');
    process.exit(0);`;
  execFileSync(hostNode, ['--input-type=module', '-e', script], { cwd: folder, stdio: 'inherit' });
}
