// NVFP4's tensor scales from the maximum amax that tensor_amax has found, every operation rounded to f32:
// s_enc = min(tensor_max / amax, FLT_MAX), 1 for zeros; s_dec = 1 / s_enc, the matrix's global scale; and, for each
// E4M3 scale S, min(1 / (S · s_dec), FLT_MAX).
//
// One workgroup of 128 threads. Shared: 512 bytes. Features: none.

@group(0) @binding(6) var<storage, read> partials: array<u32>;
@group(0) @binding(7) var<storage, read_write> tensor: Tensor;
@group(0) @binding(8) var<storage, read_write> global_scale: u32;

var<workgroup> maxima: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) thread: u32) {
  var largest = 0u;
  for (var i = thread; i < problem.partials; i += WORKGROUP) {
    largest = max(largest, partials[i]);
  }
  maxima[thread] = largest;
  for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
    workgroupBarrier();
    if (thread < half) {
      maxima[thread] = max(maxima[thread], maxima[thread + half]);
    }
  }
  workgroupBarrier();
  let amax = maxima[0];
  const ONE = 0x3F800000u;
  const ONE_SIXTH = 0x3E2AAAABu;
  var encode = ONE;
  if (amax > 0u) {
    encode = min(soft_div(problem.tensor_max, amax), F32_MAX);
  }
  let decode = soft_div(ONE, encode);
  if (thread == 0u) {
    global_scale = decode;
    tensor.multiplier = soft_mul(encode, ONE_SIXTH);
    tensor.encode[0] = encode;
  } else if (thread < 127u) {
    tensor.encode[thread] = min(soft_div(ONE, soft_mul(e4m3_bits(thread), decode)), F32_MAX);
  }
}
