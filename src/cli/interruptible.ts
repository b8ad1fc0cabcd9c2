/** Commands that take long: a bar on the terminal, and Ctrl-C. */
import { ProgressBar } from './progress.js';

export interface InterruptibleCommand<Summary> {
  /** Does the work; rejects soon after the signal. */
  run(signal: AbortSignal, bar: ProgressBar): Promise<Summary>;
  /** What the bar counts; bytes by default. */
  readonly unit?: 'MB' | 'sequences';
  /** At once on Ctrl-C, where stopping takes a while. */
  readonly stopping?: string;
  /** What an interruption leaves behind. */
  readonly left: string;
  /** On stdout when it is done. */
  print(summary: Summary): string;
}

/** Runs a command; sets the exit code of an interrupted one. @throws what the work throws otherwise */
export async function runInterruptible<Summary>(command: InterruptibleCommand<Summary>): Promise<void> {
  const interrupt = new AbortController();
  const onInterrupt = () => {
    if (command.stopping) process.stderr.write(`\n${command.stopping}\n`);
    interrupt.abort();
  };
  process.once('SIGINT', onInterrupt);
  const bar = new ProgressBar(command.unit);
  try {
    const summary = await command.run(interrupt.signal, bar);
    bar.stop();
    console.log(command.print(summary));
  } catch (error) {
    bar.stop();
    if (!interrupt.signal.aborted) throw error;
    process.stderr.write(`interrupted; ${command.left}\n`);
    process.exitCode = 130;
  } finally {
    process.off('SIGINT', onInterrupt);
  }
}
