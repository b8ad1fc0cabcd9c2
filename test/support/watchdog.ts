/** Notices a test that hangs in code that never waits: its own thread cannot, and the runner's time limit does not end it. */
import { Worker } from 'node:worker_threads';

const SOURCE = `
const { workerData: { state, seconds, what } } = require('node:worker_threads');
let last = -1;
setInterval(() => {
  const now = Atomics.load(state, 0);
  if (now === last) {
    require('node:fs').writeSync(2, '\\n' + what + ' ' + now + ' takes over ' + seconds + ' s: killed\\n');
    process.kill(process.pid, 'SIGKILL');
  }
  last = now;
}, 1000 * seconds);
`;

export interface Watchdog extends AsyncDisposable {
  /** Says which one begins. Where the next does not begin in time, the process ends and names this one. */
  begin(number: number): void;
}

export function watchdog(what: string, seconds: number): Watchdog {
  const state = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(SOURCE, { eval: true, workerData: { state, seconds, what } });
  worker.unref();
  return {
    begin: (number) => void Atomics.store(state, 0, number),
    async [Symbol.asyncDispose]() {
      await worker.terminate();
    },
  };
}
