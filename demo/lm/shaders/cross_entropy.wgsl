// losses[row] = log(Σ exp(logits[row])) - logits[row, next token]: the negative log likelihood, in nats, of the token that
// comes next in the sequence; 0 where none does. A workgroup a row: each thread streams its part of the vocabulary, the sum
// relative to the largest logit so far.
//
// logits  f32[rows, VOCABULARY], rows of the pass from `first` on     tokens  u32[m]     losses  f32[m]
// The grid is rows, folded over two dimensions. Shared: 2 KiB. No features.

struct Rows {
  /** Rows of logits, and which row of the pass is their first. */
  rows: u32,
  first: u32,
  /** Tokens of a sequence. */
  length: u32,
}
@group(0) @binding(0) var<uniform> batch: Rows;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> tokens: array<u32>;
@group(0) @binding(3) var<storage, read_write> losses: array<f32>;

const THREADS = 256u;
const LOWEST = -3.0e38;
// The largest logit, and the sum of exp relative to it.
var<workgroup> parts: array<vec2<f32>, THREADS>;

@compute @workgroup_size(THREADS)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let row = workgroup.y * grid.x + workgroup.x;
  if (row >= batch.rows) {
    return;
  }
  let position = batch.first + row;
  if (position % batch.length == batch.length - 1u) {
    if (thread == 0u) {
      losses[position] = 0.0;
    }
    return;
  }
  var largest = LOWEST;
  var total = 0.0;
  for (var i = thread; i < VOCABULARY; i += THREADS) {
    let logit = logits[row * VOCABULARY + i];
    if (logit > largest) {
      total = total * exp(largest - logit) + 1.0;
      largest = logit;
    } else {
      total += exp(logit - largest);
    }
  }
  parts[thread] = vec2<f32>(largest, total);
  workgroupBarrier();
  for (var width = THREADS / 2u; width > 0u; width /= 2u) {
    if (thread < width) {
      let a = parts[thread];
      let b = parts[thread + width];
      let most = max(a.x, b.x);
      parts[thread] = vec2<f32>(most, a.y * exp(a.x - most) + b.y * exp(b.x - most));
    }
    workgroupBarrier();
  }
  if (thread == 0u) {
    let wanted = logits[row * VOCABULARY + tokens[position + 1u]];
    losses[position] = (parts[0].x - wanted) + log(parts[0].y);
  }
}
