/** The form: which layer, which rows, which formats. */
import { MODEL_LAYERS, mergeShapes } from '../src/cli/model-layers.js';
import { element, find } from './dom.js';
import { ACTIVATIONS, type ActivationsName, BASE, RECIPES } from './recipes.js';
import { LIMITS, MOST_WEIGHTS, problemWith, type Settings } from './settings.js';

const MODELS: Readonly<Record<string, string>> = {
  'llama-3.1-8b': 'Llama-3.1-8B',
  'qwen3-8b': 'Qwen3-8B',
  'gpt-oss-20b': 'gpt-oss-20b',
  'nemotron-nano-8b': 'Llama-Nemotron Nano 8B',
  'nemotron-nano-4b': 'Llama-Nemotron Nano 4B',
  'nemotron-super-49b': 'Llama-Nemotron Super 49B',
  'nemotron-ultra-253b': 'Llama-Nemotron Ultra 253B',
};

const ACTIVATION_LABELS: Readonly<Record<ActivationsName, string>> = {
  float: 'float: as it is',
  int8: 'int8',
  mxfp4: 'MXFP4 (W4A4)',
  nvfp4: 'NVFP4 (W4A4)',
};

const FREE = 'free';

export class LayerForm {
  readonly #form: HTMLFormElement;
  readonly #preset: HTMLSelectElement;
  readonly #error: HTMLElement;

  /** @param changed called with settings that can be run, after each change */
  constructor(form: HTMLFormElement, settings: Settings, changed: (settings: Settings) => void) {
    this.#form = form;
    this.#preset = find<HTMLSelectElement>('#layer', form);
    this.#error = find('#form-error', form);
    this.#preset.append(...presets());
    find('#activations', form).append(
      ...ACTIVATIONS.map((name) => element('option', { value: name }, ACTIVATION_LABELS[name])),
    );
    find('#formats', form).append(...RECIPES.map(formatBox));
    for (const [name, most] of Object.entries(LIMITS)) this.#input(name).max = String(most);
    this.write(settings);
    form.addEventListener('submit', (event) => event.preventDefault());
    form.addEventListener('input', (event) => {
      if (event.target === this.#preset) this.#takePreset();
      this.#markPreset();
      const now = this.read();
      const problem = problemWith(now);
      this.#error.textContent = problem ?? '';
      if (!problem) changed(now);
    });
  }

  read(): Settings {
    const number = (name: string) => this.#input(name).valueAsNumber;
    const data = new FormData(this.#form);
    return {
      m: number('m'),
      n: number('n'),
      k: number('k'),
      x: find<HTMLSelectElement>('#activations', this.#form).value as ActivationsName,
      formats: RECIPES.filter(({ id }) => id === BASE.id || data.getAll('format').includes(id)).map(
        ({ id }) => id,
      ),
      rounds: number('rounds'),
      epilogue: this.#input('epilogue').checked,
      to: number('to'),
    };
  }

  write(settings: Settings): void {
    for (const name of Object.keys(LIMITS) as (keyof typeof LIMITS)[]) {
      this.#input(name).value = String(settings[name]);
    }
    find<HTMLSelectElement>('#activations', this.#form).value = settings.x;
    this.#input('epilogue').checked = settings.epilogue;
    for (const box of this.#form.querySelectorAll<HTMLInputElement>('[name=format]')) {
      box.checked = settings.formats.includes(box.value);
    }
    this.#markPreset();
    this.#error.textContent = '';
  }

  #takePreset(): void {
    const [n, k] = this.#preset.value.split('x');
    if (!k) return;
    this.#input('n').value = n!;
    this.#input('k').value = k;
  }

  /** The preset shows what n and k are, whoever set them; of several with one shape the chosen one stays. */
  #markPreset(): void {
    const shape = `${this.#input('n').value}x${this.#input('k').value}`;
    if (this.#preset.value === shape) return;
    this.#preset.value = shape;
    if (this.#preset.selectedIndex < 0) this.#preset.value = FREE;
  }

  #input(name: string): HTMLInputElement {
    return find<HTMLInputElement>(`#${name}`, this.#form);
  }
}

/** Layers that a page has the memory to make, by model. */
function presets(): HTMLElement[] {
  const groups = Object.entries(MODEL_LAYERS).map(([model, layers]) =>
    element(
      'optgroup',
      { label: MODELS[model] ?? model },
      ...mergeShapes(layers.filter(({ n, k }) => n * k <= MOST_WEIGHTS)).map(({ names, n, k }) =>
        element('option', { value: `${n}x${k}` }, `${[...new Set(names)].join(', ')}: ${n} × ${k}`),
      ),
    ),
  );
  return [element('option', { value: FREE }, 'Free sizes'), ...groups];
}

function formatBox({ id, label }: (typeof RECIPES)[number]): HTMLElement {
  const base = id === BASE.id;
  const box = element('input', {
    type: 'checkbox',
    name: 'format',
    value: id,
    checked: true,
    disabled: base,
  });
  return element('label', { class: 'check' }, box, ` ${label}${base ? ' (the base)' : ''}`);
}
