// Causal attention with grouped queries for many new tokens: y = softmax(q · kᵀ / sqrt(HEAD_DIM)) · v over all keys up to
// the query's own position, HEADS / KV_HEADS query heads on each key head. The softmax is streamed (arXiv 1805.02867): sums
// are kept relative to the largest score so far and scaled down when a larger one comes.
//
// q, y  f32[sequences, length, HEADS, HEAD_DIM]     keys, values  f32[sequences, KV_HEADS, capacity, HEAD_DIM]
//
// A workgroup takes 32 queries of one head and one sequence, and goes over the keys 32 at a time. Eight threads share a
// query for its scores, four keys each, with the dimensions 32 at a time in workgroup memory. For y a thread has a vec4 of
// dimensions of ROWS queries, GROUPS apart, so that it reads a vec4 of a value once for all of them.
// The grid is (ceil(length / 32), HEADS, sequences). Shared: 14.2 KiB. Registers: ROWS vec4s of y. Composed with
// shape.wgsl. CHUNKS = ceil(HEAD_DIM / 32), GROUPS = floor(256 / (HEAD_DIM / 4)), ROWS = ceil(32 / GROUPS); HEAD_DIM is a
// multiple of 4, 512 at most. No features.
// Tried: y in chunks of 32 dimensions with values in workgroup memory. It has two barriers more a chunk, and takes LLVM
// twenty seconds to compile for heads of 128.

@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> keys: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

const TILE = 32u;
const DIM4 = HEAD_DIM / 4u;
const SCALE = inverseSqrt(f32(HEAD_DIM));
// Below every score; exp of what is below it is 0.
const MASKED = -3.0e38;

// A value to spare in each row against bank conflicts.
var<workgroup> q_tile: array<array<vec4<f32>, 9>, TILE>;
var<workgroup> k_tile: array<array<vec4<f32>, 9>, TILE>;
var<workgroup> weights: array<array<f32, 33>, TILE>;
// What eight threads have of a query.
var<workgroup> parts: array<array<f32, 8>, TILE>;
var<workgroup> shrinks: array<f32, TILE>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let head = workgroup.y;
  let sequence = workgroup.z;
  let first_query = workgroup.x * TILE;
  let kv_base = (sequence * KV_HEADS + head / (HEADS / KV_HEADS)) * shape.capacity * DIM4;
  // Keys that some query of the tile sees.
  let key_count = shape.past + min(first_query + TILE, shape.length);

  // For scores.
  let row = thread / 8u;
  let lane = thread % 8u;
  let is_query = first_query + row < shape.length;
  let q_base = ((sequence * shape.length + first_query + row) * HEADS + head) * DIM4;
  let position = shape.past + first_query + row;
  var largest = MASKED;
  var total = 0.0;

  // For y.
  let dim = thread % DIM4;
  let group = thread / DIM4;
  // repeat r < ROWS
  let row$r = min(group + $ru * GROUPS, TILE - 1u);
  var sums$r = vec4<f32>();
  // end repeat

  for (var first_key = 0u; first_key < key_count; first_key += TILE) {
    var scores = vec4<f32>();
    for (var chunk = 0u; chunk < CHUNKS; chunk++) {
      let at = chunk * 8u + lane;
      var from_q = vec4<f32>();
      var from_k = vec4<f32>();
      if (at < DIM4) {
        if (is_query) {
          from_q = q[q_base + at];
        }
        if (first_key + row < key_count) {
          from_k = keys[kv_base + (first_key + row) * DIM4 + at];
        }
      }
      workgroupBarrier();
      q_tile[row][lane] = from_q;
      k_tile[row][lane] = from_k;
      workgroupBarrier();
      for (var i = 0u; i < 8u; i++) {
        let part = q_tile[row][i];
        scores += vec4<f32>(
          dot(part, k_tile[lane][i]),
          dot(part, k_tile[lane + 8u][i]),
          dot(part, k_tile[lane + 16u][i]),
          dot(part, k_tile[lane + 24u][i]),
        );
      }
    }
    let key = vec4<u32>(first_key + lane) + vec4<u32>(0u, 8u, 16u, 24u);
    scores = select(vec4<f32>(MASKED), scores * SCALE, key <= vec4<u32>(position));
    parts[row][lane] = max(max(scores.x, scores.y), max(scores.z, scores.w));
    workgroupBarrier();
    var now_largest = largest;
    for (var i = 0u; i < 8u; i++) {
      now_largest = max(now_largest, parts[row][i]);
    }
    let shrink = exp(largest - now_largest);
    let exps = exp(scores - now_largest);
    largest = now_largest;
    total = total * shrink + ((exps.x + exps.y) + (exps.z + exps.w));
    weights[row][lane] = exps.x;
    weights[row][lane + 8u] = exps.y;
    weights[row][lane + 16u] = exps.z;
    weights[row][lane + 24u] = exps.w;
    if (lane == 0u) {
      shrinks[row] = shrink;
    }
    workgroupBarrier();
    // repeat r < ROWS
    sums$r *= shrinks[row$r];
    // end repeat
    let count = min(TILE, key_count - first_key);
    for (var i = 0u; i < count; i++) {
      let value = values[kv_base + (first_key + i) * DIM4 + dim];
      // repeat r < ROWS
      sums$r += weights[row$r][i] * value;
      // end repeat
    }
  }
  parts[row][lane] = total;
  workgroupBarrier();
  // repeat r < ROWS
  if (group < GROUPS && group + $ru * GROUPS < TILE && first_query + row$r < shape.length) {
    var all = 0.0;
    for (var i = 0u; i < 8u; i++) {
      all += parts[row$r][i];
    }
    y[((sequence * shape.length + first_query + row$r) * HEADS + head) * DIM4 + dim] = sums$r / all;
  }
  // end repeat
}
