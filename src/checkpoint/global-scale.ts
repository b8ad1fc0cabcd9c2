/**
 * The one number that an NVFP4 tensor is scaled by besides its block scales, and what producers mean by theirs. With
 * amax the largest |w| of the tensor and 2688 = 6 · 448, the largest E2M1 times the largest E4M3:
 *
 * | convention   | stored      | who |
 * |---|---|---|
 * | `multiplier` | amax / 2688 | ModelOpt and ComfyUI `weight_scale_2`, TorchAO `per_tensor_scale`, GGUF `.scale`, this library |
 * | `divisor`    | 2688 / amax | compressed-tensors `weight_global_scale` |
 * | `amax`       | amax        | MLX `global_scale` |
 *
 * Mistaking one for another loads a matrix of the right shape and the wrong size, so nothing else converts them.
 */

/** What the values are multiplied by, in f64, given what is stored. */
const TO_MULTIPLIER = {
  multiplier: (stored: number) => stored,
  divisor: (stored: number) => 1 / stored,
  amax: (stored: number) => stored / 2688,
} as const;

export type GlobalScaleConvention = keyof typeof TO_MULTIPLIER;

/**
 * The f32 multiplier of a stored global scale; other than `multiplier` it is rounded once.
 * @param fail throws the caller's error, where the stored number or the multiplier is not positive and finite
 */
export function globalMultiplier(
  stored: number,
  convention: GlobalScaleConvention,
  fail: (message: string) => never,
): number {
  if (!(stored > 0 && Number.isFinite(stored))) fail(`global scale ${stored} is not positive and finite`);
  const multiplier = Math.fround(TO_MULTIPLIER[convention](stored));
  if (!(multiplier > 0 && Number.isFinite(multiplier))) {
    fail(
      `global scale ${stored} (${convention}) makes a multiplier of ${multiplier}; f32 does not reach so far`,
    );
  }
  return multiplier;
}

/**
 * The f32 that `globalMultiplier` reads as a multiplier to the last bit where it is stored as a divisor; undefined where
 * there is none: above a significand of √2 reciprocals of f32s leave others out, a sixth of all. If any will do, the one
 * nearest to the reciprocal does, as trying all of a binade shows.
 */
export function divisorOf(multiplier: number): number | undefined {
  const divisor = Math.fround(1 / multiplier);
  const readsBack = Number.isFinite(divisor) && Math.fround(TO_MULTIPLIER.divisor(divisor)) === multiplier;
  return readsBack ? divisor : undefined;
}
