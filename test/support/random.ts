export { Random } from '../../src/random.js';
