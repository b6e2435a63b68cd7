// schedules.*

import assert from "node:assert/strict";

import { schedules } from "@trigger.dev/sdk";

import { cases } from "../cases.mjs";
import { as, otherKey, refused, unique } from "../support.mjs";

const task = "on-schedule";
const absent = "sched_00000000000000000000000000";
const make = (more = {}) => schedules.create({ task, cron: "0 9 * * 1-5", deduplicationKey: unique(), ...more });

cases("schedules.create", {
  "a schedule with everything": async () => {
    const deduplicationKey = unique();
    const made = await make({ deduplicationKey, externalId: "user_1", timezone: "Europe/Berlin" });
    assert.deepEqual(
      [made.type, made.task, made.active, made.deduplicationKey, made.externalId, made.timezone, made.generator.expression],
      ["IMPERATIVE", task, true, deduplicationKey, "user_1", "Europe/Berlin", "0 9 * * 1-5"]
    );
    assert.ok(made.nextRun > new Date());
    assert.equal(made.environments.length, 1);
  },
  "the same deduplication key is the same schedule": async () => {
    const deduplicationKey = unique();
    const [first, again] = [await make({ deduplicationKey }), await make({ deduplicationKey, cron: "0 10 * * *" })];
    assert.deepEqual([again.id, again.generator.expression], [first.id, "0 10 * * *"]);
  },
  "a wrong expression, zone or task is refused": async () => {
    await refused(422, () => make({ cron: "never" }));
    await refused(422, () => make({ timezone: "Mars/Olympus" }));
    await refused(422, () => make({ task: "echo" }));
  },
});

cases("schedules.retrieve", {
  "one by its id; one that is not there, or is another environment's, is 404": async () => {
    const { id } = await make();
    assert.equal((await schedules.retrieve(id)).id, id);
    await refused(404, () => schedules.retrieve(absent));
    await refused(404, () => as(otherKey, () => schedules.retrieve(id)));
  },
});

cases("schedules.update", {
  "changes what it says": async () => {
    const { id } = await make({ externalId: "a" });
    const changed = await schedules.update(id, { task, cron: "30 1 * * *", externalId: "b" });
    assert.deepEqual([changed.id, changed.generator.expression, changed.externalId], [id, "30 1 * * *", "b"]);
    await refused(404, () => schedules.update(absent, { task, cron: "30 1 * * *" }));
  },
});

cases("schedules.deactivate", {
  "it starts nothing any more": async () => {
    const { id } = await make();
    assert.equal((await schedules.deactivate(id)).active, false);
    await refused(404, () => schedules.deactivate(absent));
  },
});

cases("schedules.activate", {
  "it goes on": async () => {
    const { id } = await make();
    await schedules.deactivate(id);
    assert.equal((await schedules.activate(id)).active, true);
    await refused(404, () => schedules.activate(absent));
  },
});

cases("schedules.del", {
  "it is gone": async () => {
    const { id } = await make();
    assert.equal((await schedules.del(id)).id, id);
    await refused(404, () => schedules.retrieve(id));
    await refused(404, () => schedules.del(id));
  },
});

cases("schedules.list", {
  "pages with numbers": async () => {
    const made = [(await make()).id, (await make()).id, (await make()).id];
    const found = [];
    for (let page = 1, pages = 1; page <= pages; page++) {
      const { data, pagination } = await schedules.list({ page, perPage: 2 });
      assert.equal(pagination.currentPage, page);
      pages = pagination.totalPages;
      found.push(...data.map(({ id }) => id));
    }
    assert.ok(made.every((id) => found.includes(id)));
  },
});

cases("schedules.timezones", {
  "all that a schedule can have": async () => {
    const { timezones } = await schedules.timezones();
    assert.ok(timezones.includes("UTC") && timezones.includes("Europe/Berlin"));
    assert.ok(!(await schedules.timezones({ excludeUtc: true })).timezones.includes("UTC"));
  },
});
