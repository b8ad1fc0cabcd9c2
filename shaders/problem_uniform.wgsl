// The problem in a uniform buffer.

@group(0) @binding(0) var<uniform> problem: Problem;
