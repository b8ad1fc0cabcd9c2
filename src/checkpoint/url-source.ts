/**
 * Files behind HTTP as byte sources, read by range requests (RFC 9110, section 14). A server that answers anything but
 * the bytes asked for, of the file that was there at the first answer, is an error: half of one version of a checkpoint
 * and half of another would load without a word.
 */
import { CheckpointError, type Fp4Error, InvalidArgumentError, UnsupportedError } from '../errors.js';
import { type ByteSource, checkRange } from './byte-source.js';
import { quote } from './strict-json.js';

export interface UrlSourceOptions {
  /** In place of the global `fetch`: one that adds a token, say. It has to follow redirects. */
  readonly fetch?: typeof globalThis.fetch | undefined;
  /** Abandons the first request and every read after it. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Asked for at first, to learn the size, and kept: the header of most files lies inside. A server may give less, where
 * the file is shorter.
 */
const HEAD_BYTES = 1 << 16;

/** `bytes 0-65535/123456`; a server that does not know the length writes `*`. */
const CONTENT_RANGE = /^bytes (\d+)-(\d+)\/(\d+|\*)$/;
/** With status 416: the length of a file that has none of the bytes asked for. */
const UNSATISFIED_RANGE = /^bytes \*\/(\d+)$/;

/**
 * A source over an `http:` or `https:` URL; the first request is made here. Error messages leave out the query, which
 * may be a signature.
 * @throws InvalidArgumentError for another kind of URL
 * @throws UnsupportedError when the server does not answer ranges
 * @throws CheckpointError when the file is missing, is not to be had, or changes between two reads
 */
export async function urlSource(url: string | URL, options: UrlSourceOptions = {}): Promise<ByteSource> {
  const { href, name } = parseUrl(url);
  const fetch = options.fetch ?? globalThis.fetch;
  const refuse = (problem: string, cause?: unknown): never => {
    throw new CheckpointError('url', `${name}: ${problem}`, { cause });
  };

  /** The answer to a request for bytes `start` to `end`, its status not looked at yet. */
  const ask = async (start: number, end: number, signal: AbortSignal | undefined): Promise<Response> => {
    signal?.throwIfAborted();
    let response: Response;
    try {
      // No If-Range: a header that browsers ask the other origin about first. Validators are compared below instead.
      const headers = { Range: `bytes=${start}-${end - 1}` };
      response = await fetch(href, { headers, ...(signal && { signal }) });
    } catch (cause) {
      signal?.throwIfAborted();
      // Browsers don't say which: no network, no such host, redirects without end, or CORS headers missing.
      return refuse(
        'cannot be reached (network, redirects, or a server of another origin without CORS)',
        cause,
      );
    }
    if (href.startsWith('https:') && response.url.startsWith('http:')) {
      await discard(response);
      refuse('redirected from https to http; name the file by the URL it is really at');
    }
    return response;
  };

  /** The total length that a good answer states. Others are errors. */
  const checkAnswer = async (response: Response, start: number, end: number): Promise<number> => {
    const error = answerError(name, response, start, end);
    if (!error) return Number(CONTENT_RANGE.exec(response.headers.get('Content-Range')!)![3]);
    await discard(response);
    throw error;
  };

  const first = await ask(0, HEAD_BYTES, options.signal);
  const emptyLength = UNSATISFIED_RANGE.exec(first.headers.get('Content-Range') ?? '')?.[1];
  if (first.status === 416 && emptyLength === '0') {
    await discard(first);
    return emptySource(name);
  }
  const byteLength = await checkAnswer(first, 0, HEAD_BYTES);
  if (!Number.isSafeInteger(byteLength)) refuse(`its length ${byteLength} is above 2^53 - 1`);
  const version = versionOf(first);
  const head = await readBody(first, Math.min(HEAD_BYTES, byteLength), options.signal, refuse);

  return {
    name,
    byteLength,
    async read(start, end, readOptions) {
      const signals = [options.signal, readOptions?.signal].filter((signal) => signal !== undefined);
      const signal = signals.length < 2 ? signals[0] : AbortSignal.any(signals);
      signal?.throwIfAborted();
      checkRange({ name, byteLength }, start, end);
      if (end <= head.length) return head.subarray(start, end);
      if (start === end) return new Uint8Array(0);
      const response = await ask(start, end, signal);
      const total = await checkAnswer(response, start, end);
      const change =
        total !== byteLength ? `${byteLength} bytes became ${total}` : changeOf(version, versionOf(response));
      if (change) {
        await discard(response);
        refuse(`changed on the server since it was opened (${change}); open it again`);
      }
      return readBody(response, end - start, signal, refuse);
    },
  };
}

function parseUrl(url: string | URL): { href: string; name: string } {
  const base = globalThis.location?.href;
  if (!URL.canParse(url, base)) throw new InvalidArgumentError('url', `${quote(String(url))} is not a URL`);
  const { href, origin, pathname, protocol } = new URL(url, base);
  if (protocol !== 'http:' && protocol !== 'https:') {
    throw new InvalidArgumentError('url', `${protocol} is not http: or https:; pass a Blob or bytes instead`);
  }
  return { href, name: origin + pathname };
}

/** What is wrong with an answer to a request for bytes `start` to `end`, of which a file may have fewer at first. */
function answerError(
  name: string,
  { status, type, headers }: Response,
  start: number,
  end: number,
): Fp4Error | undefined {
  const broken = (problem: string) => new CheckpointError('url', `${name}: ${problem}`);
  const unsupported = (problem: string) => new UnsupportedError('url', `${name}: ${problem}`);
  if (status === 404 || status === 410) return broken(`no such file (HTTP ${status})`);
  if (status === 401 || status === 403) {
    return broken(`not allowed (HTTP ${status}); it may need a token, which a fetch of yours can add`);
  }
  if (type === 'opaqueredirect' || (status >= 300 && status < 400)) {
    return broken(`redirects (HTTP ${status || '3xx'}), and the fetch that was given does not follow`);
  }
  if (status === 200) {
    return unsupported(
      'the server answers with the whole file (HTTP 200) instead of a range; download it and pass the Blob',
    );
  }
  if (status === 416) return broken(`has no bytes ${start}..${end} (HTTP 416)`);
  if (status !== 206) return broken(`HTTP ${status} instead of 206`);
  const contentRange = headers.get('Content-Range');
  if (contentRange === null) {
    return unsupported(
      'the answer shows no Content-Range; a server of another origin has to list it in Access-Control-Expose-Headers',
    );
  }
  const [, from, last, total] = CONTENT_RANGE.exec(contentRange) ?? [];
  if (total === undefined) return broken(`Content-Range ${quote(contentRange)} is not a range of bytes`);
  if (total === '*') return unsupported('the server does not say how long the file is');
  // The total is compared with the first one by the caller; here only the range with that total.
  if (Number(from) !== start || Number(last) + 1 !== Math.min(end, Number(total))) {
    return broken(`Content-Range ${quote(contentRange)} answers a request for ${start}..${end}`);
  }
  return undefined;
}

interface Version {
  readonly etag: string | null;
  readonly lastModified: string | null;
}

function versionOf({ headers }: Response): Version {
  return { etag: headers.get('ETag'), lastModified: headers.get('Last-Modified') };
}

/** How two versions differ. Where one of the servers behind a name leaves a header out, the other header decides. */
function changeOf(before: Version, now: Version): string | undefined {
  if (before.etag !== null && now.etag !== null) {
    return before.etag === now.etag ? undefined : `ETag ${before.etag} became ${now.etag}`;
  }
  if (before.lastModified === null || now.lastModified === null) return undefined;
  if (before.lastModified === now.lastModified) return undefined;
  return `Last-Modified ${before.lastModified} became ${now.lastModified}`;
}

/** Exactly `length` bytes of a body; no more than that is taken, however much the server sends. */
async function readBody(
  response: Response,
  length: number,
  signal: AbortSignal | undefined,
  refuse: (problem: string, cause?: unknown) => never,
): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  let filled = 0;
  const reader = response.body?.getReader();
  for (; reader; ) {
    const { done, value } = await reader.read().catch((cause: unknown) => {
      signal?.throwIfAborted();
      return refuse(`the connection broke after ${filled} of ${length} bytes`, cause);
    });
    if (done) break;
    if (filled + value.length > length) {
      await reader.cancel().catch(() => {});
      refuse(`the answer is longer than the ${length} bytes it announces`);
    }
    bytes.set(value, filled);
    filled += value.length;
  }
  signal?.throwIfAborted();
  if (filled !== length) refuse(`the answer ends after ${filled} of ${length} bytes`);
  return bytes;
}

/** Frees the connection of an answer that is not read. */
async function discard(response: Response): Promise<void> {
  await response.body?.cancel().catch(() => {});
}

function emptySource(name: string): ByteSource {
  return {
    name,
    byteLength: 0,
    async read(start, end, options) {
      options?.signal?.throwIfAborted();
      checkRange({ name, byteLength: 0 }, start, end);
      return new Uint8Array(0);
    },
  };
}
