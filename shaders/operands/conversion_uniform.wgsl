// What a conversion of x is given, in a uniform buffer.

@group(0) @binding(0) var<uniform> conversion: Conversion;
