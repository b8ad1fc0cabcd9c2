/** The card that says what the reader's GPU is and has. */
import { isSoftware } from '../src/gpu/caps.js';
import { type Caps, type Gpu, TIER_NEEDS, TIERS, type Tier } from '../src/index.js';
import { element } from './dom.js';

/** What a tier, or exact timing, would bring where it is missing. */
const BRINGS: Readonly<Record<Exclude<Tier, 'base'>, string>> = {
  subgroups: 'int8 products with a scale a row, and faster sums over k',
  dp4a: 'four int8 products in one instruction: int8 and FP4 activations at up to twice the speed of floats',
  f16: 'x and y in half the memory',
  'f16-products': 'the f16 kernel for few rows of x',
  'matrix-f16': 'matrix units: many rows of x several times as fast',
  'matrix-i8': 'matrix units for int8 activations: faster again',
};

const REMEDIES: Partial<Record<Tier, string>> = {
  'matrix-f16': 'Chromium has it behind --enable-unsafe-webgpu',
  'matrix-i8': 'Chromium has it behind --enable-unsafe-webgpu',
};

export function showAdapter(card: HTMLElement, gpu: Gpu): void {
  const { adapterInfo: info, caps } = gpu;
  const usable = TIERS.filter((tier) => caps.tiers.includes(tier));
  const missing = TIERS.filter((tier) => !caps.tiers.includes(tier)) as Exclude<Tier, 'base'>[];
  const gaps = missing.map((tier) => {
    const remedy = REMEDIES[tier] ? ` (${REMEDIES[tier]})` : '';
    return element(
      'li',
      {},
      element('strong', {}, tier),
      `: ${TIER_NEEDS[tier]}${remedy}. Brings ${BRINGS[tier]}.`,
    );
  });
  if (!caps.timestampQuery) {
    const brings = 'the GPU’s own clock. Without it, long chains are timed by the wall clock.';
    gaps.push(
      element('li', {}, element('strong', {}, 'timestamps'), `: feature timestamp-query. Brings ${brings}`),
    );
  }
  card.replaceChildren(
    ...(isSoftware(info) ? [softwareNotice()] : []),
    facts([
      ['Vendor', info.vendor || 'not said'],
      ['Architecture', info.architecture || 'not said'],
      ['Description', info.description || info.device || 'not said'],
      ['Subgroups', subgroups(caps)],
      ['Clock', caps.timestampQuery ? 'GPU timestamps' : 'wall clock'],
      ['Largest buffer', `${Math.round(caps.limits.maxBufferSize / 2 ** 20)} MiB`],
    ]),
    element('h3', {}, 'What kernels can use'),
    list('tiers', usable),
    element(
      'details',
      {},
      element('summary', {}, `All ${caps.features.length} features`),
      list('features', caps.features),
    ),
    element('h3', {}, 'What is missing, and what it would bring'),
    gaps.length ? element('ul', { id: 'missing' }, ...gaps) : element('p', { id: 'missing' }, 'Nothing.'),
  );
}

/** Where there is nothing to run on. */
export function showNoGpu(card: HTMLElement, error: unknown): void {
  const reason = error instanceof Error ? error.message : String(error);
  const without = !('gpu' in navigator) || !navigator.gpu;
  const secure = window.isSecureContext
    ? []
    : ['Open this page by https or from localhost: others get no WebGPU.'];
  const remedies = [
    ...secure,
    without
      ? 'Use a browser with WebGPU: Chrome or Edge from 113 on (Android from 121 on), Safari from 26 on, Firefox from 141 on Windows and 145 on macOS.'
      : 'Turn on “Use graphics acceleration when available” in the browser’s settings, and bring the graphics driver up to date.',
    'On Linux, Chromium may need --enable-unsafe-webgpu --enable-features=Vulkan; about:gpu says what it found.',
  ];
  card.replaceChildren(
    element(
      'div',
      { class: 'notice', role: 'alert', id: 'no-webgpu' },
      element('h3', {}, without ? 'This browser has no WebGPU' : 'WebGPU gives no adapter here'),
      element('p', {}, 'Nothing can be measured without one. What helps:'),
      element('ul', {}, ...remedies.map((text) => element('li', {}, text))),
      element('p', { class: 'small' }, reason),
    ),
  );
}

/** A mistake of the page itself. */
export function showFailure(card: HTMLElement, error: unknown): void {
  const message = error instanceof Error ? error.message : String(error);
  card.append(element('p', { class: 'notice', role: 'alert' }, `The page failed: ${message}`));
}

function softwareNotice(): HTMLElement {
  return element(
    'div',
    { class: 'notice', id: 'software' },
    element('h3', {}, 'This is a software adapter: no GPU'),
    element(
      'p',
      {},
      'WebGPU runs on the CPU here. Results are right, times say nothing about any GPU. Small sizes are chosen below; large ones take minutes.',
    ),
  );
}

function subgroups({ subgroupMinSize: least, subgroupMaxSize: most, features }: Caps): string {
  if (!features.includes('subgroups')) return 'none';
  if (!least || !most) return 'of a size that is not said';
  return least === most ? `of ${least}` : `of ${least} to ${most}`;
}

function facts(entries: readonly (readonly [string, string])[]): HTMLElement {
  return element(
    'dl',
    { class: 'facts' },
    ...entries.map(([name, value]) => element('div', {}, element('dt', {}, name), element('dd', {}, value))),
  );
}

const list = (id: string, items: readonly string[]): HTMLElement =>
  element('ul', { class: 'chips', id }, ...items.map((item) => element('li', {}, item)));
