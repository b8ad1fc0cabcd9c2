/**
 * What a checkpoint says beside its tensors, in another container. What describes how a matrix was stored goes, as it is
 * stored so no longer; everything else is kept:
 *
 * | of | in safetensors | in GGUF |
 * |---|---|---|
 * | safetensors, `__metadata__` | as it is | strings, `safetensors.` before their keys |
 * | GGUF, values | a GGUF file without tensors, `gguf-metadata`, beside them | as they are, with their types |
 */
import type { Container } from './container.js';
import type { Checkpoint } from './open.js';
import { type GgufValue, layoutGguf } from './write-gguf.js';

/** Name of the file that has the values of a GGUF file beside safetensors. */
export const GGUF_METADATA_FILE = 'gguf-metadata';

const PREFIX = 'safetensors.';
const ALIGNMENT = 'general.alignment';

/** `__metadata__` for a checkpoint's tensors. Tools that read PyTorch's files ask for its `format`. */
export function safetensorsMetadata(checkpoint: Checkpoint): Map<string, string> {
  const kept = checkpoint.container === 'gguf' ? unprefixed(checkpoint.metadata) : ownMetadata(checkpoint);
  return new Map([...kept, ['format', 'pt']]);
}

function unprefixed(metadata: ReadonlyMap<string, string>): [string, string][] {
  return [...metadata].flatMap(([key, text]) =>
    key.startsWith(PREFIX) ? [[key.slice(PREFIX.length), text]] : [],
  );
}

/** Without ComfyUI's and TorchAO's descriptions of how matrices are stored; TorchAO has one under each one's name. */
function ownMetadata({ metadata, matrices }: Checkpoint): [string, string][] {
  const described = new Set(['_quantization_metadata', 'tensor_names', ...matrices.map(({ name }) => name)]);
  return [...metadata].filter(([key]) => !described.has(key));
}

/**
 * Values for a GGUF file of a checkpoint's tensors.
 * @param kept what `gguf-metadata` beside a safetensors checkpoint has
 * @param architecture of the model, where nothing kept says it: GGUF files have to
 */
export async function ggufMetadata(
  checkpoint: Checkpoint,
  kept: Container | undefined,
  architecture: string,
): Promise<Map<string, GgufValue>> {
  if (checkpoint.container === 'gguf') return storedValues(checkpoint);
  const values = kept
    ? await storedValues(kept)
    : new Map<string, GgufValue>([
        ['general.architecture', { type: 'string', value: architecture }],
        ['general.quantization_version', { type: 'u32', value: 2 }],
      ]);
  for (const [key, value] of ownMetadata(checkpoint)) values.set(PREFIX + key, { type: 'string', value });
  return values;
}

/** The file `gguf-metadata` for a GGUF checkpoint. */
export async function ggufMetadataFile(checkpoint: Checkpoint): Promise<Uint8Array> {
  const values = await storedValues(checkpoint);
  for (const key of values.keys()) if (key.startsWith(PREFIX)) values.delete(key);
  return layoutGguf([], values).header;
}

/** All values but those that say how a model is split. */
async function storedValues({
  metadata,
  storedValue,
}: Pick<Checkpoint, 'metadata' | 'storedValue'>): Promise<Map<string, GgufValue>> {
  const values = new Map<string, GgufValue>();
  for (const [key, text] of metadata) {
    if (key.startsWith('split.')) continue;
    // The one value that decides where tensors go.
    if (key === ALIGNMENT) values.set(key, { type: 'u32', value: Number(text) });
    else values.set(key, { type: 'stored', value: await storedValue!(key) });
  }
  return values;
}
