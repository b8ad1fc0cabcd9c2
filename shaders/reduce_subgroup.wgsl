// Sums over the LANES neighbouring threads of a group, inside a subgroup of at least LANES invocations.
// All of the group's threads get the sums. Feature: subgroups. Roundings: log2(LANES).

fn reduce_lanes(value: vec4<f32>, thread: u32) -> vec4<f32> {
  var sum = value;
  for (var distance = LANES / 2u; distance > 0u; distance /= 2u) {
    sum += subgroupShuffleXor(sum, distance);
  }
  return sum;
}
