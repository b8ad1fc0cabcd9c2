/** The panel in which the model writes. */
import { InvalidArgumentError } from '../src/index.js';
import { element, find } from './dom.js';
import { significant } from './format.js';
import { configurationName } from './lm/format-names.js';
import { generate } from './lm/generate.js';
import { continuation } from './lm/tokenizer.js';
import { configurationLabel, FormatSelects, labelled, numberInput, runPanel } from './lm-elements.js';
import type { OpenModel } from './lm-section.js';
import { count } from './lm-tokens.js';
import type { RunContext } from './run.js';

/** Milliseconds between two looks at the text: more often is of no use to a reader. */
const REFRESH = 60;

export class GeneratePanel {
  readonly root: HTMLElement;
  readonly #prompt = element('textarea', { id: 'lm-prompt', rows: 3 });
  readonly #formats = new FormatSelects('lm-generate');
  readonly #maxTokens = numberInput('lm-max-tokens', 64, 1);
  readonly #temperature = numberInput('lm-temperature', 0.8, 0, { step: 'any', inputmode: 'decimal' });
  readonly #topK = numberInput('lm-top-k', 40, 0);
  readonly #seed = numberInput('lm-seed', 1, 0, { max: 2 ** 32 - 1 });
  readonly #text = element('div', {
    class: 'lm-text',
    tabindex: 0,
    role: 'region',
    'aria-label': 'Generated text',
  });
  readonly #speed = element('p', { class: 'lm-speed' });

  constructor() {
    this.#prompt.value = 'The meaning of a word is';
    this.root = runPanel(
      'lm-generate',
      'Generate',
      'The same prompt, seed and format give the same text on this device. A temperature of 0 takes the likeliest token. ' +
        'Another format is made from the weights in memory; files are read once.',
      { run: 'Generate', cancel: 'Stop', progress: 'Progress of the generation' },
      [
        labelled('Prompt', this.#prompt, true),
        ...this.#formats.fields,
        labelled('New tokens, at most', this.#maxTokens),
        labelled('Temperature', this.#temperature),
        labelled('Top k (0: all)', this.#topK),
        labelled('Seed', this.#seed),
      ],
      [this.#text, this.#speed],
    );
  }

  show({ source }: OpenModel, maxTokens: number): void {
    this.#formats.show(source, true);
    this.#maxTokens.valueAsNumber = Math.min(maxTokens, source.config.maxPositions - 1);
    this.#topK.max = String(source.config.vocabulary);
    this.clear();
  }

  clear(): void {
    find('.results', this.root).hidden = true;
    this.#text.replaceChildren();
    this.#speed.textContent = '';
  }

  /** @throws as `generate`; what was written by then stays */
  async run({ session, signal, progress }: RunContext, model: OpenModel): Promise<string> {
    const { source, precision, onGpu } = model;
    const { tokenizer } = model;
    if (!tokenizer)
      throw new InvalidArgumentError('demo', 'the model has no tokenizer.json: it has no words');
    const configuration = this.#formats.read();
    const name = configurationName(configuration);
    const maxTokens = count('New tokens', this.#maxTokens, 1);
    const topK = count('Top k', this.#topK, 0, source.config.vocabulary);
    const seed = count('Seed', this.#seed, 0, 2 ** 32 - 1);
    const temperature = this.#temperature.valueAsNumber;
    const prompt = tokenizer.encode(this.#prompt.value);
    this.clear();
    const onDevice = onGpu(session);
    return onDevice.use(async () => {
      const llama = await onDevice.get(configuration, {
        precision: precision(),
        signal,
        onProgress: (done, total) => progress(done, total, `${name}: layer ${done} of ${total}`),
      });
      signal.throwIfAborted();
      progress(0, maxTokens, 'Compiling');
      find('.results', this.root).hidden = false;
      const tokens: number[] = [];
      const shown = document.createTextNode('');
      this.#text.append(element('span', { class: 'lm-prompt' }, this.#prompt.value), shown);
      const times = { ready: 0, first: 0, last: 0, shown: 0 };
      const show = () => {
        times.shown = performance.now();
        shown.data = continuation(tokenizer, prompt, tokens);
        progress(tokens.length, maxTokens, 'Writing');
      };
      let stopped = false;
      try {
        const options = { maxTokens, temperature, topK, seed, signal };
        const onReady = () => {
          times.ready = performance.now();
        };
        for await (const token of generate(llama, prompt, { ...options, onReady })) {
          times.last = performance.now();
          tokens.push(token);
          if (tokens.length === 1) times.first = times.last;
          if (times.last - times.shown >= REFRESH) show();
        }
      } catch (error) {
        if (error !== signal.reason || session.lostError) throw error;
        stopped = true;
      }
      show();
      await onDevice.check();
      const speed = speedOf(prompt.length, tokens.length, times);
      this.#speed.textContent = [configurationLabel(configuration, source), ...speed].join('; ');
      return `${stopped ? 'Stopped' : 'Done'}: ${tokens.length} tokens.`;
    });
  }
}

/** Tokens a second of the prompt, until the first token was there, and of those after it. */
function speedOf(
  prompt: number,
  given: number,
  times: { ready: number; first: number; last: number },
): string[] {
  const rate = (tokens: number, milliseconds: number) =>
    `${significant(tokens / (milliseconds / 1000))} tokens/s`;
  return [
    ...(given > 0 ? [`prefill ${rate(prompt, times.first - times.ready)} (${prompt} tokens)`] : []),
    ...(given > 1 ? [`decode ${rate(given - 1, times.last - times.first)}`] : []),
  ];
}
