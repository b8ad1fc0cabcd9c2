/**
 * GGUF read the plain way, to compare with: the whole file at once, every size a bigint, nothing checked but that the
 * bytes are there (a DataView throws a RangeError where they are not).
 */

export interface NaiveTensor {
  readonly name: string;
  readonly type: number;
  /** As in the file: fastest first. */
  readonly sizes: readonly bigint[];
  /** From the start of the file. */
  readonly begin: bigint;
}

export interface NaiveGguf {
  readonly keys: readonly string[];
  readonly tensors: readonly NaiveTensor[];
}

const WIDTHS: Record<number, bigint> = {
  0: 1n,
  1: 1n,
  2: 2n,
  3: 2n,
  4: 4n,
  5: 4n,
  6: 4n,
  7: 1n,
  10: 8n,
  11: 8n,
  12: 8n,
};

export function naiveGguf(bytes: Uint8Array): NaiveGguf {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 8n;
  let alignment = 32n;

  const counts = [u64(), u64()] as const;
  const keys = Array.from({ length: Number(counts[1]) }, () => {
    const key = string();
    const type = u32();
    if (key === 'general.alignment') alignment = BigInt(view.getUint32(Number(at), true));
    skip(type);
    return key;
  });
  const infos = Array.from({ length: Number(counts[0]) }, () => {
    const name = string();
    const sizes = Array.from({ length: u32() }, u64);
    return { name, sizes, type: u32(), offset: u64() };
  });
  const data = at + ((alignment - (at % alignment)) % alignment);
  return { keys, tensors: infos.map(({ offset, ...info }) => ({ ...info, begin: data + offset })) };

  function u32(): number {
    at += 4n;
    return view.getUint32(Number(at - 4n), true);
  }

  function u64(): bigint {
    at += 8n;
    return view.getBigUint64(Number(at - 8n), true);
  }

  function string(): string {
    const length = u64();
    at += length;
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(
      bytes.subarray(Number(at - length), Number(at)),
    );
  }

  function skip(type: number): void {
    if (type === 8) string();
    else if (type === 9) {
      const itemType = u32();
      const count = u64();
      for (let i = 0n; i < count; i++) skip(itemType);
    } else at += WIDTHS[type]!;
  }
}
