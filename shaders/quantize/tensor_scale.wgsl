// NVFP4's tensor scales for kernels that load them: one workgroup of 128 threads. Shared: 4 bytes. Features: none.

@group(0) @binding(7) var<storage, read_write> tensor: Tensor;

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(local_invocation_index) thread: u32) {
  join_partials(thread);
  workgroupBarrier();
  fill_tensor(thread, true);
}
