// Subgroup matrices in registers: each subgroup multiplies 2 × 4 fragments STEPS times into eight sums.
// COMPONENT and RESULT are the types of operands and sums; STRIDE is a row of MMA_K operands in units of eight bytes.
// Features: subgroups, chromium-experimental-subgroup-matrix.

@group(0) @binding(0) var<storage, read> operands: array<vec2<u32>>;
@group(0) @binding(1) var<storage, read_write> y: array<RESULT>;

alias Left = subgroup_matrix_left<COMPONENT, MMA_K, MMA_M>;
alias Right = subgroup_matrix_right<COMPONENT, MMA_N, MMA_K>;
alias Sum = subgroup_matrix_result<RESULT, MMA_N, MMA_M>;

const SUBGROUPS = 4u;

@compute @workgroup_size(SUBGROUPS * SUBGROUP_SIZE)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let left0 = subgroupMatrixLoad<Left, row_major>(&operands, 0u, STRIDE);
  let left1 = subgroupMatrixLoad<Left, row_major>(&operands, 64u, STRIDE);
  let right0 = subgroupMatrixLoad<Right, col_major>(&operands, 128u, STRIDE);
  let right1 = subgroupMatrixLoad<Right, col_major>(&operands, 192u, STRIDE);
  let right2 = subgroupMatrixLoad<Right, col_major>(&operands, 256u, STRIDE);
  let right3 = subgroupMatrixLoad<Right, col_major>(&operands, 320u, STRIDE);
  var s00 = Sum();
  var s01 = Sum();
  var s02 = Sum();
  var s03 = Sum();
  var s10 = Sum();
  var s11 = Sum();
  var s12 = Sum();
  var s13 = Sum();
  for (var i = 0u; i < STEPS; i++) {
    s00 = subgroupMatrixMultiplyAccumulate(left0, right0, s00);
    s01 = subgroupMatrixMultiplyAccumulate(left0, right1, s01);
    s02 = subgroupMatrixMultiplyAccumulate(left0, right2, s02);
    s03 = subgroupMatrixMultiplyAccumulate(left0, right3, s03);
    s10 = subgroupMatrixMultiplyAccumulate(left1, right0, s10);
    s11 = subgroupMatrixMultiplyAccumulate(left1, right1, s11);
    s12 = subgroupMatrixMultiplyAccumulate(left1, right2, s12);
    s13 = subgroupMatrixMultiplyAccumulate(left1, right3, s13);
  }
  // All sums are stored, the later over the earlier: none may be left out.
  let at = (workgroup.x * SUBGROUPS + thread / SUBGROUP_SIZE) * MMA_M * MMA_N;
  subgroupMatrixStore<row_major>(&y, at, s00, MMA_N);
  subgroupMatrixStore<row_major>(&y, at, s01, MMA_N);
  subgroupMatrixStore<row_major>(&y, at, s02, MMA_N);
  subgroupMatrixStore<row_major>(&y, at, s03, MMA_N);
  subgroupMatrixStore<row_major>(&y, at, s10, MMA_N);
  subgroupMatrixStore<row_major>(&y, at, s11, MMA_N);
  subgroupMatrixStore<row_major>(&y, at, s12, MMA_N);
  subgroupMatrixStore<row_major>(&y, at, s13, MMA_N);
}
