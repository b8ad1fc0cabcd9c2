import { homedir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository's root folder. */
export const root = resolve(dirname(fileURLToPath(import.meta.url)), '../..');

/** What the setup downloads is kept here, outside the repository, so that clones share it. */
export const cacheDir =
  process.env.FP4_WEBGPU_CACHE || join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'fp4-webgpu');

/** The Node binary that runs the scripts; the lavapipe launcher sets the variable to the real one. */
export const hostNode = process.env.FP4_HOST_NODE || process.execPath;

/** @param {string} name path below node_modules */
export const inNodeModules = (name) => join(root, 'node_modules', name);
