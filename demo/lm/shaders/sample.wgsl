// The next token of a sequence: the one with the largest logit, or one drawn with probability exp(logit / temperature) by
// the Gumbel-max trick: the largest of logit / temperature + noise. With `top_k` only that many of the largest logits can
// be drawn. It goes where the next pass reads its token, and into a history.
//
// logits  f32[VOCABULARY]     token  u32[1]     history  u32[steps]
// One workgroup. Equal values go to the smaller token. Shared: 3 KiB. No features.

struct Draw {
  step: u32,
  seed: u32,
  // 1 / temperature; 0 for the largest logit, and then no noise.
  sharpness: f32,
  // 0 for all.
  top_k: u32,
}
@group(0) @binding(0) var<uniform> draw: Draw;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read_write> token: array<u32>;
@group(0) @binding(3) var<storage, read_write> history: array<u32>;

const THREADS = 256u;
const LOWEST = -3.0e38;
var<workgroup> counts: array<u32, THREADS>;
var<workgroup> values: array<f32, THREADS>;
var<workgroup> places: array<u32, THREADS>;

@compute @workgroup_size(THREADS)
fn main(@builtin(local_invocation_index) thread: u32) {
  var least = 0u;
  if (draw.top_k > 0u) {
    // The largest bound that at least top_k logits reach, bit by bit.
    for (var bit = 32u; bit > 0u; bit--) {
      let bound = least | (1u << (bit - 1u));
      var count = 0u;
      for (var i = thread; i < VOCABULARY; i += THREADS) {
        count += u32(ordered(logits[i]) >= bound);
      }
      if (total(count, thread) >= draw.top_k) {
        least = bound;
      }
    }
  }
  var best = LOWEST;
  var place = 0u;
  for (var i = thread; i < VOCABULARY; i += THREADS) {
    var value = logits[i];
    if (ordered(value) < least) {
      continue;
    }
    if (draw.sharpness > 0.0) {
      value = value * draw.sharpness + gumbel(i);
    }
    if (value > best) {
      best = value;
      place = i;
    }
  }
  values[thread] = best;
  places[thread] = place;
  workgroupBarrier();
  for (var width = THREADS / 2u; width > 0u; width /= 2u) {
    if (thread < width) {
      let other = values[thread + width];
      let other_place = places[thread + width];
      if (other > values[thread] || (other == values[thread] && other_place < places[thread])) {
        values[thread] = other;
        places[thread] = other_place;
      }
    }
    workgroupBarrier();
  }
  if (thread == 0u) {
    token[0] = places[0];
    history[draw.step] = places[0];
  }
}

// Floats as integers in the same order.
fn ordered(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  return select(bits | 0x80000000u, ~bits, bits >= 0x80000000u);
}

// The sum over the workgroup, for every thread.
fn total(count: u32, thread: u32) -> u32 {
  workgroupBarrier();
  counts[thread] = count;
  workgroupBarrier();
  for (var width = THREADS / 2u; width > 0u; width /= 2u) {
    if (thread < width) {
      counts[thread] += counts[thread + width];
    }
    workgroupBarrier();
  }
  return workgroupUniformLoad(&counts[0]);
}

// -log(-log(u)), u uniform in (0, 1), by the seed, the step and the token.
fn gumbel(i: u32) -> f32 {
  let bits = hash(i ^ hash(draw.step ^ hash(draw.seed)));
  let u = (f32(bits >> 9u) + 0.5) / 8388608.0;
  return -log(-log(u));
}

// PCG-RXS-M-XS of 32 bits (Jarzynski and Olano, JCGT 2020).
fn hash(seed: u32) -> u32 {
  let state = seed * 747796405u + 2891336453u;
  let word = ((state >> ((state >> 28u) + 4u)) ^ state) * 277803737u;
  return (word >> 22u) ^ word;
}
