/** The benchmark's command: measures on a host, prints, writes, compares. See bench/README.md. */

import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { InvalidArgumentError as BadArgumentError, Fp4Error } from '../src/errors.js';
import type { Preset } from './cases.js';
import { caseFilter, textFilter } from './cases.js';
import { runInChromium } from './chromium-host.js';
import { compare, differenceOfPlace, parsePart } from './compare.js';
import { toMarkdown } from './markdown.js';
import { runOnNode } from './node-host.js';
import { plotResults } from './plot.js';
import { Collector, type Progress, type RunOptions } from './run.js';
import { type BenchFile, type Environment, fileStem, measuredIn, parseBenchFile } from './schema.js';
import { formatComparison, formatResults } from './table.js';
import { ResultsWriter } from './writer.js';

interface Options {
  host: 'node' | 'chromium';
  full?: boolean;
  smoke?: boolean;
  shapes?: string[];
  m?: number[];
  formats?: string[];
  activations?: string[];
  types?: string[];
  filter?: string;
  plans?: boolean;
  quantizers?: boolean;
  cases: boolean;
  peers?: boolean;
  timeLimit?: number;
  samples?: number;
  sampleMs?: number;
  backend?: string;
  adapter?: string;
  experimental?: boolean;
  enable?: string[];
  developerFeatures?: boolean;
  software?: boolean;
  output?: string;
  resume?: string;
  input?: string;
  json?: boolean;
  markdown?: string;
  plots?: string;
  compare?: string;
  maxRegression: number;
}

const list = (text: string): string[] => text.split(',').map((item) => item.trim());
const positive = (text: string): number => {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('It is a positive number.');
  return value;
};
const sizes = (text: string): number[] =>
  list(text).map((item) => {
    const value = positive(item);
    if (!Number.isSafeInteger(value)) throw new InvalidArgumentError('Sizes are integers.');
    return value;
  });
const part = (text: string): number => {
  try {
    return parsePart(text);
  } catch {
    throw new InvalidArgumentError('It looks like 10% or 0.1.');
  }
};

const program = new Command('bench')
  .description("measures the library's products on this machine's GPU")
  .showHelpAfterError()
  .addOption(new Option('--host <name>', 'where to measure').choices(['node', 'chromium']).default('node'))
  .option('--full', 'every layer of every model at every m, and quantizers (default: a few cases)')
  .option('--smoke', 'a few tiny cases, and quantizers, for adapters whose speed is not judged')
  .option('--shapes <names>', 'NxK, models or layers: 4096x4096,llama-3.1-8b,qwen3-8b.q_proj', list)
  .option('--m <sizes>', 'rows of x', sizes)
  .option('--formats <names>', 'mxfp4, mxfp4b16, mxfp4-mbs128, nvfp4, …; f32 and f16 for plain kernels', list)
  .option('--activations <kinds>', 'float, f32, int8, mxfp4, nvfp4', list)
  .option('--types <names>', 'types of x and y: f32, f16', list)
  .option('--filter <regexp>', 'only cases whose id or layer matches, quantizers whose id does')
  .option(
    '--plans',
    'measure every kernel that can compute a case, and how far the planned one is from the best',
  )
  .option('--peers', 'measure chains of layers too, ours and those of peers that are installed (bench/peers)')
  .option('--quantizers', 'measure quantizers too: a matrix of f32 in, codes and scales out')
  .option('--no-cases', 'measure nothing but what --quantizers and --peers do')
  .option('--time-limit <seconds>', 'begin nothing after this time; what is there is kept', positive)
  .option('--samples <count>', 'samples of a case', positive)
  .option('--sample-ms <time>', 'least time of a sample', positive)
  .option('--backend <name>', "Dawn's backend: vulkan, metal, d3d12")
  .option('--adapter <name>', 'part of the name of the adapter to use')
  .option('--experimental', 'enable what stock browsers do not: subgroup matrices, and f16 on NVIDIA')
  .option('--enable <toggles>', "in Node: further toggles of Dawn's: vulkan_enable_f16_on_nvidia", list)
  .option('--developer-features', 'in Chromium: exact timestamps')
  .option('--software', 'in Chromium: its software adapter instead of the GPU')
  .option('--output <file>', 'results as JSON (default: bench/results/[local/]<adapter>-<host>.json)')
  .option('--resume <file>', 'results of the same commit, whose cases are kept and not measured again')
  .option('--input <file>', 'take results from a file instead of measuring')
  .option('--json', 'print the results as JSON instead of a table')
  .option('--markdown <file>', 'the results as Markdown; - for standard output, instead of the table')
  .option('--plots <folder>', 'SVG plots of time and of the part of the ceiling against m')
  .option(
    '--compare <file>',
    'older results, or a folder of them; ends with status 1 where a case has become slower',
  )
  .option('--max-regression <part>', 'what a case may lose: 10% or 0.1', part, 0.1);

async function main(options: Options): Promise<void> {
  // Read before anything is measured, so that a wrong name costs no time.
  const earlier = options.compare ? earlierResults(options.compare) : undefined;
  const file = options.input ? matching(readResults(options.input), options.filter) : await measure(options);
  if (options.json) console.log(JSON.stringify(file, null, 1));
  else if (options.markdown !== '-') console.log(formatResults(file));
  if (options.markdown === '-') console.log(toMarkdown(file));
  else if (options.markdown) writeFileSync(options.markdown, toMarkdown(file));
  if (options.plots) {
    mkdirSync(options.plots, { recursive: true });
    for (const { name, svg } of plotResults(file)) writeFileSync(join(options.plots, `${name}.svg`), svg);
  }
  if (measuredIn(file).some(({ status }) => status === 'wrong' || status === 'failed'))
    process.exitCode ??= 1;
  const before = earlier?.(file.environment);
  if (before) {
    const comparison = compare(before, file, options.maxRegression);
    const text = formatComparison(comparison, options.maxRegression);
    if (options.json) console.error(text);
    else console.log(text);
    if (comparison.regressions.length) process.exitCode ??= 1;
  }
}

/** Of a folder, the file whose name says the same adapter and host as this run; there may be none yet. */
function earlierResults(path: string): (environment: Environment) => BenchFile | undefined {
  if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
    const file = readResults(path);
    return () => file;
  }
  return (environment) => {
    const file = join(path, `${fileStem(environment)}.json`);
    if (existsSync(file)) return readResults(file);
    console.error(`nothing to compare with: ${file} is not there`);
    return undefined;
  };
}

function readResults(path: string): BenchFile {
  if (!existsSync(path)) throw new BadArgumentError('bench', `${path} is not there`);
  return parseBenchFile(readFileSync(path, 'utf8'), path);
}

function matching(file: BenchFile, filter: string | undefined): BenchFile {
  const matchesCase = caseFilter(filter);
  const matches = textFilter(filter);
  const quantizers = file.quantizers?.filter(({ id, rule }) => matches(id, rule));
  return {
    ...file,
    rows: file.rows.filter((row) => matchesCase(row.case)),
    ...(quantizers && { quantizers }),
  };
}

async function measure(o: Options): Promise<BenchFile> {
  const preset: Preset = o.smoke ? 'smoke' : o.full ? 'full' : 'quick';
  const { shapes, m, formats, activations, types, filter, plans, timeLimit } = o;
  const kept = o.resume ? readResults(o.resume) : undefined;
  const runOptions: RunOptions = {
    skip: kept && measuredIn(kept).map(({ id }) => id),
    preset,
    shapes,
    m,
    formats,
    activations,
    types,
    filter,
    plans,
    quantizers: o.quantizers ?? preset !== 'quick',
    cases: o.cases,
    peers: o.peers,
    timeLimit,
    samples: o.samples,
    // Timestamps of a stock page come in steps of 65.536 µs.
    sampleSeconds: o.sampleMs ? o.sampleMs / 1000 : o.host === 'chromium' && !o.smoke ? 0.02 : undefined,
  };
  let collector: Collector | undefined;
  let write: ResultsWriter | undefined;
  const tell = (progress: Progress) => {
    if (progress.kind === 'environment') {
      if (kept) checkResumable(kept.environment, progress.environment);
      collector = new Collector(progress.environment, kept);
      write = new ResultsWriter(o.output ?? defaultPath(progress.environment, preset));
    }
    collector!.add(progress);
    if (progress.kind === 'progress') {
      // Drivers have crashed while they compiled.
      write!.flush();
      showProgress(progress);
    } else write!.offer(collector!.file);
  };
  // Playwright closes the browser by itself, which ends the run.
  const interrupt = () => {
    write?.flush();
    if (o.host === 'node') process.exit(130);
  };
  process.once('SIGINT', interrupt).once('SIGTERM', interrupt);
  const { backend, adapter, experimental, enable, developerFeatures, software } = o;
  try {
    if (o.host === 'node') await runOnNode({ backend, adapter, experimental, enable }, runOptions, tell);
    else await runInChromium({ experimental, developerFeatures, software }, runOptions, tell);
  } catch (error) {
    // What was measured before a device is lost, say, is kept.
    if (!collector) throw error;
    console.error(error);
    process.exitCode = 2;
  }
  showProgress(undefined);
  const { file } = collector!;
  write!.write(file);
  console.error(`written: ${write!.path}`);
  return file;
}

function checkResumable(before: Environment, now: Environment): void {
  const commit =
    before.commit === now.commit ? undefined : `the commit was ${before.commit} and is ${now.commit}`;
  const difference = differenceOfPlace(before, now) ?? commit;
  if (difference) throw new BadArgumentError('bench', `--resume: ${difference}; start a new file`);
}

/** Whole runs are kept in the repository; others are for whoever made them. */
const defaultPath = (environment: Environment, preset: Preset): string =>
  join('bench/results', ...(preset === 'full' ? [] : ['local']), `${fileStem(environment)}.json`);

function showProgress(progress: { done: number; total: number; what: string } | undefined): void {
  const text = progress ? `${progress.done} of ${progress.total}: ${progress.what}` : '';
  if (process.stderr.isTTY) process.stderr.write(`\r\u001b[K${text}`);
  // A log tells where the time went.
  else if (text) console.error(`${(performance.now() / 1000).toFixed(1)} s: ${text}`);
}

try {
  await main(program.parse().opts<Options>());
} catch (error) {
  console.error(error instanceof Fp4Error ? `error: ${error.message}` : error);
  process.exitCode = 2;
}
// Dawn keeps Node alive while any of its objects are. What was printed to a pipe has to leave first.
process.stdout.write('', () => process.exit());
