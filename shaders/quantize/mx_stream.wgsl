// MXFP4 with 1d tiles in one pass: macro factors (factor_*.wgsl), block scales and codes of x f32[rows, cols].
//
// codes   u8[rows, cols / 2]
// scales  u8[rows, cols / BLOCK_SIZE]
// factors u8[rows, ceil(cols / MACRO_SIZE)], with MACRO_SIZE > 0
//
// A thread takes sixteen neighbouring values, which lie in one block; what is decided once a block or macro block is
// computed by each of its threads. Maxima meet by maxima_*.wgsl, bytes of scales and factors become words by
// bytes_*.wgsl. As rounding is monotonic, the largest magnitude of the scaled block is the scaled largest magnitude.
// The matrix is one long row where rows are whole macro blocks, or there are none; else (COLS > 0, the columns: divisions
// by it are by a constant) each row takes as many threads as whole macro blocks would.
//
// A block with NaN or Inf gets scale byte 255 and codes 0; a macro block with one has factor byte 0.
//
// Tried on an NVIDIA H200 for 16384 × 4096 values, µs for plain 'oas' and with static factors of 128, where a copy of
// the same bytes takes 74.3: this by shuffles 83.4 and 101.1; a thread for eight values, through workgroup memory, 95
// and 125; for thirty-two, by shuffles, 86 and 110, through workgroup memory 86 and 115; codes as sums of clamped
// multiply-adds in place of comparisons, 84.4 and 103. For 23300 × 2880, static, where rows are not whole macro
// blocks: 111; with divisions by a variable 128 (a copy: 74).
//
// Shared, features: those of the modules. Registers: 16 values, 8 thresholds.

const BLOCK_THREADS = BLOCK_SIZE / 16u;
const MACRO_THREADS = max(MACRO_SIZE / 16u, 1u);
const RAGGED = COLS > 0u;
// Threads that take a row, some of them past its end, where RAGGED.
const ROW_THREADS = max((COLS / 16u + MACRO_THREADS - 1u) / MACRO_THREADS, 1u) * MACRO_THREADS;
const TURNS = false;

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let group = workgroup.y * grid.x + workgroup.x;
  var unit = group * WORKGROUP + thread;
  var present = unit < problem.rows * (problem.cols / 16u);
  if (RAGGED) {
    let row = unit / ROW_THREADS;
    let column = unit % ROW_THREADS;
    present = row < problem.rows && column < COLS / 16u;
    unit = row * (COLS / 16u) + column;
  }

  var values = Values();
  if (present) {
    values = load_values(unit);
  }
  let largest = block_maximum(thread, largest_magnitude(values));
  let finite = largest < F32_INFINITY;
  var factor = 0u;
  var scaled_largest = largest;
  if (MACRO_SIZE > 0u) {
    factor = choose_factor(values, largest, thread);
    scaled_largest = scale_up(largest, factor);
  }
  let byte = select(255u, mx_scale_byte(scaled_largest, problem.bump), finite);

  if (present) {
    var packed = vec2<u32>();
    if (!finite) {
      report_values(values, unit);
    } else if (largest > 0u) {
      let encoder = mx_encoder(factor, byte);
      packed.x = encode_word(values.a, encoder, 2u * unit);
      packed.y = encode_word(values.b, encoder, 2u * unit + 1u);
    }
    codes[unit] = packed;
  }
  store_bytes(group, thread, present, byte, factor);
}
