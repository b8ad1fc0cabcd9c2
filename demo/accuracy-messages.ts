/** What the accuracy section and its worker tell each other. Answers carry the number of the request. */
import type { Distribution, Measurement } from './accuracy-data.js';

export type Source =
  | { readonly kind: 'generated'; readonly distribution: Distribution; readonly seed: number }
  | { readonly kind: 'file'; readonly file: File; readonly matrix: string };

export type Request =
  | { readonly type: 'list'; readonly id: number; readonly file: File }
  | { readonly type: 'measure'; readonly id: number; readonly source: Source }
  | { readonly type: 'cancel'; readonly id: number };

export interface ListedMatrix {
  readonly name: string;
  readonly shape: readonly [rows: number, cols: number];
  readonly experts?: number | undefined;
  readonly format: string;
  /** Why it cannot be measured. */
  readonly refusal?: string | undefined;
}

export type Answer = { readonly id: number } & (
  | { readonly type: 'listed'; readonly container: string; readonly matrices: readonly ListedMatrix[] }
  /** The values are there; `note` says which they are. */
  | { readonly type: 'data'; readonly rows: number; readonly cols: number; readonly note: string }
  | { readonly type: 'progress'; readonly done: number; readonly total: number; readonly label: string }
  | { readonly type: 'measured'; readonly result: Measurement }
  | { readonly type: 'done' }
  | { readonly type: 'failed'; readonly name: string; readonly message: string }
);
