// NVFP4's tensor scales, every operation rounded to f32. amax is the tensor's largest finite magnitude, which
// tensor_amax has found part by part: s_enc = min(tensor_max / amax, FLT_MAX), 1 for zeros; s_dec = 1 / s_enc, the
// matrix's global scale; elements under the E4M3 scale S are multiplied by min(1 / (S · s_dec), FLT_MAX).

// As f32 bits.
struct Tensor {
  // s_enc · fl32(1/6): times a block's maximum it is the block's scale, before rounding to E4M3.
  multiplier: u32,
  // What elements are multiplied by under each scale byte; for byte 0, s_enc.
  encode: array<u32, 127>,
}

@group(0) @binding(6) var<storage, read> partials: array<u32>;
@group(0) @binding(8) var<storage, read_write> global_scale: u32;

const ONE = 0x3F800000u;
const ONE_SIXTH = 0x3E2AAAABu;

var<workgroup> amax: atomic<u32>;

// Fills `tensor`, with at least 128 threads; barriers are the caller's.
fn join_partials(thread: u32) {
  var largest = 0u;
  for (var i = thread; i < problem.partials; i += WORKGROUP) {
    largest = max(largest, partials[i]);
  }
  atomicMax(&amax, largest);
}

fn fill_tensor(thread: u32, first: bool) {
  if (thread >= 127u) {
    return;
  }
  let largest = atomicLoad(&amax);
  var encode = ONE;
  if (largest > 0u) {
    encode = min(soft_div(problem.tensor_max, largest), F32_MAX);
  }
  let decode = soft_div(ONE, encode);
  if (thread > 0u) {
    encode = min(soft_div(ONE, soft_mul(e4m3_bits(thread), decode)), F32_MAX);
  } else {
    tensor.multiplier = soft_mul(encode, ONE_SIXTH);
    if (first) {
      global_scale = decode;
    }
  }
  tensor.encode[thread] = encode;
}
