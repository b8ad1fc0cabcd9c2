/**
 * Workgroups in one dimension where they fit, else spread over two with at most one row to spare; shaders join them as
 * `workgroup.y * num_workgroups.x + workgroup.x`. The second may still exceed `most`: that is the caller's to refuse.
 */
export function foldGrid(workgroups: number, most: number): readonly [x: number, y: number] {
  const y = Math.ceil(workgroups / most);
  return [Math.ceil(workgroups / y), y];
}
