// What a conversion of x is given, in immediates, a language feature: immediate_address_space.

var<immediate> conversion: Conversion;
