/** The demo page as it is built: what it shows is what was measured, and every way out of a run is a good one. */
import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Page } from 'playwright';
import { describe, expect, test } from 'vitest';
import type { OverheadResult, OverheadRow } from '../../demo/overhead.js';
import type { SweepResult } from '../../demo/sweep.js';
import { useDemo } from '../support/demo.js';

const demo = useDemo();

/** Small enough for a software adapter on a busy machine. */
const TINY = 'm=2&n=64&k=64&x=float&rounds=2&to=2&formats=mxfp4+mbs-static+f32';

async function run(page: Page, panel: 'overhead' | 'sweep'): Promise<string> {
  await page.locator(`#${panel} .run`).click();
  const status = page.locator(`#${panel} .status`);
  // A software adapter compiles a kernel in a second, and others may have its cores.
  await status.filter({ hasText: /Done|Stopped|Cancelled/ }).waitFor({ timeout: 50_000 });
  return (await status.textContent())!;
}

async function exported(page: Page, panel: string, kind: 'json' | 'csv'): Promise<string> {
  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.locator(`#${panel} .${kind}`).click(),
  ]);
  expect(download.suggestedFilename()).toMatch(new RegExp(`^fp4-.*\\.${kind}$`));
  return readFileSync((await download.path())!, 'utf8');
}

/** Cells of a table's body, by row. */
const cells = (page: Page, panel: string): Promise<string[][]> =>
  page
    .locator(`#${panel} tbody tr`)
    .evaluateAll((rows) => rows.map((row) => [...row.children].map((cell) => cell.textContent ?? '')));

/** A table's body by row, each cell by the title of its column. */
async function records(page: Page, panel: string): Promise<Record<string, string>[]> {
  const titles = await page.locator(`#${panel} thead th`).allTextContents();
  return (await cells(page, panel)).map((row) =>
    Object.fromEntries(row.map((text, i) => [titles[i]!, text])),
  );
}

/** axe's serious and critical findings, each with where it is. */
async function findings(page: Page): Promise<string[]> {
  const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js');
  await page.addScriptTag({ path: axe });
  return page.evaluate(async () => {
    const { axe } = window as unknown as {
      axe: {
        run(): Promise<{ violations: { id: string; impact: string; nodes: { html: string }[] }[] }>;
      };
    };
    const { violations } = await axe.run();
    return violations
      .filter(({ impact }) => impact === 'serious' || impact === 'critical')
      .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
  });
}

const scrollsSideways = (page: Page) =>
  page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);

describe('overhead and sweep', () => {
  test('what the table and CSV show is what JSON has; kernels were checked; axe finds nothing serious', async () => {
    const page = await demo.open({ hash: TINY, acceptDownloads: true });
    expect(await run(page, 'overhead')).toBe('Done: 3 of 3 checked and measured.');
    const result = JSON.parse(await exported(page, 'overhead', 'json')) as OverheadResult;
    expect(result.settings).toMatchObject({ m: 2, n: 64, k: 64, x: 'float', rounds: 2 });
    expect(result.rows.map(({ recipe }) => recipe)).toEqual(['mxfp4', 'mbs-static', 'f32']);
    const table = await records(page, 'overhead');
    expect(table).toHaveLength(3);
    // One step each, and nothing but the product asked for.
    for (const title of ['x, µs', 'GEMM, µs', 'parts of k, µs', 'bias and y +=, µs'])
      expect(table[0]).not.toHaveProperty([title]);
    const [base] = result.rows as [OverheadRow];
    result.rows.forEach((row, i) => {
      const { weights, kernel, TFLOPS: teraflops, µs: micros, 'GB/s': rate, ...others } = table[i]!;
      const { 'against the CPU': check, 'against MXFP4': over } = others;
      expect(weights).toBe(row.label);
      expect(row.check!.values).toBe(2 * 64);
      expect(row.check!.errorOfBound).toBeLessThanOrEqual(1);
      expect(check).toMatch(/^checked: 128 values/);
      expect(toNumber(micros!)).toBeCloseTo(row.total!.median, -Math.log10(row.total!.median / 100));
      expect(kernel).toBe(row.kernel);
      // 2 · m · n · k operations in the time shown, and the bytes of weights, x and y.
      expect(row.teraflops! * row.total!.median * 1e6).toBeCloseTo(2 * 2 * 64 * 64, 3);
      expect(toNumber(teraflops!) / row.teraflops!).toBeCloseTo(1, 1);
      expect(toNumber(rate!) / row.gigabytesPerSecond!).toBeCloseTo(1, 1);
      expect(row.gigabytesPerSecond! * row.total!.median * 1e3).toBeCloseTo(bytesOf(row.recipe), 3);
      // Of two rounds, the percentiles are the extremes, which no ratio within a round can leave.
      expect(row.ratio!.p20).toBeGreaterThanOrEqual(row.total!.p20 / base.total!.p80 - 1e-9);
      expect(row.ratio!.p80).toBeLessThanOrEqual(row.total!.p80 / base.total!.p20 + 1e-9);
      if (row === base) expect(over).toBe('base');
      else expect(over).toMatch(new RegExp(`^${escaped(percentText(row.ratio!.median))} \\(`));
    });
    expect(await page.locator('#overhead .summary').textContent()).toContain('+6.2 %');
    const [head, ...lines] = (await exported(page, 'overhead', 'csv')).trim().split('\r\n');
    const column = head!.split(',').indexOf('total_us_median');
    expect(lines.map((line) => Number(line.split(',')[column]))).toEqual(
      result.rows.map(({ total }) => total!.median),
    );
    expect(await page.locator('#overhead .chart svg').count()).toBe(1);

    expect(await run(page, 'sweep')).toBe('Done: 6 products.');
    const sweep = JSON.parse(await exported(page, 'sweep', 'json')) as SweepResult;
    expect(sweep.rows.map(({ m }) => m)).toEqual([1, 1, 1, 2, 2, 2]);
    for (const row of sweep.rows) expect(row).toMatchObject({ status: 'ok' });
    const shown = await cells(page, 'sweep');
    expect(shown.map(([m, , , , kernel]) => [m, kernel])).toEqual(
      sweep.rows.map(({ m, kernel }) => [String(m), kernel]),
    );
    for (const chart of ['time', 'tflops', 'kernels'])
      expect(await page.locator(`#sweep .chart-${chart} [role=img]`).count()).toBe(1);

    expect(await findings(page)).toEqual([]);
    expect(await scrollsSideways(page)).toBe(false);
    await page.setViewportSize({ width: 390, height: 800 });
    await page.emulateMedia({ colorScheme: 'dark' });
    expect(await scrollsSideways(page)).toBe(false);
    expect(await findings(page)).toEqual([]);
  }, 120_000);

  test('bias and y += are compared with the CPU and measured beside the product', async () => {
    const page = await demo.open({
      hash: 'm=3&n=48&k=64&x=float&rounds=3&epilogue=1&formats=mxfp4+oas+f16',
      acceptDownloads: true,
    });
    expect(await run(page, 'overhead')).toMatch(/^Done: [23] of 3 checked and measured.$/);
    const { rows } = JSON.parse(await exported(page, 'overhead', 'json')) as OverheadResult;
    const [base, oas, f16] = await records(page, 'overhead');
    for (const row of [base!, oas!]) {
      // The product, and the product with its epilogue.
      expect(row['against the CPU']).toMatch(/^checked: 288 values/);
      expect(row['bias and y +=, µs']).toMatch(/^[+−]?[\d.,]+ \([+−]?[\d.,]+ to [+−]?[\d.,]+\)$/);
    }
    expect(rows[0]!.kernel).toBe(rows[1]!.kernel);
    if (rows[2]!.status === 'refused') expect(f16!['against the CPU']).toContain('lacks f16');
    else expect(f16!['against the CPU']).toMatch(/^checked: 144 values/);
    const summary = (await page.locator('#overhead .summary').textContent())!;
    expect(summary).toMatch(/OAS has the kernel of plain MXFP4.*is the noise of this run/);
    expect(summary).toMatch(/A bias and y \+= take/);
    expect(await page.locator('#epilogue').isChecked()).toBe(true);
  });

  test.each([
    ['mxfp4', 'mxfp4+oas+mbs-dynamic+block16'],
    ['nvfp4', 'mxfp4+nvfp4'],
  ])('x in %s is quantized, which is timed apart', async (x, formats) => {
    // More rows than are compared, so that the row with the largest value is one more.
    const page = await demo.open({ hash: `m=9&n=32&k=128&x=${x}&rounds=1&formats=${formats}` });
    const count = formats.split('+').length;
    expect(await run(page, 'overhead')).toBe(`Done: ${count} of ${count} checked and measured.`);
    for (const row of await records(page, 'overhead')) {
      const [total, convert, gemm] = [row.µs, row['x, µs'], row['GEMM, µs']];
      for (const text of [total!, convert!, gemm!]) expect(toNumber(text)).toBeGreaterThan(0);
      expect(convert).not.toBe(total);
      expect(row['x against MXFP4']).toMatch(row.weights === 'MXFP4, floor' ? /^base$/ : /^[+−]?[\d.]+ % \(/);
    }
  });

  test('what is wrong is told and not timed', async () => {
    const page = await demo.open({
      hash: TINY,
      before: () => {
        // y stays zero.
        GPUComputePassEncoder.prototype.dispatchWorkgroups = () => undefined;
      },
    });
    expect(await run(page, 'overhead')).toBe('Done: 0 of 3 checked and measured.');
    for (const row of await records(page, 'overhead')) {
      expect(row['against the CPU']).toMatch(/^wrong: 128 values, [\d,]+ of bound/);
      expect(row.µs).toBe('wrong');
    }
  });

  test('what the device refuses has one row, and is not timed', async () => {
    const page = await demo.open({
      hash: TINY,
      before: () => {
        // More workgroups than any device takes.
        const dispatch = GPUComputePassEncoder.prototype.dispatchWorkgroups;
        GPUComputePassEncoder.prototype.dispatchWorkgroups = function (this: GPUComputePassEncoder) {
          dispatch.call(this, 2 ** 31);
        };
      },
    });
    await run(page, 'sweep');
    const rows = await cells(page, 'sweep');
    const names = rows.map(([m, weights]) => `${m} ${weights}`);
    expect(names.length).toBeGreaterThan(0);
    expect(new Set(names).size).toBe(names.length);
    for (const row of await records(page, 'sweep')) expect(row).not.toHaveProperty('µs');
  });

  test('a run is cancelled, and another one goes on from there', async () => {
    const page = await demo.open({ hash: TINY.replace('rounds=2', 'rounds=99') });
    await page.locator('#overhead .run').click();
    await page.locator('#overhead .status', { hasText: 'Measuring' }).waitFor();
    expect(await page.locator('#sweep .run').isDisabled()).toBe(true);
    await page.locator('#overhead .cancel').click();
    await page.locator('#overhead .status', { hasText: 'Cancelled.' }).waitFor();
    expect(await page.locator('#overhead .results').isHidden()).toBe(true);
    expect(await page.locator('#overhead .alert').textContent()).toBe('');
    await page.locator('#rounds').fill('1');
    expect(await run(page, 'overhead')).toMatch(/^Done/);
  });
});

describe('settings', () => {
  test('live in the address, which gives them back', async () => {
    const page = await demo.open();
    await page.locator('#layer').selectOption({ label: 'gate_proj, up_proj: 12288 × 4096' });
    await page.locator('#m').fill('7');
    await page.locator('#activations').selectOption('nvfp4');
    await page.getByLabel('plain f32').uncheck();
    await page.locator('#rounds').fill('5');
    await page.locator('#to').fill('64');
    const hash = await page.evaluate(() => location.hash);
    const again = await demo.open({ hash: hash.slice(1) });
    const value = (id: string) => again.locator(id).inputValue();
    expect(await Promise.all(['#m', '#n', '#k', '#activations', '#rounds', '#to'].map(value))).toEqual([
      '7',
      '12288',
      '4096',
      'nvfp4',
      '5',
      '64',
    ]);
    expect(await again.getByLabel('plain f32').isChecked()).toBe(false);
    expect(await again.getByLabel('NVFP4', { exact: true }).isChecked()).toBe(true);
  });

  test('that cannot be run are refused in words', async () => {
    const page = await demo.open({ hash: TINY });
    await page.locator('#k').fill('100');
    expect(await page.locator('#form-error').textContent()).toContain('multiple of 32');
    expect(await page.locator('#layer').inputValue()).toBe('free');
    expect(await run(page, 'overhead')).toBe('Stopped.');
    expect(await page.locator('#overhead .alert').textContent()).toContain('multiple of 32');
    await page.locator('#k').fill('64');
    expect(await page.locator('#form-error').textContent()).toBe('');
  });
});

describe('adapters', () => {
  test('a software adapter is said loudly', async () => {
    const page = await demo.open();
    await page.locator('#tiers').waitFor();
    const software = (await page.locator('#adapter-card').textContent())!.includes('swiftshader');
    expect(await page.locator('#software').count()).toBe(software ? 1 : 0);
  });

  test('without WebGPU there is help, and nothing to press', async () => {
    const page = await demo.open({
      before: () => Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined }),
    });
    await page.locator('#no-webgpu').waitFor();
    expect(await page.locator('#no-webgpu').textContent()).toMatch(/no WebGPU.*Chrome/s);
    expect(await page.locator('.run:visible').count()).toBe(0);
    expect(await findings(page)).toEqual([]);
  });

  test('without an adapter there is other help', async () => {
    const page = await demo.open({
      before: () => {
        GPU.prototype.requestAdapter = async () => null;
      },
    });
    await page.locator('#no-webgpu').waitFor();
    expect(await page.locator('#no-webgpu').textContent()).toMatch(/no adapter.*graphics driver/s);
  });

  test('core WebGPU alone is told from more, timed by the wall clock, and right', async () => {
    const page = await demo.open({
      hash: TINY,
      before: () => {
        Object.defineProperty(GPUAdapter.prototype, 'features', { get: () => new Set() });
      },
    });
    await page.locator('#tiers').waitFor();
    const missing = (await page.locator('#missing').textContent())!;
    for (const name of ['subgroups', 'f16', 'matrix-f16', 'timestamp-query']) expect(missing).toContain(name);
    expect(await page.locator('#tiers li').allTextContents()).not.toContain('subgroups');
    expect(await run(page, 'overhead')).toBe('Done: 3 of 3 checked and measured.');
    expect(await page.locator('#overhead .summary').textContent()).toContain('wall clock');
  });

  test('a device that is lost in the middle of a run is told, and a new one goes on', async () => {
    const page = await demo.open({
      hash: TINY.replace('rounds=2', 'rounds=99'),
      before: () => {
        const request = GPUAdapter.prototype.requestDevice;
        GPUAdapter.prototype.requestDevice = async function (...args) {
          const device = await request.apply(this, args);
          Object.assign(window, { lastDevice: device });
          return device;
        };
      },
    });
    await page.locator('#overhead .run').click();
    await page.locator('#overhead .status', { hasText: 'Measuring' }).waitFor();
    await page.evaluate(() => (window as unknown as { lastDevice: GPUDevice }).lastDevice.destroy());
    const alert = page.locator('#overhead .alert');
    await alert.locator('.again').waitFor();
    expect(await alert.textContent()).toMatch(/GPU went away.*lost/);
    expect(await page.locator('#overhead .status').textContent()).toBe('Stopped.');
    await page.locator('#rounds').fill('1');
    await alert.locator('.again').click();
    await page.locator('#overhead .status', { hasText: 'Done: 3 of 3' }).waitFor();
    expect(await alert.textContent()).toBe('');
  });
});

test('the page is below 400 kB compressed', () => {
  const files = readdirSync(demo.folder, { recursive: true, withFileTypes: true }).filter((f) => f.isFile());
  const bytes = files.map(({ parentPath, name }) => gzipSync(readFileSync(join(parentPath, name))).length);
  expect(bytes.reduce((sum, size) => sum + size, 0)).toBeLessThan(400_000);
});

const toNumber = (text: string) => Number(text.split(' ')[0]!.replaceAll(',', ''));
const escaped = (text: string) => text.replace(/[.+]/g, '\\$&');
const percentText = (ratio: number) => {
  const percent = (ratio - 1) * 100;
  const text = Math.abs(percent).toFixed(Math.abs(percent) < 100 ? 1 : 0);
  return `${Number(text) === 0 ? '' : percent < 0 ? '−' : '+'}${text} %`;
};

/** Of weights[64, 64], x[2, 64] and y[2, 64]. */
function bytesOf(recipe: string): number {
  const weights = { mxfp4: 2048 + 128, 'mbs-static': 2048 + 128 + 64, f32: 64 * 64 * 4 }[recipe]!;
  return weights + 2 * 2 * 64 * 4;
}
