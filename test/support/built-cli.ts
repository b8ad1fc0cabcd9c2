/** The command line as it is installed: built, in processes of its own, with its threads. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { build } from 'vite';

const root = resolve(import.meta.dirname, '../..');

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class BuiltCli implements AsyncDisposable {
  readonly #folder: string;

  private constructor(folder: string) {
    this.#folder = folder;
  }

  static async build(): Promise<BuiltCli> {
    // Inside the repository, as the peer dependency is looked for from there.
    const folder = await mkdtemp(join(root, 'node_modules/.fp4-cli-'));
    const configFile = join(root, 'vite.config.ts');
    await build({ root, configFile, logLevel: 'error', build: { outDir: folder, sourcemap: false } });
    return new BuiltCli(folder);
  }

  /** Runs a command to its end. @param during is called when it has begun */
  run(args: readonly string[], during?: (child: ChildProcess, stderr: string) => void): Promise<Ended> {
    const child = spawn(process.execPath, [join(this.#folder, 'cli/main.js'), ...args]);
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (text) => {
      stdout += text;
    });
    child.stderr.on('data', (text) => {
      stderr += text;
      during?.(child, stderr);
    });
    return new Promise((done, fail) => {
      child.on('error', fail);
      child.on('close', (code) => done({ code, stdout, stderr }));
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#folder, { recursive: true });
  }
}
