// Every function of the package that a backend may call, and what is said of it: nothing if it is expected to work as it does with the
// service it was written for, `differs` with how it works otherwise, `not_applicable` with why nobody can want it here.

import * as sdk from "@trigger.dev/sdk";

const outside = "needs a running task: outside one it throws, or does nothing, also with the service it was written for";
const inGuest = "defines a task in JavaScript; tasks are components here, and their SDKs have it";

export const surface = [
  { function: "configure" },
  { function: "auth.configure" },
  { function: "auth.withAuth" },
  { function: "TriggerClient" },
  { function: "tasks.trigger" },
  { function: "tasks.batchTrigger" },
  { function: "tasks.triggerAndPoll", not_applicable: "the package has no such function any more; tasks.trigger and runs.poll do it" },
  { function: "tasks.triggerAndSubscribe", not_applicable: outside },
  { function: "tasks.triggerAndWait", not_applicable: outside },
  { function: "tasks.batchTriggerAndWait", not_applicable: outside },
  ...["onStart", "onStartAttempt", "onFailure", "onSuccess", "onComplete", "onWait", "onResume", "onCancel", "handleError", "catchError", "middleware"].map(
    (hook) => ({ function: `tasks.${hook}`, not_applicable: inGuest })
  ),
  { function: "batch.trigger" },
  { function: "batch.triggerByTask" },
  { function: "batch.retrieve" },
  { function: "batch.triggerAndWait", not_applicable: outside },
  { function: "batch.triggerByTaskAndWait", not_applicable: outside },
  { function: "runs.retrieve" },
  { function: "runs.list" },
  { function: "runs.cancel" },
  { function: "runs.replay" },
  { function: "runs.reschedule" },
  { function: "runs.poll" },
  { function: "runs.bulk.cancel" },
  { function: "runs.bulk.replay" },
  { function: "runs.bulk.retrieve" },
  { function: "runs.bulk.abort" },
  { function: "runs.bulk.list" },
  { function: "runs.bulk.poll" },
  { function: "runs.subscribeToRun" },
  { function: "runs.subscribeToRunsWithTag" },
  { function: "runs.subscribeToBatch" },
  { function: "runs.fetchStream" },
  { function: "idempotencyKeys.create" },
  { function: "idempotencyKeys.reset" },
  { function: "wait.createToken" },
  { function: "wait.completeToken" },
  { function: "wait.retrieveToken" },
  { function: "wait.listTokens" },
  { function: "wait callback URLs" },
  { function: "wait.for", not_applicable: outside },
  { function: "wait.until", not_applicable: outside },
  { function: "wait.forToken", not_applicable: outside },
  { function: "schedules.create" },
  { function: "schedules.retrieve" },
  { function: "schedules.update" },
  { function: "schedules.del" },
  { function: "schedules.activate" },
  { function: "schedules.deactivate" },
  { function: "schedules.list" },
  { function: "schedules.timezones" },
  { function: "schedules.task", not_applicable: inGuest },
  { function: "queues.list" },
  { function: "queues.retrieve" },
  { function: "queues.pause" },
  { function: "queues.resume" },
  { function: "queues.overrideConcurrencyLimit" },
  { function: "queues.resetConcurrencyLimit" },
  { function: "concurrencyLimits.list" },
  { function: "concurrencyLimits.retrieve" },
  { function: "concurrencyLimits.override" },
  { function: "concurrencyLimits.reset" },
  { function: "concurrencyLimits.pause" },
  { function: "concurrencyLimits.resume" },
  { function: "envvars.list" },
  { function: "envvars.create" },
  { function: "envvars.retrieve" },
  { function: "envvars.update", differs: "the package's own function throws a ReferenceError before it asks any server, outside a task; PUT over HTTP works" },
  { function: "envvars.del" },
  { function: "envvars.upload" },
  { function: "deployments.list" },
  { function: "deployments.retrieveCurrent" },
  { function: "auth.createPublicToken" },
  { function: "auth.createTriggerPublicToken" },
  { function: "auth.createBatchTriggerPublicToken" },
  { function: "auth.withPublicToken" },
  { function: "auth.withTriggerPublicToken" },
  { function: "auth.withBatchTriggerPublicToken" },
  { function: "auth.getOIDCToken", not_applicable: outside },
  { function: "streams.read" },
  { function: "streams.input" },
  ...["pipe", "append", "writer"].map((name) => ({ function: `streams.${name}`, not_applicable: outside })),
  { function: "streams.define", not_applicable: "only gives a stream a name and a type" },
  { function: "tags.add", not_applicable: outside },
  { function: "metadata.*", not_applicable: outside },
  { function: "HTTP: payloads in the object store" },
  { function: "HTTP: run metadata" },
  { function: "HTTP: run tags" },
  { function: "HTTP: run result" },
  { function: "HTTP: run trace" },
  { function: "HTTP: run spans" },
  { function: "HTTP: run events" },
  { function: "HTTP: runs of a project" },
  { function: "errors and retries" },
  { function: "browsers" },
  ...["task", "schemaTask", "toolTask", "queue", "concurrencyLimit", "webhook", "defineWebhookEndpoint", "chatEvent", "defineConfig"].map((name) => ({
    function: name,
    not_applicable: inGuest,
  })),
  ...["heartbeats.*", "locals.*", "logger.*", "otel.*", "retry.*", "skills.*", "timeout.*", "usage.*", "waitUntil", "createCache"].map((name) => ({
    function: name,
    not_applicable: outside,
  })),
  ...["webhooks.*", "webhookSources.*", "providerProducers.*"].map((name) => ({
    function: name,
    not_applicable: "webhooks come to your backend, which triggers; there is no webhook service here",
  })),
  { function: "prompts.*", not_applicable: "prompts are no part of a task platform here" },
  { function: "query.*", not_applicable: "runs are rows of your own Postgres, which answers queries" },
  { function: "sessions.*", not_applicable: "sessions belong to the chat agents of the service it was written for" },
];

/** Functions of the package that the list does not name. */
export async function unlisted() {
  const known = new Set(surface.map(({ function: name }) => name));
  const missing = [];
  const visit = (path, value) => {
    const inKnownGroup = path.split(".").some((_, n, parts) => known.has(`${parts.slice(0, n + 1).join(".")}.*`));
    if (inKnownGroup || known.has(path)) return;
    if (typeof value === "function") {
      // Errors and the classes of values are not called by anybody.
      if (!/^[A-Z_]/.test(path) && !["normalizeKeyString", "markChatAgentRunForStreamsWarning", "isChatChunkTooLargeError"].includes(path)) missing.push(path);
    } else if (typeof value === "object" && value !== null) {
      for (const [name, member] of Object.entries(value)) visit(`${path}.${name}`, member);
    }
  };
  for (const [name, value] of Object.entries(sdk)) visit(name, value);
  return missing;
}
