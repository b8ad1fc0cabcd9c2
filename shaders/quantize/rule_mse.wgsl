// The scale rule 'mse': the exponent with the least squared error, ties to the smaller one.
//
// From the finest scale that does not clip the maximum L, the search goes down. In units of the first scale L is in
// (3, 6]; k steps down the grid ends at c = 6 / 2^k, and what lies above it loses y - c, which from some k on outweighs
// all that finer steps can gain: n values below c lose at most n (c/6)² in squares. For n ≤ 32 the fifth candidate,
// and for n ≤ 1024 the ninth, beats all that follow by more than truncation can hide (4 % and 0.2 %).

const SHALLOW = 5u;
const DEEP = 9u;

fn mx_block_byte(block: Region, factor: u32, largest: u32) -> u32 {
  if (largest == 0u) {
    return 0u;
  }
  let first = mx_scale_byte(largest, 0x003FFFFFu);
  let candidates = min(select(SHALLOW, DEEP, problem.block_height > 1u), first + 1u);
  var best = first;
  var best_error = block_error(block, factor, first, false);
  for (var k = 1u; k < candidates; k++) {
    let error = block_error(block, factor, first - k, false);
    if (!less(best_error, error)) {
      best = first - k;
      best_error = error;
    }
  }
  return best;
}
