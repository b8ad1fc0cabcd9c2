import { createServer, type IncomingMessage, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { type UrlSourceOptions, urlSource } from '../../../src/checkpoint/url-source.js';
import { CheckpointError, InvalidArgumentError, UnsupportedError } from '../../../src/errors.js';

const FILE = Uint8Array.from({ length: 200_000 }, (_, i) => (i * 31) >> 3);

let server: Server | undefined;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
  server = undefined;
});

/** Serves, and gives the URL of a file on it. */
async function serve(listener: RequestListener): Promise<string> {
  server = createServer(listener);
  await new Promise<void>((done) => server!.listen(0, '127.0.0.1', done));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/model.safetensors`;
}

function rangeOf(request: IncomingMessage, length: number): [number, number] {
  const [, first, last] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range!)!;
  return [Number(first), Math.min(Number(last), length - 1)];
}

/** A good server of `file`. */
function ranged(file: () => Uint8Array, headers: () => Record<string, string> = () => ({})): RequestListener {
  return (request, response) => {
    const bytes = file();
    const [first, last] = rangeOf(request, bytes.length);
    if (first >= bytes.length) {
      response.writeHead(416, { 'Content-Range': `bytes */${bytes.length}` }).end();
      return;
    }
    response.writeHead(206, { 'Content-Range': `bytes ${first}-${last}/${bytes.length}`, ...headers() });
    response.end(bytes.subarray(first, last + 1));
  };
}

/** A source whose fetch answers every request by hand. */
const answering = (answer: (range: string) => Response, options?: UrlSourceOptions) =>
  urlSource('https://host.test/dir/model.safetensors?signature=secret', {
    ...options,
    fetch: async (_, init) => answer((init!.headers as Record<string, string>).Range!),
  });

const part = (bytes: Uint8Array<ArrayBuffer>, contentRange: string, headers: Record<string, string> = {}) =>
  new Response(bytes, { status: 206, headers: { 'Content-Range': contentRange, ...headers } });

async function errorOf(promise: Promise<unknown>): Promise<Error> {
  return promise.then(
    () => expect.unreachable('no error'),
    (error: Error) => error,
  );
}

describe('a server that knows ranges', () => {
  it('gives any range, a request each; the head is kept', async () => {
    const requests: string[] = [];
    const good = ranged(
      () => FILE,
      () => ({ ETag: '"1"' }),
    );
    const url = await serve((request, response) => {
      requests.push(request.headers.range!);
      good(request, response);
    });
    const source = await urlSource(url);
    expect(source.byteLength).toBe(FILE.length);
    expect(source.name).toBe(url);
    for (const [start, end] of [
      [0, 8],
      [65_000, 65_536],
      [65_000, 65_537],
      [199_999, 200_000],
      [5, 5],
      [200_000, 200_000],
    ] as const) {
      expect(await source.read(start, end)).toEqual(FILE.slice(start, end));
    }
    expect(requests).toEqual(['bytes=0-65535', 'bytes=65000-65536', 'bytes=199999-199999']);
    await expect(source.read(0, 200_001)).rejects.toThrow('is not inside its 200000 bytes');
  });

  it('may have a file shorter than the first request, or an empty one', async () => {
    const short = await urlSource(await serve(ranged(() => FILE.subarray(0, 10))));
    expect([short.byteLength, await short.read(0, 10)]).toEqual([10, FILE.slice(0, 10)]);
    server!.close();
    const empty = await urlSource(await serve(ranged(() => new Uint8Array(0))));
    expect([empty.byteLength, await empty.read(0, 0)]).toEqual([0, new Uint8Array(0)]);
    await expect(empty.read(0, 1)).rejects.toThrow(CheckpointError);
  });

  it('may redirect, keeping the range', async () => {
    const good = ranged(() => FILE);
    const url = await serve((request, response) => {
      if (request.url === '/cdn') good(request, response);
      else response.writeHead(302, { Location: '/cdn' }).end();
    });
    const source = await urlSource(url);
    expect(await source.read(100_000, 100_100)).toEqual(FILE.slice(100_000, 100_100));
  });
});

describe('answers that are errors', () => {
  it.each([
    [404, CheckpointError, 'no such file (HTTP 404)'],
    [410, CheckpointError, 'no such file (HTTP 410)'],
    [403, CheckpointError, 'not allowed (HTTP 403)'],
    [500, CheckpointError, 'HTTP 500 instead of 206'],
    [416, CheckpointError, 'has no bytes 0..65536 (HTTP 416)'],
    [302, CheckpointError, 'redirects (HTTP 302), and the fetch that was given does not follow'],
    [200, UnsupportedError, 'the server answers with the whole file (HTTP 200) instead of a range'],
  ])('status %d', async (status, type, message) => {
    const error = await errorOf(answering(() => new Response(status === 204 ? null : 'x', { status })));
    expect(error).toBeInstanceOf(type);
    expect(error.message).toContain(`url: https://host.test/dir/model.safetensors: ${message}`);
    expect(error.message).not.toContain('secret');
  });

  it.each([
    [undefined, UnsupportedError, 'the answer shows no Content-Range'],
    ['bytes 0-99/*', UnsupportedError, 'does not say how long'],
    ['items 0-99/100', CheckpointError, 'is not a range of bytes'],
    ['bytes 0-99', CheckpointError, 'is not a range of bytes'],
    ['bytes 1-99/100', CheckpointError, 'answers a request for 0..65536'],
    ['bytes 0-98/100', CheckpointError, 'answers a request for 0..65536'],
    ['bytes 0-65535/99999999999999999999', CheckpointError, 'above 2^53 - 1'],
  ])('Content-Range %s', async (contentRange, type, message) => {
    const headers = contentRange === undefined ? {} : { 'Content-Range': contentRange };
    const error = await errorOf(answering(() => new Response('', { status: 206, headers })));
    expect(error).toBeInstanceOf(type);
    expect(error.message).toContain(message);
  });

  it('bodies that are shorter or longer than announced', async () => {
    const short = await errorOf(answering(() => part(FILE.slice(0, 99), 'bytes 0-99/100')));
    expect(short).toBeInstanceOf(CheckpointError);
    expect(short.message).toContain('ends after 99 of 100 bytes');
    const long = await errorOf(answering(() => part(FILE.slice(0, 101), 'bytes 0-99/100')));
    expect(long.message).toContain('longer than the 100 bytes it announces');
  });

  it('an endless body is cut off', async () => {
    let chunks = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        chunks++;
        controller.enqueue(new Uint8Array(50));
      },
    });
    const answer = new Response(endless, { status: 206, headers: { 'Content-Range': 'bytes 0-99/100' } });
    await expect(answering(() => answer)).rejects.toThrow('longer than the 100 bytes');
    expect(chunks).toBeLessThan(6);
  });

  it('redirects without end, and servers that are not there', async () => {
    const url = await serve((_, response) => void response.writeHead(302, { Location: '/again' }).end());
    const error = await errorOf(urlSource(url));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toContain('cannot be reached');
    expect(error.cause).toBeInstanceOf(Error);
  });

  it('a redirect from https to http', async () => {
    const answer = part(FILE.slice(0, 10), 'bytes 0-9/10');
    Object.defineProperty(answer, 'url', { value: 'http://host.test/x' });
    await expect(answering(() => answer)).rejects.toThrow('redirected from https to http');
  });

  it('a connection that breaks', async () => {
    const url = await serve((_, response) => {
      response.writeHead(206, { 'Content-Range': 'bytes 0-99/100', 'Content-Length': '100' });
      response.write(FILE.subarray(0, 10), () => response.destroy());
    });
    const error = await errorOf(urlSource(url));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toMatch(/connection broke|cannot be reached/);
  });

  it.each(['file:///etc/passwd', 'data:,x', 'blob:abc', 'not a url'])('%s is not taken', async (url) => {
    await expect(urlSource(url)).rejects.toThrow(InvalidArgumentError);
  });
});

describe('a file that changes between reads', () => {
  const changing = async (before: Record<string, string>, now: Record<string, string>) => {
    let headers = before;
    const source = await urlSource(
      await serve(
        ranged(
          () => FILE,
          () => headers,
        ),
      ),
    );
    headers = now;
    return source.read(100_000, 100_010);
  };

  it('is noticed by its ETag, its date, its length', async () => {
    const error = await errorOf(changing({ ETag: '"1"' }, { ETag: '"2"' }));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message).toContain('changed on the server since it was opened (ETag "1" became "2")');
    server!.close();
    const dated = changing({ 'Last-Modified': 'Mon' }, { 'Last-Modified': 'Tue' });
    await expect(dated).rejects.toThrow('Last-Modified Mon became Tue');
    server!.close();
    let file = FILE;
    const source = await urlSource(await serve(ranged(() => file)));
    file = FILE.slice(0, 150_000);
    await expect(source.read(100_000, 100_010)).rejects.toThrow('200000 bytes became 150000');
    await expect(source.read(190_000, 190_010)).rejects.toThrow('HTTP 416');
  });

  it('is the same where one server leaves a header out, or moves only the date beside an ETag', async () => {
    expect((await changing({ ETag: '"1"' }, {})).length).toBe(10);
    server!.close();
    const sameTag = changing(
      { ETag: '"1"', 'Last-Modified': 'Mon' },
      { ETag: '"1"', 'Last-Modified': 'Tue' },
    );
    expect((await sameTag).length).toBe(10);
  });
});

describe('signals', () => {
  it('stop the opening, a read, all reads', async () => {
    const url = await serve(ranged(() => FILE));
    const aborted = AbortSignal.abort(new Error('user left'));
    await expect(urlSource(url, { signal: aborted })).rejects.toThrow('user left');
    const controller = new AbortController();
    const source = await urlSource(url, { signal: controller.signal });
    await expect(source.read(0, 4, { signal: aborted })).rejects.toThrow('user left');
    const reading = source.read(70_000, 200_000, { signal: new AbortController().signal });
    controller.abort(new Error('closed'));
    await expect(reading).rejects.toThrow('closed');
    await expect(source.read(0, 4)).rejects.toThrow('closed');
  });
});
