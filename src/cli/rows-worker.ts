/** A thread that quantizes rows. */
import { parentPort } from 'node:worker_threads';
import { answerRows, type RowsTask } from './rows-task.js';

parentPort!.on('message', (task: RowsTask) => parentPort!.postMessage(answerRows(task)));
