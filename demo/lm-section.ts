/**
 * The language-model section: a model from the reader's own folder, which writes, and whose loss in each format is measured.
 * It is loaded after the rest of the page.
 */
import './lm.css';
import { isSoftware } from '../src/gpu/caps.js';
import { InvalidArgumentError } from '../src/index.js';
import { element, find, nextTask } from './dom.js';
import { countParameters, type LlamaSource, openLlamaFiles } from './lm/source.js';
import { openTokenizer, type TextTokenizer } from './lm/tokenizer.js';
import { labelled, storedName } from './lm-elements.js';
import { chosenFiles, droppedFiles, type ModelFolder, modelFolder, type PlacedFile } from './lm-files.js';
import { GeneratePanel } from './lm-generate.js';
import { ModelOnGpu, type Precision, pageSource } from './lm-on-gpu.js';
import { PerplexityPanel } from './lm-perplexity.js';
import { megabytes } from './lm-report.js';
import { SensitivityPanel } from './lm-sensitivity.js';
import { TokenFields, type Tokens } from './lm-tokens.js';
import { type RunContext, RunPanel } from './run.js';
import type { Session } from './session.js';

/** What the panels work with. */
export interface OpenModel {
  readonly source: LlamaSource;
  /** Undefined where the folder has none. */
  readonly tokenizer: TextTokenizer | undefined;
  readonly facts: { readonly name: string; readonly parameters: number; readonly storedAs: string };
  /** As the form says. */
  precision(): Precision;
  tokens(): Promise<Tokens>;
  /** The model on the device of a session: what is on another device goes. */
  onGpu(session: Session): ModelOnGpu;
}

/** Where a software adapter is what there is, seconds are minutes. */
const DEFAULTS = {
  gpu: { length: 512, rows: 1024, maxTokens: 128, decode: 32 },
  software: { length: 32, rows: 32, maxTokens: 16, decode: 0 },
};

/** @param working a device that works: a new one where the last was lost */
export function mountLanguageModel(
  section: HTMLElement,
  session: Session,
  working: () => Promise<Session>,
): void {
  new LanguageModelSection(section, isSoftware(session.gpu.adapterInfo), working);
  section.hidden = false;
}

class LanguageModelSection {
  readonly #folder = element('input', {
    id: 'lm-folder',
    type: 'file',
    class: 'file',
    webkitdirectory: true,
  });
  readonly #files = element('input', { id: 'lm-files', type: 'file', class: 'file', multiple: true });
  readonly #status = element('p', { class: 'status lm-status', role: 'status' });
  readonly #alert = element('div', { class: 'alert lm-alert', role: 'alert' });
  readonly #facts = element('div', { class: 'lm-facts' });
  readonly #precision = element(
    'select',
    { id: 'lm-precision' },
    element('option', { value: 'f32' }, 'f32'),
    element('option', { value: 'f16' }, 'f16 where the device has it'),
  );
  readonly #drop: HTMLElement;
  readonly #panels: HTMLElement;
  readonly #generate = new GeneratePanel();
  readonly #tokens = new TokenFields();
  readonly #perplexity = new PerplexityPanel();
  readonly #sensitivity = new SensitivityPanel();
  readonly #runs: readonly RunPanel[];
  readonly #defaults: (typeof DEFAULTS)['gpu'];
  #model: OpenModel | undefined;
  #onGpu: ModelOnGpu | undefined;
  /** Of the folder that was chosen last: what was chosen before is late. */
  #choice = 0;

  constructor(section: HTMLElement, software: boolean, working: () => Promise<Session>) {
    this.#defaults = software ? DEFAULTS.software : DEFAULTS.gpu;
    section.classList.add('lm');
    this.#drop = element(
      'div',
      { class: 'lm-drop' },
      element('p', {}, 'Drop a model’s folder here, or choose it.'),
      element(
        'div',
        { class: 'lm-choices' },
        labelled('The folder', this.#folder),
        labelled('or its files, all together', this.#files),
      ),
    );
    this.#panels = element(
      'div',
      { class: 'lm-panels', hidden: true },
      this.#facts,
      element('form', {}, labelled('Products with float activations', this.#precision)),
      this.#generate.root,
      this.#tokens.root,
      this.#perplexity.root,
      this.#sensitivity.root,
    );
    section.append(
      element('h2', { id: 'lm-heading' }, 'Language model'),
      element(
        'p',
        {},
        'A Llama of your own, every linear layer on these kernels: it writes, in any format, and shows what each format ' +
          'costs in perplexity and where. A folder as Hugging Face has them: config.json, *.safetensors, tokenizer.json. ' +
          'Files are read here and go nowhere: nothing is uploaded.',
      ),
      this.#drop,
      this.#status,
      this.#alert,
      this.#panels,
    );
    this.#listen(section);
    const run = (root: HTMLElement, work: (context: RunContext, model: OpenModel) => Promise<string>) =>
      new RunPanel(root, working, (context) => work(context, this.#model!));
    this.#runs = [
      run(this.#generate.root, (context, model) => this.#generate.run(context, model)),
      run(this.#perplexity.root, (context, model) => this.#perplexity.run(context, model)),
      run(this.#sensitivity.root, (context, model) => this.#sensitivity.run(context, model)),
    ];
  }

  #listen(section: HTMLElement): void {
    for (const input of [this.#folder, this.#files]) {
      input.addEventListener('change', () => {
        if (input.files?.length) void this.#open(Promise.resolve(chosenFiles([...input.files])));
        // So that the same folder may be chosen again.
        input.value = '';
      });
    }
    // The whole section takes a folder, as one that misses the box would make the browser leave the page.
    section.addEventListener('dragover', (event) => {
      if (!event.dataTransfer?.types.includes('Files')) return;
      event.preventDefault();
      this.#drop.classList.add('lm-over');
    });
    for (const type of ['dragleave', 'drop'])
      section.addEventListener(type, () => this.#drop.classList.remove('lm-over'), { capture: true });
    section.addEventListener('drop', (event) => {
      event.preventDefault();
      if (!event.dataTransfer) return;
      const tokens = this.#model && lonelyFile(event.dataTransfer);
      if (tokens) this.#tokens.take(tokens);
      else void this.#open(droppedFiles(event.dataTransfer));
    });
  }

  /** Never rejects: what is wrong with a folder is said. */
  async #open(placed: Promise<readonly PlacedFile[]>): Promise<void> {
    const choice = ++this.#choice;
    this.#close();
    this.#status.textContent = 'Reading the headers';
    try {
      const folder = await modelFolder(await placed);
      const source = await openLlamaFiles(folder.files);
      if (choice !== this.#choice) return;
      // A large vocabulary takes a second.
      this.#status.textContent = 'Reading the tokenizer';
      await nextTask();
      const tokenizer = folder.hasTokenizer ? await openTokenizer(source) : undefined;
      if (choice === this.#choice)
        this.#show(folder, { ...pageSource(source), name: folder.name }, tokenizer);
    } catch (error) {
      if (choice !== this.#choice) return;
      this.#status.textContent = '';
      this.#alert.replaceChildren(element('p', {}, error instanceof Error ? error.message : String(error)));
    }
  }

  /** What there was goes, and what is at work with it ends. */
  #close(): void {
    for (const run of this.#runs) run.cancel();
    this.#onGpu?.destroy();
    this.#onGpu = undefined;
    this.#model = undefined;
    this.#alert.replaceChildren();
    this.#panels.hidden = true;
  }

  #show(folder: ModelFolder, source: LlamaSource, tokenizer: TextTokenizer | undefined): void {
    const { config } = source;
    const parameters = countParameters(config);
    const model: OpenModel = {
      source,
      tokenizer,
      facts: { name: folder.name, parameters, storedAs: storedName(source) },
      precision: () => this.#precision.value as Precision,
      tokens: () => this.#tokens.read(config, tokenizer),
      onGpu: (session) => this.#modelOn(session, source),
    };
    this.#model = model;
    const { length, rows, maxTokens, decode } = this.#defaults;
    this.#generate.show(model, maxTokens);
    this.#tokens.show(config, length, rows);
    this.#perplexity.show(model, decode);
    this.#sensitivity.show(model);
    for (const root of [this.#generate.root, this.#perplexity.root, this.#sensitivity.root]) {
      find('.alert', root).replaceChildren();
      find('.status', root).textContent = '';
    }
    this.#facts.replaceChildren(factsOf(folder, source, parameters), ...withoutTokenizer(tokenizer));
    this.#generate.root.hidden = !tokenizer;
    this.#panels.hidden = false;
    this.#status.textContent = `${folder.name} is open.`;
  }

  #modelOn({ gpu }: Session, source: LlamaSource): ModelOnGpu {
    // A run that was cancelled for another model may ask late.
    if (source !== this.#model?.source) throw new InvalidArgumentError('demo', 'another model was chosen');
    if (this.#onGpu?.gpu !== gpu) {
      this.#onGpu?.destroy();
      this.#onGpu = new ModelOnGpu(gpu, source);
    }
    return this.#onGpu;
  }
}

/** A file that is no model's: of tokens or text, dropped beside its box. */
function lonelyFile({ items, files }: DataTransfer): File | undefined {
  const [file] = files;
  if (items.length !== 1 || !file || items[0]!.webkitGetAsEntry()?.isDirectory) return undefined;
  return /\.(safetensors|json)$/.test(file.name) ? undefined : file;
}

function factsOf({ name, weightBytes }: ModelFolder, source: LlamaSource, parameters: number): HTMLElement {
  const { config } = source;
  const whole = (value: number) => value.toLocaleString('en');
  const entries: readonly (readonly [string, string])[] = [
    ['Model', name],
    ['Parameters', whole(parameters)],
    ['As stored', `${storedName(source)}, ${megabytes(weightBytes)}`],
    ['Blocks', whole(config.layers)],
    ['Hidden size', `${whole(config.hidden)}, MLP ${whole(config.intermediate)}`],
    ['Heads', `${config.heads} of ${config.headDim}, ${config.kvHeads} of keys and values`],
    ['Vocabulary', `${whole(config.vocabulary)}, head ${config.tiedHead ? 'tied' : 'of its own'}`],
    ['Positions', `${whole(config.maxPositions)}, RoPE ${config.rope.type}`],
  ];
  return element(
    'dl',
    { class: 'facts' },
    ...entries.map(([term, value]) => element('div', {}, element('dt', {}, term), element('dd', {}, value))),
  );
}

const withoutTokenizer = (tokenizer: TextTokenizer | undefined): HTMLElement[] =>
  tokenizer
    ? []
    : [
        element(
          'p',
          { class: 'notice' },
          'The folder has no tokenizer.json, so the model has no words: nothing is generated, and perplexity takes files of tokens.',
        ),
      ];
