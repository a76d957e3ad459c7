import assert from "node:assert/strict";
import { test } from "node:test";
import { below, fieldsOf, fitLook, listOf, oneCellOf, oneOf, someOf } from "../src/views/look.ts";

const fits = {
  chosen: { shade: oneOf("best", "entropy"), slice: someOf({ site: below(2) }) },
  picked: fieldsOf({ text: below(1), cells: listOf(oneCellOf(4, 3), 2) }),
};

test("a look that fits is taken as it is", () => {
  const look = { chosen: { shade: "best", slice: { site: 1 } }, picked: { text: 0, cells: [{ row: 3, column: 2 }] }, scale: { mode: "fixed", limit: 2 } };
  assert.deepEqual(fitLook(look, fits), { look, left: [] });
});

test("what does not fit is left out, each part by itself, and named", () => {
  const cases: [object, string[]][] = [
    [{ chosen: { shade: "zzz", slice: { site: 2 }, other: 1 } }, ['shade="zzz"', 'slice={"site":2}', "other=1"]],
    [{ chosen: { slice: { layer: 0 } } }, ['slice={"layer":0}']],
    [{ chosen: { toString: 1 } }, ["toString=1"]],
    [{ chosen: [] }, ["chosen=[]"]],
    [{ picked: { text: "x" } }, ['picked={"text":"x"}']],
    [{ picked: { text: 0, cells: [] } }, ['picked={"text":0,"cells":[]}']],
    [{ picked: { text: 0, cells: [{ row: 4, column: 0 }] } }, ['picked={"text":0,"cells":[{"row":4,"column":0}]}']],
    [{ picked: { text: 0, cells: [{ row: 1.5, column: 0 }] } }, ['picked={"text":0,"cells":[{"row":1.5,"column":0}]}']],
    [{ other: 1 }, ["other=1"]],
    [{ scale: 5 }, ["scale=5"]],
    [{ scale: { mode: "fixed", limit: -1 } }, ['scale={"mode":"fixed","limit":-1}']],
    [{ chosen: { shade: null }, picked: null }, []],
  ];
  for (const [look, left] of cases) assert.deepEqual(fitLook(look, fits), { look: { chosen: undefined, picked: undefined, scale: undefined }, left }, JSON.stringify(look));
});
