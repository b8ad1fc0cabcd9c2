import { testInt8Rows } from '../support/int8-rows-tests.js';

testInt8Rows('gemm_subgroup_matrix_i8');
