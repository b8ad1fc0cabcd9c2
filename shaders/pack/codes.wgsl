// E2M1 codes from canonical to kernel order, which src/matrix/pack.ts draws.
//
// canonical u32[rows, k / 8], code i of a word in bits 4i..4i+3, read in pairs as k is a multiple of sixteen
// packed    vec4<u32>[blocks of 32 rows, chunks of 32 codes, 32], rows and chunks filled up with zeros
//
// A thread makes a chunk, 64 threads those of eight rows and eight places along k, so that both sides are read and
// written in pieces of 128 bytes. Shared: none. Features: none.

@group(0) @binding(1) var<storage, read> canonical: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> packed: array<vec4<u32>>;

// Codes 2p and 2p + 1 first move to the low and the high half. Those of two p fit beside one another: 0 and 1 below, in
// bits 0..3 and 8..11 of each half, 2 and 3 above. Each then takes one mask and one shift for values, one for signs.
fn pack_words(words: vec4<u32>) -> vec4<u32> {
  let low = words & vec4<u32>(0xFFFFu);
  let high = words >> vec4<u32>(16u);
  let below = (low | (low << vec4<u32>(12u))) & vec4<u32>(0x0F0F0F0Fu);
  let above = (high | (high << vec4<u32>(12u))) & vec4<u32>(0x0F0F0F0Fu);
  return ((below & vec4<u32>(0x00070007u)) << vec4<u32>(9u)) |
    ((below & vec4<u32>(0x07000700u)) >> vec4<u32>(2u)) |
    ((above & vec4<u32>(0x00070007u)) << vec4<u32>(3u)) |
    ((above & vec4<u32>(0x07000700u)) >> vec4<u32>(8u)) |
    ((below & vec4<u32>(0x00080008u)) << vec4<u32>(12u)) |
    ((below & vec4<u32>(0x08000800u)) << vec4<u32>(1u)) |
    ((above & vec4<u32>(0x00080008u)) << vec4<u32>(11u)) |
    ((above & vec4<u32>(0x08000800u)) << vec4<u32>(2u));
}

@compute @workgroup_size(WORKGROUP)
fn main(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) grid: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let at = (workgroup.y * grid.x + workgroup.x) * WORKGROUP + thread;
  let chunks = problem.to_width;
  let patches = (chunks + 7u) / 8u;
  let row = at / 64u / patches * 8u + at / 8u % 8u;
  let chunk = at / 64u % patches * 8u + at % 8u;
  if (row >= (problem.rows + 31u) / 32u * 32u || chunk >= chunks) {
    return;
  }
  var words = vec4<u32>();
  if (row < problem.rows) {
    let first = problem.first_word / 2u + row * problem.from_width + 2u * chunk;
    words = vec4<u32>(canonical[first], 0u, 0u);
    if (2u * chunk + 1u < problem.from_width) {
      words = vec4<u32>(words.xy, canonical[first + 1u]);
    }
  }
  packed[(row / 32u * chunks + chunk) * 32u + row % 32u] = pack_words(words);
}
