/** JSON texts changed in a few places, every other value left as it is written: 10000.0 stays no integer. */

/** The members of the outermost object, each value as it stands in the text. @param json a text that `JSON.parse` takes */
export function jsonMembers(json: string): Map<string, string> {
  const members = new Map<string, string>();
  let depth = 0;
  let key: string | undefined;
  let start = 0;
  // Strings are one token each, so that what is in them counts for nothing.
  for (const { 0: token, index } of json.matchAll(/"(?:[^"\\]|\\.)*"|[{}[\],:]/g)) {
    const ends = depth === 1 && (token === ',' || token === '}');
    if (ends && key !== undefined) {
      members.set(key, json.slice(start, index).trim());
      key = undefined;
    }
    if (token === '{' || token === '[') depth++;
    else if (token === '}' || token === ']') depth--;
    else if (depth === 1 && token === ':') start = index + 1;
    else if (depth === 1 && token !== ',') key ??= JSON.parse(token);
  }
  return members;
}

/** An object of such members, at a depth of other objects. */
export function jsonObject(members: Iterable<readonly [key: string, json: string]>, depth = 0): string {
  const indent = '  '.repeat(depth);
  const lines = Array.from(members, ([key, json]) => `\n${indent}  ${JSON.stringify(key)}: ${json}`);
  return lines.length ? `{${lines.join(',')}\n${indent}}` : '{}';
}
