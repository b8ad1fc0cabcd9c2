/** The tokens that perplexity and sensitivity are measured on: of a text, or of a file of tokens. */
import { InvalidArgumentError } from '../src/index.js';
import { element } from './dom.js';
import type { LlamaConfig } from './lm/config.js';
import type { TextTokenizer } from './lm/tokenizer.js';
import { tokensOfBytes, tokenTypeOf } from './lm/tokens.js';
import { labelled, numberInput } from './lm-elements.js';

/** Sequences of one length, and where they come from. */
export interface Tokens {
  /** u32[sequences, length] */
  readonly tokens: Uint32Array;
  readonly sequences: number;
  readonly length: number;
  /** Sequences at a time. */
  readonly batch: number;
  /** In words. */
  readonly from: string;
}

/** Characters of a text that are looked at for each token that is wanted: few tokens are longer. */
const CHARACTERS_PER_TOKEN = 16;

export class TokenFields {
  readonly root: HTMLElement;
  readonly #text = element('textarea', { id: 'lm-text', rows: 5, spellcheck: 'false' });
  readonly #fileInput = element('input', { id: 'lm-token-file', type: 'file', class: 'file' });
  readonly #fileNote = element('p', { class: 'small', id: 'lm-token-note', role: 'status' });
  readonly #forget = element('button', { type: 'button', hidden: true }, 'Use the text instead');
  readonly #length = numberInput('lm-length', 128, 2);
  readonly #sequences = numberInput('lm-sequences', 4, 1);
  readonly #batch = numberInput('lm-batch', 1, 1);
  #file: File | undefined;

  constructor() {
    this.#fileInput.setAttribute('aria-describedby', this.#fileNote.id);
    const form = element(
      'form',
      {},
      labelled('Text', this.#text, true),
      labelled('or a file: *.u16 or *.u32 are tokens, anything else is text', this.#fileInput, true),
      element('div', { class: 'wide controls' }, this.#fileNote, this.#forget),
      labelled('Tokens of a sequence', this.#length),
      labelled('Sequences, at most', this.#sequences),
      labelled('Sequences at a time', this.#batch),
    );
    this.root = element(
      'div',
      { id: 'lm-tokens', class: 'lm-panel' },
      element('h3', {}, 'Tokens'),
      element(
        'p',
        {},
        'What perplexity and sensitivity are measured on: each next token of a sequence is predicted from those before. ' +
          'Paste a text, which the model’s tokenizer cuts, or drop a file here; it stays on this machine. NVFP4 ' +
          'activations share a scale over the sequences at a time.',
      ),
      form,
    );
    form.addEventListener('submit', (event) => event.preventDefault());
    this.#fileInput.addEventListener('change', () => this.take(this.#fileInput.files?.[0]));
    this.#forget.addEventListener('click', () => {
      this.#fileInput.value = '';
      this.take(undefined);
      this.#text.focus();
    });
    this.root.addEventListener('drop', (event) => {
      // The section would take it as a model.
      event.preventDefault();
      event.stopPropagation();
      this.take(event.dataTransfer?.files[0]);
    });
  }

  /** @param rows tokens of all sequences at a time that the device is likely to take without a pause */
  show({ maxPositions }: LlamaConfig, length: number, rows: number): void {
    this.#length.max = String(maxPositions);
    this.#length.valueAsNumber = Math.min(length, maxPositions);
    this.#batch.valueAsNumber = Math.max(1, Math.floor(rows / this.#length.valueAsNumber));
  }

  /**
   * @param tokenizer undefined where the model has none
   * @throws InvalidArgumentError where there are none, too few for a sequence, or a field has no such number
   */
  async read(
    { maxPositions, vocabulary }: LlamaConfig,
    tokenizer: TextTokenizer | undefined,
  ): Promise<Tokens> {
    const length = count('Tokens of a sequence', this.#length, 2, maxPositions);
    const most = count('Sequences', this.#sequences, 1);
    const batch = count('Sequences at a time', this.#batch, 1);
    const { all, from } = await this.#all(vocabulary, tokenizer, most * length);
    const sequences = Math.min(most, Math.floor(all.length / length));
    if (sequences < 1) {
      fail(
        all.length === 0
          ? 'there are no tokens; paste a text or choose a file'
          : `${from}: ${all.length} tokens are fewer than a sequence of ${length}; give more, or shorten sequences`,
      );
    }
    return { tokens: all.slice(0, sequences * length), sequences, length, batch, from };
  }

  async #all(vocabulary: number, tokenizer: TextTokenizer | undefined, wanted: number) {
    const file = this.#file;
    if (file && /\.u(16|32)$/.test(file.name)) {
      const type = tokenTypeOf(file.name, vocabulary);
      const bytes = new Uint8Array(await file.arrayBuffer());
      return { all: tokensOfBytes(file.name, bytes, type), from: file.name };
    }
    if (!tokenizer)
      return fail(
        'the model has no tokenizer.json, so take a file of tokens: *.u16 or *.u32, without a header',
      );
    const text = file ? await file.text() : this.#text.value;
    const part = tokenizer.encode(text.slice(0, wanted * CHARACTERS_PER_TOKEN));
    const all = part.length >= wanted ? part : tokenizer.encode(text);
    return { all: Uint32Array.from(all), from: file?.name ?? 'the text' };
  }

  /** A file in place of the text, or the text again. */
  take(file: File | undefined): void {
    this.#file = file;
    this.#forget.hidden = !file;
    this.#text.disabled = file !== undefined;
    this.#fileNote.textContent = file ? `${file.name}, ${file.size.toLocaleString('en')} bytes.` : '';
  }
}

/** @throws InvalidArgumentError where the field has no such number */
export function count(
  name: string,
  { valueAsNumber: value }: HTMLInputElement,
  least: number,
  most = 2 ** 31,
) {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  return fail(`${name} has to be a whole number from ${least} to ${most}`);
}

function fail(problem: string): never {
  throw new InvalidArgumentError('demo', problem);
}
