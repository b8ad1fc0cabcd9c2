/** A byte-level BPE tokenizer of ASCII with four merges, for TINY's vocabulary of 101. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const END = '<|end|>';
/** Byte-level BPE writes a space and a line's end as letters of their own. */
const LETTERS = [...Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i)), 'Ġ', 'Ċ'];
const MERGES = ['t h', 'th e', 'Ġ a', 'i n'];

export function tinyTokenizer(): object {
  const tokens = [END, ...LETTERS, ...MERGES.map((merge) => merge.replace(' ', ''))];
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [
      {
        id: 0,
        content: END,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      },
    ],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: null,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: MERGES,
    },
  };
}

export const writeTinyTokenizer = (folder: string): Promise<void> =>
  writeFile(join(folder, 'tokenizer.json'), JSON.stringify(tinyTokenizer()));
