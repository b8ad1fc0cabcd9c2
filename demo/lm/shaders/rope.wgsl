// Rotary position embedding (RoFormer, arXiv 2104.09864), in the pairs (i, i + HEAD_DIM / 2) that checkpoints for
// Transformers use: (a, b) becomes (a cos - b sin, a sin + b cos). q is rotated where it is; k is rotated into the cache,
// and v copied. A thread takes a pair.
//
// table  f32[capacity, HEAD_DIM / 2, 2]: cosine and sine by position
// q  f32[sequences, length, HEADS, HEAD_DIM]     k, v  f32[sequences, length, KV_HEADS, HEAD_DIM]
// keys, values  f32[sequences, KV_HEADS, capacity, HEAD_DIM]
// The grid is one thread for each pair of q, k and v, folded over two dimensions. Composed with shape.wgsl. No features.

@group(0) @binding(1) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> q: array<f32>;
@group(0) @binding(3) var<storage, read> k: array<f32>;
@group(0) @binding(4) var<storage, read> v: array<f32>;
@group(0) @binding(5) var<storage, read_write> keys: array<f32>;
@group(0) @binding(6) var<storage, read_write> values: array<f32>;

const THREADS = 64u;
const PAIRS = HEAD_DIM / 2u;
const ALL_HEADS = HEADS + 2u * KV_HEADS;

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = (workgroup.y * grid.x + workgroup.x) * THREADS + thread;
  let pair = index % PAIRS;
  let head = index / PAIRS % ALL_HEADS;
  let row = index / (PAIRS * ALL_HEADS);
  if (row >= shape.sequences * shape.length) {
    return;
  }
  let position = shape.past + row % shape.length;
  let turn = table[position * PAIRS + pair];
  if (head < HEADS) {
    let at = (row * HEADS + head) * HEAD_DIM + pair;
    let rotated = rotate(q[at], q[at + PAIRS], turn);
    q[at] = rotated.x;
    q[at + PAIRS] = rotated.y;
    return;
  }
  let kv_head = (head - HEADS) % KV_HEADS;
  let source = (row * KV_HEADS + kv_head) * HEAD_DIM + pair;
  let sequence = row / shape.length;
  let place = ((sequence * KV_HEADS + kv_head) * shape.capacity + position) * HEAD_DIM + pair;
  if (head < HEADS + KV_HEADS) {
    let rotated = rotate(k[source], k[source + PAIRS], turn);
    keys[place] = rotated.x;
    keys[place + PAIRS] = rotated.y;
  } else {
    values[place] = v[source];
    values[place + PAIRS] = v[source + PAIRS];
  }
}

fn rotate(a: f32, b: f32, turn: vec2<f32>) -> vec2<f32> {
  return vec2<f32>(a * turn.x - b * turn.y, a * turn.y + b * turn.x);
}
