// Causal attention with grouped queries for many new tokens: y = softmax(q · kᵀ / sqrt(HEAD_DIM)) · v over all keys up to
// the query's own position, HEADS / KV_HEADS query heads on each key head. The softmax is streamed (arXiv 1805.02867): sums
// are kept relative to the largest score so far and scaled down when a larger one comes.
//
// q, y  f32[sequences, length, HEADS, HEAD_DIM]     keys, values  f32[sequences, KV_HEADS, capacity, HEAD_DIM]
//
// A workgroup takes 32 queries of one head and one sequence, and goes over the keys 32 at a time, the dimensions 32 at a
// time. Eight threads share a query: for scores each takes four keys, for y a vec4 of every 32 dimensions.
// The grid is (ceil(length / 32), HEADS, sequences). Shared: 14 KiB. Registers: CHUNKS vec4s of y. Composed with
// shape.wgsl; CHUNKS = ceil(HEAD_DIM / 32), and HEAD_DIM is a multiple of 4. No features.

@group(0) @binding(1) var<storage, read> q: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> keys: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> values: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

const TILE = 32u;
const DIM4 = HEAD_DIM / 4u;
const SCALE = inverseSqrt(f32(HEAD_DIM));
// Below every score; exp of what is below it is 0.
const MASKED = -3.0e38;

// A vec4 to spare in each row against bank conflicts.
var<workgroup> q_tile: array<array<vec4<f32>, 9>, TILE>;
// Keys, then values.
var<workgroup> kv_tile: array<array<vec4<f32>, 9>, TILE>;
var<workgroup> weights: array<array<f32, 33>, TILE>;
var<workgroup> parts: array<array<f32, 8>, TILE>;

@compute @workgroup_size(256)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let row = thread / 8u;
  let lane = thread % 8u;
  let head = workgroup.y;
  let sequence = workgroup.z;
  let query = workgroup.x * TILE + row;
  let is_query = query < shape.length;
  let q_base = ((sequence * shape.length + query) * HEADS + head) * DIM4;
  let kv_base = (sequence * KV_HEADS + head / (HEADS / KV_HEADS)) * shape.capacity * DIM4;
  let position = shape.past + query;
  // Keys that some query of the tile sees.
  let key_count = shape.past + min(workgroup.x * TILE + TILE, shape.length);

  var largest = MASKED;
  var total = 0.0;
  // repeat c < CHUNKS
  var sums$c = vec4<f32>();
  // end repeat
  for (var first_key = 0u; first_key < key_count; first_key += TILE) {
    var scores = vec4<f32>();
    for (var chunk = 0u; chunk < CHUNKS; chunk++) {
      let dim = chunk * 8u + lane;
      var from_q = vec4<f32>();
      var from_k = vec4<f32>();
      if (dim < DIM4) {
        if (is_query) {
          from_q = q[q_base + dim];
        }
        if (first_key + row < key_count) {
          from_k = keys[kv_base + (first_key + row) * DIM4 + dim];
        }
      }
      workgroupBarrier();
      q_tile[row][lane] = from_q;
      kv_tile[row][lane] = from_k;
      workgroupBarrier();
      for (var i = 0u; i < 8u; i++) {
        let part = q_tile[row][i];
        scores += vec4<f32>(
          dot(part, kv_tile[lane][i]),
          dot(part, kv_tile[lane + 8u][i]),
          dot(part, kv_tile[lane + 16u][i]),
          dot(part, kv_tile[lane + 24u][i]),
        );
      }
    }
    let key = vec4<u32>(first_key + lane) + vec4<u32>(0u, 8u, 16u, 24u);
    scores = select(vec4<f32>(MASKED), scores * SCALE, key <= vec4<u32>(position));
    parts[row][lane] = max(max(scores.x, scores.y), max(scores.z, scores.w));
    workgroupBarrier();
    var tile_largest = parts[row][0];
    // repeat i < 7
    tile_largest = max(tile_largest, parts[row][$i + 1]);
    // end repeat
    let now_largest = max(largest, tile_largest);
    let shrink = exp(largest - now_largest);
    largest = now_largest;
    let exps = exp(scores - now_largest);
    weights[row][lane] = exps.x;
    weights[row][lane + 8u] = exps.y;
    weights[row][lane + 16u] = exps.z;
    weights[row][lane + 24u] = exps.w;
    workgroupBarrier();
    var tile_total = 0.0;
    for (var i = 0u; i < TILE; i++) {
      tile_total += weights[row][i];
    }
    total = total * shrink + tile_total;
    // repeat c < CHUNKS
    {
      let dim = $cu * 8u + lane;
      var from_v = vec4<f32>();
      if (dim < DIM4 && first_key + row < key_count) {
        from_v = values[kv_base + (first_key + row) * DIM4 + dim];
      }
      workgroupBarrier();
      kv_tile[row][lane] = from_v;
      workgroupBarrier();
      sums$c *= shrink;
      for (var i = 0u; i < TILE; i++) {
        sums$c += weights[row][i] * kv_tile[i][lane];
      }
    }
    // end repeat
  }
  if (is_query) {
    // repeat c < CHUNKS
    if ($cu * 8u + lane < DIM4) {
      y[q_base + $cu * 8u + lane] = sums$c / total;
    }
    // end repeat
  }
}
