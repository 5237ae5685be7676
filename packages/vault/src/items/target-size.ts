import { GIB } from "@osr/base/units";

/** Sizes that a machine can have at the recovery site, under the names that Azure's users know. */
export const TARGET_SIZES = [
  { name: "Standard_B1ms", cpuCount: 1, memoryBytes: 2 * GIB },
  { name: "Standard_B2s", cpuCount: 2, memoryBytes: 4 * GIB },
  { name: "Standard_B2ms", cpuCount: 2, memoryBytes: 8 * GIB },
  { name: "Standard_B4ms", cpuCount: 4, memoryBytes: 16 * GIB },
  { name: "Standard_D4s_v3", cpuCount: 4, memoryBytes: 16 * GIB },
  { name: "Standard_D8s_v3", cpuCount: 8, memoryBytes: 32 * GIB },
] as const;

/** Undefined for an unknown name: the machine then keeps its own size. */
export function targetSize(
  name: string | undefined,
): { readonly cpuCount: number; readonly memoryBytes: number } | undefined {
  return TARGET_SIZES.find((size) => size.name.toLowerCase() === name?.toLowerCase());
}
