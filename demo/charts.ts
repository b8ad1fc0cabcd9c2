/** Charts as SVG with a name for screen readers; the numbers are always in a table as well. */
import * as Plot from '@observablehq/plot';
import type { Spread } from '../bench/stats.js';
import { significant } from './format.js';
import { RECIPES } from './recipes.js';

/** One colour a recipe on every chart; see style.css. */
const colors = {
  domain: RECIPES.map(({ label }) => label),
  range: RECIPES.map((_, i) => `var(--series-${i + 1})`),
};

/** Pixels that the longest label takes. */
const LABELS = 115;

/** Software adapters take milliseconds, whose zeros no phone has room for. */
const axisNumber = (value: number) =>
  value >= 10_000 ? `${significant(value / 1000)}k` : significant(value);

/** Draws a chart, and again where the box's width changes. */
export function showChart(
  box: HTMLElement,
  label: string,
  draw: (width: number) => SVGSVGElement | HTMLElement,
): void {
  let drawn = 0;
  const redraw = () => {
    const width = Math.floor(box.clientWidth);
    if (width === drawn || width === 0) return;
    drawn = width;
    const chart = draw(width);
    // The library names groups inside, which have no role; the chart has one name, and a table beside it.
    for (const part of chart.querySelectorAll('[aria-label]')) part.removeAttribute('aria-label');
    chart.setAttribute('role', 'img');
    chart.setAttribute('aria-label', label);
    box.replaceChildren(chart);
  };
  observers.get(box)?.disconnect();
  const observer = new ResizeObserver(redraw);
  observers.set(box, observer);
  observer.observe(box);
  redraw();
}

const observers = new WeakMap<HTMLElement, ResizeObserver>();

export interface Bar {
  readonly label: string;
  readonly total: Spread;
  /** µs of making x ready and of adding up parts of k, where those are steps of their own. */
  readonly convert: number | undefined;
  readonly reduce: number | undefined;
  /** µs that bias and `y +=` add. */
  readonly epilogue: number | undefined;
}

const shortLabels = new Map(RECIPES.map(({ label, short }) => [label, short]));
const shortLabel = (label: string) => shortLabels.get(label) ?? label;

/**
 * Time a recipe: the steps before and after the kernel pale, what an epilogue adds outlined, whiskers from the 20th to the
 * 80th percentile of the whole.
 */
export function barChart(bars: readonly Bar[], width: number): SVGSVGElement | HTMLElement {
  const parts = bars.flatMap(({ label, total, convert = 0, reduce = 0 }) => [
    { label, from: 0, to: convert, opacity: 0.45 },
    { label, from: convert, to: total.median - reduce, opacity: 0.9 },
    { label, from: total.median - reduce, to: total.median, opacity: 0.6 },
  ]);
  const added = bars.flatMap(({ label, total, epilogue = 0 }) =>
    epilogue > 0 ? [{ label, from: total.median, to: total.median + epilogue }] : [],
  );
  const end = ({ total, epilogue = 0 }: Bar) => Math.max(total.p80, total.median + epilogue);
  return Plot.plot({
    width,
    marginLeft: LABELS,
    marginRight: 60,
    marginBottom: 45,
    height: 65 + 40 * bars.length,
    style: { fontSize: '13px', background: 'transparent' },
    x: {
      label: 'µs, less is better',
      labelOffset: 40,
      grid: true,
      zero: true,
      ticks: width < 500 ? 3 : 8,
      tickFormat: axisNumber,
    },
    y: { label: null, domain: bars.map(({ label }) => label), tickSize: 0, tickFormat: shortLabel },
    color: colors,
    opacity: { type: 'identity' },
    marks: [
      Plot.barX(parts, {
        x1: 'from',
        x2: 'to',
        y: 'label',
        fill: 'label',
        fillOpacity: 'opacity',
        insetTop: 4,
        insetBottom: 4,
      }),
      Plot.barX(added, {
        x1: 'from',
        x2: 'to',
        y: 'label',
        fill: 'none',
        stroke: 'label',
        insetTop: 5,
        insetBottom: 5,
      }),
      Plot.ruleY(bars, {
        x1: (d: Bar) => d.total.p20,
        x2: (d: Bar) => d.total.p80,
        y: 'label',
        stroke: 'currentColor',
        strokeWidth: 1.5,
        marker: 'tick',
      }),
      Plot.text(bars, {
        x: end,
        y: 'label',
        text: (d: Bar) => significant(d.total.median),
        textAnchor: 'start',
        dx: 8,
        fill: 'currentColor',
      }),
      Plot.ruleX([0], { stroke: 'currentColor' }),
    ],
  });
}

export interface Point {
  readonly label: string;
  readonly m: number;
  readonly value: number;
  readonly low: number;
  readonly high: number;
  readonly kernel: string;
}

/** Lines over m, both axes in powers; bands from the 20th to the 80th percentile. */
export function lineChart(
  points: readonly Point[],
  unit: string,
  width: number,
): SVGSVGElement | HTMLElement {
  const present = new Set(points.map(({ label }) => label));
  const domain = colors.domain.filter((label) => present.has(label));
  const ticks = [...new Set(points.map(({ m }) => m))].filter((_, i) => width >= 500 || i % 3 === 0);
  return Plot.plot({
    width,
    height: width < 500 ? 270 : 350,
    marginBottom: 42,
    marginLeft: 55,
    style: { fontSize: '13px', background: 'transparent' },
    x: {
      type: 'log',
      base: 2,
      label: 'rows of x (m)',
      labelOffset: 36,
      ticks,
      tickFormat: (m: number) => String(m),
    },
    y: { type: 'log', label: unit, grid: true, ticks: 5, tickFormat: (v: number) => significant(v, 2) },
    color: {
      domain,
      range: domain.map((label) => colors.range[colors.domain.indexOf(label)]!),
      legend: true,
    },
    marks: [
      Plot.areaY(points, { x: 'm', y1: 'low', y2: 'high', fill: 'label', fillOpacity: 0.18, z: 'label' }),
      Plot.lineY(points, { x: 'm', y: 'value', stroke: 'label', strokeWidth: 2, z: 'label' }),
      Plot.dot(points, {
        x: 'm',
        y: 'value',
        fill: 'label',
        r: 3.5,
        title: (d: Point) => `${d.label}, m = ${d.m}: ${significant(d.value)} ${unit}\n${d.kernel}`,
      }),
    ],
  });
}

/** Which kernel computes which m: a cell each. */
export function kernelChart(points: readonly Point[], width: number): SVGSVGElement | HTMLElement {
  const id = (d: Point) => d.kernel.split('.')[0]!;
  const labels = [...new Set(points.map(({ label }) => label))];
  return Plot.plot({
    width,
    height: 50 + 30 * labels.length,
    marginLeft: LABELS,
    style: { fontSize: '13px', background: 'transparent' },
    x: { label: 'rows of x (m)', tickRotate: width < 700 ? -60 : 0, type: 'band' },
    marginBottom: width < 700 ? 55 : 40,
    y: { label: null, domain: labels, tickSize: 0, tickFormat: shortLabel },
    color: {
      domain: [...new Set(points.map(id))],
      range: RECIPES.map((_, i) => `var(--series-${i + 1})`),
      legend: true,
    },
    marks: [Plot.cell(points, { x: 'm', y: 'label', fill: id, inset: 1, title: (d: Point) => d.kernel })],
  });
}
