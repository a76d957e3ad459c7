import assert from "node:assert/strict";
import { test } from "node:test";
import { readFields, writeFields } from "../src/pages/bench/bench.ts";
import { model, readSession, theme, writeSession } from "../src/pages/session.ts";
import { component, MOST, readFragment, readQuery, rowOf, type Shown, siteName, START, STEER, writeFragment, writeQuery } from "../src/pages/stream/address.ts";

const start: Shown = { ...START, kind: "resid_pre", layer: 2 };

test("every choice goes through the address and comes back", () => {
  const choices: Partial<Shown>[] = [
    {},
    { kind: "embed", layer: null },
    { kind: "z", layer: 3, head: 11 },
    { kind: "resid_post", layer: 11, rows: [rowOf(component(767))], units: "stream", centre: "none" },
    { rows: [{ weight: -0.5, of: { kind: "token", token: " Mary", minus: " &John" }, muted: false }, { ...rowOf(component(3)), muted: true }], free: true, mixing: true },
    { every: true },
    { order: "strongest" },
    { order: 17 },
    { find: { by: "vector", token: "" } },
    { ask: "explain" },
    { ask: "causal_check:0.5" },
    { find: { by: "token", token: " a&b:c" } },
    { beside: [rowOf(component(3))], against: "own.2" },
    { steer: STEER },
    { steer: { ...STEER, prompt: "A & b", strength: -2.5, on: "new", first: true } },
    { rows: [rowOf({ kind: "pca", component: 4, site: "resid_pre.1", here: true })] },
    { scale: { mode: "text" }, count: 60, selected: "own.0", pos: 24 },
    { scale: { mode: "fixed", limit: 2.5 }, selected: "12" },
  ];
  for (const choice of choices) {
    const shown = { ...start, ...choice };
    const { shown: read, problems } = readQuery(new URLSearchParams(writeQuery(shown).toString()), start);
    assert.deepEqual([read, problems], [shown, []]);
  }
  assert.equal(siteName({ kind: "resid_pre", layer: 3, head: null }), "resid_pre.3");
});

test("what an address says wrong is named, the rest is kept", () => {
  const { shown, problems } = readQuery(new URLSearchParams("site=resid_mid.1&component=-4&units=cosine&scale=-1&pos=1e9&text=own.x&other=1&along=[[1]]&steer={\"on\":1}"), start);
  assert.deepEqual(shown, { ...start, kind: "resid_mid", layer: 1 });
  assert.equal(problems.length, 7);
  assert.match(problems.join(), /component=-4/);
});

test("a link does not ask for more texts than are shown", () => {
  assert.equal(readQuery(new URLSearchParams("count=9999999"), start).shown.count, MOST);
});

test("texts go through the fragment and come back, short", async () => {
  const texts = ["Once upon a time. ".repeat(500), "<img src=x onerror=alert(1)></script>", "日本語\n\t🙂"];
  const fragment = await writeFragment(texts);
  assert.match(fragment, /^#texts=[\w-]+$/);
  assert.ok(fragment.length < 400, `${fragment.length} characters`);
  assert.deepEqual(await readFragment(fragment), texts);
  assert.equal(await writeFragment([]), "");
  assert.deepEqual(await readFragment(""), []);
});

test("a damaged fragment is refused", async () => {
  const fragment = await writeFragment(["Once upon a time", "there was"]);
  for (const damaged of ["#texts=abc", "#texts=!!!", fragment.slice(0, -6), await writeFragment([1 as unknown as string])]) await assert.rejects(readFragment(damaged));
});

test("theme and model go through the address; another model and no theme are named", () => {
  model.value = { name: "org/some model" } as typeof model.value;
  theme.value = "dark";
  const query = new URLSearchParams(writeSession(new URLSearchParams("site=embed")));
  theme.value = null;
  assert.deepEqual(readSession(query), []);
  assert.equal(theme.value, "dark");
  assert.equal(query.get("site"), "embed");
  const problems = readSession(new URLSearchParams("theme=pink&model=other"));
  assert.match(problems.join(), /theme=pink.*the model other; this server shows org.some model/);
  assert.equal(theme.value, null);
});

test("what is asked for and how it is looked at go through the address; a damaged look is named", () => {
  const start = { text: "usual", value: "prob" };
  const [fields, look] = [{ text: "a=b&c </script>\n", value: "prob" }, { chosen: { shade: "best" }, picked: { row: 1, column: 2 } }];
  const query = writeFields(fields, look, start);
  assert.deepEqual([...query.keys()], ["text", "look"]);
  assert.deepEqual(readFields(new URLSearchParams(query.toString()), start), { fields, look, problems: [] });
  assert.equal(writeFields(start, { picked: null }, start).toString(), "");
  for (const damaged of ["{", "3", "[1]", "null"]) {
    const read = readFields(new URLSearchParams({ value: "kl", look: damaged }), start);
    assert.deepEqual([read.fields, read.look, read.problems.length], [{ text: "usual", value: "kl" }, {}, 1]);
  }
});
