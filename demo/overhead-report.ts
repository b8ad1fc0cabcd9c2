/** What the overhead section says of its result: in words, as a table, as CSV and as Markdown. No DOM. */
import type { Spread } from '../bench/stats.js';
import { csvLine, percent, percentOver, signed, significant, withSpread } from './format.js';
import type { OverheadResult, OverheadRow } from './overhead.js';
import { BASE } from './recipes.js';
import { type Column, markdownReport, NOTHING } from './report.js';
import { checkText } from './rows.js';

/** What the authors of MBS measured for it, on average. */
const PAPER_OVERHEAD = 1.062;

const GEMM = 'GEMM, µs';

const optional = <T>(value: T | undefined, text: (value: T) => string) =>
  value === undefined ? NOTHING : text(value);

const overText = ({ median, p20, p80 }: Spread) =>
  `${percentOver(median)} (${percentOver(p20)} to ${percentOver(p80)})`;
const addedText = ({ median, p20, p80 }: Spread) => `${signed(median)} (${signed(p20)} to ${signed(p80)})`;
/** The base has nothing to be compared with. */
const againstBase = (recipe: string, ratio: Spread | undefined) =>
  recipe === BASE.id && ratio ? 'base' : optional(ratio, overText);

const COLUMNS: readonly Column<OverheadRow>[] = [
  { title: 'weights', text: ({ label }) => label },
  { title: 'µs', numeric: true, text: ({ total, status }) => (total ? withSpread(total) : status) },
  { title: 'against MXFP4', numeric: true, text: ({ recipe, ratio }) => againstBase(recipe, ratio) },
  { title: 'x, µs', numeric: true, text: ({ convert }) => optional(convert, withSpread) },
  {
    title: 'x against MXFP4',
    numeric: true,
    text: ({ recipe, convertRatio }) => againstBase(recipe, convertRatio),
  },
  { title: GEMM, numeric: true, text: ({ gemm, total }) => optional(gemm ?? total, withSpread) },
  { title: 'parts of k, µs', numeric: true, text: ({ reduce }) => optional(reduce, withSpread) },
  { title: 'bias and y +=, µs', numeric: true, text: ({ epilogue }) => optional(epilogue, addedText) },
  { title: 'GB/s', numeric: true, text: ({ gigabytesPerSecond: rate }) => optional(rate, significant) },
  { title: 'of a copy', numeric: true, text: ({ ofCopy }) => optional(ofCopy, percent) },
  { title: 'TFLOPS', numeric: true, text: ({ teraflops }) => optional(teraflops, significant) },
  { title: 'against the CPU', text: ({ check, note }) => checkText(check, note) },
  { title: 'kernel', kind: 'code', text: ({ kernel }) => kernel ?? NOTHING },
];

/** Where each product is one step, that step is the product. */
export const overheadColumns = ({ rows }: OverheadResult): readonly Column<OverheadRow>[] =>
  rows.some(({ gemm }) => gemm) ? COLUMNS : COLUMNS.filter(({ title }) => title !== GEMM);

export const productName = ({ settings: { m, n, k, x } }: OverheadResult) =>
  `y[${m}, ${n}] = x[${m}, ${k}] · wᵀ, activations ${x}`;

export const overheadCaption = (result: OverheadResult) =>
  `${productName(result)}; medians of ${result.settings.rounds} rounds in turns (20th to 80th percentile)`;

/** Sentences, the paper's figure beside ours first. */
export function overheadSummary({ rows, settings, clock, copyGigabytesPerSecond }: OverheadResult): string[] {
  const row = (id: string) => rows.find(({ recipe, status }) => recipe === id && status === 'ok');
  const base = row(BASE.id);
  const lines: string[] = [];
  const macro = (['mbs-static', 'mbs-dynamic'] as const).flatMap((id) => {
    const ratio = row(id)?.ratio;
    return ratio ? [`${id === 'mbs-static' ? 'static' : 'dynamic'} ${overText(ratio)}`] : [];
  });
  if (macro.length) {
    lines.push(
      `Macro Block Scaling costs here, against plain MXFP4: ${macro.join('; ')}. ` +
        `The paper (arXiv 2603.08713) has ${percentOver(PAPER_OVERHEAD)} on average.`,
    );
  }
  const oas = row('oas');
  if (base && oas?.ratio) {
    lines.push(
      settings.x === 'mxfp4'
        ? `OAS costs where x is quantized: ${overText(oas.convertRatio ?? oas.ratio)} against floor${oas.convertRatio ? '' : ', with the product'}.`
        : `OAS has the kernel of plain MXFP4 and as many bytes: its ${overText(oas.ratio)} is the noise of this run.`,
    );
  }
  if (base?.epilogue && base.total) {
    const part = percentOver(1 + base.epilogue.median / base.total.median);
    lines.push(`A bias and y += take ${addedText(base.epilogue)} µs on top of plain MXFP4, ${part}.`);
  }
  const timed =
    clock === 'timestamp'
      ? 'Timed by GPU timestamps'
      : 'This device has no timestamps: timed by the wall clock around long chains of products';
  lines.push(`${timed}. A copy in the same run: ${significant(copyGigabytesPerSecond)} GB/s.`);
  return lines;
}

export const overheadMarkdown = (result: OverheadResult): string =>
  markdownReport(
    `${adapterText(result)}: ${overheadCaption(result)}`,
    overheadSummary(result),
    overheadColumns(result),
    result.rows,
  );

const adapterText = ({ adapter }: OverheadResult) =>
  [adapter.vendor, adapter.description || adapter.architecture].filter(Boolean).join(' ');

export function overheadCsv(result: OverheadResult): string {
  const { rows, settings, clock, copyGigabytesPerSecond } = result;
  const spread = (name: string) => [`${name}_median`, `${name}_p20`, `${name}_p80`];
  const values = (s: Spread | undefined) => [s?.median, s?.p20, s?.p80];
  const head = [
    ...['weights', 'status', 'm', 'n', 'k', 'x', 'clock', 'adapter', 'kernel', 'error_of_bound'],
    ...['total_us', 'convert_us', 'gemm_us', 'reduce_us', 'epilogue_us', 'ratio', 'convert_ratio'].flatMap(
      spread,
    ),
    ...['gb_per_s', 'of_copy', 'copy_gb_per_s', 'tflops'],
  ];
  const { m, n, k, x } = settings;
  const device = adapterText(result);
  const lines = rows.map((row) => [
    ...[row.recipe, row.status, m, n, k, x, clock, device, row.kernel, row.check?.errorOfBound],
    ...[row.total, row.convert, row.gemm, row.reduce, row.epilogue, row.ratio, row.convertRatio].flatMap(
      values,
    ),
    ...[row.gigabytesPerSecond, row.ofCopy, copyGigabytesPerSecond, row.teraflops],
  ]);
  return `${[head, ...lines].map(csvLine).join('\r\n')}\r\n`;
}
