/** Plots as SVG: time against m, and the part of the ceiling that is reached. Both axes of m and µs are logarithmic. */
import type { BenchFile, Row } from './schema.js';
import { adapterLabel } from './schema.js';

interface Point {
  readonly x: number;
  readonly y: number;
}

interface Series {
  readonly name: string;
  readonly points: readonly Point[];
}

interface Axis {
  readonly title: string;
  readonly ticks: readonly number[];
  readonly label: (value: number) => string;
  /** Where a value lies, 0 at the start of the axis and 1 at its end. */
  readonly place: (value: number) => number;
}

const WIDTH = 760;
const HEIGHT = 420;
const MARGIN = { top: 40, right: 250, bottom: 52, left: 64 };
/** Apart for the colour-blind too, and on white and dark alike. */
const COLORS = ['#3b76c4', '#d1711f', '#2f9e62', '#b8496f', '#7f6bc9', '#8d7a2b', '#2a98a8', '#7d7d7d'];
/** Where colours come round again, lines are broken. */
const DASHES = ['', ' stroke-dasharray="6 4"', ' stroke-dasharray="2 3"'];

export interface Plot {
  /** File name without its ending. */
  readonly name: string;
  readonly svg: string;
}

/** Two plots for each shape that was measured at two m or more: a line for each format, activations and types. */
export function plotResults({ rows, environment }: BenchFile): Plot[] {
  const ok = rows.filter(({ status }) => status === 'ok');
  const shapes = new Map<string, Row[]>();
  for (const row of ok) {
    const key = `${row.case.n}x${row.case.k}`;
    shapes.set(key, [...(shapes.get(key) ?? []), row]);
  }
  return [...shapes].flatMap(([shape, all]) => {
    const sizes = [...new Set(all.map(({ case: c }) => c.m))].sort((a, b) => a - b);
    if (sizes.length < 2) return [];
    const where = `${shape.replace('x', ' × ')}, ${adapterLabel(environment.adapter)}, ${environment.host}`;
    const times = seriesOf(all, ({ measurement }) => measurement!.total.median);
    const parts = seriesOf(all, ({ measurement: m }) => 100 * Math.max(m!.ofCopy, m!.ofCeiling));
    const m = logarithmic('m, rows of x', sizes, String, 2);
    return [
      { name: `${shape}-time`, svg: drawPlot(`µs, ${where}`, times, m, timeAxis(times)) },
      {
        name: `${shape}-ceiling`,
        svg: drawPlot(`% of copy or compute ceiling, ${where}`, parts, m, partAxis(parts)),
      },
    ];
  });
}

function seriesOf(rows: readonly Row[], value: (row: Row) => number): Series[] {
  const series = new Map<string, Point[]>();
  for (const row of rows) {
    const { format, activations, x, y, m } = row.case;
    // Plain weights have the type of x as their name.
    const types = x === format || (x === 'f32' && y === 'f32') ? '' : x === y ? x : `${x}→${y}`;
    const name = [format, activations === 'float' ? '' : activations, types].filter(Boolean).join(' ');
    series.set(name, [...(series.get(name) ?? []), { x: m, y: value(row) }]);
  }
  return [...series].map(([name, points]) => ({ name, points: points.sort((a, b) => a.x - b.x) }));
}

function logarithmic(title: string, ticks: readonly number[], label: Axis['label'], least = 1): Axis {
  const low = Math.log(ticks[0]!);
  const span = Math.max(Math.log(ticks.at(-1)!) - low, Math.log(least));
  return { title, ticks, label, place: (value) => (Math.log(value) - low) / span };
}

function timeAxis(series: readonly Series[]): Axis {
  const values = series.flatMap(({ points }) => points.map(({ y }) => y));
  const [low, high] = [
    Math.floor(Math.log10(Math.min(...values))),
    Math.ceil(Math.log10(Math.max(...values))),
  ];
  const ticks = Array.from({ length: Math.max(high - low, 1) + 1 }, (_, i) => 10 ** (low + i));
  return logarithmic('µs', ticks, (value) => (value >= 1 ? value.toFixed(0) : String(value)));
}

function partAxis(series: readonly Series[]): Axis {
  const largest = Math.max(...series.flatMap(({ points }) => points.map(({ y }) => y)), 1);
  const step = [1, 2, 5, 10, 20, 25, 50].find((size) => largest / size <= 6) ?? 100;
  const count = Math.ceil(largest / step);
  const ticks = Array.from({ length: count + 1 }, (_, i) => i * step);
  return { title: '%', ticks, label: String, place: (value) => value / (count * step) };
}

const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
const fixed = (value: number) => value.toFixed(1);

export function drawPlot(title: string, series: readonly Series[], xAxis: Axis, yAxis: Axis): string {
  const plotWidth = WIDTH - MARGIN.left - MARGIN.right;
  const plotHeight = HEIGHT - MARGIN.top - MARGIN.bottom;
  const x = (value: number) => MARGIN.left + xAxis.place(value) * plotWidth;
  const y = (value: number) => MARGIN.top + (1 - yAxis.place(value)) * plotHeight;
  const [right, bottom] = [WIDTH - MARGIN.right, HEIGHT - MARGIN.bottom];
  const text = (at: readonly [number, number], content: string, more = '') =>
    `<text x="${fixed(at[0])}" y="${fixed(at[1])}"${more}>${escaped(content)}</text>`;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" font-family="sans-serif" font-size="12">`,
    `<rect width="${WIDTH}" height="${HEIGHT}" fill="#fff"/>`,
    text([MARGIN.left, 22], title, ' font-size="14"'),
    ...yAxis.ticks.flatMap((tick) => [
      `<line x1="${MARGIN.left}" x2="${right}" y1="${fixed(y(tick))}" y2="${fixed(y(tick))}" stroke="#ddd"/>`,
      text([MARGIN.left - 8, y(tick) + 4], yAxis.label(tick), ' text-anchor="end"'),
    ]),
    ...xAxis.ticks.map((tick) => text([x(tick), bottom + 18], xAxis.label(tick), ' text-anchor="middle"')),
    text([(MARGIN.left + right) / 2, HEIGHT - 12], xAxis.title, ' text-anchor="middle"'),
    ...series.flatMap(({ name, points }, i) => {
      const color = COLORS[i % COLORS.length]!;
      const dash = DASHES[Math.floor(i / COLORS.length) % DASHES.length]!;
      const line = points.map((p) => `${fixed(x(p.x))},${fixed(y(p.y))}`).join(' ');
      const legend = MARGIN.top + 10 + i * 18;
      return [
        `<polyline points="${line}" fill="none" stroke="${color}" stroke-width="2"${dash}/>`,
        ...points.map((p) => `<circle cx="${fixed(x(p.x))}" cy="${fixed(y(p.y))}" r="3" fill="${color}"/>`),
        `<line x1="${right + 16}" x2="${right + 40}" y1="${legend}" y2="${legend}" stroke="${color}" stroke-width="2"${dash}/>`,
        text([right + 46, legend + 4], name),
      ];
    }),
    '</svg>',
  ];
  return `${parts.join('\n')}\n`;
}
