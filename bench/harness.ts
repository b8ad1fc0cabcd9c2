/** The harness, the same on every host: cases in, rows out, one after another. */
import { Fp4Error } from '../src/errors.js';
import type { Gpu } from '../src/gpu/gpu.js';
import type { BenchCase, CaseSelection } from './cases.js';
import { type Context, failure, measureTiming, type Report } from './context.js';
import { Instrument, type SamplingOptions } from './instrument.js';
import { Operands, type Product } from './operands.js';
import { measureQuantizers } from './quantizers.js';
import { recordParts, replay } from './recorder.js';
import type { Ceilings, ComputeCeiling, Measurement, PlanRow, Row } from './schema.js';
import { scaled } from './stats.js';

export interface HarnessOptions extends SamplingOptions, Pick<CaseSelection, 'filter' | 'skip'> {
  /** Compares every kernel that can compute a case instead of measuring the planned one. */
  readonly plans?: boolean | undefined;
  /** Measures quantizers too, before the cases, those that `filter` and `skip` leave; false by default. */
  readonly quantizers?: boolean | undefined;
  /** Seconds after which no further measurement is begun. */
  readonly timeLimit?: number | undefined;
}

/** @returns whether every case was reached before the time limit */
export async function runBench(
  gpu: Gpu,
  cases: readonly BenchCase[],
  options: HarnessOptions,
  report: Report,
): Promise<boolean> {
  const deadline = performance.now() + (options.timeLimit ?? Number.POSITIVE_INFINITY) * 1000;
  const late = () => performance.now() >= deadline;
  const instrument = await Instrument.create(gpu, options);
  // Work that the device refuses takes no time at all, and would be the fastest of all.
  const refusals: string[] = [];
  const refuse = (event: GPUUncapturedErrorEvent) => void refusals.push(event.error.message);
  gpu.device.addEventListener('uncapturederror', refuse);
  let done = 0;
  try {
    const ceilings = await instrument.ceilings();
    report.ceilings(ceilings);
    const shared = { gpu, instrument, ceilings, late, report, refusals };
    if (options.quantizers) {
      const progress = (doing: string) => report.progress(0, cases.length, `quantizers: ${doing}`);
      if (!(await measureQuantizers({ ...shared, progress }, options))) return false;
    }
    for (const group of groupBy(cases, groupKey).values()) {
      if (late()) return false;
      const { names, n, k, format } = group[0]!;
      const what = [...new Set([names[0], `${n}x${k}`, format])].join(' ');
      const progress = (doing: string) => report.progress(done, cases.length, `${what}: ${doing}`);
      progress('compiling');
      const context = { ...shared, progress };
      const all = options.plans ? await comparePlans(context, group) : await measureGroup(context, group);
      if (!all) return false;
      done += group.length;
    }
    return true;
  } finally {
    gpu.device.removeEventListener('uncapturederror', refuse);
    instrument.destroy();
  }
}

const groupKey = ({ n, k, format }: BenchCase) => `${n}x${k} ${format}`;

function groupBy<T>(items: readonly T[], key: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) {
    const name = key(item);
    const group = groups.get(name);
    if (group) group.push(item);
    else groups.set(name, [item]);
  }
  return groups;
}

/** Everything of a weight matrix is compiled and checked before anything of it is timed, as compiling lets a GPU cool. */
async function measureGroup(context: Context, cases: readonly BenchCase[]): Promise<boolean> {
  const { gpu, instrument, report, late } = context;
  let operands: Operands;
  try {
    operands = await Operands.create(gpu, cases);
  } catch (error) {
    for (const c of cases) report.row({ case: c, ...failure(error) });
    return true;
  }
  const ready: Product[] = [];
  try {
    const prepared = await Promise.all(cases.map((c) => prepare(operands, c)));
    context.progress('checking');
    for (const product of prepared) if (!('status' in product)) ready.push(product);
    const right: { readonly product: Product; readonly errorOfBound: number }[] = [];
    for (const product of prepared) {
      if (late()) return false;
      if ('status' in product) {
        report.row(product);
        continue;
      }
      const errorOfBound = await product.check();
      // Checks see what a refusal leaves undone.
      context.refusals.length = 0;
      if (errorOfBound <= 1) right.push({ product, errorOfBound });
      else report.row(wrong(product, errorOfBound));
    }
    context.progress('measuring');
    await instrument.spin();
    for (const { product, errorOfBound } of right) {
      if (late()) return false;
      const measurement = await measure(context, product);
      const about = { case: product.case, kernel: product.kernel, errorOfBound };
      const [note] = context.refusals.splice(0);
      report.row(
        note === undefined ? { ...about, status: 'ok', measurement } : { ...about, status: 'failed', note },
      );
    }
    return true;
  } finally {
    for (const product of ready) product.destroy();
    operands.destroy();
  }
}

async function prepare(operands: Operands, c: BenchCase): Promise<Product | Row> {
  try {
    return await operands.prepare(c);
  } catch (error) {
    return { case: c, ...failure(error) };
  }
}

/** JSON has no NaN: it is told in words. */
function wrong({ case: c, kernel }: Product, errorOfBound: number): Row {
  const error = Number.isFinite(errorOfBound) ? { errorOfBound } : { note: 'y has NaN or infinite values' };
  return { case: c, status: 'wrong', kernel, ...error };
}

const ENCODES = 200;

async function measure(context: Context, product: Product): Promise<Measurement> {
  const { gpu, instrument, ceilings } = context;
  const { m, n, k } = product.case;
  const work = { label: product.kernel, encode: product.encode };
  const timing = await measureTiming(context, work, m <= 64 ? 'copy' : 'fma', product.bytes);
  const teraflops = (2 * m * n * k) / timing.total.median / 1e6;
  const ceiling = ceilingOf(product.tiers, ceilings);
  return {
    ...timing,
    ...(await measureParts(instrument, product)),
    ...(product.gemms && { encode: encodeCost(gpu, product) }),
    teraflops,
    ceiling,
    ofCeiling: teraflops / ceilings[ceiling]!,
  };
}

/** The kernel and the conversion of x, each on its own, where there is a conversion. */
async function measureParts(
  instrument: Instrument,
  { gemms = [], kernel, encode }: Product,
): Promise<Pick<Measurement, 'kernelOnly' | 'conversion'>> {
  const parts = gemms.map((gemm, i) => recordParts(gemm, (pass) => encode(pass, i)));
  if (!parts[0]?.conversion.length) return {};
  const timed = async (part: 'product' | 'conversion') => {
    const { time } = await instrument.time({
      label: kernel,
      encode: (pass, i) => replay(pass, parts[i % parts.length]![part]),
    });
    return scaled(time, 1e6);
  };
  return { kernelOnly: await timed('product'), conversion: await timed('conversion') };
}

/** µs that encoding one product takes on the CPU: the median of a few batches, whose commands are thrown away. */
function encodeCost({ device }: Gpu, { encode }: Product): number {
  const batches = Array.from({ length: 5 }, () => {
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    const start = performance.now();
    for (let i = 0; i < ENCODES; i++) encode(pass, i);
    const elapsed = performance.now() - start;
    pass.end();
    encoder.finish();
    return (elapsed * 1000) / ENCODES;
  });
  return batches.toSorted((a, b) => a - b)[2]!;
}

/** What a kernel's arithmetic runs on. */
function ceilingOf(tiers: readonly string[], ceilings: Ceilings): ComputeCeiling {
  const wanted: ComputeCeiling = tiers.includes('matrix-f16')
    ? 'matrixF16'
    : tiers.includes('matrix-i8')
      ? 'matrixI8'
      : tiers.includes('dp4a')
        ? 'dp4a'
        : 'fma';
  return ceilings[wanted] === undefined ? 'fma' : wanted;
}

/** Candidates race: those that a few samples show to be this many times slower than the best are not looked at closer. */
const HEATS = [
  { samples: 1, hopeless: 2 },
  { samples: 3, hopeless: 1.2 },
] as const;
/** ms that raise the clock again after results were read back. */
const SHORT_SPIN = 30;

async function comparePlans(context: Context, group: readonly BenchCase[]): Promise<boolean> {
  const { gpu, instrument, report, late } = context;
  const cases = group.filter(({ format }) => format !== 'f32' && format !== 'f16');
  if (!cases.length) return true;
  let operands: Operands;
  try {
    operands = await Operands.create(gpu, cases);
  } catch (error) {
    for (const c of cases) report.row({ case: c, ...failure(error) });
    return true;
  }
  try {
    await Promise.all(cases.map((c) => operands.compile(c)));
    await instrument.spin();
    for (const c of cases) {
      if (late()) return false;
      try {
        const row = await compareCandidates(context, operands, c);
        if ('status' in row) report.row(row);
        else report.plan(row);
      } catch (error) {
        report.row({ case: c, ...failure(error) });
      }
    }
    return true;
  } finally {
    operands.destroy();
  }
}

async function compareCandidates(context: Context, operands: Operands, c: BenchCase): Promise<PlanRow | Row> {
  const planned = await operands.prepare(c);
  const results = new Map<string, number | null>();
  const products = [planned];
  try {
    for (const plan of await operands.candidates(c)) {
      if (plan.label === planned.kernel) continue;
      try {
        products.push(await operands.prepare(c, plan));
      } catch (error) {
        if (!(error instanceof Fp4Error)) throw error;
        results.set(plan.label, null);
      }
    }
    const right: Product[] = [];
    for (const product of products) {
      const errorOfBound = await product.check();
      if (errorOfBound <= 1) right.push(product);
      else if (product === planned) return wrong(planned, errorOfBound);
      else results.set(product.kernel, null);
    }
    const { seconds, final } = await race(context.instrument, right);
    for (const [{ kernel }, time] of seconds) results.set(kernel, time * 1e6);
    const winner = final.reduce((a, b) => (seconds.get(b)! < seconds.get(a)! ? b : a));
    // Who dropped out has the time of a few samples, which chance may make the least.
    const finalists = new Set(final.map(({ kernel }) => kernel));
    const isOut = (kernel: string) => Number(!finalists.has(kernel));
    return {
      case: c,
      planned: planned.kernel,
      best: winner.kernel,
      slowdown: seconds.get(planned)! / seconds.get(winner)!,
      candidates: [...results]
        .map(([kernel, microseconds]) => ({ kernel, microseconds }))
        .sort(
          (a, b) =>
            isOut(a.kernel) - isOut(b.kernel) ||
            (a.microseconds ?? Number.MAX_VALUE) - (b.microseconds ?? Number.MAX_VALUE),
        ),
    };
  } finally {
    for (const product of products) product.destroy();
  }
}

/** Seconds of all products, by what each got to, and those that were measured to the end, the first, planned one among them. */
async function race(
  instrument: Instrument,
  products: readonly Product[],
): Promise<{ seconds: ReadonlyMap<Product, number>; final: readonly Product[] }> {
  const seconds = new Map<Product, number>();
  const works = new Map(products.map((p) => [p, { label: p.kernel, encode: p.encode }]));
  const run = async (runners: readonly Product[], samples?: number) => {
    await instrument.spin(SHORT_SPIN);
    const timed = await instrument.timeInTurns(
      runners.map((p) => works.get(p)!),
      samples,
    );
    timed.forEach(({ time }, i) => void seconds.set(runners[i]!, time.median));
  };
  let left = products;
  for (const { samples, hopeless } of HEATS) {
    await run(left, samples);
    const best = Math.min(...left.map((p) => seconds.get(p)!));
    left = left.filter((p, i) => i === 0 || seconds.get(p)! <= hopeless * best);
  }
  await run(left);
  return { seconds, final: left };
}
