/** All producers, in the order in which they are asked for a tensor. */
import { bitsAndBytes } from './bitsandbytes.js';
import { canonical } from './canonical.js';
import { comfy } from './comfy.js';
import { compressedTensors } from './compressed-tensors.js';
import { deepSeek } from './deepseek.js';
import { float } from './float.js';
import { gguf } from './gguf.js';
import { gptOss } from './gpt-oss.js';
import { mlx } from './mlx.js';
import { modelOpt } from './modelopt.js';
import type { Producer } from './producer.js';
import { quark } from './quark.js';
import { torchAo } from './torchao.js';

/** ComfyUI before ModelOpt, whose names it uses; floats last, as scales of others are floats too. */
export const PRODUCERS: readonly Producer[] = [
  bitsAndBytes,
  canonical,
  gptOss,
  compressedTensors,
  comfy,
  modelOpt,
  quark,
  mlx,
  deepSeek,
  torchAo,
  gguf,
  float,
];
