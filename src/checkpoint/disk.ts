/** Errors of writing to a disk, in words. Node only. */
import { CheckpointError } from '../errors.js';

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
