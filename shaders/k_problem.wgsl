// k from the problem, so that products of any k share a pipeline.

fn size_k() -> u32 {
  return problem.k;
}
