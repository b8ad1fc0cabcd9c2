import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ResultsWriter } from '../../../bench/writer.js';
import { around, benchFile, row } from './files.js';

test('what is offered is there at once or when it is flushed', () => {
  const folder = mkdtempSync(join(tmpdir(), 'fp4-webgpu-test-'));
  try {
    const writer = new ResultsWriter(join(folder, 'new/results.json'));
    const rows = [0, 1, 2].map((i) => row(i, around(1)));
    const count = () => JSON.parse(readFileSync(writer.path, 'utf8')).rows.length;
    writer.write(benchFile(rows.slice(0, 1)));
    writer.offer(benchFile(rows.slice(0, 2)));
    writer.offer(benchFile(rows));
    expect(count()).toBe(1);
    writer.flush();
    expect(count()).toBe(3);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
