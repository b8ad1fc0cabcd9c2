// What threads bring for the tiles of x and w in each step: pieces of x in order, and of w neighbouring threads take the
// rows of a block, then the chunks of a step, then further blocks: the same chunk of rows LOAD_ROWS apart, and unit `unit`
// of what they load in steps.

const STEP_CHUNKS = TILE_K / 32u;
const LOAD_ROWS = THREADS / STEP_CHUNKS;

fn put_x(i: u32, values: vec4<u32>) {
  tile_put(i / STEP_VECTORS, i % STEP_VECTORS, values);
}

fn w_row(thread: u32) -> u32 {
  return thread / (32u * STEP_CHUNKS) * 32u + thread % 32u;
}

fn w_chunk(thread: u32) -> u32 {
  return thread / 32u % STEP_CHUNKS;
}

// Past the edges other weights are taken, or the zeros that a device gives past the end of a buffer: of rows that are not
// stored, and of columns where x is zero.
fn load_w(step: u32, row: u32, thread: u32) -> Chunk {
  var chunk = step * STEP_CHUNKS + w_chunk(thread);
  if (K % TILE_K != 0u) {
    chunk = min(chunk, chunks_per_row() - 1u);
  }
  return load_chunk(row, chunk);
}

// Rows of the tiles are those of x, then those of w.
fn put_w(unit: u32, thread: u32, chunk: Chunk, value: u32) {
  put_chunk(TILE_M + unit * LOAD_ROWS + w_row(thread), w_chunk(thread), chunk, thread % 32u / 8u, value);
}
