/** A model from a folder on disk: what only Node has. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { diskError } from '../../src/checkpoint/disk.js';
import { openCheckpointFile } from '../../src/node.js';
import { type LlamaSource, openLlama } from './source.js';

export interface LlamaFolder extends LlamaSource, AsyncDisposable {}

/** @throws CheckpointError where a file is missing or malformed; as `openLlama` besides */
export async function openLlamaFolder(folder: string): Promise<LlamaFolder> {
  const checkpoint = await openCheckpointFile(folder);
  const text = async (file: string) => {
    const path = join(folder, file);
    return readFile(path, 'utf8').catch((cause) => {
      throw diskError(path, cause, 'read');
    });
  };
  try {
    const source = await openLlama({ name: folder, checkpoint, text });
    return { ...source, [Symbol.asyncDispose]: () => checkpoint.close() };
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}
