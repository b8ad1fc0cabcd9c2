/**
 * How Chromium is started so that pages get WebGPU.
 *
 * On Linux the answer is SwiftShader unless a GPU is asked for: a headless Chromium there falls back to
 * it silently, so a test run should say which one it means.
 * @param {'swiftshader' | 'system'} adapter
 * @param {NodeJS.Platform} [platform]
 * @param {boolean} [experimental] whether pages get what stock ones do not: f16 on NVIDIA, subgroup matrices
 * @returns {string[]}
 */
export function chromiumArgs(adapter, platform = process.platform, experimental = true) {
  const args = ['--ignore-gpu-blocklist', ...offline];
  if (experimental || adapter === 'swiftshader') args.push('--enable-unsafe-webgpu');
  if (adapter === 'swiftshader') {
    args.push(
      '--use-webgpu-adapter=swiftshader',
      '--enable-features=Vulkan',
      '--use-vulkan=swiftshader',
      '--use-angle=swiftshader',
      '--enable-unsafe-swiftshader',
      '--disable-vulkan-surface',
    );
  } else if (platform === 'linux') {
    args.push(
      '--enable-features=Vulkan',
      '--use-vulkan=native',
      '--use-angle=vulkan',
      '--disable-vulkan-surface',
    );
    if (experimental) args.push('--enable-dawn-features=vulkan_enable_f16_on_nvidia,allow_unsafe_apis');
  }
  if (process.getuid?.() === 0) args.push('--no-sandbox');
  return args;
}

/** Tests need no network, and where there is none, attempts to reach it cost time. */
const offline = [
  '--disable-background-networking',
  '--disable-client-side-phishing-detection',
  '--disable-component-update',
  '--disable-default-apps',
  '--disable-domain-reliability',
  '--disable-sync',
  '--no-first-run',
  '--no-pings',
];
