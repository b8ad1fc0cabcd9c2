/** One dispatch of a shader of this folder, with its buffers bound: what a forward pass is a list of. */
import { UnsupportedError } from '../../src/errors.js';
import { foldGrid } from '../../src/gpu/grid.js';
import { getPipeline } from '../../src/gpu/pipeline.js';
import { composeShader } from '../../src/gpu/shader.js';
import type { BufferSlice, Gpu } from '../../src/index.js';

export interface Step {
  encode(pass: GPUComputePassEncoder): void;
}

export interface StepDescription {
  readonly label: string;
  /** Texts of the shader's modules. */
  readonly sources: readonly string[];
  readonly enables?: readonly string[];
  readonly constants?: Readonly<Record<string, number | boolean>>;
  readonly aliases?: Readonly<Record<string, string>>;
  /** Bound as 0, 1, … */
  readonly buffers: readonly BufferSlice[];
  /** A number of workgroups is folded over two dimensions where one does not hold it. */
  readonly workgroups: number | readonly [x: number, y: number, z: number];
}

/**
 * Compiles the shader, once a device and text, and binds the buffers.
 * @throws UnsupportedError where the grid does not fit; ShaderError
 */
export async function createStep(gpu: Gpu, description: StepDescription): Promise<Step> {
  return (await compileStep(gpu, description))(description.buffers);
}

/** The same for buffers that are known later. */
export async function compileStep(
  gpu: Gpu,
  description: Omit<StepDescription, 'buffers'>,
): Promise<(buffers: readonly BufferSlice[]) => Step> {
  const { label, sources, enables = [], constants = {}, aliases = {}, workgroups } = description;
  const { device } = gpu;
  const most = device.limits.maxComputeWorkgroupsPerDimension;
  const [x, y, z = 1] = typeof workgroups === 'number' ? foldGrid(workgroups, most) : workgroups;
  if (Math.max(x, y, z) > most) {
    throw new UnsupportedError(
      'lm',
      `${label} needs ${x} × ${y} × ${z} workgroups, above ${most}; take fewer tokens at a time`,
    );
  }
  const modules = sources.map((source, i) => ({ name: `${label} ${i}`, source }));
  const pipeline = await getPipeline(device, composeShader({ label, enables, constants, aliases, modules }));
  return (buffers) => {
    const group = device.createBindGroup({
      label,
      layout: pipeline.getBindGroupLayout(0),
      entries: buffers.map((buffer, binding) => ({
        binding,
        resource: 'buffer' in buffer ? buffer : { buffer },
      })),
    });
    return {
      encode(pass) {
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, group);
        pass.dispatchWorkgroups(x, y, z);
      },
    };
  };
}
