/**
 * Checkpoint files written byte by byte, for tests of the loaders. Nothing here is shared with them: what a producer
 * stores is written down once more, by shifts and loops, from its description.
 */

export interface FileTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

export type FileTensors = Record<string, FileTensor>;

/** A safetensors file, its tensors in the order given, their bytes not aligned to anything. */
export function safetensorsFile(
  tensors: FileTensors,
  metadata?: Record<string, string>,
): Uint8Array<ArrayBuffer> {
  let end = 0;
  const members = Object.entries(tensors).map(([name, { dtype, shape, bytes }]) => {
    const offsets = [end, end + bytes.length];
    end += bytes.length;
    return `${JSON.stringify(name)}:${JSON.stringify({ dtype, shape, data_offsets: offsets })}`;
  });
  if (metadata) members.push(`"__metadata__":${JSON.stringify(metadata)}`);
  let json = `{${members.join(',')}}`;
  // An odd start of the data, so that nothing can rely on alignment.
  if (new TextEncoder().encode(json).length % 2 === 0) json += ' ';
  const header = new TextEncoder().encode(json);
  const file = new Uint8Array(8 + header.length + end);
  for (let i = 0; i < 4; i++) file[i] = (header.length >> (8 * i)) & 255;
  file.set(header, 8);
  let at = 8 + header.length;
  for (const { bytes } of Object.values(tensors)) {
    file.set(bytes, at);
    at += bytes.length;
  }
  return file;
}

const tensor = (dtype: string, shape: readonly number[], bytes: ArrayLike<number>): FileTensor => ({
  dtype,
  shape,
  bytes: Uint8Array.from(bytes),
});
export const u8 = (shape: readonly number[], bytes: ArrayLike<number>) => tensor('U8', shape, bytes);
export const i8 = (shape: readonly number[], bytes: ArrayLike<number>) => tensor('I8', shape, bytes);
export const e4m3 = (shape: readonly number[], bytes: ArrayLike<number>) => tensor('F8_E4M3', shape, bytes);
export const e8m0 = (shape: readonly number[], bytes: ArrayLike<number>) => tensor('F8_E8M0', shape, bytes);
/** Words of 32 bits, little-endian. */
export const u32 = (shape: readonly number[], words: readonly number[]) =>
  tensor(
    'U32',
    shape,
    words.flatMap((word) => [0, 8, 16, 24].map((shift) => (word >>> shift) & 255)),
  );
export const f32 = (shape: readonly number[], values: readonly number[]) => {
  const view = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((value, i) => void view.setFloat32(4 * i, value, true));
  return tensor('F32', shape, new Uint8Array(view.buffer));
};
/** Values that BF16 has. */
export const bf16 = (shape: readonly number[], values: readonly number[]) => {
  const { bytes } = f32(shape, values);
  return tensor(
    'BF16',
    shape,
    values.flatMap((_, i) => [bytes[4 * i + 2]!, bytes[4 * i + 3]!]),
  );
};
export const text = (string: string) => {
  const bytes = new TextEncoder().encode(string);
  return u8([bytes.length], bytes);
};
