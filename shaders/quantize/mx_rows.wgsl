// MXFP4 with 1d tiles in one pass: macro factors (static, or none), block scales and codes of x f32[rows, cols].
//
// codes   u8[rows, cols / 2], eight codes to a word
// scales  u8[rows, cols / BLOCK_SIZE]
// factors u8[rows, ceil(cols / MACRO_SIZE)], with MACRO_SIZE > 0
//
// A thread loads eight values and writes one word of codes; maxima meet in workgroup memory, first those of a block,
// then those of a macro block. As rounding is monotonic, the largest magnitude of the scaled block is the scaled largest
// magnitude. The matrix is one long row where rows are whole macro blocks, or there are none; else (RAGGED) each row
// takes as many threads as whole macro blocks would. Bytes of scales are written as whole words, but for the ends of
// what a workgroup has, which it may share with its neighbours.
//
// A block with NaN or Inf gets scale byte 255 and codes 0; a macro block with one has factor byte 0.
//
// Shared: WORKGROUP · (1 + 16 / BLOCK_SIZE + 8 / MACRO_SIZE) · 4 bytes. Features: none.

@group(0) @binding(2) var<storage, read_write> codes: array<u32>;

const BLOCK_THREADS = BLOCK_SIZE / 8u;
const MACRO_THREADS = max(MACRO_SIZE, 8u) / 8u;

var<workgroup> maxima: array<u32, WORKGROUP>;
var<workgroup> block_maxima: array<u32, WORKGROUP / BLOCK_THREADS>;
var<workgroup> block_bytes: array<u32, WORKGROUP / BLOCK_THREADS>;
var<workgroup> macro_bytes: array<u32, WORKGROUP / MACRO_THREADS>;

// Threads that take a row, some of them past its end, where RAGGED.
fn threads_per_row() -> u32 {
  return (problem.cols / 8u + MACRO_THREADS - 1u) / MACRO_THREADS * MACRO_THREADS;
}

// Blocks of the matrix that the threads before `thread`, the first of a block, take.
fn blocks_before(thread: u32) -> u32 {
  let per_row = problem.cols / BLOCK_SIZE;
  var blocks = thread / BLOCK_THREADS;
  if (RAGGED) {
    let row = thread / threads_per_row();
    blocks = row * per_row + min(thread % threads_per_row() / BLOCK_THREADS, per_row);
  }
  return min(blocks, problem.rows * per_row);
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let group = workgroup.y * grid.x + workgroup.x;
  let words_per_row = problem.cols / 8u;
  var word = group * WORKGROUP + thread;
  var present = word < problem.rows * words_per_row;
  if (RAGGED) {
    let row = word / threads_per_row();
    let column = word % threads_per_row();
    present = row < problem.rows && column < words_per_row;
    word = row * words_per_row + column;
  }

  var values: Eight;
  if (present) {
    values = load8(word);
  }
  let pairs = max(values.low & vec4<u32>(F32_MAGNITUDE), values.high & vec4<u32>(F32_MAGNITUDE));
  maxima[thread] = max(max(pairs.x, pairs.y), max(pairs.z, pairs.w));
  workgroupBarrier();

  let block = thread / BLOCK_THREADS;
  var largest = 0u;
  for (var i = 0u; i < BLOCK_THREADS; i++) {
    largest = max(largest, maxima[block * BLOCK_THREADS + i]);
  }
  let finite = largest < F32_INFINITY;
  let macro_block = thread / MACRO_THREADS;
  var factor = 0u;
  var scaled_largest = largest;
  if (MACRO_SIZE > 0u) {
    if (thread % BLOCK_THREADS == 0u) {
      block_maxima[block] = largest;
    }
    workgroupBarrier();
    const BLOCKS = MACRO_THREADS / BLOCK_THREADS;
    var macro_largest = 0u;
    for (var i = 0u; i < BLOCKS; i++) {
      macro_largest = max(macro_largest, block_maxima[macro_block * BLOCKS + i]);
    }
    factor = static_factor(macro_largest);
    scaled_largest = scale_up(largest, factor);
  }
  let byte = select(255u, mx_scale_byte(scaled_largest, problem.bump), finite);

  if (present) {
    var packed = 0u;
    if (!finite) {
      report_non_finite(values, word);
    } else if (largest > 0u) {
      packed = mx_codes(values, factor, byte, word);
    }
    codes[word] = packed;
  }

  // The bytes of a workgroup's blocks follow each other in the matrix, and so do those of its macro blocks.
  let first = blocks_before(group * WORKGROUP);
  let end = blocks_before(group * WORKGROUP + WORKGROUP);
  if (present && thread % BLOCK_THREADS == 0u) {
    block_bytes[blocks_before(group * WORKGROUP + thread) - first] = byte;
  }
  if (MACRO_SIZE > 0u) {
    if (thread % MACRO_THREADS == 0u) {
      macro_bytes[macro_block] = factor;
    }
  }
  workgroupBarrier();
  if (thread <= WORKGROUP / BLOCK_THREADS / 4u) {
    let slot = first / 4u + thread;
    var bytes = 0u;
    var mask = 0u;
    for (var i = 0u; i < 4u; i++) {
      let index = 4u * slot + i;
      if (index >= first && index < end) {
        bytes |= block_bytes[index - first] << (8u * i);
        mask |= 255u << (8u * i);
      }
    }
    store_scales(slot, bytes, mask);
  }
  if (MACRO_SIZE > 0u) {
    const FACTOR_WORDS = WORKGROUP / MACRO_THREADS / 4u;
    if (thread < FACTOR_WORDS) {
      let slot = group * FACTOR_WORDS + thread;
      let macros = problem.rows * ((words_per_row + MACRO_THREADS - 1u) / MACRO_THREADS);
      var bytes = 0u;
      var mask = 0u;
      for (var i = 0u; i < 4u; i++) {
        if (4u * slot + i < macros) {
          bytes |= macro_bytes[4u * thread + i] << (8u * i);
          mask |= 255u << (8u * i);
        }
      }
      store_factors(slot, bytes, mask);
    }
  }
}
