// k as a constant of the shader, K.

fn size_k() -> u32 {
  return K;
}
