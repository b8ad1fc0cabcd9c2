// x as int8 and its scales.
//
// words   u32[cols / 16, rows, 4]: sixteen values of a row are a vec4, eight and eight as int8_words.wgsl orders them, and
//         neighbouring rows are neighbours
// scales  f32[cols / X_BLOCK, rows]: half of what the integers have to be multiplied by, as those of the weights are
//         doubled values
// rows and cols are m and k filled up to whole tiles; what is past the edges is zero.

struct Conversion {
  m: u32,
  k: u32,
  rows: u32,
  cols: u32,
}

@group(0) @binding(2) var<storage, read_write> words: array<vec4<u32>>;
// As bits, so that NaN passes.
@group(0) @binding(3) var<storage, read_write> scales: array<u32>;

const NAN_BITS = 0x7FC00000u;

struct Place {
  row: u32,
  // Of 32 columns.
  chunk: u32,
  inside: bool,
}

// A thread takes 32 columns of a row; neighbouring threads take neighbouring rows.
fn place_of(index: u32) -> Place {
  let chunk = index / conversion.rows;
  return Place(index % conversion.rows, chunk, chunk < conversion.cols / 32u);
}
