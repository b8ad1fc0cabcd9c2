import { spawn, spawnSync } from 'node:child_process';

/**
 * Runs a command and waits for it; its output is returned, not shown.
 * @param {string} command
 * @param {string[]} args
 * @param {import('node:child_process').SpawnSyncOptions} [options]
 */
export function capture(command, args, options = {}) {
  const result = spawnSync(command, args, {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 64 << 20,
    ...options,
  });
  const stdout = String(result.stdout ?? '');
  const stderr = String(result.stderr ?? '') + (result.error ? `${result.error.message}\n` : '');
  return { ok: result.status === 0, status: result.status, stdout, stderr };
}

/**
 * Runs a command in the foreground and resolves to its exit status.
 * @param {string} command
 * @param {string[]} args
 * @param {import('node:child_process').SpawnOptions} [options]
 * @returns {Promise<number>}
 */
export function foreground(command, args, options = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit'], ...options });
    child.on('error', (error) => {
      console.error(`${command}: ${error.message}`);
      resolve(127);
    });
    child.on('close', (code, signal) => resolve(code ?? (signal ? 128 : 1)));
  });
}

/** Whether a program of this name can be started.
 * @param {string} command
 * @param {string[]} [args]
 */
export function canRun(command, args = ['--version']) {
  return capture(command, args).ok;
}

/**
 * What a command said about its failure: its error lines if it marks them as apt does, else its last ones.
 * @param {{ stdout: string, stderr: string }} result
 */
export function failureOf(result) {
  const lines = `${result.stdout}\n${result.stderr}`.split('\n').filter((line) => line.trim() !== '');
  const errors = lines.filter((line) => line.startsWith('E: '));
  return (errors.length > 0 ? errors : lines).slice(-4).join('\n');
}
