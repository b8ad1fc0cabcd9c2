/** The address of the page holds the settings of all its sections: each reads and writes its own. */

/** After a `#`, or without; of an address that names a place in the page, none. */
export function parametersOf(hash: string): URLSearchParams {
  const text = hash.replace(/^.*#/, '');
  return new URLSearchParams(text.includes('=') ? text : '');
}

/** Text of a link that says these settings and no others. */
export const hashOf = (parameters: Readonly<Record<string, string>>): string =>
  `#${new URLSearchParams(parameters)}`;

/** Changes settings of one section in the address; those of others stay. */
export function writeAddress(parameters: Readonly<Record<string, string>>): void {
  const all = Object.fromEntries(parametersOf(location.hash));
  history.replaceState(null, '', hashOf({ ...all, ...parameters }));
}

/** Calls back where the reader follows a link to other settings, and not for a place in the page. */
export function onAddress(take: (hash: string) => void): void {
  window.addEventListener('hashchange', () => {
    if (parametersOf(location.hash).size) take(location.hash);
  });
}
