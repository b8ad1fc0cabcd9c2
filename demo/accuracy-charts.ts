/** Charts of the accuracy section, each as wide as it is told. Colours come from the page's custom properties. */
import * as Plot from '@observablehq/plot';
import { type ErrorHistogram, type HeatMap, type ScaleHistogram, scaleLabel } from './accuracy-data.js';
import { formatDb } from './accuracy-report.js';

/** Of the axes; Plot's own 10 px are small for exponents. */
const FONT = { fontSize: '12px' };
/** Room for ticks and, below them, the label. */
const BELOW = { marginBottom: 42 };
const LABEL_OFFSET = 38;

const ACCENT = 'var(--accuracy-accent)';
const QUIET = 'var(--accuracy-quiet)';

export interface Bar {
  readonly label: string;
  readonly sqnr: number;
  readonly chosen: boolean;
}

export function sqnrBars(bars: readonly Bar[], width: number): Element {
  const narrow = width < 480;
  // An infinite bar has no length.
  const finite = bars.filter(({ sqnr }) => Number.isFinite(sqnr));
  const plot = Plot.plot({
    width,
    height: 62 + 24 * bars.length,
    marginLeft: narrow ? 150 : 272,
    marginRight: 44,
    ...BELOW,
    style: narrow ? { fontSize: '11px' } : FONT,
    ariaLabel: 'Bars of SQNR in dB: the figures of the table',
    x: {
      label: 'SQNR, dB',
      labelOffset: LABEL_OFFSET,
      grid: true,
      domain: [0, Math.max(1, ...finite.map(({ sqnr }) => sqnr))],
    },
    y: {
      label: null,
      domain: bars.map(({ label }) => label),
      ...(narrow && { tickFormat: shortLabel }),
    },
    marks: [
      Plot.barX(finite, {
        x: 'sqnr',
        y: 'label',
        fill: ({ chosen }: Bar) => (chosen ? ACCENT : QUIET),
        insetTop: 2,
        insetBottom: 2,
      }),
      Plot.text(bars, {
        x: ({ sqnr }: Bar) => (Number.isFinite(sqnr) ? sqnr : 0),
        y: 'label',
        text: ({ sqnr }: Bar) => formatDb(sqnr),
        textAnchor: 'start',
        dx: 4,
      }),
      Plot.ruleX([0]),
    ],
  });
  return asImage(plot);
}

/** As a phone has room for. */
function shortLabel(label: string): string {
  return label.replace(' + MBS', '').replace(', block', '').replace('four-over-six', '4/6');
}

export function errorChart({ range, counts }: ErrorHistogram, width: number): Element {
  // Where nothing is lost there is one bar, of some width.
  const limit = range || 1;
  const bin = (2 * limit) / counts.length;
  const data = Array.from(counts, (count, i) => ({
    from: -limit + i * bin,
    to: -limit + (i + 1) * bin,
    count,
  }));
  const plot = Plot.plot({
    width,
    height: 250,
    marginLeft: 56,
    ...BELOW,
    style: FONT,
    ariaLabel: 'Histogram of errors',
    x: { label: 'error, in RMS of the values', labelOffset: LABEL_OFFSET },
    y: { label: 'values', grid: true, tickFormat: 's' },
    marks: [Plot.rectY(data, { x1: 'from', x2: 'to', y: 'count', fill: ACCENT, inset: 0 }), Plot.ruleY([0])],
  });
  return asImage(plot);
}

export function scalesChart({ format, firstByte, counts }: ScaleHistogram, width: number): Element {
  const data = counts.map((count, i) => ({ byte: firstByte + i, count }));
  const last = firstByte + counts.length - 1;
  // E4M3 has eight bytes a power of two: those are what is named, unless there are few.
  const every = format === 'nvfp4' && counts.length > 16 ? 8 : 1;
  const named = data.map(({ byte }) => byte).filter((byte) => byte % every === 0);
  const step = Math.ceil(named.length / Math.max(1, Math.floor((width - 80) / 44)));
  const plot = Plot.plot({
    width,
    height: 250,
    marginLeft: 56,
    ...BELOW,
    style: FONT,
    ariaLabel: 'Histogram of block scales',
    x: {
      label: format === 'nvfp4' ? 'E4M3 scale' : 'E8M0 scale',
      labelOffset: LABEL_OFFSET,
      domain: [firstByte - 0.75, last + 0.75],
      ticks: named.filter((_, i) => i % step === 0),
      tickFormat: (byte: number) => scaleLabel(format, byte),
    },
    y: { label: 'blocks', grid: true, tickFormat: 's' },
    marks: [
      Plot.rectY(data, {
        x1: ({ byte }: { byte: number }) => byte - 0.4,
        x2: ({ byte }: { byte: number }) => byte + 0.4,
        y: 'count',
        fill: ACCENT,
        inset: 0,
      }),
      Plot.ruleY([0]),
    ],
  });
  return asImage(plot);
}

export function heatMapChart(map: HeatMap, blockSize: number, width: number): Element {
  const { height, db, rowsPerCell, blocksPerCell } = map;
  const cells = Array.from(db, (value) => (Number.isFinite(value) ? value : Number.NaN));
  const [low, high] = colorDomain(cells);
  const plot = Plot.plot({
    width,
    // A cell of a few rows stays visible; one of many does not become a page.
    height: 72 + Math.min(256, Math.max(40, height * 3)),
    marginLeft: 56,
    ...BELOW,
    style: FONT,
    ariaLabel: 'Heat map of the error of each block',
    x: {
      label: `block of ${blockSize} values`,
      labelOffset: LABEL_OFFSET,
      domain: [0, map.width * blocksPerCell],
    },
    y: { label: 'row', reverse: true, domain: [0, height * rowsPerCell] },
    color: {
      scheme: 'viridis',
      domain: [low, high],
      clamp: true,
      label: 'error, dB of the mean square of the values',
    },
    marks: [
      Plot.raster(cells, {
        width: map.width,
        height,
        x1: 0,
        y1: 0,
        x2: map.width * blocksPerCell,
        y2: height * rowsPerCell,
        imageRendering: 'pixelated',
      }),
      Plot.frame({ stroke: 'currentColor', strokeOpacity: 0.3 }),
    ],
  });
  const box = document.createElement('div');
  box.append(plot.legend('color', { width: Math.min(width, 360) }) ?? '', asImage(plot));
  return box;
}

/** To a screen reader one thing, with a label, instead of a hundred ticks; parts without a role may have no label. */
function asImage(plot: Element): Element {
  plot.setAttribute('role', 'img');
  for (const part of plot.querySelectorAll('[aria-label]')) part.removeAttribute('aria-label');
  return plot;
}

/** From the first to the last percentile, so that a few blocks do not take all the colours. */
function colorDomain(cells: readonly number[]): [number, number] {
  const sorted = cells.filter((value) => !Number.isNaN(value)).sort((a, b) => a - b);
  if (sorted.length === 0) return [-1, 0];
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))]!;
  const [low, high] = [at(0.01), at(0.99)];
  return low < high ? [low, high] : [low - 1, low + 1];
}
