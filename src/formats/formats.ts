/** The block formats: how elements, block scales, macro-block factors and the tensor scale combine. */

export type Format = 'mxfp4' | 'nvfp4';

export interface BlockFormat {
  /** Values per block scale that the format allows. */
  readonly blockSizes: readonly number[];
  readonly defaultBlockSize: number;
  readonly elementBits: 4;
  readonly scaleBits: 8;
  readonly scaleFormat: 'e8m0' | 'e4m3';
  /** Largest scale byte that is a non-negative number; what lies above is NaN or, in E4M3, negative. */
  readonly maxScaleByte: number;
}

export const FORMATS: Readonly<Record<Format, BlockFormat>> = {
  mxfp4: {
    blockSizes: [32, 16],
    defaultBlockSize: 32,
    elementBits: 4,
    scaleBits: 8,
    scaleFormat: 'e8m0',
    maxScaleByte: 254,
  },
  nvfp4: {
    blockSizes: [16],
    defaultBlockSize: 16,
    elementBits: 4,
    scaleBits: 8,
    scaleFormat: 'e4m3',
    maxScaleByte: 0x7e,
  },
};

/** Values per macro-block factor that Macro Block Scaling offers; 128 is the paper's. */
export const MACRO_SIZES = [128, 64, 32] as const;
export type MacroSize = (typeof MACRO_SIZES)[number];
