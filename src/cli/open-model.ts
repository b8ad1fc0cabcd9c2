import { openCheckpoint } from '../checkpoint/open.js';
import { type CheckpointFile, openCheckpointFile } from '../node.js';

/** A checkpoint by a path or a URL. */
export async function openModel(path: string): Promise<CheckpointFile> {
  if (!/^https?:/.test(path)) return openCheckpointFile(path);
  const close = async () => {};
  return { ...(await openCheckpoint(new URL(path))), close, [Symbol.asyncDispose]: close };
}
