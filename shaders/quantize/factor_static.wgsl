// Static macro factors, in one pass with the rest.

fn choose_factor(values: Values, largest: u32, thread: u32) -> u32 {
  return static_factor(macro_maximum(thread, largest));
}
