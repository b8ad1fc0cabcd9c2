import { expect, test } from 'vitest';
import {
  chainInput,
  chainLayers,
  chainReference,
  layerCount,
  relativeError,
} from '../../../bench/peers/chain.js';
import { chainModel, negationModel } from '../../../bench/peers/onnx.js';

/** Fields of a protobuf message: number and content, a number or bytes. */
function fields(bytes: Uint8Array): [number, number | Uint8Array][] {
  const found: [number, number | Uint8Array][] = [];
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++]!;
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const value = varint();
    if (tag % 8 === 0) found.push([tag >> 3, value]);
    else {
      found.push([tag >> 3, bytes.subarray(at, at + value)]);
      at += value;
    }
  }
  expect(at).toBe(bytes.length);
  return found;
}

const all = (bytes: Uint8Array, field: number) =>
  fields(bytes).flatMap(([f, v]) => (f === field ? [v as Uint8Array] : []));
const text = (bytes: Uint8Array | undefined) => new TextDecoder().decode(bytes);

test('a chain is a node a layer, each fed by the one before, with its weights as they are', () => {
  const layer = (seed: number) => ({
    n: 64,
    k: 96,
    codes: Uint8Array.from({ length: (64 * 96) / 2 }, (_, i) => (i * seed) & 255),
    scales: new Uint8Array(Float32Array.from({ length: (64 * 96) / 32 }, (_, i) => i / seed).buffer),
  });
  const layers = [layer(3), layer(5)];
  const [graph] = all(chainModel(layers, 'f32', 4), 7);
  const nodes = all(graph!, 1);
  expect(nodes.map((node) => all(node, 1).map(text))).toEqual([
    ['x', 'codes0', 'scales0'],
    ['y0', 'codes1', 'scales1'],
  ]);
  expect(nodes.map((node) => text(all(node, 2)[0]))).toEqual(['y0', 'y']);
  const attributes = all(nodes[1]!, 5).map((a) => [text(all(a, 1)[0]), all(a, 3)[0] as unknown as number]);
  expect(Object.fromEntries(attributes)).toEqual({
    K: 96,
    N: 64,
    bits: 4,
    block_size: 32,
    accuracy_level: 4,
  });
  const data = all(graph!, 5).map((tensor) => all(tensor, 9)[0]);
  expect(data).toEqual(layers.flatMap(({ codes, scales }) => [codes, scales]));
  expect(text(all(negationModel('f16'), 7)[0])).toContain('Neg');
});

test('chains fit together, end to end, and into a model file', () => {
  expect(chainLayers({ n: 128, k: 128 }, 17).length).toBe(17);
  const pair = chainLayers({ n: 256, k: 128 }, 17);
  expect(pair.length).toBe(16);
  for (let i = 1; i < pair.length; i++) expect(pair[i]!.k).toBe(pair[i - 1]!.n);
  expect(layerCount({ n: 4096, k: 4096 }, false)).toBe(17);
  expect(layerCount({ n: 28672, k: 8192 }, false) * 28672 * 8192 * 0.625).toBeLessThan(2 ** 31);
});

test('the reference is the product, row by row the same for every m', () => {
  expect(chainInput(100, 8).subarray(0, 8)).toEqual(chainInput(1, 8));
  const w = [Float32Array.of(1, 2, 3, 4), Float32Array.of(0, 1, 1, 0)];
  const sizes = [
    { n: 2, k: 2 },
    { n: 2, k: 2 },
  ];
  const y = chainReference(Float32Array.of(1, -1), sizes, (i) => w[i]!);
  expect([...y]).toEqual([-1, -1]);
  expect(relativeError([-1, -1.5], y)).toBeCloseTo(0.5 / Math.SQRT2);
});
