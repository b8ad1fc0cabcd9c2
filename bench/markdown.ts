/** Results as Markdown, for the README and for whoever reads a results file. */
import { markdownTable } from './markdown-table.js';
import { percent, significant } from './numbers.js';
import type { BenchFile, QuantizerRow, Row } from './schema.js';
import { describeCeilings, describeEnvironment, GOOD_PLAN } from './table.js';

/**
 * A results file: where, ceilings, then a table a kind of activations with a line for each shape and m and a column for each
 * format; quantizers, plans and peers where they were measured.
 */
export function toMarkdown(file: BenchFile): string {
  const ok = file.rows.filter(({ status }) => status === 'ok');
  const plain = ok.filter(({ case: c }) => isPlain(c.format));
  const parts = [`${describeEnvironment(file.environment)}; ${describeCeilings(file)}.`];
  const kinds = new Set(ok.filter(({ case: c }) => !isPlain(c.format)).map(({ case: c }) => variantOf(c)));
  for (const kind of kinds) {
    const rows = ok.filter(({ case: c }) => !isPlain(c.format) && variantOf(c) === kind);
    parts.push(`${kind}:`, productTable([...plain, ...rows]));
  }
  if (!kinds.size && plain.length) parts.push(productTable(plain));
  const quantizers = (file.quantizers ?? []).filter(({ status }) => status === 'ok');
  if (quantizers.length) parts.push(quantizerTable(quantizers));
  if (file.plans?.length) parts.push(planTable(file.plans));
  if (file.peers?.length) parts.push(peerTable(file.peers));
  return `${parts.filter(Boolean).join('\n\n')}\n`;
}

const isPlain = (format: string) => format === 'f32' || format === 'f16';

function variantOf({ activations, x, y }: Row['case']): string {
  const types = x === y ? `x and y ${x}` : `x ${x}, y ${y}`;
  return `${activations === 'float' ? 'Float' : activations} activations, ${types}`;
}

/** µs, and the larger of the parts of the two ceilings. */
function productTable(rows: readonly Row[]): string {
  const formats = [...new Set(rows.map(({ case: c }) => c.format))];
  const lines = new Map<string, { n: number; k: number; m: number; cells: Map<string, string> }>();
  for (const { case: c, measurement } of rows) {
    const key = `${c.n} ${c.k} ${c.m}`;
    const line = lines.get(key) ?? { n: c.n, k: c.k, m: c.m, cells: new Map() };
    const { total, ofCopy, ofCeiling, gigabytesPerSecond, teraflops } = measurement!;
    const rate =
      ofCopy >= ofCeiling
        ? `${significant(gigabytesPerSecond)} GB/s, ${percent(ofCopy)}`
        : `${significant(teraflops)} TFLOPS, ${percent(ofCeiling)}`;
    line.cells.set(c.format, `${significant(total.median)} µs (${rate})`);
    lines.set(key, line);
  }
  return markdownTable(
    ['n × k', 'm', ...formats.map((format) => `\`${format}\``)],
    [...lines.values()].map(({ n, k, m, cells }) => [
      `${n} × ${k}`,
      m,
      ...formats.map((format) => cells.get(format) ?? ''),
    ]),
    [0],
  );
}

function quantizerTable(quantizers: readonly QuantizerRow[]): string {
  const { rows, cols } = quantizers[0]!;
  return markdownTable(
    [`quantizing f32[${rows}, ${cols}]`, 'µs', 'GB/s', 'of copy'],
    quantizers.map(({ rule, measurement: m }) => [
      `\`${rule}\``,
      significant(m!.total.median),
      significant(m!.gigabytesPerSecond),
      percent(m!.ofCopy),
    ]),
    [0],
  );
}

function planTable(plans: NonNullable<BenchFile['plans']>): string {
  const worst = plans.filter(({ slowdown }) => slowdown > GOOD_PLAN).sort((a, b) => b.slowdown - a.slowdown);
  const good = `${plans.length - worst.length} of ${plans.length} plans are within 10 % of the best kernel.`;
  if (!worst.length) return good;
  const rows = worst.map(({ case: c, planned, best, slowdown }) => [
    c.id,
    planned,
    best,
    slowdown.toFixed(2),
  ]);
  return `${good} The others:\n\n${markdownTable(['case', 'planned', 'best', 'slowdown'], rows, [0, 1, 2])}`;
}

function peerTable(peers: NonNullable<BenchFile['peers']>): string {
  const measured = peers.filter(({ time }) => time);
  const sizes = [...new Set(measured.map(({ m }) => m))].sort((a, b) => a - b);
  const names = [
    ...new Set(measured.map(({ name, version, n, k }) => `${n} × ${k}\n${name} ${version}`.trim())),
  ];
  const rows = names.map((key) => [
    ...key.split('\n'),
    ...sizes.map((m) => {
      const peer = measured.find(
        (p) => p.m === m && `${p.n} × ${p.k}\n${p.name} ${p.version}`.trim() === key,
      );
      return significant(peer?.time?.median);
    }),
  ]);
  const head = ['n × k', 'µs a layer of a chain, by the wall clock', ...sizes.map((m) => `m = ${m}`)];
  return markdownTable(head, rows, [0, 1]);
}
