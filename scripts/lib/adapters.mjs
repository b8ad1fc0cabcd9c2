/** The adapters that Dawn can be run on under Node, and how a Node process is started on each. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { architecture } from './apt.mjs';
import { swiftshaderIcd } from './browser.mjs';
import { capture } from './exec.mjs';
import { lavapipeIcd, lavapipeNode, lavapipeStamp } from './lavapipe.mjs';
import { cacheDir, hostNode, inNodeModules } from './paths.mjs';

/**
 * @typedef {'swiftshader' | 'lavapipe' | 'system'} AdapterId
 * @typedef {{ id: AdapterId, node: string, env: Record<string, string> }} Adapter
 *   `node` is the binary to start scripts with, `env` what to add to the environment.
 * @typedef {{
 *   vendor: string, architecture: string, device: string, description: string,
 *   isFallbackAdapter: boolean, features: string[],
 * }} AdapterDescription
 */

/** @param {string} icd */
const driverEnv = (icd) => ({ VK_DRIVER_FILES: icd, VK_ICD_FILENAMES: icd });

const makers = {
  swiftshader() {
    const icd = swiftshaderIcd();
    return icd ? { node: hostNode, env: driverEnv(icd) } : null;
  },
  lavapipe() {
    if (!lavapipeStamp()) return null;
    // Mesa keeps what it has compiled below HOME, which not every machine that tests has.
    const shaders = process.env.MESA_SHADER_CACHE_DIR ?? join(cacheDir, 'shaders');
    const env = { ...driverEnv(lavapipeIcd), FP4_HOST_NODE: hostNode, MESA_SHADER_CACHE_DIR: shaders };
    return { node: lavapipeNode, env };
  },
  /** The machine's own GPU, unless what its drivers offer is another software adapter. */
  system() {
    const adapter = { node: hostNode, env: {} };
    const found = probe(adapter);
    return found && !isSoftware(found) ? adapter : null;
  },
};

/**
 * The adapter of this id, or null where it cannot be had.
 * @param {AdapterId} id
 * @returns {Adapter | null}
 */
export function findAdapter(id) {
  const found = makers[id]();
  return found && { id, ...found };
}

/**
 * Whether this adapter belongs to this kind of system, so that its absence is a fault. On Linux a GPU is
 * a bonus, elsewhere it is all there is.
 * @param {AdapterId} id
 */
export function isExpected(id) {
  return (id === 'system') === (architecture === undefined);
}

/**
 * What Dawn reports on an adapter, or null when it finds none.
 * @param {{ node: string, env: Record<string, string> }} adapter
 * @returns {AdapterDescription | null}
 */
export function probe({ node, env }) {
  if (!existsSync(inNodeModules('webgpu'))) return null;
  const script = fileURLToPath(new URL('./probe.mjs', import.meta.url));
  const result = capture(node, [script], { env: { ...process.env, ...env }, timeout: 60_000 });
  if (!result.ok) return null;
  return JSON.parse(result.stdout.trim().split('\n').at(-1) || 'null');
}

/** @param {AdapterDescription} description */
function isSoftware({ isFallbackAdapter, architecture, device }) {
  return isFallbackAdapter || /swiftshader|software|llvmpipe|lavapipe/i.test(`${architecture} ${device}`);
}
