import { openCheckpoint } from '../checkpoint/open.js';
import { type CheckpointFile, openCheckpointFile } from '../node.js';

export function isUrl(path: string): boolean {
  return /^https?:/.test(path);
}

/** A checkpoint by a path or a URL. */
export async function openModel(path: string): Promise<CheckpointFile> {
  if (!isUrl(path)) return openCheckpointFile(path);
  const close = async () => {};
  return { ...(await openCheckpoint(new URL(path))), close, [Symbol.asyncDispose]: close };
}
