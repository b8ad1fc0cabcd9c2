/**
 * Chains of MatMulNBits layers as ONNX models, written field by field: protobuf needs no more than varints and lengths.
 * Field numbers are those of onnx.proto.
 */

const WIRE = { varint: 0, bytes: 2 } as const;
const DATA_TYPE = { f32: 1, uint8: 2, f16: 10 } as const;

/** A protobuf message as the pieces it consists of; large ones are never copied before the end. */
class Message {
  readonly #pieces: Uint8Array[] = [];
  size = 0;

  varint(field: number, value: number): this {
    return this.#tag(field, WIRE.varint).#number(value);
  }

  bytes(field: number, value: Uint8Array): this {
    return this.#tag(field, WIRE.bytes).#number(value.length).#push(value);
  }

  text(field: number, value: string): this {
    return this.bytes(field, new TextEncoder().encode(value));
  }

  message(field: number, value: Message): this {
    this.#tag(field, WIRE.bytes).#number(value.size);
    for (const piece of value.#pieces) this.#push(piece);
    return this;
  }

  finish(): Uint8Array {
    const all = new Uint8Array(this.size);
    let at = 0;
    for (const piece of this.#pieces) {
      all.set(piece, at);
      at += piece.length;
    }
    return all;
  }

  #tag(field: number, wire: number): this {
    return this.#number(field * 8 + wire);
  }

  #number(value: number): this {
    const bytes: number[] = [];
    let rest = value;
    while (rest >= 128) {
      bytes.push((rest % 128) + 128);
      rest = Math.floor(rest / 128);
    }
    bytes.push(rest);
    return this.#push(Uint8Array.from(bytes));
  }

  #push(piece: Uint8Array): this {
    this.#pieces.push(piece);
    this.size += piece.length;
    return this;
  }
}

/** int4 weights in blocks of 32 along k: value = (code - 8) · scale. */
export interface Int4Weights {
  readonly n: number;
  readonly k: number;
  /** u8[n, k / 32, 16], element 2i in the low nibble */
  readonly codes: Uint8Array;
  /** f32 or f16[n, k / 32] as bytes */
  readonly scales: Uint8Array;
}

export const BLOCK = 32;

/**
 * y = x · w₀ᵀ · w₁ᵀ · …, with `x` and `y` of one type and any number of rows.
 * @param accuracyLevel 0 for products in the type of x, 4 for int8
 */
export function chainModel(
  layers: readonly Int4Weights[],
  type: 'f32' | 'f16',
  accuracyLevel: 0 | 4,
): Uint8Array {
  const elementType = DATA_TYPE[type];
  const graph = new Message();
  layers.forEach(({ n, k, codes, scales }, i) => {
    const node = new Message()
      .text(1, i === 0 ? 'x' : `y${i - 1}`)
      .text(1, `codes${i}`)
      .text(1, `scales${i}`)
      .text(2, i === layers.length - 1 ? 'y' : `y${i}`)
      .text(3, `layer${i}`)
      .text(4, 'MatMulNBits');
    for (const [name, value] of Object.entries({
      K: k,
      N: n,
      bits: 4,
      block_size: BLOCK,
      accuracy_level: accuracyLevel,
    })) {
      node.message(5, new Message().text(1, name).varint(3, value).varint(20, 2));
    }
    graph.message(1, node.text(7, 'com.microsoft'));
    const blocks = k / BLOCK;
    graph.message(5, tensor(`codes${i}`, DATA_TYPE.uint8, [n, blocks, BLOCK / 2], codes));
    graph.message(5, tensor(`scales${i}`, elementType, [n * blocks], scales));
  });
  graph.text(2, 'chain');
  graph.message(11, valueInfo('x', elementType, layers[0]!.k));
  graph.message(12, valueInfo('y', elementType, layers.at(-1)!.n));
  return new Message()
    .varint(1, 10)
    .text(2, 'fp4-webgpu')
    .message(7, graph)
    .message(8, new Message().text(1, '').varint(2, 21))
    .message(8, new Message().text(1, 'com.microsoft').varint(2, 1))
    .finish();
}

function tensor(name: string, dataType: number, dims: readonly number[], data: Uint8Array): Message {
  const message = new Message();
  for (const size of dims) message.varint(1, size);
  return message.varint(2, dataType).text(8, name).bytes(9, data);
}

function valueInfo(name: string, elementType: number, columns: number): Message {
  const rows = new Message().text(2, 'm');
  const shape = new Message().message(1, rows).message(1, new Message().varint(1, columns));
  const tensorType = new Message().varint(1, elementType).message(2, shape);
  return new Message().text(1, name).message(2, new Message().message(1, tensorType));
}

/** y = -x of any shape with two dimensions: brings a tensor from the GPU, and waits for all that came before. */
export function negationModel(type: 'f32' | 'f16'): Uint8Array {
  const elementType = DATA_TYPE[type];
  const node = new Message().text(1, 'x').text(2, 'y').text(3, 'negation').text(4, 'Neg');
  const info = (name: string) => {
    const shape = new Message()
      .message(1, new Message().text(2, 'rows'))
      .message(1, new Message().text(2, 'columns'));
    const tensorType = new Message().varint(1, elementType).message(2, shape);
    return new Message().text(1, name).message(2, new Message().message(1, tensorType));
  };
  const graph = new Message()
    .message(1, node)
    .text(2, 'negation')
    .message(11, info('x'))
    .message(12, info('y'));
  return new Message()
    .varint(1, 10)
    .text(2, 'fp4-webgpu')
    .message(7, graph)
    .message(8, new Message().text(1, '').varint(2, 21))
    .finish();
}
