/** Results on the terminal. */
import Table from 'cli-table3';
import type { CaseComparison, Comparison } from './compare.js';
import { changePercent, percent, significant } from './numbers.js';
import {
  adapterLabel,
  type BenchFile,
  type Environment,
  LOW_CLOCK,
  type PeerRow,
  type PlanRow,
  type QuantizerRow,
  type Row,
  type Timing,
} from './schema.js';

const style = { head: [], border: [], compact: true };

function render(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  left: readonly number[],
): string {
  const table = new Table({
    head: [...head],
    style,
    colAligns: head.map((_, i) => (left.includes(i) ? 'left' : 'right')),
  });
  table.push(...rows.map((row) => [...row]));
  return table.toString();
}

/** Everything of a results file. */
export function formatResults(file: BenchFile): string {
  const parts = [describeEnvironment(file.environment), describeCeilings(file)];
  const measured = file.rows.filter(({ status }) => status === 'ok');
  if (measured.length) parts.push(formatRows(measured), describeClocks(measured));
  const others = file.rows.filter(({ status }) => status !== 'ok');
  if (others.length) parts.push(...others.map(describeFailure));
  if (file.quantizers?.length) parts.push(formatQuantizers(file.quantizers));
  if (file.plans?.length) parts.push(formatPlans(file.plans));
  if (file.peers?.length) parts.push(formatPeers(file.peers));
  if (!file.complete) parts.push('The run ended before every case was reached.');
  return parts.filter(Boolean).join('\n');
}

export function describeEnvironment(e: Environment): string {
  const dawn = e.dawn ? `, Dawn of webgpu ${e.dawn}` : '';
  const experimental = e.experimental ? ', experimental features' : '';
  return `${adapterLabel(e.adapter)} (${e.driver || 'driver unknown'}), ${e.host} ${e.hostVersion}${dawn}${experimental}, commit ${e.commit}`;
}

export function describeCeilings({ ceilings: c }: BenchFile): string {
  if (!c) return '';
  const of = (name: string, value: number | undefined, unit: string) =>
    value === undefined ? [] : [`${name} ${significant(value)} ${unit}`];
  return `ceilings: ${[
    ...of('copy', c.copy, 'GB/s'),
    ...of('read', c.read, 'GB/s'),
    ...of('f32 FMA', c.fma, 'TFLOPS'),
    ...of('DP4A', c.dp4a, 'TOPS'),
    ...of('f16 matrices', c.matrixF16, 'TFLOPS'),
    ...of('int8 matrices', c.matrixI8, 'TOPS'),
  ].join(', ')}`;
}

const HEAD = [
  'n × k',
  'm',
  'format',
  'x',
  'µs',
  'p20',
  'p80',
  'kernel µs',
  'convert µs',
  'GB/s',
  'of copy',
  'TFLOPS',
  'of ceiling',
  'encode µs',
  'error/bound',
  'kernel',
];

function formatRows(rows: readonly Row[]): string {
  const cells = rows.map(({ case: c, measurement, errorOfBound, kernel }) => {
    const m = measurement!;
    const x = [c.activations === 'float' ? '' : c.activations, c.x === c.y ? c.x : `${c.x}→${c.y}`];
    return [
      `${c.n} × ${c.k}`,
      String(c.m),
      c.format,
      x.filter(Boolean).join(' '),
      significant(m.total.median),
      significant(m.total.p20),
      significant(m.total.p80),
      significant(m.kernelOnly?.median),
      significant(m.conversion?.median),
      significant(m.gigabytesPerSecond),
      percent(m.ofCopy),
      significant(m.teraflops),
      percent(m.ofCeiling),
      significant(m.encode),
      errorOfBound!.toFixed(3),
      kernel!,
    ];
  });
  return render(HEAD, cells, [0, 2, 3, 15]);
}

/** Says how the times were taken, and which were taken at a low clock all the same. */
function describeClocks(rows: readonly Row[]): string {
  const { clock, samples } = rows[0]!.measurement!;
  const low = rows.filter(({ measurement }) => (measurement!.gpuClock ?? 1) < LOW_CLOCK);
  const note = low.length
    ? `; the GPU's clock was below ${percent(LOW_CLOCK)} after ${low.length} of them: ${low.map(({ case: c }) => c.id).join(', ')}`
    : '';
  return `medians of ${samples} samples by ${clock === 'timestamp' ? 'GPU timestamps' : 'wall clock'}${note}`;
}

function formatQuantizers(rows: readonly QuantizerRow[]): string {
  const cells = rows.map(({ rule, rows, cols, status, note, measurement: m }) => [
    rule,
    `${rows} × ${cols}`,
    significant(m?.total.median),
    significant(m?.total.p20),
    significant(m?.total.p80),
    significant(m?.gigabytesPerSecond),
    percent(m?.ofCopy),
    status === 'ok' ? lowClock(m) : [status, note].filter(Boolean).join(': '),
  ]);
  return render(['quantizer', 'f32', 'µs', 'p20', 'p80', 'GB/s', 'of copy', 'note'], cells, [0, 1, 7]);
}

const lowClock = (m: Timing | undefined) => ((m?.gpuClock ?? 1) < LOW_CLOCK ? "the GPU's clock was low" : '');

function describeFailure({ case: c, status, note, kernel, errorOfBound }: Row): string {
  const error = errorOfBound === undefined ? '' : `${errorOfBound.toPrecision(3)} times its error bound`;
  return `${status}: ${c.id}: ${[kernel, error, note].filter(Boolean).join(', ')}`;
}

/** A plan within this part of the best is a good one. */
export const GOOD_PLAN = 1.1;

function formatPlans(plans: readonly PlanRow[]): string {
  const cells = plans.map(({ case: c, planned, best, slowdown, candidates }) => {
    const time = (kernel: string) =>
      significant(candidates.find((x) => x.kernel === kernel)?.microseconds ?? undefined);
    return [
      c.id,
      planned,
      time(planned),
      best === planned ? '' : best,
      time(best),
      slowdown.toFixed(2),
      String(candidates.length),
    ];
  });
  const good = plans.filter(({ slowdown }) => slowdown <= GOOD_PLAN).length;
  return `${render(['case', 'planned', 'µs', 'best', 'µs', 'slowdown', 'kernels'], cells, [0, 1, 3])}
${good} of ${plans.length} plans are within 10 % of the best kernel`;
}

function formatPeers(peers: readonly PeerRow[]): string {
  const cells = peers.map(({ name, version, m, n, k, time, error, note }) => [
    `${name} ${version}`,
    `${n} × ${k}`,
    String(m),
    significant(time?.median),
    significant(time?.p20),
    significant(time?.p80),
    time ? significant((2 * m * n * k) / time.median / 1e6) : '',
    error === undefined ? '' : error.toExponential(1),
    note ?? '',
  ]);
  const head = ['peer', 'n × k', 'm', 'µs a layer', 'p20', 'p80', 'TFLOPS', 'error', 'note'];
  return `${render(head, cells, [0, 1, 8])}
a chain of layers by the wall clock, the CPU's share included`;
}

/** A comparison: what changed, and a summary. */
export function formatComparison({ cases, mean, regressions, warnings }: Comparison, limit: number): string {
  const interesting = cases.filter(({ verdict }) => verdict !== 'same' && verdict !== 'new');
  const cells = interesting.map((c: CaseComparison) => [
    c.id,
    c.verdict,
    significant(c.oldMicroseconds),
    significant(c.newMicroseconds),
    c.change === undefined ? '' : changePercent(c.change),
    c.note ?? (c.oldKernel === c.newKernel ? '' : `${c.oldKernel} → ${c.newKernel}`),
  ]);
  const count = (verdict: string) => cases.filter((c) => c.verdict === verdict).length;
  return [
    ...warnings.map((warning) => `note: ${warning}`),
    ...(cells.length
      ? [render(['case', 'verdict', 'old µs', 'new µs', 'change', 'note'], cells, [0, 1, 5])]
      : []),
    `${count('slower')} slower, ${count('broken')} broken, ${count('faster')} faster, ${count('same')} same, ` +
      `${count('noise')} within the noise, ${count('missing')} not measured, ${count('new')} new; ` +
      `mean change ${changePercent(mean)} (in the ratio to a baseline that was timed in turn)`,
    regressions.length
      ? `FAILED: ${regressions.length} cases lost more than ${percent(limit)}`
      : `no case lost more than ${percent(limit)}`,
  ].join('\n');
}
