import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { canRun, capture, failureOf } from './exec.mjs';
import { SetupError } from './report.mjs';

const debianArchive = 'http://deb.debian.org/debian';

/** Node's name of this processor → Debian's name of the architecture and its library folder. */
const architectures = {
  x64: { debian: 'amd64', triplet: 'x86_64-linux-gnu' },
  arm64: { debian: 'arm64', triplet: 'aarch64-linux-gnu' },
};

/** Debian's names for this processor; undefined where the software adapters are not offered. */
export const architecture =
  process.platform === 'linux' ? architectures[/** @type {'x64'} */ (process.arch)] : undefined;

/** The distribution's id of /etc/os-release, e.g. 'debian' or 'ubuntu'; '' when unknown. */
export function distribution() {
  try {
    const release = readFileSync('/etc/os-release', 'utf8');
    return /^ID="?([^"\n]*)"?$/m.exec(release)?.[1] ?? '';
  } catch {
    return '';
  }
}

export const hasApt = () => process.platform === 'linux' && canRun('apt-get') && canRun('dpkg');

/** How to run a command as root without being asked for a password; null when there is no way. */
function privilege() {
  if (process.getuid?.() === 0) return [];
  return capture('sudo', ['-n', 'true']).ok ? ['sudo', '-n'] : null;
}

let listsAreFresh = false;

/**
 * Installs system packages.
 * @param {string[]} packages
 * @param {(line: string) => void} log
 */
export function aptInstall(packages, log) {
  const command = `apt-get install ${packages.join(' ')}`;
  if (!hasApt()) {
    throw new SetupError('this system has no apt', `install what ${packages.join(', ')} provide by hand`);
  }
  const prefix = privilege();
  if (prefix === null) {
    throw new SetupError('apt needs root, and sudo asks for a password', `run: sudo ${command}`);
  }
  log(command);
  const apt = [
    ...prefix,
    'env',
    'DEBIAN_FRONTEND=noninteractive',
    'apt-get',
    '-o',
    'DPkg::Lock::Timeout=120',
  ];
  const run = (/** @type {string[]} */ ...args) => capture(apt[0], [...apt.slice(1), ...args]);
  if (!listsAreFresh) {
    // A third-party source that fails to update is no reason to give up: the install tells.
    run('-q', 'update');
    listsAreFresh = true;
  }
  const installed = run('-q', '-y', '--no-install-recommends', 'install', ...packages);
  if (!installed.ok) {
    throw new SetupError(
      `apt could not install ${packages.join(', ')}:\n${failureOf(installed)}`,
      `run: ${command}`,
    );
  }
}

/**
 * The Debian mirror that this machine is set up to use, and the public one as a fallback.
 * @param {string} [etc] the folder of apt's configuration
 */
export function debianMirrors(etc = '/etc/apt') {
  const files = [join(etc, 'sources.list')];
  const parts = join(etc, 'sources.list.d');
  if (existsSync(parts)) files.push(...readdirSync(parts).map((name) => join(parts, name)));
  const found = files.flatMap((file) => {
    if (!existsSync(file)) return [];
    if (file.endsWith('.list')) return oneLineUris(readFileSync(file, 'utf8'));
    if (file.endsWith('.sources')) return deb822Uris(readFileSync(file, 'utf8'));
    return [];
  });
  // Security updates live in an archive of their own, which has no testing suite of use here.
  const mirrors = found.map((uri) => uri.replace(/\/+$/, '')).filter((uri) => /\/debian$/.test(uri));
  return [...new Set([...mirrors, debianArchive])];
}

/** @param {string} text `deb [options] URI suite component…` */
function oneLineUris(text) {
  return [...text.matchAll(/^\s*deb\s+(?:\[[^\]]*\]\s*)?(\S+)/gm)].map((match) => match[1]);
}

/** @param {string} text stanzas of `Field: value` */
function deb822Uris(text) {
  return text.split(/\n\s*\n/).flatMap((stanza) => {
    if (/^Enabled:\s*no/im.test(stanza) || !/^Types:.*\bdeb\b/im.test(stanza)) return [];
    return /^URIs:\s*(.+)$/im.exec(stanza)?.[1].trim().split(/\s+/) ?? [];
  });
}
