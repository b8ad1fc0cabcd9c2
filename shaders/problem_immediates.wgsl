// The problem in immediates, a language feature: immediate_address_space.

var<immediate> problem: Problem;
