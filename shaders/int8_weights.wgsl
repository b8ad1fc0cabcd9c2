// What turns FP4 weights into int8 with one scale for each row and each CHUNK_K values along k.
//
// multipliers  u16[blocks of 32 rows, blocks of BLOCK_SIZE values, 32], two rows to a word
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
// A workgroup takes 32 rows and a part. Shared: 128 bytes. Features: none.

@group(0) @binding(1) var<storage, read_write> multipliers: array<u32>;
@group(0) @binding(2) var<storage, read_write> references: array<u32>;

// Order of scales: the bits of their f32, or with powers of two their bytes.
var<workgroup> largest_keys: array<atomic<u32>, 32>;

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
  let first_row = index / parts * 32u;
  let part = index % parts;
  if (first_row >= problem.n) {
    return;
  }
  // Rows past the edge have scales of zero, blocks past k are not there.
  let blocks = problem.k / BLOCK_SIZE;
  let first = part * (CHUNK_K / BLOCK_SIZE);
  let end = min(first + CHUNK_K / BLOCK_SIZE, blocks);
  var key = 0u;
  for (var block = first + thread / 32u; block < end; block += WORKGROUP / 32u) {
    key = max(key, scale_key(first_row + thread % 32u, block));
  }
  atomicMax(&largest_keys[thread % 32u], key);
  workgroupBarrier();
  if (thread < 32u && first_row + thread < problem.n) {
    references[part * problem.n + first_row + thread] = reference(atomicLoad(&largest_keys[thread]));
  }
  let pair = thread % 16u;
  let row = first_row + 2u * pair;
  let largest0 = atomicLoad(&largest_keys[2u * pair]);
  let largest1 = atomicLoad(&largest_keys[2u * pair + 1u]);
  let row_blocks = chunks_per_row() * (32u / BLOCK_SIZE);
  for (var block = first + thread / 16u; block < end; block += WORKGROUP / 16u) {
    multipliers[(first_row / 32u * row_blocks + block) * 16u + pair] =
      multiplier(scale_key(row, block), largest0) | (multiplier(scale_key(row + 1u, block), largest1) << 16u);
  }
}
