/** Reads a header front to back out of a `ByteSource`, piece by piece, for containers that do not say how long it is. */
import { type ByteSource, type ReadOptions, readExactly } from './byte-source.js';

/** Pieces grow from the first to the second: most headers take one read, long ones (vocabularies) few. */
const FIRST_PIECE_BYTES = 1 << 16;
const LAST_PIECE_BYTES = 1 << 22;

export class ByteReader {
  readonly #source: ByteSource;
  readonly #fail: (message: string) => never;
  readonly #options: ReadOptions | undefined;
  #piece: DataView = new DataView(new ArrayBuffer(0));
  /** Where in the file `#piece` begins. */
  #start = 0;
  #pieceBytes = FIRST_PIECE_BYTES;
  #position = 0;

  /** @param fail throws the caller's error, where the file ends before what it should hold or a number is too large */
  constructor(source: ByteSource, fail: (message: string) => never, options?: ReadOptions) {
    this.#source = source;
    this.#fail = fail;
    this.#options = options;
  }

  /** Byte of the file that comes next. */
  get position(): number {
    return this.#position;
  }

  /** Bytes from there to the end of the file. */
  get left(): number {
    return this.#source.byteLength - this.#position;
  }

  /** Goes past bytes without reading them. `what` names them in the error where the file ends first. */
  skip(length: number, what: string): void {
    this.#require(length, what);
    this.#position += length;
  }

  /** The next `length` bytes, valid until the next call. */
  async bytes(length: number, what: string): Promise<Uint8Array> {
    const { buffer, byteOffset } = await this.view(length, what);
    return new Uint8Array(buffer, byteOffset, length);
  }

  /** A view of the next `length` bytes. */
  async view(length: number, what: string): Promise<DataView> {
    if (!this.#holds(length)) await this.#load(length, what);
    const view = new DataView(
      this.#piece.buffer,
      this.#piece.byteOffset + this.#position - this.#start,
      length,
    );
    this.#position += length;
    return view;
  }

  async u32(what: string): Promise<number> {
    return (await this.view(4, what)).getUint32(0, true);
  }

  /** A u64 that a number holds exactly. */
  async size(what: string): Promise<number> {
    const value = (await this.view(8, what)).getBigUint64(0, true);
    if (value > Number.MAX_SAFE_INTEGER) this.#fail(`${what} is ${value}, above 2^53 - 1`);
    return Number(value);
  }

  /** Goes past `count` strings, each a u64 length and its bytes: a vocabulary has hundreds of thousands. */
  async skipStrings(count: number, what: string): Promise<void> {
    for (let i = 0; i < count; i++) {
      // Waiting for each length, read or not, would take most of the time.
      if (!this.#holds(8)) await this.#load(8, what);
      const at = this.#position - this.#start;
      const length = this.#piece.getUint32(at, true) + this.#piece.getUint32(at + 4, true) * 2 ** 32;
      this.#position += 8;
      this.skip(length, what);
    }
  }

  #holds(length: number): boolean {
    return this.#position - this.#start + length <= this.#piece.byteLength;
  }

  #require(length: number, what: string): void {
    if (length > this.left) {
      this.#fail(`${what} takes ${length} bytes at ${this.#position}; the file ends after ${this.left}`);
    }
  }

  async #load(length: number, what: string): Promise<void> {
    this.#require(length, what);
    const end = this.#position + Math.min(Math.max(length, this.#pieceBytes), this.left);
    const bytes = await readExactly(this.#source, this.#position, end, this.#options);
    this.#piece = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#start = this.#position;
    this.#pieceBytes = Math.min(2 * this.#pieceBytes, LAST_PIECE_BYTES);
  }
}
