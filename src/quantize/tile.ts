/** Values in a rectangle of a row-major array: `height` rows of `width` from `start` on, `stride` apart. */
export interface Tile {
  readonly data: Float64Array;
  readonly start: number;
  readonly stride: number;
  readonly height: number;
  readonly width: number;
}

export function largestMagnitude({ data, start, stride, height, width }: Tile): number {
  let largest = 0;
  for (let row = 0, from = start; row < height; row++, from += stride) {
    for (let i = from; i < from + width; i++) {
      const magnitude = Math.abs(data[i]!);
      if (magnitude > largest) largest = magnitude;
    }
  }
  return largest;
}

/** Replaces every value of a tile. */
export function mapTile({ data, start, stride, height, width }: Tile, map: (value: number) => number): void {
  for (let row = 0, from = start; row < height; row++, from += stride) {
    for (let i = from; i < from + width; i++) data[i] = map(data[i]!);
  }
}
