// Attention as attention.wgsl computes it, for one new token of each sequence: a workgroup a head of a sequence. Keys are
// taken THREADS at a time: a thread first has a score each, then sums of a vec4 of dimensions over some of the keys.
//
// The grid is (1, HEADS, sequences). Shared: about 3.5 KiB. Composed with shape.wgsl; HEAD_DIM is a multiple of 4, 512 at
// most. No features.

@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> keys: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

const THREADS = 128u;
const DIM4 = HEAD_DIM / 4u;
// Threads of a group have a vec4 of y each, and every GROUPS-th key.
const GROUPS = THREADS / DIM4;
const SCALE = inverseSqrt(f32(HEAD_DIM));
// Below every score; exp of what is below it is 0.
const MASKED = -3.0e38;

var<workgroup> query: array<vec4<f32>, DIM4>;
var<workgroup> weights: array<f32, THREADS>;
var<workgroup> parts: array<f32, THREADS>;
var<workgroup> sums_of: array<vec4<f32>, THREADS>;

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let head = workgroup.y;
  let sequence = workgroup.z;
  let q_base = (sequence * HEADS + head) * DIM4;
  let kv_base = (sequence * KV_HEADS + head / (HEADS / KV_HEADS)) * shape.capacity * DIM4;
  let key_count = shape.past + 1u;
  let dim = thread % DIM4;
  let group = thread / DIM4;
  if (thread < DIM4) {
    query[thread] = q[q_base + thread] * SCALE;
  }
  workgroupBarrier();
  var largest = MASKED;
  var total = 0.0;
  var sums = vec4<f32>();
  for (var first_key = 0u; first_key < key_count; first_key += THREADS) {
    let key = first_key + thread;
    var score = MASKED;
    if (key < key_count) {
      score = 0.0;
      for (var i = 0u; i < DIM4; i++) {
        score += dot(query[i], keys[kv_base + key * DIM4 + i]);
      }
    }
    parts[thread] = score;
    workgroupBarrier();
    for (var width = THREADS / 2u; width > 0u; width /= 2u) {
      if (thread < width) {
        parts[thread] = max(parts[thread], parts[thread + width]);
      }
      workgroupBarrier();
    }
    let now_largest = max(largest, parts[0]);
    let shrink = exp(largest - now_largest);
    largest = now_largest;
    weights[thread] = exp(score - now_largest);
    workgroupBarrier();
    let count = min(THREADS, key_count - first_key);
    total *= shrink;
    sums *= shrink;
    if (group < GROUPS) {
      for (var i = group; i < count; i += GROUPS) {
        sums += weights[i] * values[kv_base + (first_key + i) * DIM4 + dim];
        total += weights[i];
      }
    }
    workgroupBarrier();
  }
  sums_of[thread] = sums;
  parts[thread] = total;
  workgroupBarrier();
  if (thread < DIM4) {
    // A group's threads have the same weights.
    for (var other = 1u; other < GROUPS; other++) {
      sums += sums_of[other * DIM4 + thread];
      total += parts[other * DIM4 + thread];
    }
    y[q_base + thread] = sums / total;
  }
}
