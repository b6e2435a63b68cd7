// What the guest uses of the interfaces in wit/, as componentize-js shows them to JavaScript.

declare module "dormouse:task/wait@0.1.0" {
  export function forDuration(ms: bigint, idempotency?: undefined): void;
  export function until(at: bigint, idempotency?: undefined): void;
}

declare module "dormouse:task/telemetry@0.1.0" {
  export type Level = "debug" | "log" | "info" | "warn" | "error";
  export function log(level: Level, message: string, attributes: string, parent?: bigint): void;
}
