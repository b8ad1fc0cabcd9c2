/** Threads that take turns with tasks, one task a thread at a time. */
import { Worker } from 'node:worker_threads';

export class WorkerPool<Task, Result> {
  readonly size: number;
  readonly #workers: readonly Worker[];
  readonly #idle: Worker[];
  readonly #waiting: ((worker: Worker) => void)[] = [];

  constructor(script: URL, size: number) {
    this.size = size;
    this.#workers = Array.from({ length: size }, () => new Worker(script));
    this.#idle = [...this.#workers];
  }

  async run(task: Task): Promise<Result> {
    const worker = this.#idle.pop() ?? (await new Promise<Worker>((resolve) => this.#waiting.push(resolve)));
    const result = await new Promise<Result>((resolve, reject) => {
      const stop = (then: () => void) => {
        worker.removeAllListeners('message');
        worker.removeAllListeners('error');
        then();
      };
      worker.on('message', (message: Result) => stop(() => resolve(message)));
      // A thread with an error ends; so does the command.
      worker.on('error', (error) => stop(() => reject(error)));
      worker.postMessage(task);
    });
    const next = this.#waiting.shift();
    if (next) next(worker);
    else this.#idle.push(worker);
    return result;
  }

  /** Ends all threads, tasks finished or not. */
  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }
}
