/**
 * Damaged checkpoints: valid files of every producer with one or two changes of bytes, of the text of a header or index,
 * or of what stands beside what. Some changes are harmless, and say so: those files have to load as before.
 */
import type { QuantizedMatrix } from '../../src/matrix/quantized-matrix.js';
import type { Random } from '../../src/random.js';
import { type FileTensor, type FileTensors, f32 } from './checkpoint-files.js';
import {
  expectedMatrix,
  FIXTURES,
  type Fixture,
  type Logical,
  randomLogical,
} from './checkpoint-producers.js';
import { mutateGguf } from './gguf-mutants.js';
import { concat, f32 as f32Bytes, ggufFile, pair, type TensorSpec } from './gguf-writer.js';

/** Files by name; `entry` is opened, the others stand beside it. */
export interface Bundle {
  readonly files: Readonly<Record<string, Uint8Array>>;
  readonly entry: string;
}

export interface Mutant extends Bundle {
  /** What was changed, for the message of a failure. */
  readonly what: string;
  /** 'same': it has to open, with every matrix as it was. 'refused': it must not open. */
  readonly fate: 'same' | 'refused' | 'either';
}

export interface Subject {
  readonly name: string;
  readonly kind: 'safetensors' | 'shards' | 'gguf';
  readonly original: Bundle;
  readonly matrices: readonly { name: string; expert?: number | undefined; expected: QuantizedMatrix }[];
  mutate(random: Random): Mutant;
}

type Change = Omit<Mutant, keyof Bundle>;
const harmful = (what: string): Change => ({ what, fate: 'either' });
const harmless = (what: string): Change => ({ what, fate: 'same' });
const wrong = (what: string): Change => ({ what, fate: 'refused' });

/** Stands in every safetensors file, and is not touched by changes of structure. */
export const BYSTANDER = 'zz.bystander';

// ---- Safetensors: a header as raw pieces of JSON, so that it can say anything.

interface RawEntry {
  /** With its quotes. */
  key: string;
  fields: [key: string, value: string][];
}

interface RawFile {
  entries: RawEntry[];
  data: Uint8Array;
  before?: string;
  after?: string;
  length?: bigint;
}

const utf8 = (text: string) => new TextEncoder().encode(text);

function rawFile(tensors: FileTensors, metadata?: Record<string, string>): RawFile {
  let end = 0;
  const entries = Object.entries(tensors).map(([name, { dtype, shape, bytes }]): RawEntry => {
    const begin = end;
    end += bytes.length;
    return {
      key: JSON.stringify(name),
      fields: [
        ['"dtype"', JSON.stringify(dtype)],
        ['"shape"', JSON.stringify(shape)],
        ['"data_offsets"', `[${begin},${end}]`],
      ],
    };
  });
  if (metadata) {
    const fields = Object.entries(metadata).map(([key, value]): [string, string] => {
      return [JSON.stringify(key), JSON.stringify(value)];
    });
    entries.push({ key: '"__metadata__"', fields });
  }
  return { entries, data: concat(...Object.values(tensors).map(({ bytes }) => bytes)) };
}

const rawText = ({ entries, before = '', after = '' }: RawFile) => {
  const members = entries.map(({ key, fields }) => {
    return `${key}:{${fields.map(([name, value]) => `${name}:${value}`).join(',')}}`;
  });
  return `${before}{${members.join(',')}}${after}`;
};

function writeRaw(file: RawFile, text = rawText(file)): Uint8Array {
  const header = utf8(text);
  const prefix = new Uint8Array(8);
  new DataView(prefix.buffer).setBigUint64(0, file.length ?? BigInt(header.length), true);
  return concat(prefix, header, file.data);
}

const DTYPES = [
  'U8',
  'I8',
  'F8_E4M3',
  'F8_E8M0',
  'F8_E5M2',
  'F4',
  'F6_E2M3',
  'BOOL',
  'U32',
  'F32',
  'F16',
  'BF16',
  'I32',
  'U64',
];
const BITS: Record<string, number> = {
  F4: 4,
  F6_E2M3: 6,
  U32: 32,
  F32: 32,
  I32: 32,
  F16: 16,
  BF16: 16,
  U64: 64,
};

/** Names that mean something to one of the producers. */
const SUFFIXES = [
  'weight',
  'weight_packed',
  'weight_scale',
  'weight_scale_2',
  'weight_global_scale',
  'weight_g_idx',
  'scale',
  'scales',
  'biases',
  'blocks',
  '_blocks',
  '_scales',
  'comfy_quant',
  '_weight_qdata',
  '_weight_scale',
  'fp4_codes',
  'fp4_scales',
  'fp4_layout',
  'fp4_macro_scales',
  'pre_quant_scale',
  'input_rotation',
  'weight.absmax',
  'global_scale',
];

/** Numbers as they may stand in a header, most of them wrong. */
const NUMBERS = [
  '0',
  '1',
  '-1',
  '-0',
  '1.0',
  '1e3',
  '0x10',
  '01',
  '2147483648',
  '4294967296',
  '9007199254740991',
  '9007199254740992',
  '9007199254740993',
  '9223372036854775807',
  '18446744073709551615',
  '18446744073709551616',
  `1${'0'.repeat(70)}`,
  '1e400',
  'NaN',
  'null',
  'true',
  '"1"',
  '[]',
  '{}',
];
const SNIPPETS = [
  '0',
  '9',
  '-',
  ',',
  '"',
  '[',
  ']',
  '{',
  '}',
  ':',
  ' ',
  '\\',
  '\\u0000',
  '\0',
  '\ufeff',
  'e',
  '""',
];

const pickIndex = (random: Random, { length }: { length: number }) => random.integer(0, length - 1);

/** A text with one place changed. */
function mutateText(text: string, random: Random): string {
  const at = pickIndex(random, text);
  switch (random.integer(0, 4)) {
    case 0:
      return text.slice(0, at) + random.pick(SNIPPETS) + text.slice(at);
    case 1:
      return text.slice(0, at) + random.pick(SNIPPETS) + text.slice(at + 1);
    case 2:
      return text.slice(0, at) + text.slice(at + random.integer(1, 12));
    case 3: {
      // A piece of itself once more.
      const from = pickIndex(random, text);
      return text.slice(0, at) + text.slice(from, from + random.integer(1, 60)) + text.slice(at);
    }
    default: {
      // One of the numbers.
      const numbers = [...text.matchAll(/\d+/g)];
      const found = numbers.length ? random.pick(numbers) : undefined;
      if (!found) return text.slice(0, at);
      const { index, 0: digits } = found;
      const near = [String(Number(digits) + 1), String(Number(digits) - 1), String(2 * Number(digits))];
      return text.slice(0, index) + random.pick([...near, ...NUMBERS]) + text.slice(index + digits.length);
    }
  }
}

/** Another shape of the same number of elements, or of another number that is near. */
function mutateShape(shape: readonly number[], random: Random): number[] {
  const out = [...shape];
  const at = random.integer(0, Math.max(0, out.length - 1));
  switch (random.integer(0, 6)) {
    case 0:
      return out.reverse();
    case 1:
      return [1, ...out];
    case 2:
      return [...out, 1];
    case 3:
      return [out.reduce((product, size) => product * size, 1)];
    case 4:
      if (out.length > 1)
        out.splice(at % (out.length - 1), 2, out[at % (out.length - 1)]! * out[(at % (out.length - 1)) + 1]!);
      return out;
    case 5:
      if (out.length && out[at]! % 2 === 0) out.splice(at, 1, 2, out[at]! / 2);
      return out;
    default:
      if (out.length) out[at] = random.pick([0, 1, out[at]! + 1, out[at]! - 1, 2 * out[at]!, out[at]! >> 1]);
      return out;
  }
}

/** A tensor made to fill what its dtype and shape say, so that the container is right and only a producer's rules break. */
function filled({ bytes }: FileTensor, dtype: string, shape: readonly number[]): FileTensor | undefined {
  const bits = shape.reduce((product, size) => product * size, BITS[dtype] ?? 8);
  if (bits % 8 || bits > 1 << 20) return undefined;
  return {
    dtype,
    shape,
    bytes: Uint8Array.from({ length: bits / 8 }, (_, i) => bytes[i % bytes.length] ?? 0),
  };
}

interface Loose {
  tensors: FileTensors;
  metadata?: Record<string, string> | undefined;
}

const shuffled = <T>(items: readonly T[], random: Random): T[] =>
  items
    .map((item) => [random.unit(), item] as const)
    .sort(([a], [b]) => a - b)
    .map(([, item]) => item);

const MEANINGLESS = 'tensors and metadata that mean nothing';

/** Changes of names, dtypes, shapes, values and metadata, in files whose container stays right. */
const STRUCTURE: ((file: Loose, random: Random) => [Loose, Change] | undefined)[] = [
  ({ tensors, ...rest }, random) => {
    const { [pickTensor(tensors, random)]: _, ...others } = tensors;
    return [{ tensors: others, ...rest }, harmful('a tensor dropped')];
  },
  ({ tensors, ...rest }, random) => {
    const name = pickTensor(tensors, random);
    const renamed = name.slice(0, name.lastIndexOf('.') + 1) + random.pick(SUFFIXES);
    if (tensors[renamed]) return undefined;
    return [
      { tensors: rename(tensors, { [name]: renamed }), ...rest },
      harmful(`${name} renamed ${renamed}`),
    ];
  },
  ({ tensors, ...rest }, random) => {
    const [a, b] = [pickTensor(tensors, random), pickTensor(tensors, random)];
    if (a === b) return undefined;
    return [{ tensors: rename(tensors, { [a]: b, [b]: a }), ...rest }, harmful(`${a} and ${b} swapped`)];
  },
  ({ tensors, ...rest }, random) => {
    const name = pickTensor(tensors, random);
    const { dtype, shape } = tensors[name]!;
    const other = random.pick(DTYPES);
    // The elements of other dtypes are fewer or more, as the bytes are what they were.
    const last = ((shape.at(-1) ?? 1) * (BITS[dtype] ?? 8)) / (BITS[other] ?? 8);
    const stretched = Number.isInteger(last) && random.integer(0, 1) ? [...shape.slice(0, -1), last] : shape;
    const changed = filled(tensors[name]!, other, stretched);
    return changed && [{ tensors: { ...tensors, [name]: changed }, ...rest }, harmful(`${name} as ${other}`)];
  },
  ({ tensors, ...rest }, random) => {
    const name = pickTensor(tensors, random);
    const { dtype, shape } = tensors[name]!;
    const changed = filled(tensors[name]!, dtype, mutateShape(shape, random));
    return (
      changed && [
        { tensors: { ...tensors, [name]: changed }, ...rest },
        harmful(`${name} [${shape}] as [${changed.shape}]`),
      ]
    );
  },
  ({ tensors, ...rest }, random) => {
    // A further tensor, of a name that some producer looks for.
    const name = pickTensor(tensors, random);
    const added = name.slice(0, name.lastIndexOf('.') + 1) + random.pick(SUFFIXES);
    const like = tensors[pickTensor(tensors, random)]!;
    const extra = filled(
      like,
      random.pick([like.dtype, ...DTYPES]),
      random.pick([like.shape, [1], [], [2, 2]]),
    );
    if (tensors[added] || !extra) return undefined;
    return [{ tensors: { ...tensors, [added]: extra }, ...rest }, harmful(`${added} added`)];
  },
  ({ tensors, ...rest }, random) => {
    const name = pickTensor(tensors, random);
    const { bytes, ...tensor } = tensors[name]!;
    if (bytes.length === 0) return undefined;
    const changed = bytes.slice();
    const at = pickIndex(random, changed);
    changed[at] = random.pick([0, 1, 0x7f, 0x80, 255, random.integer(0, 255)]);
    return [
      { tensors: { ...tensors, [name]: { ...tensor, bytes: changed } }, ...rest },
      harmful(`byte ${at} of ${name} is ${changed[at]}`),
    ];
  },
  ({ tensors, metadata }, random) => {
    const keys = Object.keys(metadata ?? {});
    if (keys.length === 0) return undefined;
    const key = random.pick(keys);
    const { [key]: value, ...others } = metadata!;
    if (random.integer(0, 3) === 0)
      return [{ tensors, metadata: others }, harmful(`metadata ${key} dropped`)];
    const text = mutateText(value!, random);
    return [{ tensors, metadata: { ...others, [key]: text } }, harmful(`metadata ${key} is ${text}`)];
  },
  ({ tensors, metadata }, random) => [
    { tensors: Object.fromEntries(shuffled(Object.entries(tensors), random)), metadata },
    harmless('another order'),
  ],
  ({ tensors, metadata }) => [
    {
      tensors: { 'aa.unrelated': f32([1, 1], [1]), ...tensors, __proto__x: f32([2], [1, 2]) },
      metadata: { ...metadata, constructor: 'none' },
    },
    harmless(MEANINGLESS),
  ],
];

function pickTensor(tensors: FileTensors, random: Random): string {
  const names = Object.keys(tensors).filter((name) => name !== BYSTANDER);
  return random.pick(names.length > 0 ? names : [BYSTANDER]);
}

function rename(tensors: FileTensors, names: Record<string, string>): FileTensors {
  return Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [names[name] ?? name, tensor]));
}

const field = ({ fields }: RawEntry, name: string) => fields.find(([key]) => key === `"${name}"`);

/** Changes of the header's text. */
const HEADER: ((file: RawFile, random: Random) => Change | undefined)[] = [
  (file, random) => {
    // One of the offsets, or both.
    const entry = random.pick(file.entries);
    const offsets = field(entry, 'data_offsets');
    if (!offsets) return undefined;
    const [begin, end] = JSON.parse(offsets[1]) as [number, number];
    const other = field(random.pick(file.entries), 'data_offsets')?.[1] ?? '[0]';
    offsets[1] = random.pick([
      `[${begin + 1},${end}]`,
      `[${begin},${end + 1}]`,
      `[${begin},${end - 1}]`,
      `[${begin - 1},${end}]`,
      `[${begin + 1},${end + 1}]`,
      `[${end},${begin}]`,
      `[${begin},${begin}]`,
      `[${begin}]`,
      `[${begin},${end},${end}]`,
      `[${begin},${end}.0]`,
      `[${begin},${random.pick(NUMBERS)}]`,
      `[${random.pick(NUMBERS)},${end}]`,
      random.pick(NUMBERS),
      other,
    ]);
    return harmful(`${entry.key} at ${offsets[1]}`);
  },
  (file, random) => {
    const entry = random.pick(file.entries);
    const shape = field(entry, 'shape');
    if (!shape) return undefined;
    const sizes = JSON.parse(shape[1]) as number[];
    const at = random.integer(0, sizes.length);
    const changed = [
      ...sizes.slice(0, at),
      random.pick(NUMBERS),
      ...sizes.slice(at + random.integer(0, 1)),
    ].join(',');
    shape[1] = random.pick([
      `[${changed}]`,
      `[${changed},4294967296,4294967296]`,
      `[0,9007199254740991,9007199254740991]`,
      `[${sizes.join(',')}${',1'.repeat(random.integer(1, 40))}]`,
      `[${mutateShape(sizes, random)}]`,
      random.pick(NUMBERS),
    ]);
    const what = `${entry.key} with shape ${shape[1]}`;
    return shape[1].includes('4294967296,4294967296') ? wrong(what) : harmful(what);
  },
  (file, random) => {
    const entry = random.pick(file.entries);
    const dtype = field(entry, 'dtype');
    if (!dtype) return undefined;
    const other = field(random.pick(file.entries), 'dtype')?.[1] ?? '"U8"';
    dtype[1] = random.pick([
      ...DTYPES.map((name) => `"${name}"`),
      other,
      other,
      '"u8"',
      '"FP4"',
      '"UE8"',
      '"constructor"',
      '"__proto__"',
      ...NUMBERS,
    ]);
    return harmful(`${entry.key} as ${dtype[1]}`);
  },
  (file, random) => {
    // Two tensors with each other's bytes, the shapes left.
    const [a, b] = [random.pick(file.entries), random.pick(file.entries)];
    const offsets = [field(a, 'data_offsets'), field(b, 'data_offsets')] as const;
    if (a === b || !offsets[0] || !offsets[1]) return undefined;
    [offsets[0][1], offsets[1][1]] = [offsets[1][1], offsets[0][1]];
    return harmful(`${a.key} and ${b.key} with each other's offsets`);
  },
  (file, random) => {
    const entry = random.pick(file.entries);
    const key = random.pick([
      entry.key,
      `"\\u00${(entry.key.charCodeAt(1) & 127).toString(16)}${entry.key.slice(2)}`,
    ]);
    const copy = {
      ...entry,
      key,
      fields: entry.fields.map(([name, value]): [string, string] => [name, value]),
    };
    file.entries.splice(pickIndex(random, file.entries), 0, copy);
    return wrong(`${key} twice`);
  },
  (file, random) => {
    const entry = random.pick(file.entries);
    const again = random.pick([...entry.fields, ['"shape"', '[]'] as [string, string]]);
    entry.fields.push([again[0], random.pick([again[1], 'null'])]);
    return wrong(`${again[0]} of ${entry.key} twice`);
  },
  (file, random) => {
    const entry = random.pick(file.entries);
    const key = random.pick([
      '"__proto__"',
      '"constructor"',
      '"__metadata__"',
      '""',
      '"\ufeff"',
      '"a\\u0000b"',
    ]);
    const before = entry.key;
    entry.key = key;
    return harmful(`${before} renamed ${key}`);
  },
  (file, random) => {
    const entry = random.pick(file.entries);
    const key = random.pick(['"__proto__"', '"strides"', '"Shape"', '"shape "']);
    entry.fields.push([key, random.pick([...NUMBERS, '{"shape":[1]}'])]);
    const what = `${key} in ${entry.key}`;
    return field(entry, 'dtype') ? wrong(what) : harmful(what);
  },
  (file, random) => {
    const entry = random.pick(file.entries);
    entry.fields.splice(pickIndex(random, [...entry.fields, 0]), 1);
    return harmful(`a field of ${entry.key} gone`);
  },
  (file, random) => {
    file.entries.push({
      key: random.pick(['"__proto__"', '"zz.none"', '"aa.weight_scale"']),
      fields: [
        ['"dtype"', '"U8"'],
        ['"shape"', random.pick(['[0]', '[0,16]', '[1]', '[16,0]'])],
        [
          '"data_offsets"',
          random.pick(['[0,0]', `[${file.data.length},${file.data.length}]`, '[1,1]', '[0,1]']),
        ],
      ],
    });
    return harmful('a tensor of nothing');
  },
  (file, random) => {
    file.before = random.pick(['\ufeff', '\0', '[', '\u00a0', '//', '{"a":1}', '['.repeat(40)]);
    return wrong(`${JSON.stringify(file.before)} before`);
  },
  (file, random) => {
    file.after = random.pick(['\0\0', '}', ',', '{}', 'x', '\ufeff']);
    return wrong(`${JSON.stringify(file.after)} after`);
  },
  (file, random) => {
    const length = BigInt(utf8(rawText(file)).length);
    file.length = random.pick([
      length - 1n,
      length + 1n,
      length + BigInt(file.data.length),
      length + BigInt(file.data.length) + 1n,
      0n,
      100_000_000n,
      100_000_001n,
      2n ** 32n + length,
      2n ** 53n,
      2n ** 63n,
      2n ** 64n - 8n,
    ]);
    return wrong(`header length ${file.length}`);
  },
  (file, random) => {
    file.before = random.pick([' ', '\n\t', ' '.repeat(1000)]);
    file.after = random.pick(['', '\r\n', ' '.repeat(777)]);
    return harmless('whitespace around');
  },
  (file, random) => {
    file.entries = shuffled(file.entries, random);
    for (const entry of file.entries)
      if (field(entry, 'dtype')) entry.fields = shuffled(entry.fields, random);
    return harmless('entries in another order');
  },
  (file, random) => {
    const entry = random.pick(file.entries);
    const at = random.integer(1, entry.key.length - 2);
    if (entry.key.includes('\\')) return undefined;
    const code = entry.key.charCodeAt(at).toString(16).padStart(4, '0');
    entry.key = `${entry.key.slice(0, at)}\\u${code}${entry.key.slice(at + 1)}`;
    return harmless(`${entry.key} with an escape`);
  },
  (file) => {
    file.entries = file.entries.map(({ key, fields }) => ({
      key: ` \n${key} `,
      fields: fields.map(([name, value]) => [`\t${name}\r`, ` ${value.replace(/^\[/, '[ ')} `]),
    }));
    return harmless('whitespace between');
  },
];

/** Bytes of the file changed, cut out, cut off, put in or added; the header is as likely as the data. */
function mutateBytes(file: Uint8Array, random: Random): [Uint8Array, Change] {
  const headerEnd = Math.min(
    file.length,
    8 + Number(new DataView(file.buffer, file.byteOffset).getUint32(0, true)),
  );
  const at = random.integer(0, 1) ? random.integer(0, headerEnd - 1) : pickIndex(random, file);
  const before = file.subarray(0, at);
  const piece = Uint8Array.from({ length: random.integer(1, 9) }, () => random.integer(0, 255));
  switch (random.integer(0, 6)) {
    case 0:
      return [before, wrong(`cut after ${at}`)];
    case 1:
      return [concat(file, piece), wrong(`${piece.length} bytes more`)];
    case 2:
      return [concat(before, piece, file.subarray(at)), harmful(`${piece.length} bytes put in at ${at}`)];
    case 3:
      return [
        concat(before, file.subarray(at + piece.length)),
        harmful(`${piece.length} bytes cut out at ${at}`),
      ];
    default: {
      const bytes = file.slice();
      bytes[at] = random.pick([0, 255, 0x30, 0x22, bytes[at]! ^ (1 << random.integer(0, 7))]);
      return [bytes, harmful(`byte ${at} is ${bytes[at]}`)];
    }
  }
}

/** One of the changes that safetensors files can suffer. */
function mutateSafetensors({ tensors, metadata }: Loose, random: Random): [Uint8Array, Change] {
  for (;;) {
    const kind = random.integer(0, 9);
    if (kind < 4) {
      const first = random.pick(STRUCTURE)({ tensors, metadata }, random);
      if (!first) continue;
      // Where one change is refused for itself, two may fit together.
      const second = random.integer(0, 2) === 0 ? random.pick(STRUCTURE)(first[0], random) : undefined;
      const [file, change] = second ?? first;
      const changes = second ? [first[1], change] : [change];
      const what = changes.map((one) => one.what).join('; ');
      const fate = changes.every((one) => one.fate === 'same') ? 'same' : 'either';
      return [writeRaw(rawFile(file.tensors, file.metadata)), { what, fate }];
    } else if (kind < 7) {
      const file = rawFile(tensors, metadata);
      const change = random.pick(HEADER)(file, random);
      if (change) return [writeRaw(file), change];
    } else if (kind < 8) {
      const file = rawFile(tensors, metadata);
      const text = mutateText(rawText(file), random);
      return [writeRaw(file, text), harmful(`header ${text}`)];
    } else return mutateBytes(writeRaw(rawFile(tensors, metadata)), random);
  }
}

function matricesOf({ matrix: name, logical, extra }: Fixture): Subject['matrices'] {
  if (!Array.isArray(logical)) return [{ name, expected: expectedMatrix(logical, extra) }];
  return logical.map((one, expert) => ({ name, expert, expected: expectedMatrix(one, extra) }));
}

function safetensorsSubject(name: string, fixture: Fixture): Subject {
  const tensors = { ...fixture.tensors, [BYSTANDER]: f32([2, 2], [1, -2, 0.5, 4]) };
  const { metadata } = fixture;
  const entry = 'model.safetensors';
  return {
    name,
    kind: 'safetensors',
    original: { entry, files: { [entry]: writeRaw(rawFile(tensors, metadata)) } },
    matrices: matricesOf(fixture),
    mutate(random) {
      const [file, change] = mutateSafetensors({ tensors, metadata }, random);
      return { entry, files: { [entry]: file }, ...change };
    },
  };
}

/** As compressed-tensors and Quark write theirs; rotations that are all inside the weights. */
const CONFIG = JSON.stringify({
  architectures: ['DemoForCausalLM'],
  rope_theta: 1e6,
  quantization_config: {
    quant_method: 'compressed-tensors',
    format: 'nvfp4-pack-quantized',
    transform_config: {},
    algo_config: [{ name: 'rotation', r1: true, r4: false, online_r1_rotation: false }],
  },
});

function configuredSubject(name: string, fixture: Fixture): Subject {
  const { original, kind, matrices } = safetensorsSubject(name, fixture);
  const bundle = (config: string): Bundle => ({
    entry: original.entry,
    files: { ...original.files, 'config.json': utf8(config) },
  });
  return {
    name: `${name}, with config.json`,
    kind,
    original: bundle(CONFIG),
    matrices,
    mutate(random) {
      const changed = random.pick([
        mutateText(CONFIG, random),
        mutateText(mutateText(CONFIG, random), random),
        CONFIG.replace(
          random.pick(['false', '{}', 'null', '1000000']),
          random.pick(['true', '[]', '{"R4":{}}', '1e999']),
        ),
        random.pick(['', '[]', 'null', '{}', '{"quantization_config":3}', `{"a":${'['.repeat(40)}`, '\0']),
      ]);
      return { ...bundle(changed), ...harmful(`config ${changed}`) };
    },
  };
}

// ---- Shards.

const INDEX = 'model.safetensors.index.json';
const SHARDS = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'] as const;
const FILE_NAMES = [
  ...SHARDS,
  INDEX,
  'model-00003-of-00002.safetensors',
  '../model-00001-of-00002.safetensors',
  '/etc/passwd',
  'https://host/x',
  'C:\\x',
  '',
  '.',
  '..',
  '__proto__',
  'MODEL-00001-of-00002.safetensors',
];

type Pairs = [key: string, value: string][];

/** Changes of the index: raw pairs of a tensor and its file, and what stands around them. */
const INDEX_CHANGES: ((pairs: Pairs, random: Random) => [string, Change])[] = [
  (pairs, random) => {
    const [[key]] = pairs.splice(pickIndex(random, pairs), 1) as [[string, string]];
    return [indexText(pairs), wrong(`${key} left out`)];
  },
  (pairs, random) => {
    const one = random.pick(pairs);
    one[1] = JSON.stringify(random.pick(FILE_NAMES));
    return [indexText(pairs), harmful(`${one[0]} in ${one[1]}`)];
  },
  (pairs, random) => {
    const file = JSON.stringify(random.pick(FILE_NAMES));
    for (const one of pairs) one[1] = file;
    return [indexText(pairs), wrong(`all in ${file}`)];
  },
  (pairs, random) => {
    const one = random.pick(pairs);
    one[1] = random.pick(NUMBERS);
    return [indexText(pairs), wrong(`${one[0]} in ${one[1]}`)];
  },
  (pairs, random) => {
    pairs.push([random.pick(pairs)[0], random.pick(pairs)[1]]);
    return [indexText(pairs), wrong('a tensor twice')];
  },
  (pairs, random) => {
    const key = random.pick(['"__proto__"', '"zz.more"', '"constructor"', '""']);
    pairs.push([key, random.pick(pairs)[1]]);
    return [indexText(pairs), wrong(`${key} more`)];
  },
  (pairs, random) => {
    const text = random.pick([
      '',
      '{}',
      '[]',
      '{"weight_map":{}}',
      '{"weight_map":[]}',
      '{"weight_map":null}',
      '{"weight_map":{"weight_map":{}}}',
      '{"__proto__":{"weight_map":{}}}',
      `\ufeff${indexText(pairs)}`,
      `${indexText(pairs)}\0`,
      indexText(pairs).replace('{', '{"weight_map":{},'),
      indexText(pairs, '"metadata":{"total_size":1e999},'),
      indexText(pairs, `"metadata":${'['.repeat(40)}${']'.repeat(40)},`),
    ]);
    return [text, harmful(`index ${text}`)];
  },
  (pairs, random) => {
    const text = mutateText(indexText(pairs), random);
    return [text, harmful(`index ${text}`)];
  },
  (pairs, random) => [indexText(shuffled(pairs, random)), harmless('index in another order')],
  (pairs) => [
    `\n ${indexText(pairs, '"metadata":{"total_size":12345678901234567890,"x":[1.5e-3]},"more":null,')}\n`,
    harmless('index with more'),
  ],
];

const indexText = (pairs: Pairs, more = '') =>
  `{${more}"weight_map":{${pairs.map(([key, file]) => `${key}:${file}`).join(',')}}}`;

function shardedSubject(name: string, fixture: Fixture): Subject {
  const entries = Object.entries({ ...fixture.tensors, [BYSTANDER]: f32([2, 2], [1, -2, 0.5, 4]) });
  // Scales away from their codes.
  const halves = [0, 1].map((half) => Object.fromEntries(entries.filter((_, i) => i % 2 === half)));
  const { metadata } = fixture;
  const shards = halves.map((tensors) => writeRaw(rawFile(tensors, metadata)));
  const pairs = (): Pairs => entries.map(([key], i) => [JSON.stringify(key), JSON.stringify(SHARDS[i % 2])]);
  const bundle = (index: string, [first, second]: Uint8Array[]): Bundle => ({
    entry: INDEX,
    files: { [INDEX]: utf8(index), [SHARDS[0]]: first!, [SHARDS[1]]: second! },
  });
  return {
    name: `${name}, in shards`,
    kind: 'shards',
    original: bundle(indexText(pairs()), shards),
    matrices: matricesOf(fixture),
    mutate(random) {
      const kind = random.integer(0, 9);
      if (kind === 0) {
        const { entry, files } = bundle(indexText(pairs()), shards);
        const gone = random.pick(SHARDS);
        const { [gone]: _, ...rest } = files;
        return { entry, files: rest, ...wrong(`${gone} missing`) };
      }
      if (kind === 1) {
        const swapped = random.integer(0, 1) ? [...shards].reverse() : [shards[0]!, shards[0]!];
        return { ...bundle(indexText(pairs()), swapped), ...wrong('shards in place of each other') };
      }
      if (kind < 6) {
        const half = random.integer(0, 1);
        const [file, change] = mutateSafetensors({ tensors: halves[half]!, metadata }, random);
        // The index does not know of tensors that come, go or are renamed.
        const mutated = [...shards];
        mutated[half] = file;
        const { fate } = change;
        const unlisted = fate === 'same' && change.what.includes(MEANINGLESS);
        return {
          ...bundle(indexText(pairs()), mutated),
          what: `shard ${half}: ${change.what}`,
          fate: unlisted ? ('refused' as const) : fate,
        };
      }
      const [index, change] = random.pick(INDEX_CHANGES)(pairs(), random);
      return { ...bundle(index, shards), ...change };
    },
  };
}

// ---- GGUF.

/** GGUF's blocks of a matrix. */
function ggufBlocks({ format, codes, scales }: Logical): number[] {
  return codes.flatMap((row, r) => {
    const bytes: number[] = [];
    const size = format === 'mxfp4' ? 32 : 64;
    for (let start = 0; start < row.length; start += size) {
      if (format === 'mxfp4') {
        bytes.push(scales[r]![start / 32]!);
        for (let j = 0; j < 16; j++) bytes.push(row[start + j]! + 16 * row[start + j + 16]!);
      } else {
        for (let s = 0; s < 4; s++) bytes.push(scales[r]![start / 16 + s]!);
        for (let at = start; at < start + 64; at += 16) {
          for (let j = 0; j < 8; j++) bytes.push(row[at + j]! + 16 * row[at + j + 8]!);
        }
      }
    }
    return bytes;
  });
}

const TYPES = { F32: 0, F16: 1, Q4_0: 2, I8: 24, BF16: 30, MXFP4: 39, NVFP4: 40 } as const;

interface GgufModel {
  readonly tensors: readonly TensorSpec[];
  readonly matrices: Subject['matrices'];
}

function ggufModel(): GgufModel {
  const tensors: TensorSpec[] = [];
  const matrices: { name: string; expert?: number; expected: QuantizedMatrix }[] = [];
  const add = (name: string, logical: Logical | Logical[], scaled: boolean) => {
    const all = [logical].flat();
    const { format, codes } = all[0]!;
    const sizes = [codes[0]!.length, codes.length, ...(Array.isArray(logical) ? [all.length] : [])];
    const bytes = Uint8Array.from(all.flatMap(ggufBlocks));
    tensors.push({
      name: `${name}.weight`,
      sizes,
      type: TYPES[format === 'mxfp4' ? 'MXFP4' : 'NVFP4'],
      bytes,
    });
    if (scaled) {
      const scales = concat(...all.map(({ globalScale }) => f32Bytes(globalScale)));
      tensors.push({ name: `${name}.scale`, sizes: [all.length], type: TYPES.F32, bytes: scales });
    }
    for (const [i, one] of all.entries()) {
      const expected = expectedMatrix(one, scaled ? {} : { globalScale: 1 });
      const expert = Array.isArray(logical) ? { expert: i } : {};
      matrices.push({ name: `${name}.weight`, ...expert, expected });
    }
  };
  const many = (format: 'mxfp4' | 'nvfp4', count: number) =>
    Array.from({ length: count }, (_, i) => randomLogical(format, 2, 64, 70 + i));
  add('blk.0.attn_q', randomLogical('nvfp4', 3, 128, 60), true);
  add('blk.0.attn_k', randomLogical('nvfp4', 2, 64, 61), false);
  add('blk.0.ffn_up', randomLogical('mxfp4', 3, 96, 62), false);
  add('blk.0.ffn_gate_exps', many('mxfp4', 3), false);
  add('blk.0.ffn_down_exps', many('nvfp4', 3), true);
  const norm = concat(...[1, 2, 3, 4].map(f32Bytes));
  tensors.push({ name: 'token_embd.weight', sizes: [2, 2], type: TYPES.F32, bytes: norm });
  tensors.push({ name: 'output_norm.weight', sizes: [4], type: TYPES.F32, bytes: norm });
  return { tensors, matrices };
}

const HEAD = [pair('general.architecture', 'string', 'demo'), pair('general.file_type', 'u32', 39)];

/** Bytes for what a type and sizes take, so that the container stays right. */
function refilled(tensor: TensorSpec, type: number, sizes: readonly number[]): TensorSpec | undefined {
  const [elements, bytes] = {
    0: [1, 4],
    1: [1, 2],
    2: [32, 18],
    24: [1, 1],
    30: [1, 2],
    39: [32, 17],
    40: [64, 36],
  }[type]!;
  const length = (sizes.reduce((a, b) => a * b, 1) / elements!) * bytes!;
  if (!Number.isInteger(length) || length > 1 << 17) return undefined;
  const from = tensor.bytes;
  return { ...tensor, type, sizes, bytes: Uint8Array.from({ length }, (_, i) => from[i % from.length] ?? 0) };
}

function mutateGgufStructure(
  tensors: readonly TensorSpec[],
  pairs: readonly Uint8Array[],
  random: Random,
): [Uint8Array, Change] {
  const write = (more: object = {}) => ggufFile({ pairs, tensors, ...more });
  for (;;) {
    const at = pickIndex(random, tensors);
    const tensor = tensors[at]!;
    const with_ = (changed: TensorSpec) => write({ tensors: tensors.with(at, changed) });
    const sizes = tensor.sizes.map(Number);
    switch (random.integer(0, 12)) {
      case 0: {
        const changed = refilled(tensor, random.pick(Object.values(TYPES)), sizes);
        if (changed) return [with_(changed), harmful(`${tensor.name} as type ${changed.type}`)];
        break;
      }
      case 1: {
        const changed = refilled(tensor, tensor.type, mutateShape(sizes, random));
        if (changed) return [with_(changed), harmful(`${tensor.name} [${sizes}] as [${changed.sizes}]`)];
        break;
      }
      case 2:
        return [write({ tensors: tensors.toSpliced(at, 1) }), harmful(`${tensor.name} dropped`)];
      case 3: {
        const other = random.pick(tensors).name;
        const name = random.pick([
          other,
          `${other}.scale`,
          String(other).replace('weight', 'scale'),
          '__proto__',
          '',
        ]);
        return [with_({ ...tensor, name }), harmful(`${tensor.name} renamed ${name}`)];
      }
      case 4: {
        const other = pickIndex(random, tensors);
        const [a, b] = [tensor.name, tensors[other]!.name];
        const swapped = tensors.with(at, { ...tensor, name: b }).with(other, { ...tensors[other]!, name: a });
        if (a !== b) return [write({ tensors: swapped }), harmful(`${a} and ${b} swapped`)];
        break;
      }
      case 5: {
        const offset = random.pick([0, 1, 32, 64, 2 ** 31, 2 ** 53, 2n ** 63n, 2n ** 64n - 32n]);
        return [with_({ ...tensor, offset }), harmful(`${tensor.name} at ${offset}`)];
      }
      case 6: {
        const size = random.pick([
          0n,
          1n,
          31n,
          2n ** 32n,
          2n ** 53n - 1n,
          2n ** 53n,
          2n ** 63n,
          2n ** 64n - 64n,
        ]);
        const changed = tensor.sizes.with(pickIndex(random, sizes), size);
        return [with_({ ...tensor, sizes: changed }), harmful(`${tensor.name} [${changed}]`)];
      }
      case 7: {
        const bytes = tensor.bytes.slice();
        const place = pickIndex(random, bytes);
        bytes[place] = random.pick([0, 0x7f, 0x80, 255, random.integer(0, 255)]);
        return [with_({ ...tensor, bytes }), harmful(`byte ${place} of ${tensor.name} is ${bytes[place]}`)];
      }
      case 8: {
        const more = random.pick([
          { tensorCount: random.pick([0, tensors.length - 1, tensors.length + 1, 2 ** 40, 2n ** 63n]) },
          { pairCount: random.pick([0, pairs.length - 1, pairs.length + 1, 2 ** 40, 2n ** 63n]) },
          { alignment: random.pick([1, 16, 64]) },
          { pairs: [...pairs, pair('general.alignment', 'u32', random.pick([0, 1, 3, 64, 2 ** 31]))] },
        ]);
        return [write(more), harmful(`${Object.entries(more)[0]}`)];
      }
      case 9: {
        const more = random.pick([
          { magic: random.pick(['GGU1', 'gguf', 'GGML']) },
          { version: random.pick([0, 1, 4, 0x03000000, 2 ** 32 - 1]) },
          { pairs: [...pairs, pairs[0]!] },
          { tensors: [...tensors, tensor] },
        ]);
        return [write(more), wrong(`${Object.keys(more)[0]}`)];
      }
      case 10: {
        const alignment = random.pick([32, 64, 1024]);
        const aligned = [...pairs, pair('general.alignment', 'u32', alignment)];
        return [write({ pairs: aligned, alignment }), harmless(`alignment ${alignment}`)];
      }
      case 11:
        return [write({ tensors: shuffled(tensors, random) }), harmless('tensors in another order')];
      default: {
        const more = [pair('__proto__', 'string', 'x'), pair('bool', 'bool', false)];
        const spec = { version: 2, pairs: [...more, ...pairs], lastPadding: false };
        return [concat(write(spec), new Uint8Array(random.pick([0, 5, 64]))), harmless('more values')];
      }
    }
  }
}

function mutateGgufFile(
  file: Uint8Array,
  tensors: readonly TensorSpec[],
  pairs: readonly Uint8Array[],
  random: Random,
): [Uint8Array, Change] {
  if (random.integer(0, 1)) return mutateGgufStructure(tensors, pairs, random);
  let bytes = file;
  for (let times = random.integer(1, 2); times > 0 && bytes.length > 0; times--) {
    bytes = mutateGguf(bytes, [file], random);
  }
  return [bytes, harmful('bytes')];
}

function ggufSubject(): Subject {
  const { tensors, matrices } = ggufModel();
  const file = ggufFile({ pairs: HEAD, tensors });
  const entry = 'model.gguf';
  return {
    name: 'GGUF',
    kind: 'gguf',
    original: { entry, files: { [entry]: file } },
    matrices,
    mutate(random) {
      const [bytes, change] = mutateGgufFile(file, tensors, HEAD, random);
      return { entry, files: { [entry]: bytes }, ...change };
    },
  };
}

const splitName = (no: number, count: number) =>
  `model-${String(no).padStart(5, '0')}-of-${String(count).padStart(5, '0')}.gguf`;

function splitSubject(): Subject {
  const { tensors, matrices } = ggufModel();
  const half = Math.ceil(tensors.length / 2);
  const halves = [tensors.slice(0, half), tensors.slice(half)];
  const splitPairs = (no: number, { own = no, count = 2, total = tensors.length } = {}) => [
    ...(no === 0 ? HEAD : []),
    pair('split.no', 'u16', own),
    pair('split.count', 'u16', count),
    pair('split.tensors.count', 'i32', total),
  ];
  const files = halves.map((some, no) => ggufFile({ pairs: splitPairs(no), tensors: some }));
  const bundle = ([first, second]: Uint8Array[], entry = splitName(1, 2)): Bundle => ({
    entry,
    files: { [splitName(1, 2)]: first!, [splitName(2, 2)]: second! },
  });
  return {
    name: 'GGUF, split',
    kind: 'gguf',
    original: bundle(files),
    matrices,
    mutate(random) {
      const which = random.integer(0, 1);
      const withFile = (file: Uint8Array) => bundle(files.map((one, i) => (i === which ? file : one)));
      switch (random.integer(0, 5)) {
        case 0: {
          const own = random.pick([0, 1, 2, 65535]);
          const count = random.pick([0, 1, 2, 3, 65535]);
          const total = random.pick([0, 1, tensors.length, tensors.length + 1, -1, 2 ** 31 - 1]);
          const pairs = splitPairs(which, { own, count, total });
          const same = own === which && count === 2 && total === tensors.length;
          return {
            ...withFile(ggufFile({ pairs, tensors: halves[which]! })),
            what: `split ${which} says ${own} of ${count}, ${total} tensors`,
            fate: same ? ('same' as const) : ('refused' as const),
          };
        }
        case 1: {
          const dropped = splitPairs(which).toSpliced(-random.integer(1, 3), 1);
          const file = ggufFile({ pairs: dropped, tensors: halves[which]! });
          return { ...withFile(file), ...wrong(`split ${which} without one of its keys`) };
        }
        case 2: {
          // Under a name with other numbers; those that it asks for are not there, or are too many.
          const [no, count] = random.pick([
            [1, 3],
            [0, 2],
            [3, 2],
            [1, 1],
            [1, 99999],
            [99999, 99999],
            [0, 0],
          ] as const);
          const entry = splitName(no, count);
          const { files: all } = bundle(files);
          return { entry, files: { ...all, [entry]: files[0]! }, ...wrong(`opened as ${entry}`) };
        }
        case 3:
          return { ...bundle(files, splitName(2, 2)), ...harmless('opened by the second') };
        case 4:
          return { ...bundle([files[which]!, files[which]!]), ...wrong(`split ${which} twice`) };
        default: {
          const [bytes, change] = mutateGgufFile(files[which]!, halves[which]!, splitPairs(which), random);
          return { ...withFile(bytes), what: `split ${which}: ${change.what}`, fate: change.fate };
        }
      }
    },
  };
}

export const SUBJECTS: readonly Subject[] = [
  ...Object.entries(FIXTURES).map(([name, make]) => safetensorsSubject(name, make())),
  // One of each kind of sibling and of metadata is enough here.
  ...[
    'gpt-oss',
    'compressed-tensors nvfp4',
    'ModelOpt experts',
    'ComfyUI, marked by metadata',
    'TorchAO nvfp4',
  ].map((name) => shardedSubject(name, FIXTURES[name]!())),
  ...['compressed-tensors nvfp4', 'Quark, ModelOpt mxfp4'].map((name) =>
    configuredSubject(name, FIXTURES[name]!()),
  ),
  ...[1, 2].map(ggufSubject),
  splitSubject(),
];
