/** Text to tokens and back, by the model's own tokenizer.json. */
import { Tokenizer } from '@huggingface/tokenizers';
import { CheckpointError } from '../../src/index.js';
import type { LlamaSource } from './source.js';

export interface TextTokenizer {
  encode(text: string): number[];
  /** Tokens that are part of a character give U+FFFD until the rest is there: decode all of them again. */
  decode(tokens: readonly number[]): string;
}

/** @throws CheckpointError where the model has no tokenizer.json, or it is malformed */
export async function openTokenizer(source: LlamaSource): Promise<TextTokenizer> {
  const text = await source.text('tokenizer.json');
  try {
    const tokenizer = new Tokenizer(JSON.parse(text), {});
    return {
      encode: (input) => [...tokenizer.encode(input).ids],
      decode: (tokens) =>
        tokens.length === 0
          ? ''
          : tokenizer.decode([...tokens], { skip_special_tokens: true, clean_up_tokenization_spaces: false }),
    };
  } catch (cause) {
    throw new CheckpointError('lm', `${source.name}: tokenizer.json is not understood (${cause})`, { cause });
  }
}
