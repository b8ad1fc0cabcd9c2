/**
 * WebGPU's flag values (fixed by its specification, sections 5.1 and 5.3), so that the library does not depend on
 * globals, which Dawn in Node does not set.
 */
export const BufferUsage = {
  MAP_READ: 0x1,
  COPY_SRC: 0x4,
  COPY_DST: 0x8,
  UNIFORM: 0x40,
  STORAGE: 0x80,
  QUERY_RESOLVE: 0x200,
} as const;

export const MAP_READ = 0x1;
