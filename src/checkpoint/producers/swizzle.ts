/**
 * Block scales in the order of cuBLAS and tensor cores: tiles of 128 rows × 4 blocks, 512 bytes each, tile after tile
 * along a row of tiles; inside a tile row r, block c stands at `(r mod 32) · 16 + floor(r / 32) · 4 + c`. Rows and
 * blocks are padded to whole tiles.
 */

/** Bytes of scales of [rows, blocks] so stored. */
export function swizzledBytes(rows: number, blocks: number): number {
  return Math.ceil(rows / 128) * Math.ceil(blocks / 4) * 512;
}

/** The scales [rows, blocks] in row-major order, padding left out. */
export function unswizzle(bytes: Uint8Array, rows: number, blocks: number): Uint8Array {
  const out = new Uint8Array(rows * blocks);
  const tilesPerRow = Math.ceil(blocks / 4);
  for (let r = 0, at = 0; r < rows; r++) {
    const start = Math.floor(r / 128) * tilesPerRow * 512 + (r % 32) * 16 + ((r >> 5) & 3) * 4;
    for (let c = 0; c < blocks; c++) out[at++] = bytes[start + (c >> 2) * 512 + (c & 3)]!;
  }
  return out;
}
