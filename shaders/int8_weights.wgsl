// What turns FP4 weights into int8 with one scale for each row and each CHUNK_K values along k.
//
// multipliers  u16[n, chunks of 32 codes, 32 / BLOCK_SIZE], two to a word, each row filled up to whole words
// references   f32[parts of CHUNK_K, n]
//
// A weight is about int8 · reference / 16 (· tensor scale), and int8 = ±round(doubled · multiplier / 256), where doubled
// is twice the code's magnitude. With `scale` for what a block's codes stand for (block scale / macro factor) and
// `largest` for the largest of a row's CHUNK_K values:
// * POWER_OF_TWO, for mxfp4 without macro factors: reference = largest, multiplier = 2048 · scale / largest. Doubled
//   codes are shifted by up to three places, so that weights of blocks within three octaves of the largest are exact.
// * otherwise reference = largest · 96 / 127, multiplier = round(2048 · 127 / 96 · scale / largest) <= 2709, so that the
//   largest weight is 127.
// Where the largest scale is 0, so are reference and multipliers.
// Error: 1/2 for rounding and 12 · 2^-9 for the multiplier, in units of reference / 16. In parts of 6 · largest, the
// largest value that the row's scales allow: 0.5 / 96 with powers of two, else 0.5235 / 127.
//
// A workgroup takes a row and a part. Shared: 4 bytes. Features: none.

@group(0) @binding(1) var<storage, read_write> multipliers: array<u32>;
@group(0) @binding(2) var<storage, read_write> references: array<u32>;

// Blocks of a word of multipliers.
const PAIR = 2u;

// Order of scales: the bits of their f32, or with powers of two their bytes.
var<workgroup> largest_key: atomic<u32>;

fn row_words() -> u32 {
  return (chunks_per_row() * (32u / BLOCK_SIZE) + PAIR - 1u) / PAIR;
}

fn scale_key(row: u32, block: u32) -> u32 {
  if (POWER_OF_TWO) {
    return scale_byte(row, block);
  }
  return select(
    bitcast<u32>(block_scale(row, block) * macro_scale(row, block)),
    0x7F800000u,
    scale_byte(row, block) == NAN_BYTE,
  );
}

fn multiplier(key: u32, largest: u32) -> u32 {
  if (POWER_OF_TWO) {
    return 2048u >> min(largest - key, 31u);
  }
  if (largest == 0u) {
    return 0u;
  }
  // Divisors above 2^126 may give anything.
  let down = select(1.0, 0x1p-8, largest > 0x70000000u);
  return u32(round(2048.0 * 127.0 / 96.0 * (bitcast<f32>(key) * down / (bitcast<f32>(largest) * down))));
}

// As bits, so that NaN passes, which is the scale of blocks that had NaN or Inf: their byte is NAN_BYTE.
fn reference(largest: u32) -> u32 {
  if (POWER_OF_TWO) {
    return select(select(largest << 23u, 0x00400000u, largest == 0u), 0x7FC00000u, largest == 255u);
  }
  if (largest >= 0x7F800000u) {
    return 0x7FC00000u;
  }
  return bitcast<u32>(bitcast<f32>(largest) * (96.0 / 127.0));
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let parts = (problem.k + CHUNK_K - 1u) / CHUNK_K;
  let index = workgroup.y * grid.x + workgroup.x;
  let row = index / parts;
  let part = index % parts;
  if (row >= problem.n) {
    return;
  }
  let blocks = problem.k / BLOCK_SIZE;
  let first = part * (CHUNK_K / BLOCK_SIZE);
  let end = min(first + CHUNK_K / BLOCK_SIZE, blocks);
  var key = 0u;
  for (var block = first + thread; block < end; block += WORKGROUP) {
    key = max(key, scale_key(row, block));
  }
  atomicMax(&largest_key, key);
  workgroupBarrier();
  let largest = atomicLoad(&largest_key);
  if (thread == 0u) {
    references[part * problem.n + row] = reference(largest);
  }
  for (var block = first + PAIR * thread; block < end; block += PAIR * WORKGROUP) {
    var word = multiplier(scale_key(row, block), largest);
    if (block + 1u < end) {
      word |= multiplier(scale_key(row, block + 1u), largest) << 16u;
    }
    multipliers[row * row_words() + block / PAIR] = word;
  }
}
