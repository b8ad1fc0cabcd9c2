import { Presets, SingleBar } from 'cli-progress';

/** What a bar counts, and how many of it are one of its units. */
const UNITS = { MB: 1e6, sequences: 1 } as const;

/** A bar on stderr, and nothing where that is no terminal. */
export class ProgressBar {
  readonly #bar: SingleBar;
  readonly #unit: number;

  constructor(unit: keyof typeof UNITS = 'MB') {
    this.#unit = UNITS[unit];
    this.#bar = new SingleBar(
      {
        format: `{bar} {percentage} % of {total} ${unit}, {eta_formatted} left  {name}`,
        stream: process.stderr,
        // Ctrl-C is the command's.
        gracefulExit: false,
        clearOnComplete: true,
      },
      Presets.shades_classic,
    );
  }

  /** @param total bytes, or sequences */
  start(total: number): void {
    this.#bar.start(Math.ceil(total / this.#unit), 0, { name: '' });
  }

  update(done: number, name: string): void {
    this.#bar.update(Math.floor(done / this.#unit), { name });
  }

  stop(): void {
    this.#bar.stop();
  }
}

export const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
