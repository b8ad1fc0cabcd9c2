import { Presets, SingleBar } from 'cli-progress';

/** A bar of megabytes on stderr, and nothing where that is no terminal. */
export class ProgressBar {
  readonly #bar = new SingleBar(
    {
      format: '{bar} {percentage} % of {total} MB, {eta_formatted} left  {name}',
      stream: process.stderr,
      // Ctrl-C is the command's.
      gracefulExit: false,
      clearOnComplete: true,
    },
    Presets.shades_classic,
  );

  /** @param total bytes */
  start(total: number): void {
    this.#bar.start(Math.ceil(total / 1e6), 0, { name: '' });
  }

  update(bytes: number, name: string): void {
    this.#bar.update(Math.floor(bytes / 1e6), { name });
  }

  stop(): void {
    this.#bar.stop();
  }
}

export const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
