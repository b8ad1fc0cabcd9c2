/**
 * ComfyUI (comfy-kitchen), NVFP4. The names of ModelOpt with other bytes: `P.weight` U8 with the first value in the high
 * nibble, both sizes padded to multiples of 16; `P.weight_scale` E4M3 [rows to 128, blocks to 4], swizzled;
 * `P.weight_scale_2` F32, a multiplier. What marks it: a U8 tensor `P.comfy_quant` with JSON, or the layer `P` in the
 * metadata `_quantization_metadata`. In a file with any such mark a matrix without one could be either, and is refused.
 *
 * The sizes before padding are not stored: rows and cols are the padded ones, and the values there are zeros.
 * Source: Comfy-Org/comfy-kitchen, comfy_kitchen/tensor/nvfp4.py, float_utils.py.
 */
import type { StoredTensor } from '../container.js';
import { showShape } from '../dtype.js';
import { type JsonValue, parseStrictJson, quote } from '../strict-json.js';
import {
  besideWeight,
  blockLayout,
  type Context,
  codeShape,
  isWeight,
  matrixShape,
  type Producer,
  type ReadPart,
  refusePreQuantScale,
  requireTensor,
  sameShape,
} from './producer.js';
import { unswizzle } from './swizzle.js';

const METADATA_KEY = '_quantization_metadata';
/** A mark is a short object; a longer tensor is none. */
const MAX_MARK_BYTES = 1 << 16;

export const comfy: Producer = {
  id: 'comfyui',
  detect(tensor, siblings) {
    if (tensor.dtype !== 'U8' || !isWeight(tensor.name)) return undefined;
    const beside = (suffix: string) => siblings.get(besideWeight(tensor.name, suffix));
    const mark = beside('comfy_quant');
    const scales = beside('weight_scale');
    const global = beside('weight_scale_2');
    const nvfp4 = scales?.dtype === 'F8_E4M3' || global !== undefined;
    if (!mark && !(nvfp4 && (siblings.metadata.has(METADATA_KEY) || siblings.hasSuffix('comfy_quant'))))
      return undefined;
    return {
      name: tensor.name,
      tensors: [tensor, scales, global, mark],
      resolve(context) {
        if (mark) requireTensor(mark, mark.name, ['U8'], context, [1]);
        else checkMark(layerMark(siblings.metadata, tensor.name, context), context);
        refusePreQuantScale(tensor.name, siblings, context);
        requireTensor(tensor, tensor.name, ['U8'], context, [2]);
        const scalesName = besideWeight(tensor.name, 'weight_scale');
        const globalName = besideWeight(tensor.name, 'weight_scale_2');
        const checked = requireTensor(scales, scalesName, ['F8_E4M3'], context, [2]);
        const { rows, cols } = matrixShape(codeShape(tensor), context);
        if (rows % 16 || cols % 16) {
          context.fail(`codes of ${showShape([rows, cols])} values are not padded to multiples of 16`);
        }
        const blocks = cols / 16;
        const padded = [Math.ceil(rows / 128) * 128, Math.ceil(blocks / 4) * 4];
        if (!sameShape(checked.shape, padded)) {
          context.fail(
            `codes of ${showShape([rows, cols])} values need swizzled scales of ${showShape(padded)}; ` +
              `${quote(scalesName)} is ${showShape(checked.shape)}`,
          );
        }
        return blockLayout(
          {
            format: 'nvfp4',
            blockSize: 16,
            rows,
            cols,
            experts: undefined,
            codes: tensor,
            scales: checked,
            global: { tensor: requireTensor(global, globalName, ['F32'], context), convention: 'multiplier' },
            toCodes: swapNibbles,
            toScales: (bytes) => unswizzle(bytes, rows, blocks),
            ...(mark && {
              describe: (read: ReadPart) => checkMarkTensor(mark, read, context),
              describeBytes: mark.byteLength,
            }),
          },
          context,
        );
      },
    };
  },
};

function swapNibbles(bytes: Uint8Array): Uint8Array {
  return bytes.map((byte) => (byte << 4) | (byte >> 4));
}

/** What the metadata says of the layer of `P.weight`. */
function layerMark(
  metadata: ReadonlyMap<string, string>,
  name: string,
  { fail, refuse }: Context,
): JsonValue {
  const layer = besideWeight(name, '').replace(/\.$/, '');
  const layers = markedLayers(metadata);
  if (typeof layers === 'string') return fail(`${METADATA_KEY}: ${layers}`);
  return (
    layers.get(layer) ??
    refuse(
      `other matrices of the file are marked as ComfyUI's and this one is not: the nibbles of ${quote(name)} could be in either order`,
    )
  );
}

/** Of each file's metadata: parsed once, not once a matrix, as it has a member for every one of them. */
const markedLayersOf = new WeakMap<ReadonlyMap<string, string>, ReadonlyMap<string, JsonValue> | string>();

/** The layers that metadata marks, or what is wrong with it. */
function markedLayers(metadata: ReadonlyMap<string, string>): ReadonlyMap<string, JsonValue> | string {
  let layers = markedLayersOf.get(metadata);
  if (layers === undefined) {
    layers = parseMarks(metadata.get(METADATA_KEY));
    markedLayersOf.set(metadata, layers);
  }
  return layers;
}

function parseMarks(text: string | undefined): ReadonlyMap<string, JsonValue> | string {
  if (text === undefined) return new Map();
  let problem: string | undefined;
  const fail = (message: string): never => {
    problem = message;
    throw new Error(message);
  };
  try {
    const document = parseStrictJson(text, fail, { numbers: 'any' });
    const layers = document instanceof Map ? document.get('layers') : undefined;
    return layers instanceof Map ? layers : new Map();
  } catch (error) {
    if (problem === undefined) throw error;
    return problem;
  }
}

async function checkMarkTensor(mark: StoredTensor, read: ReadPart, context: Context) {
  if (mark.byteLength > MAX_MARK_BYTES) context.fail(`${quote(mark.name)} has ${mark.byteLength} bytes`);
  const failMark = (message: string): never => context.fail(`${quote(mark.name)}: ${message}`);
  const bytes = await read(mark, 0, mark.byteLength);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return failMark('is not valid UTF-8');
  }
  checkMark(parseStrictJson(text, failMark, { numbers: 'any' }), context);
  return {};
}

function checkMark(mark: JsonValue, { fail, refuse }: Context): void {
  const members = mark instanceof Map ? mark : fail('its mark is not a JSON object');
  const format = members.get('format');
  if (format !== 'nvfp4') {
    refuse(`its mark says format ${typeof format === 'string' ? quote(format) : 'nothing'}, not "nvfp4"`);
  }
  if (members.get('convrot')) refuse('its mark says convrot: x would have to be rotated first');
}
