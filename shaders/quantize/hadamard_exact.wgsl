// out = x rotated along rows by the 16-wide random Hadamard transform, tile by tile: t · diag(SIGNS) · H16 / 4, with
// the CPU's additions in the CPU's order, each rounded like the CPU's.
//
// x, out: f32[rows, cols] as bits; a thread rotates one tile of sixteen values.
// A value that is not finite, or a sum that overflows, makes all that depends on it NaN or Inf.
// Features: none.

@group(0) @binding(9) var<storage, read_write> rotated: array<vec4<u32>>;

// Signs of TransformerEngine: + + + - + - - - - - - + - + - -; bit i is set where value i is negated.
const HADAMARD_NEGATED = 0xD7E8u;

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let tile = (workgroup.y * grid.x + workgroup.x) * WORKGROUP + thread;
  if (tile >= problem.rows * (problem.cols / 16u)) {
    return;
  }
  var v: array<u32, 16>;
  for (var i = 0u; i < 16u; i++) {
    v[i] = x[4u * tile + i / 4u][i % 4u] ^ (((HADAMARD_NEGATED >> i) & 1u) << 31u);
  }
  for (var stage = 0u; stage < 4u; stage++) {
    let stride = 1u << stage;
    for (var i = 0u; i < 8u; i++) {
      let first = ((i >> stage) << (stage + 1u)) | (i & (stride - 1u));
      let a = v[first];
      let b = v[first + stride];
      v[first] = soft_add(a, b);
      v[first + stride] = soft_add(a, b ^ F32_SIGN);
    }
  }
  const QUARTER = 0x3E800000u;
  for (var i = 0u; i < 4u; i++) {
    rotated[4u * tile + i] = vec4<u32>(
      soft_mul(v[4u * i], QUARTER),
      soft_mul(v[4u * i + 1u], QUARTER),
      soft_mul(v[4u * i + 2u], QUARTER),
      soft_mul(v[4u * i + 3u], QUARTER),
    );
  }
}
