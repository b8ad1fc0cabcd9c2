/** Run as a child process: prints what Dawn's adapter is on this process's drivers, or null, as JSON. */
import { create, globals } from 'webgpu';

Object.assign(globalThis, globals);
const adapter = await create(['enable-dawn-features=allow_unsafe_apis']).requestAdapter({
  powerPreference: 'high-performance',
});
let description = null;
if (adapter) {
  const { vendor, architecture, device, description: text, isFallbackAdapter } = adapter.info;
  description = { vendor, architecture, device, description: text, isFallbackAdapter };
  description.features = [...adapter.features].sort();
}
console.log(JSON.stringify(description));
// Dawn's instance would keep the process alive.
process.exit(0);
