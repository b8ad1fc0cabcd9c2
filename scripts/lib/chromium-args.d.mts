export declare function chromiumArgs(adapter: 'swiftshader' | 'system', platform?: NodeJS.Platform): string[];
