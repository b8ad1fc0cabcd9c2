// y[m, n] = x[m, k] · w[n, k]ᵀ for few rows of x: every weight is decoded where it is used, in f32.
//
// x        f32[m, k]
// w_codes  u8[n, k / 2] in chunks of sixteen codes
//
// A workgroup of LANES × GROUPS threads computes GROUPS · ROWS columns of y for one row of x. The LANES threads of a
// group share its ROWS rows of w and split k between them, a chunk at a time, so that neighbouring lanes load
// neighbouring chunks; each chunk of x is loaded once for ROWS rows of w. Partial sums meet in workgroup memory.
// The grid is (x, y, z): columns over x and y together (one dimension ends at 65535), rows of x over z.
//
// Shared: LANES · GROUPS · ROWS · 4 bytes. Registers: about 2 · 16 + ROWS + 12. Features: none.
// Roundings on the longest path of a sum: ceil(k / 16 / LANES) + log2(LANES) + 14.
//
// Dropped: chunks of 32 codes (x is then read 128 bytes apart: 13.7 against 11.1 µs for n = k = 4096 on an H200) and
// of 8 (a scale decoded for every eight codes); eight rows a group (too few groups where n is small).

@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> w_codes: array<vec2<u32>>;

var<workgroup> partial: array<f32, LANES * GROUPS * ROWS>;

@compute @workgroup_size(LANES, GROUPS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_id) local: vec3<u32>,
) {
  let lane = local.x;
  let group = local.y;
  let first_col = ((workgroup.y * grid.x + workgroup.x) * GROUPS + group) * ROWS;
  let chunks = problem.k / 16u;
  let x_start = workgroup.z * (problem.k / 4u);

  var sums: array<f32, ROWS>;
  let steps = (chunks + LANES - 1u) / LANES;
  for (var step = 0u; step < steps; step++) {
    let chunk = step * LANES + lane;
    if (chunk < chunks) {
      let x0 = x[x_start + 4u * chunk];
      let x1 = x[x_start + 4u * chunk + 1u];
      let x2 = x[x_start + 4u * chunk + 2u];
      let x3 = x[x_start + 4u * chunk + 3u];
      let block = chunk / (BLOCK_SIZE / 16u);
      for (var r = 0u; r < ROWS; r++) {
        // Columns past the edge repeat the last one; they are not stored.
        let col = min(first_col + r, problem.n - 1u);
        let codes = w_codes[col * chunks + chunk];
        let low = dequant8(codes.x);
        let high = dequant8(codes.y);
        let products = low[0] * x0 + low[1] * x1 + high[0] * x2 + high[1] * x3;
        let scale = block_scale(col, block) * macro_scale(col, block);
        sums[r] += scale * (products.x + products.y + products.z + products.w);
      }
    }
  }

  let slot = group * LANES + lane;
  for (var r = 0u; r < ROWS; r++) {
    partial[r * LANES * GROUPS + slot] = sums[r];
  }
  for (var half = LANES / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (lane < half) {
      for (var r = 0u; r < ROWS; r++) {
        partial[r * LANES * GROUPS + slot] += partial[r * LANES * GROUPS + slot + half];
      }
    }
  }
  workgroupBarrier();
  // The group's first lanes write one column each.
  for (var r = lane; r < ROWS; r += LANES) {
    if (first_col + r < problem.n) {
      epilogue(partial[r * LANES * GROUPS + group * LANES], workgroup.z, first_col + r);
    }
  }
}
