/** Running long work from a panel: progress, cancel, errors, and starting again after the device was lost. */
import { DeviceLostError } from '../src/index.js';
import { element, find } from './dom.js';
import type { Session } from './session.js';

/** What work is given to go on with. */
export interface RunContext {
  readonly session: Session;
  readonly signal: AbortSignal;
  progress(done: number, total: number, what: string): void;
}

type Work = (context: RunContext) => Promise<string>;

/** All panels; one runs at a time, as two would measure each other. */
const panels: RunPanel[] = [];

export class RunPanel {
  readonly #button: HTMLButtonElement;
  readonly #cancel: HTMLButtonElement;
  readonly #bar: HTMLProgressElement;
  readonly #status: HTMLElement;
  readonly #alert: HTMLElement;
  #controller: AbortController | undefined;

  /**
   * @param root holds `.run`, `.cancel`, `progress`, `.status` and `.alert`
   * @param session a device that works: a new one where the last was lost
   * @param work resolves to what is said when it is done
   */
  constructor(
    root: HTMLElement,
    readonly session: () => Promise<Session>,
    readonly work: Work,
  ) {
    this.#button = find<HTMLButtonElement>('.run', root);
    this.#cancel = find<HTMLButtonElement>('.cancel', root);
    this.#bar = find<HTMLProgressElement>('progress', root);
    this.#status = find('.status', root);
    this.#alert = find('.alert', root);
    this.#button.addEventListener('click', () => void this.start());
    this.#cancel.addEventListener('click', () => this.#controller?.abort());
    panels.push(this);
  }

  /** Never rejects: what fails is shown. */
  async start(): Promise<void> {
    if (panels.some((panel) => panel.#controller)) return;
    const controller = new AbortController();
    this.#controller = controller;
    this.#alert.replaceChildren();
    this.#show(true);
    this.#status.textContent = 'Starting';
    try {
      this.#status.textContent = await this.#attempt(controller);
    } catch (error) {
      if (error === controller.signal.reason) {
        this.#status.textContent = 'Cancelled.';
      } else {
        this.#status.textContent = 'Stopped.';
        this.#fail(error);
      }
    } finally {
      this.#controller = undefined;
      this.#show(false);
    }
  }

  async #attempt(controller: AbortController): Promise<string> {
    const session = await this.session();
    const { signal } = controller;
    const work = this.work({
      session,
      signal,
      progress: (done, total, what) => {
        this.#bar.max = total;
        this.#bar.value = done;
        if (this.#status.textContent !== what) this.#status.textContent = what;
      },
    });
    const lost = session.lost.then((error) => {
      throw error;
    });
    try {
      // Work that is between two awaits of the device would learn of it later.
      return await Promise.race([work, lost]);
    } catch (error) {
      const cancelled = signal.aborted;
      controller.abort();
      // It goes on to its next look at the signal; what it then throws has been told already.
      work.catch(() => {});
      if (cancelled) throw signal.reason;
      throw session.lostError ?? error;
    }
  }

  #fail(error: unknown): void {
    const lost = error instanceof DeviceLostError;
    const message = error instanceof Error ? error.message : String(error);
    this.#alert.append(
      element('p', {}, lost ? `The GPU went away in the middle of the run. ${message}` : message),
    );
    if (!lost) return;
    const again = element('button', { type: 'button', class: 'again' }, 'Start again on a new device');
    again.addEventListener('click', () => void this.start());
    this.#alert.append(again);
  }

  #show(running: boolean): void {
    for (const panel of panels) panel.#button.disabled = running;
    this.#cancel.hidden = !running;
    this.#bar.hidden = !running;
    this.#bar.removeAttribute('value');
    // The button that was pressed is gone then: keyboards go on from the one in its place.
    if (running) this.#cancel.focus();
    else if (document.activeElement === document.body || document.activeElement === this.#cancel)
      this.#button.focus();
  }
}
