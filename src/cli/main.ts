#!/usr/bin/env node
/** The `fp4-webgpu` command. */
import { Command, InvalidArgumentError, Option } from 'commander';
import packageJson from '../../package.json' with { type: 'json' };
import { WRITERS } from '../checkpoint/writers/index.js';
import { Fp4Error } from '../errors.js';
import { KERNELS } from '../gemm/kernels/index.js';
import { LAYER_FORMATS } from '../gemm/layers-selftest.js';
import { WEIGHT_FORMATS } from '../gemm/problem.js';
import { convert } from './convert.js';
import { doctor } from './doctor.js';
import { gemm } from './gemm.js';
import { inspect } from './inspect.js';
import { MODEL_LAYERS } from './model-layers.js';
import { perplexity } from './perplexity.js';
import { quantize } from './quantize.js';
import { selftest } from './selftest.js';
import { sensitivity } from './sensitivity.js';
import { verify } from './verify.js';

const positiveInteger = (text: string): number => {
  const value = Number(text);
  if (!(Number.isSafeInteger(value) && value > 0))
    throw new InvalidArgumentError('It is a positive integer.');
  return value;
};
const positiveNumber = (text: string): number => {
  const value = Number(text);
  if (!(value > 0)) throw new InvalidArgumentError('It is a positive number.');
  return value;
};
const number = (text: string): number => {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('It is a number.');
  return value;
};
const nonNegativeInteger = (text: string): number => {
  const value = Number(text);
  if (!(Number.isSafeInteger(value) && value >= 0))
    throw new InvalidArgumentError('It is an integer from 0 on.');
  return value;
};
/** Bytes, written as 5GB, 500MB or a number. */
const byteCount = (text: string): number => {
  const match = /^(\d+(?:\.\d+)?) ?(K|M|G|T)?B?$/i.exec(text);
  const value = match ? Number(match[1]) * 1000 ** ' KMGT'.indexOf((match[2] ?? ' ').toUpperCase()) : 0;
  if (!(value > 0)) throw new InvalidArgumentError('It looks like 5GB or 500MB.');
  return value;
};
const list = (text: string): string[] => text.split(',').map((item) => item.trim());
/** Of an option that may be given more than once. */
const lists = (text: string, before: string[] = []): string[] => [...before, ...list(text)];
const positiveIntegers = (text: string): number[] => list(text).map(positiveInteger);

const shape = (text: string): { n: number; k: number } => {
  const [n, k, ...rest] = text.split('x').map(positiveInteger);
  if (n === undefined || k === undefined || rest.length)
    throw new InvalidArgumentError('It looks like 4096x14336.');
  return { n, k };
};
const shapes = (text: string) => list(text).map(shape);

const program = new Command('fp4-webgpu')
  .description(packageJson.description)
  .version(packageJson.version)
  .showHelpAfterError();

/** Options of every command that uses a GPU. */
const onGpu = (command: Command): Command =>
  command
    .option('--backend <name>', "Dawn's backend: vulkan, metal, d3d12")
    .option('--adapter <name>', 'part of the name of the adapter to use')
    .option('--experimental', 'enable what stock browsers do not: subgroup matrices, and f16 on NVIDIA')
    .option('--json', 'print JSON instead of a table');

onGpu(program.command('gemm'))
  .description(
    'quantize a matrix in several ways, multiply on the GPU, check against f64, print accuracy and speed',
  )
  .option(
    '--file <path>',
    'safetensors file with F32, F16 or BF16 matrices (default: a sample that comes along)',
  )
  .option('--tensor <name>', 'matrix in the file; may be left out where there is only one')
  .option('--shape <n>x<k>', 'a random matrix of this shape instead of a file', shape)
  .option('--format <names>', 'mxfp4, nvfp4, or both separated by a comma', list)
  .option('--block <sizes>', 'values per scale: 32, 16', positiveIntegers)
  .option('--scale <rules>', 'scale rules: floor, ceil, rceil, even, oas, mse; te, four-over-six', list)
  .option('--macro <kinds>', 'Macro Block Scaling: none, static, dynamic', list)
  .option('--macro-size <sizes>', 'values per macro-block factor: 128, 64, 32', positiveIntegers)
  .addOption(new Option('--rounding <kind>', 'of the elements').choices(['nearest-even', 'stochastic']))
  .option('--hadamard', 'rotate by the 16-wide random Hadamard transform first')
  .option('--m <sizes>', 'rows of x', positiveIntegers, [1, 64])
  .option(
    '--activations <kinds>',
    'what x is multiplied as: float, int8, mxfp4, nvfp4 (default: float)',
    list,
  )
  .addOption(new Option('--x <type>', 'of x in its buffer').choices(['f32', 'f16']).default('f32'))
  .addOption(new Option('--y <type>', 'of y in its buffer').choices(['f32', 'f16']).default('f32'))
  .addOption(
    new Option('--precision <type>', 'of float activations in products')
      .choices(['f32', 'f16'])
      .default('f16'),
  )
  .option('--seed <integer>', 'of x, and of stochastic rounding', Number, 1)
  .option('--tune [file]', 'measure every kernel and take the fastest; measurements are kept in the file')
  .action(gemm);

onGpu(program.command('quantize <model>'))
  .description(
    'quantize the linear layers of a safetensors model (folder, index or file) into a folder; the same command goes on with what was interrupted',
  )
  .requiredOption('-o, --output <folder>', 'where the quantized model goes')
  .addOption(new Option('--format <name>', 'of the weights').choices(['mxfp4', 'nvfp4']).default('mxfp4'))
  .option('--block <size>', 'values per scale: 32 or 16 (mxfp4), 16 (nvfp4)', positiveInteger)
  .option(
    '--scale <rule>',
    'floor, ceil, rceil, even, oas (default), mse; nvfp4: te (default), four-over-six',
  )
  .option('--macro <kind>', 'Macro Block Scaling of mxfp4: none (default), static, dynamic')
  .option('--macro-size <size>', 'values per macro-block factor: 128 (default), 64, 32', positiveInteger)
  .option('--tile <kind>', 'what shares a scale: 1d, values of a row (default), or 2d, a square')
  .option('--rounding <kind>', 'of the elements: nearest-even (default), stochastic')
  .option('--seed <integer>', 'of stochastic rounding', nonNegativeInteger)
  .option('--hadamard', 'rotate by the 16-wide random Hadamard transform first')
  .option('--four-over-six-error <kind>', 'what four-over-six compares: mse (default), mae')
  .option('--keep <patterns>', "matrices to leave in floats, e.g. 'model.layers.0.*,*.o_proj'", lists)
  .option('--also <patterns>', 'matrices to quantize although their kind is kept, e.g. lm_head', lists)
  .addOption(
    new Option('--gpu <when>', 'auto: where there is one that is no software')
      .choices(['auto', 'off', 'require'])
      .default('auto'),
  )
  .option('--threads <count>', 'on the CPU (default: one a core)', nonNegativeInteger)
  .option('--shard-size <bytes>', 'most bytes of tensors in a file (default: 5GB)', byteCount)
  .option('--overwrite', 'replace a model in the folder')
  .action(quantize);

/** Options of commands that run a language model over tokens. */
const onTokens = (command: Command): Command =>
  command
    .addOption(new Option('--token-type <type>', 'of the file').choices(['u16', 'u32']))
    .option('--sequences <count>', 'of the file, from its beginning (default: all)', positiveInteger)
    .option('--length <tokens>', "of a sequence (default: the model's most positions)", positiveInteger)
    .option(
      '--batch <sequences>',
      'at a time (default: 32, or what the device holds); NVFP4 activations share a scale over it',
      positiveInteger,
    )
    .addOption(
      new Option('--precision <type>', 'of float activations in products: f16 may use f16 matrices')
        .choices(['f32', 'f16'])
        .default('f32'),
    );

onTokens(onGpu(program.command('perplexity <model>')))
  .description(
    'perplexity of a Llama (a folder with config.json and safetensors) in several formats, everything on the GPU',
  )
  .requiredOption('--tokens <file>', 'sequence after sequence, little-endian; *.u32 is u32, else u16')
  .option(
    '--formats <list>',
    'WEIGHTS or WEIGHTS/ACTIVATIONS, each with options in any order: mxfp4:floor, mxfp4:oas:dynamic32:b16, nvfp4:four-over-six, float, mxfp4:oas:dynamic128/mxfp4:oas:static128',
    lists,
  )
  .option(
    '--activations <list>',
    'of formats that name none: float (default), int8, mxfp4:…, nvfp4:…, same (as the weights)',
    lists,
  )
  .option('--table <names>', 'whole tables of formats: w4a16, w4a4', lists)
  .addOption(
    new Option(
      '--input-type <type>',
      'what inputs of linear layers are rounded to first, as in BF16 runtimes',
    )
      .choices(['f32', 'bf16'])
      .default('f32'),
  )
  .option('--keep <patterns>', "layers that stay as they are, e.g. 'model.layers.0.*,*.o_proj'", lists)
  .option('--decode <tokens>', 'generated to time decoding; 0 for none', nonNegativeInteger, 64)
  .option('--no-baselines', 'without the rows that percentages are over, unless they are asked for')
  .action(perplexity);

onTokens(onGpu(program.command('sensitivity <model>')))
  .description(
    'which linear layers of a model FP4 hurts, by component, block and layer, and which to keep in high precision for a budget: by perplexity (--tokens), errors of outputs (--inputs), or errors of weights',
  )
  .option('--tokens <file>', 'runs a Llama with everything but some layers in FP4, as perplexity does')
  .option(
    '--inputs <file>',
    "safetensors with rows of each layer's input, [m, k] under the layer's name: errors of outputs",
  )
  .option('--formats <list>', 'as those of perplexity, side by side (default: mxfp4,nvfp4)', lists)
  .option(
    '--activations <kind>',
    'of formats that name none: float (default), mxfp4:…, nvfp4:…, same (as the weights); with --tokens also int8',
  )
  .option(
    '--kinds <list>',
    'with --tokens: what is kept in turn: component, block, cell (default: all)',
    lists,
  )
  .option('--resume <file>', 'with --tokens: keeps perplexities there, and goes on with those of it')
  .option('--keep <patterns>', "layers that are never quantized, e.g. 'model.layers.0.*,*.o_proj'", lists)
  .option('--also <patterns>', 'without --tokens: matrices to quantize although their kind is kept', lists)
  .option('--budget <bits>', 'mean bits a weight: recommends what to keep', positiveNumber)
  .option('--budget-bytes <bytes>', 'the same by bytes of the linear layers', byteCount)
  .option(
    '--improve <amount>',
    'by how much the loss shall fall: recommends what to keep for the fewest bits',
    positiveNumber,
  )
  .addOption(
    new Option('--gpu <when>', 'for errors of weights: auto: where there is one that is no software')
      .choices(['auto', 'off', 'require'])
      .default('auto'),
  )
  .option('--threads <count>', 'on the CPU (default: one a core)', nonNegativeInteger)
  .action(sensitivity);

onGpu(program.command('doctor'))
  .description('print the adapter, its features, limits and capability tiers, and what is missing')
  .action(doctor);

program
  .command('convert <checkpoint>')
  .description(
    'write the FP4 matrices of a checkpoint (file, folder or URL) in another convention, their codes and scales as they are; the rest is copied. Names stay; only experts of one tensor become one each where compressed-tensors has them so, and one again for gpt-oss. GGUF files keep the names of the source too, which llama.cpp does not know.',
  )
  .requiredOption('-o, --output <path>', 'a folder, or for gguf a file')
  .addOption(
    new Option('--to <convention>', 'of the matrices').choices(Object.keys(WRITERS)).makeOptionMandatory(),
  )
  .option('--shard-size <bytes>', 'most bytes of tensors in a safetensors file (default: 5GB)', byteCount)
  .option('--overwrite', 'replace a model in the folder, or the file')
  .option('--json', 'print JSON instead of text')
  .action(convert);

program
  .command('inspect <checkpoint>')
  .description(
    'list the matrices of a checkpoint (file, folder or URL), who wrote them and what cannot be loaded',
  )
  .option('--json', 'print JSON instead of tables')
  .action(inspect);

program
  .command('verify <a> <b>')
  .description(
    'compare two checkpoints tensor by tensor: signal to noise of B against A in dB, the worst first; fails where a matrix is missing',
  )
  .option('--min-sqnr <dB>', 'fail where a tensor has less', number)
  .option('--json', 'print JSON instead of a table')
  .action(verify);

onGpu(program.command('selftest'))
  .description(
    'check every kernel on this GPU against f64 on random problems or the layers of models, or the quantizers against the CPU',
  )
  .option('--cases <count>', 'random problems', positiveInteger, 100)
  .option('--max-size <size>', 'largest m, n and k', positiveInteger, 300)
  .option('--seed <integer>', 'of the problems', Number, 1)
  .option(
    '--kernels <names>',
    `without --quantizers: some of ${Object.keys(KERNELS).join(', ')} (default: all)`,
    list,
  )
  .option(
    '--quantizers',
    'check the quantizers against the CPU instead, byte for byte, on random bit patterns',
  )
  .option(
    '--values <count>',
    'with --quantizers: values for each rule at least, 1e8 say',
    positiveInteger,
    1e6,
  )
  .option('--rules <names>', "with --quantizers: some of them by name, or 'main' (default: all)", list)
  .option('--seconds <time>', 'with --quantizers: when to stop early', Number)
  .option('--layers', "check every plan for models' layers instead, random weights, a sample of y")
  .option('--models <names>', `with --layers: ${Object.keys(MODEL_LAYERS).join(', ')} (default: all)`, list)
  .option('--shapes <list>', 'with --layers: others, as n x k: 4096x14336,1024x4096', shapes)
  .option(
    '--formats <names>',
    `with --layers: ${Object.keys(WEIGHT_FORMATS).join(', ')} (default: ${LAYER_FORMATS.join(',')})`,
    list,
  )
  .addOption(new Option('--x <type>', 'with --layers: type of x').choices(['f32', 'f16']))
  .addOption(new Option('--y <type>', 'with --layers: type of y').choices(['f32', 'f16']))
  .option('--bias', 'with --layers: add a bias')
  .option('--accumulate', 'with --layers: add to what y holds')
  .option('--m <sizes>', 'with --layers: rows of x (default: 1,16,256)', positiveIntegers)
  .addOption(
    new Option(
      '--plans <which>',
      'with --layers: every plan, the first of each kernel, or those that are planned',
    ).choices(['all', 'first', 'planned']),
  )
  .option(
    '--scale-down <factor>',
    'with --layers: divides n and k of models, for software adapters',
    positiveNumber,
  )
  .option('--time-limit <seconds>', 'with --layers: when to stop early', positiveNumber)
  .action(selftest);

try {
  await program.parseAsync();
} catch (error) {
  console.error(error instanceof Fp4Error ? `error: ${error.message}` : error);
  process.exitCode = 1;
}
// Dawn keeps Node alive while any of its objects are. What was printed to a pipe has to leave first.
process.stdout.write('', () => process.exit());
