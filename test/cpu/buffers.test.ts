/** Slices of buffers as they are checked before they are bound. */
import { expect, test } from 'vitest';
import { checkSlice } from '../../src/gpu/buffers.js';
import { BufferUsage } from '../../src/gpu/constants.js';

const device = { limits: { minStorageBufferOffsetAlignment: 32 } } as GPUDevice;
const buffer = { size: 1024, usage: BufferUsage.STORAGE } as GPUBuffer;

test('offsets are multiples of what the device asks for, sizes of four bytes', () => {
  expect(checkSlice(device, 'gemm', 'x', { buffer, offset: 96 }, 'f16', 3, 5)).toEqual({
    buffer,
    offset: 96,
    size: 32,
  });
  expect(checkSlice(device, 'gemm', 'x', buffer, 'u8', 5, 3)).toEqual({ buffer, offset: 0, size: 16 });
  expect(() => checkSlice(device, 'gemm', 'x', { buffer, offset: 48 }, 'u8', 1)).toThrow(
    'gemm: x starts at byte 48; storage bindings of this device start at multiples of 32',
  );
});
