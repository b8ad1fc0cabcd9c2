// Cuts one small matrix out of a model, so that examples and tests have real weights to work on:
//   node scripts/make-sample.mjs [model directory]
// Stands alone: it needs neither a build nor the library, and reads its own well-formed input without further checks.
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const MODEL = 'dictionary-lm';
const TENSOR = 'model.layers.3.mlp.down_proj.weight';
const METADATA = {
  format: 'pt',
  source: `${TENSOR} of ${MODEL}, a Llama of 12.6 M parameters`,
  license: 'weights trained for this project on GCIDE and WordNet text',
};

const root = new URL('../', import.meta.url);
const directory = process.argv[2] ?? fileURLToPath(new URL(`../shared/models/${MODEL}`, root));
const target = new URL(`samples/${MODEL}.layers.3.down_proj.safetensors`, root);

const index = JSON.parse(await readFile(`${directory}/model.safetensors.index.json`, 'utf8'));
const { dtype, shape, bytes } = await readTensor(`${directory}/${index.weight_map[TENSOR]}`, TENSOR);

const entry = { dtype, shape, data_offsets: [0, bytes.length] };
const json = JSON.stringify({ __metadata__: METADATA, [TENSOR]: entry });
const header = Buffer.from(json.padEnd(Math.ceil(json.length / 8) * 8));
const length = Buffer.alloc(8);
length.writeBigUInt64LE(BigInt(header.length));

await mkdir(new URL('.', target), { recursive: true });
await writeFile(target, Buffer.concat([length, header, bytes]));
console.log(`${fileURLToPath(target)}: ${dtype} [${shape.join(', ')}], ${bytes.length} bytes`);

async function readTensor(path, name) {
  const file = await open(path);
  try {
    const headerLength = Number((await readRange(file, 0, 8)).readBigUInt64LE());
    const header = JSON.parse(await readRange(file, 8, 8 + headerLength));
    const { dtype, shape, data_offsets: offsets } = header[name];
    const [begin, end] = offsets.map((offset) => 8 + headerLength + offset);
    return { dtype, shape, bytes: await readRange(file, begin, end) };
  } finally {
    await file.close();
  }
}

async function readRange(file, begin, end) {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(end - begin), 0, end - begin, begin);
  if (bytesRead !== end - begin)
    throw new Error(`${bytesRead} bytes read of ${end - begin} from byte ${begin}`);
  return buffer;
}
