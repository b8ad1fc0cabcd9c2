import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { BenchFile } from './schema.js';

/** Keeps a file up to date, a second behind at most until it is flushed, and never half written. */
export class ResultsWriter {
  readonly path: string;
  #last = 0;
  #pending: BenchFile | undefined;

  constructor(path: string) {
    this.path = path;
    mkdirSync(dirname(path), { recursive: true });
  }

  offer(file: BenchFile): void {
    this.#pending = file;
    if (performance.now() - this.#last > 1000) this.flush();
  }

  /** Writes what was offered last where that has not happened: before anything that may take the process with it. */
  flush(): void {
    if (this.#pending) this.write(this.#pending);
  }

  write(file: BenchFile): void {
    const temporary = `${this.path}.${process.pid}`;
    writeFileSync(temporary, `${JSON.stringify(file, null, 1)}\n`);
    renameSync(temporary, this.path);
    this.#last = performance.now();
    this.#pending = undefined;
  }
}
