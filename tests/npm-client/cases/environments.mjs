// envvars.* and deployments.*

import assert from "node:assert/strict";

import { deployments, envvars, tasks } from "@trigger.dev/sdk";

import { cases } from "../cases.mjs";
import { all, as, finished, http, otherKey, project, refused, unique } from "../support.mjs";

const name = () => unique("VAR").toUpperCase().replaceAll("-", "_");

cases("envvars.create", {
  "a task sees it": async () => {
    const variable = name();
    assert.equal((await envvars.create(project, "dev", { name: variable, value: "a value" })).success, true);
    const run = await finished((await tasks.trigger("variables", { name: variable, ms: 0 })).id);
    assert.equal(run.output.before, "a value");
  },
  "a name that is taken, a wrong name and another project are refused": async () => {
    const variable = name();
    await envvars.create(project, "dev", { name: variable, value: "1" });
    await refused(400, () => envvars.create(project, "dev", { name: "1 2", value: "x" }));
    await refused(404, () => envvars.create("proj_another", "dev", { name: variable, value: "x" }));
  },
});

cases("envvars.list", {
  "secret values are not shown": async () => {
    const [open, secret] = [name(), name()];
    await envvars.create(project, "dev", { name: open, value: "open" });
    await envvars.create(project, "dev", { name: secret, value: "hidden", isSecret: true });
    const listed = await envvars.list(project, "dev");
    assert.equal(listed.find((variable) => variable.name === open).value, "open");
    const hidden = listed.find((variable) => variable.name === secret);
    assert.ok(hidden.isSecret && !hidden.value.includes("hidden"));
    await refused(404, () => envvars.list("proj_another", "dev"));
  },
});

cases("envvars.retrieve", {
  "one by its name": async () => {
    const variable = name();
    await envvars.create(project, "dev", { name: variable, value: "v" });
    assert.equal((await envvars.retrieve(project, "dev", variable)).value, "v");
    await refused(404, () => envvars.retrieve(project, "dev", name()));
  },
});

cases("envvars.update", {
  "the client's own function throws, and over HTTP it works": async () => {
    const variable = name();
    await envvars.create(project, "dev", { name: variable, value: "1" });
    await assert.rejects(async () => envvars.update(project, "dev", variable, { value: "2" }), ReferenceError);
    const answer = await http("PUT", `/api/v1/projects/${project}/envvars/dev/${variable}`, { body: { value: "2" } });
    assert.deepEqual([answer.status, answer.body], [200, { success: true }]);
    assert.equal((await envvars.retrieve(project, "dev", variable)).value, "2");
  },
});

cases("envvars.del", {
  "it is gone": async () => {
    const variable = name();
    await envvars.create(project, "dev", { name: variable, value: "1" });
    assert.equal((await envvars.del(project, "dev", variable)).success, true);
    await refused(404, () => envvars.retrieve(project, "dev", variable));
  },
});

cases("envvars.upload", {
  "many at once, and not over others unless told so": async () => {
    const [one, two] = [name(), name()];
    assert.equal((await envvars.upload(project, "dev", { variables: { [one]: "1", [two]: "2" } })).success, true);
    await refused(400, () => envvars.upload(project, "dev", { variables: { [one]: "3" } }));
    await envvars.upload(project, "dev", { variables: { [one]: "3" }, override: true });
    assert.equal((await envvars.retrieve(project, "dev", one)).value, "3");
  },
});

cases("deployments.retrieveCurrent", {
  "the one that new runs start on": async () => {
    const current = await deployments.retrieveCurrent();
    assert.match(current.version, /^\d{8}\.\d+$/);
    assert.equal(current.status, "DEPLOYED");
    assert.equal((await finished((await tasks.trigger("echo", 1)).id)).version, current.version);
  },
  "404 where there is none": async () => {
    await refused(404, () => as(otherKey, () => deployments.retrieveCurrent()));
  },
});

cases("deployments.list", {
  "newest first": async () => {
    const listed = await all(deployments.list({ limit: 1 }));
    assert.ok(listed.length >= 2);
    assert.ok(listed[0].createdAt >= listed[1].createdAt);
    assert.ok((await all(deployments.list({ status: "DEPLOYED", period: "1d" }))).length >= 2);
  },
});
