export declare function chromiumArgs(
  adapter: 'swiftshader' | 'system',
  platform?: NodeJS.Platform,
  experimental?: boolean,
): string[];
