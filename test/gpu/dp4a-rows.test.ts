import { testInt8Rows } from '../support/int8-rows-tests.js';

testInt8Rows('gemm_dp4a_rows');
