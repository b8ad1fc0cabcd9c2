// x of gemv.wgsl in workgroup memory as f32, multiplied by x_rows_*.wgsl.

// What a slab has of x: four neighbours along k of all rows at a time.
const PIECES = SLAB * 8u;
// Values along k that products are added over before they are scaled.
const CHAIN = BLOCK_SIZE;

alias slab_vector = vec4<f32>;

var<workgroup> x_slab: array<slab_vector, max(SLAB * X_CHUNK, SUMS_IN_SLAB)>;

// What finished products have to be multiplied by.
fn load_x_unit(slab_chunk: u32, half: u32) -> x_sums {
  return x_sums(DECODED_UNIT);
}
