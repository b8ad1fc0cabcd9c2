/**
 * Whole files written the plain way, to compare writers with: from codes and scales as numbers, by loops, from the
 * descriptions of the formats. Nothing of src/checkpoint is used here.
 */
import type { FileTensors } from './checkpoint-files.js';
import type { Logical } from './checkpoint-producers.js';
import { f32, type TensorSpec } from './gguf-writer.js';

/** Dtypes by alignment as the reference implementation lists them, from the last to the first. */
const DTYPE_ORDER = (
  'U64 I64 F64 C64 F32 U32 I32 BF16 F16 U16 I16 F8_E5M2FNUZ F8_E4M3FNUZ F8_E8M0 F8_E4M3 F8_E5M2 I8 U8 ' +
  'F6_E3M2 F6_E2M3 F4 BOOL'
).split(' ');

/** A safetensors file in the order of the reference implementation, its header padded to eight bytes. Names are ASCII. */
export function orderedSafetensors(
  tensors: FileTensors,
  metadata?: Record<string, string>,
): Uint8Array<ArrayBuffer> {
  const names = Object.keys(tensors).sort();
  const ordered = DTYPE_ORDER.flatMap((dtype) => names.filter((name) => tensors[name]!.dtype === dtype));
  let json = metadata ? `{"__metadata__":${JSON.stringify(metadata)}` : '{';
  let end = 0;
  for (const name of ordered) {
    const { dtype, shape, bytes } = tensors[name]!;
    if (json !== '{') json += ',';
    json += `"${name}":{"dtype":"${dtype}","shape":[${shape.join(',')}],"data_offsets":[${end},${end + bytes.length}]}`;
    end += bytes.length;
  }
  json += '}';
  while (json.length % 8) json += ' ';
  const file = new Uint8Array(8 + json.length + end);
  for (let i = 0; i < 4; i++) file[i] = (json.length >> (8 * i)) & 255;
  for (let i = 0; i < json.length; i++) file[8 + i] = json.charCodeAt(i);
  let at = 8 + json.length;
  for (const name of ordered) {
    for (const byte of tensors[name]!.bytes) file[at++] = byte;
  }
  return file;
}

const TYPE = { F32: 0, F16: 1, MXFP4: 39, NVFP4: 40 };

/** MXFP4: for 32 values their scale, then 16 bytes, value j low and value j + 16 high. */
function mxfp4Blocks({ codes, scales }: Logical): number[] {
  return codes.flatMap((row, r) =>
    scales[r]!.flatMap((scale, block) => [
      scale,
      ...Array.from({ length: 16 }, (_, j) => row[32 * block + j]! + 16 * row[32 * block + 16 + j]!),
    ]),
  );
}

/** NVFP4: for 64 values four scales, then for each 16 values 8 bytes, value j low and value j + 8 high. */
function nvfp4Blocks({ codes, scales }: Logical): number[] {
  const out: number[] = [];
  codes.forEach((row, r) => {
    for (let start = 0; start < row.length; start += 64) {
      for (let s = 0; s < 4; s++) out.push(scales[r]![start / 16 + s]!);
      for (let s = 0; s < 4; s++) {
        for (let j = 0; j < 8; j++) {
          out.push(row[start + 16 * s + j]! + 16 * row[start + 16 * s + 8 + j]!);
        }
      }
    }
  });
  return out;
}

/** A matrix `X.weight`, or experts, as the tensors of a GGUF file. */
export function ggufMatrix(name: string, logical: Logical | readonly Logical[]): TensorSpec[] {
  const all = [logical].flat() as Logical[];
  const { format, codes } = all[0]!;
  const sizes = [codes[0]!.length, codes.length, ...(Array.isArray(logical) ? [all.length] : [])];
  const blocks = all.flatMap(format === 'mxfp4' ? mxfp4Blocks : nvfp4Blocks);
  const matrix = {
    name,
    sizes,
    type: format === 'mxfp4' ? TYPE.MXFP4 : TYPE.NVFP4,
    bytes: Uint8Array.from(blocks),
  };
  if (format === 'mxfp4') return [matrix];
  const bytes = Uint8Array.from(all.flatMap(({ globalScale }) => [...f32(globalScale)]));
  return [matrix, { name: name.replace(/weight$/, 'scale'), sizes: [all.length], type: TYPE.F32, bytes }];
}
