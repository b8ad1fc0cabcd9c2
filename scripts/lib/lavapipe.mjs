/**
 * Mesa's software Vulkan driver, lavapipe, in a version new enough for f16 and subgroup matrices.
 *
 * Released distributions ship a Mesa that Dawn refuses or that lacks matrices, so the driver comes from
 * Debian testing, with all libraries it needs down to glibc. Nothing of it is installed: the packages
 * are unpacked into the cache folder, and a launcher starts the host's Node binary with the unpacked
 * dynamic loader and libraries. That needs neither root nor a chroot.
 */
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { aptInstall, architecture, debianMirrors, hasApt } from './apt.mjs';
import { canRun, capture, failureOf } from './exec.mjs';
import { cacheDir, hostNode } from './paths.mjs';
import { SetupError } from './report.mjs';

/** Count this up whenever what is built below changes. */
const recipe = 1;
const suite = 'testing';
const packages = ['mesa-vulkan-drivers', 'libvulkan1', 'libstdc++6', 'libatomic1'];

const home = join(cacheDir, 'lavapipe');
const stampPath = join(home, 'stamp.json');

/** Starts like `node`, on lavapipe's libraries. */
export const lavapipeNode = join(home, 'node');
export const lavapipeIcd = join(home, 'icd.json');

/** What is in the cache, or null when there is nothing usable. */
export function lavapipeStamp() {
  if (!architecture || !existsSync(stampPath)) return null;
  const stamp = JSON.parse(readFileSync(stampPath, 'utf8'));
  return stamp.recipe === recipe && stamp.architecture === architecture.debian ? stamp : null;
}

/**
 * @param {(line: string) => void} log
 * @returns {import('./report.mjs').Outcome}
 */
export function setupLavapipe(log) {
  const part = 'lavapipe';
  if (!architecture) {
    const detail = `for Linux on x64 and arm64; on ${process.platform} ${process.arch} the GPU is used`;
    return { part, state: 'skipped', detail };
  }
  let stamp = lavapipeStamp();
  if (stamp) return { part, state: 'ready', detail: `Mesa ${stamp.mesa} in ${home}` };
  stamp = build(architecture, log);
  return { part, state: 'installed', detail: `Mesa ${stamp.mesa} in ${home}` };
}

/**
 * @param {{ debian: string, triplet: string }} arch
 * @param {(line: string) => void} log
 */
function build(arch, log) {
  if (!hasApt() || !canRun('dpkg-deb')) {
    throw new SetupError('unpacking Debian packages takes apt and dpkg', 'use Debian or Ubuntu, or a GPU');
  }
  const keyring = archiveKeyring(log);
  removeLeftovers();
  const work = `${home}.new-${process.pid}`;
  try {
    const files = download(arch, keyring, join(work, 'apt'), log);
    unpack(files, arch.triplet, work);
    rmSync(join(work, 'apt'), { recursive: true });
    writeLauncher(work);
    const mesa = /mesa-vulkan-drivers_([^_]+)_/.exec(files.join('\n'))?.[1] ?? 'unknown';
    const stamp = { recipe, architecture: arch.debian, suite, mesa: decodeURIComponent(mesa) };
    writeFileSync(join(work, 'stamp.json'), `${JSON.stringify(stamp, null, 2)}\n`);
    moveInto(work, home);
    return stamp;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Removes what interrupted runs left half-made. */
function removeLeftovers() {
  if (!existsSync(cacheDir)) return;
  for (const name of readdirSync(cacheDir)) {
    const pid = /^lavapipe\.(?:new|old)-(\d+)$/.exec(name)?.[1];
    if (pid && !isAlive(Number(pid))) rmSync(join(cacheDir, name), { recursive: true, force: true });
  }
}

/** @param {number} pid */
function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code === 'EPERM';
  }
}

/** @param {(line: string) => void} log */
function archiveKeyring(log) {
  const find = () =>
    ['gpg', 'pgp']
      .map((extension) => `/usr/share/keyrings/debian-archive-keyring.${extension}`)
      .find((path) => existsSync(path));
  if (!find()) aptInstall(['debian-archive-keyring'], log);
  const keyring = find();
  if (!keyring) {
    throw new SetupError("Debian's archive keys are not on this machine", 'install debian-archive-keyring');
  }
  return keyring;
}

/**
 * Downloads the packages and everything that they depend on, with an apt configuration of its own: its
 * list of installed packages is empty, so apt resolves the dependencies all the way down.
 * @param {{ debian: string }} arch
 * @param {string} keyring
 * @param {string} folder
 * @param {(line: string) => void} log
 * @returns {string[]} the package files
 */
function download(arch, keyring, folder, log) {
  for (const name of ['lists/partial', 'cache', 'archives/partial']) {
    mkdirSync(join(folder, name), { recursive: true });
  }
  writeFileSync(join(folder, 'status'), '');
  const options = [
    ['APT::Architecture', arch.debian],
    ['APT::Install-Recommends', 'false'],
    ['APT::Sandbox::User', ''],
    ['Acquire::Languages', 'none'],
    ['Acquire::Retries', '3'],
    // Mirrors of testing may lag behind the archive's two weeks. What they serve is still verified by its signature.
    ['Acquire::Check-Valid-Until', 'false'],
    ['Dir::State', folder],
    ['Dir::State::status', join(folder, 'status')],
    ['Dir::Cache', join(folder, 'cache')],
    ['Dir::Cache::archives', join(folder, 'archives')],
    ['Dir::Etc::sourcelist', join(folder, 'sources.list')],
    ['Dir::Etc::sourceparts', '/dev/null'],
    ['Dir::Etc::preferences', '/dev/null'],
    ['Dir::Etc::preferencesparts', '/dev/null'],
    ['Dir::Log', folder],
  ].map(([name, value]) => `${name} ${JSON.stringify(value)};`);
  // The machine's hooks are about its own package lists.
  const hooks = ['APT::Architectures', 'APT::Update::Post-Invoke', 'APT::Update::Post-Invoke-Success'];
  options.push(...hooks.map((name) => `#clear ${name};`), `APT::Architectures { "${arch.debian}"; };`);
  writeFileSync(join(folder, 'apt.conf'), `${options.join('\n')}\n`);
  // Read after the machine's configuration, so that its proxy settings hold and these come out on top.
  const apt = (/** @type {string[]} */ ...args) =>
    capture('apt-get', ['-c', join(folder, 'apt.conf'), '-q', ...args], {
      env: { ...process.env, LC_ALL: 'C', DEBIAN_FRONTEND: 'noninteractive' },
    });

  const failures = [];
  for (const mirror of debianMirrors()) {
    log(`downloading Mesa from ${mirror} ${suite}`);
    writeFileSync(join(folder, 'sources.list'), `deb [signed-by=${keyring}] ${mirror} ${suite} main\n`);
    // Without this option apt calls a failed download of the lists a success.
    const updated = apt('-o', 'APT::Update::Error-Mode=any', 'update');
    if (/NO_PUBKEY|EXPKEYSIG|not signed|verification/i.test(updated.stderr)) {
      throw new SetupError(
        `the Debian keys on this machine cannot verify ${suite}:\n${failureOf(updated)}`,
        'upgrade debian-archive-keyring',
      );
    }
    const fetched = updated.ok ? apt('-y', '--download-only', 'install', ...packages) : updated;
    if (fetched.ok) {
      const archives = join(folder, 'archives');
      const files = readdirSync(archives).filter((name) => name.endsWith('.deb'));
      return files.map((name) => join(archives, name));
    }
    failures.push(failureOf(fetched));
  }
  const reasons = failures.join('\n');
  throw new SetupError(
    `Mesa could not be downloaded:\n${reasons}`,
    'check the network and the proxy settings of apt, then run npm run setup again',
  );
}

/**
 * Unpacks packages and keeps their shared libraries, other Vulkan drivers and layers excepted.
 * @param {string[]} files
 * @param {string} triplet
 * @param {string} work
 */
function unpack(files, triplet, work) {
  const unpacked = join(work, 'unpacked');
  for (const file of files) {
    const result = capture('dpkg-deb', ['-x', file, unpacked]);
    if (!result.ok) {
      throw new SetupError(
        `${file} could not be unpacked:\n${failureOf(result)}`,
        'check the free disk space',
      );
    }
  }
  const libraries = join(unpacked, 'usr/lib', triplet);
  mkdirSync(join(work, 'lib'));
  for (const name of readdirSync(libraries)) {
    if (!/\.so(\.|$)/.test(name) || /^libVkLayer_|^libvulkan_(?!lvp)/.test(name)) continue;
    renameSync(join(libraries, name), join(work, 'lib', name));
  }
  rmSync(unpacked, { recursive: true });
}

/**
 * Node is started through the unpacked dynamic loader, so it takes its libraries from there, while
 * programs that Node starts go on with the system's: an LD_LIBRARY_PATH would reach those too and break
 * them. Node then takes the loader for its own binary, which the preloaded line corrects, so that child
 * processes and worker pools start through this launcher as well.
 * @param {string} folder
 */
function writeLauncher(folder) {
  const loader = readdirSync(join(folder, 'lib')).find((name) => /^ld-linux.*\.so\.\d+$/.test(name));
  if (!loader) throw new SetupError('the downloaded glibc has no dynamic loader', 'report this as a bug');
  // The loader of Vulkan drivers takes a relative path as relative to this file.
  const icd = {
    file_format_version: '1.0.1',
    ICD: { library_path: './lib/libvulkan_lvp.so', api_version: '1.4.0' },
  };
  writeFileSync(join(folder, 'icd.json'), `${JSON.stringify(icd, null, 2)}\n`);
  const preload = 'process.execPath=process.argv[0]=process.env.FP4_LAVAPIPE_NODE';
  const launcher = [
    '#!/bin/sh',
    '# Node on the libraries beside this file, with lavapipe as its only GPU.',
    'here=$(cd "$(dirname "$0")" && pwd -P)',
    `export FP4_HOST_NODE="\${FP4_HOST_NODE:-${hostNode}}"`,
    'export FP4_LAVAPIPE_NODE="$here/node"',
    'export VK_DRIVER_FILES="$here/icd.json" VK_ICD_FILENAMES="$here/icd.json"',
    `exec "$here/lib/${loader}" --library-path "$here/lib" "$FP4_HOST_NODE" \\`,
    `  --import "data:text/javascript,${preload}" "$@"`,
    '',
  ];
  const path = join(folder, 'node');
  writeFileSync(path, launcher.join('\n'));
  chmodSync(path, 0o755);
  const started = capture(path, ['-p', 'process.execPath']);
  if (started.stdout.trim() !== realpathSync(path)) {
    throw new SetupError(
      `Node does not start on the unpacked libraries:\n${failureOf(started)}`,
      'report this',
    );
  }
}

/**
 * Puts a finished folder in its place. Another process may have done the same meanwhile; then its folder
 * stays.
 * @param {string} from
 * @param {string} to
 */
function moveInto(from, to) {
  const old = `${to}.old-${process.pid}`;
  if (existsSync(to)) {
    if (lavapipeStamp()) return;
    renameSync(to, old);
  }
  try {
    renameSync(from, to);
  } catch (error) {
    if (!lavapipeStamp()) throw error;
  }
  rmSync(old, { recursive: true, force: true });
}
