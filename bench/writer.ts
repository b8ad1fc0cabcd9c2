import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import type { BenchFile } from './schema.js';

/** Keeps a file up to date, a second behind at most, and never half written. */
export class ResultsWriter {
  readonly path: string;
  #last = 0;

  constructor(path: string) {
    this.path = path;
    mkdirSync(dirname(path), { recursive: true });
  }

  offer(file: BenchFile): void {
    if (performance.now() - this.#last > 1000) this.write(file);
  }

  write(file: BenchFile): void {
    const temporary = `${this.path}.${process.pid}`;
    writeFileSync(temporary, `${JSON.stringify(file, null, 1)}\n`);
    renameSync(temporary, this.path);
    this.#last = performance.now();
  }
}
