// Codes of eight values, rounded to nearest or (STOCHASTIC) at random.

// Codes of the grid values around each magnitude: the upper one with probability floor(256 · fraction) / 256, decided
// by a random byte each.
fn stochastic4(t: vec4<i32>, bytes: vec4<u32>) -> vec4<u32> {
  let field = t >> vec4<u32>(23u);
  let significand = vec4<u32>((t & vec4<i32>(0x007FFFFF)) | vec4<i32>(0x00800000));
  // 256ths of a grid step, from 0 in [0, 2), where steps are 0.5, and from the binade's start less two or four steps
  // above, where they are 1 and 2.
  let shift = vec4<u32>(min(vec4<i32>(14) + max(vec4<i32>(127) - field, vec4<i32>(0)), vec4<i32>(31)));
  let base = vec4<u32>(max(field - vec4<i32>(127), vec4<i32>(0))) * 2u;
  let codes = base + (((significand >> shift) + bytes) >> vec4<u32>(8u));
  return select(codes, vec4<u32>(7u), t >= vec4<i32>(0x40C00000));
}

// Threefry-2x32 with 20 rounds of the counter (counter, 0) under the seed: a random byte for each of eight elements.
fn random_words(seed_low: u32, seed_high: u32, counter: u32) -> vec2<u32> {
  let key = array<u32, 3>(seed_low, seed_high, seed_low ^ seed_high ^ 0x1BD11BDAu);
  var a = counter + key[0];
  var b = key[1];
  for (var group = 0u; group < 5u; group++) {
    let even = (group & 1u) == 0u;
    let rotations = select(vec4<u32>(17u, 29u, 16u, 24u), vec4<u32>(13u, 15u, 26u, 6u), even);
    a += b;
    b = ((b << rotations.x) | (b >> (32u - rotations.x))) ^ a;
    a += b;
    b = ((b << rotations.y) | (b >> (32u - rotations.y))) ^ a;
    a += b;
    b = ((b << rotations.z) | (b >> (32u - rotations.z))) ^ a;
    a += b;
    b = ((b << rotations.w) | (b >> (32u - rotations.w))) ^ a;
    // Words group + 1 and group + 2 of the key, modulo 3.
    let turn = (group + 1u) % 3u;
    a += select(select(key[2], key[1], turn == 1u), key[0], turn == 0u);
    b += select(select(key[0], key[2], turn == 1u), key[1], turn == 0u) + group + 1u;
  }
  return vec2<u32>(a, b);
}

// Codes 0..7 with the signs of the values, packed into a word, the first in the lowest nibble.
fn pack8(values: Eight, low: vec4<u32>, high: vec4<u32>) -> u32 {
  let a = low | ((values.low >> vec4<u32>(28u)) & vec4<u32>(8u));
  let b = high | ((values.high >> vec4<u32>(28u)) & vec4<u32>(8u));
  return a.x | (a.y << 4u) | (a.z << 8u) | (a.w << 12u) |
    (b.x << 16u) | (b.y << 20u) | (b.z << 24u) | (b.w << 28u);
}

// Codes of eight values, packed: `low` and `high` are their wide magnitudes after scaling, `values` their bits.
fn encode8(values: Eight, low: vec4<i32>, high: vec4<i32>, word: u32) -> u32 {
  if (STOCHASTIC) {
    let random = random_words(problem.seed_low, problem.seed_high, word);
    let shifts = vec4<u32>(0u, 8u, 16u, 24u);
    return pack8(
      values,
      stochastic4(low, (vec4<u32>(random.x) >> shifts) & vec4<u32>(255u)),
      stochastic4(high, (vec4<u32>(random.y) >> shifts) & vec4<u32>(255u)),
    );
  }
  return pack8(values, nearest4(low), nearest4(high));
}
