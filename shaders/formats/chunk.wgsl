// A chunk of a row of weights on its way from memory: codes, and scales as words that it shares with other rows, cut when
// they are used: cutting them at once would wait for them.

@group(0) @binding(2) var<storage, read> w_codes: array<vec4<u32>>;

struct Chunk {
  codes: vec4<u32>,
  scales: ScaleWords,
}

fn load_chunk(row: u32, chunk: u32) -> Chunk {
  return Chunk(w_codes[chunk_index(row, chunk)], load_scale_words(row / 32u, chunk, row % 8u));
}
