/** Writing to a disk, and its errors in words. Node only. */
import type { FileHandle } from 'node:fs/promises';
import { CheckpointError } from '../errors.js';
import { quote } from './strict-json.js';

const REASONS: Readonly<Record<string, string>> = {
  ENOSPC: 'no space is left on the device; make room and run it again',
  EDQUOT: 'the quota of the disk is used up; make room and run it again',
  EROFS: 'the file system is read-only',
  EACCES: 'permission denied',
  EPERM: 'permission denied',
  EMFILE: 'too many files are open',
};

/** @param cause what a function of `node:fs` threw */
export function diskError(
  path: string,
  cause: unknown,
  what: 'written' | 'read' = 'written',
): CheckpointError {
  if (cause instanceof CheckpointError) return cause;
  const { code } = cause as NodeJS.ErrnoException;
  const reason = REASONS[code ?? ''] ?? String(cause);
  return new CheckpointError('file', `${path}: cannot be ${what} (${code ?? 'error'}): ${reason}`, { cause });
}

/** Where a tensor lies in a file that is written in parts. */
export interface TensorPlace {
  readonly start: number;
  readonly end: number;
}

/** Refuses bytes, from byte `offset` of a tensor on, that are not all inside it. */
export function checkPart(
  tensor: string,
  { start, end }: TensorPlace,
  bytes: Uint8Array,
  offset: number,
  fail: (message: string) => never,
): void {
  if (!(Number.isSafeInteger(offset) && offset >= 0 && start + offset + bytes.length <= end)) {
    const range = `bytes ${offset}..${offset + bytes.length}`;
    fail(`${range} of tensor ${quote(tensor)} are not inside its ${end - start}`);
  }
}

/** Refuses a tensor of which `written` bytes are there while it has others. */
export function checkWritten(
  tensor: string,
  { start, end }: TensorPlace,
  written: number,
  fail: (message: string) => never,
): void {
  if (written !== end - start) {
    fail(`${written} bytes of tensor ${quote(tensor)} were written, which has ${end - start}`);
  }
}

/** Writes all of `bytes`: one call may take only some. */
export async function writeAt(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await handle.write(bytes, at, bytes.length - at, position + at);
    at += bytesWritten;
  }
}
