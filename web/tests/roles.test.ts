import assert from "node:assert/strict";
import { test } from "node:test";
import { readRoles } from "../src/pages/bench/roles.ts";

test("roles are words, spaces included, or positions, of one prompt or of both", () => {
  assert.deepEqual(readRoles("S2= John/ Mary, end=-1,"), [
    { name: "S2", clean: " John", corrupted: " Mary" },
    { name: "end", clean: -1, corrupted: null },
  ]);
  assert.deepEqual(readRoles("a=b=c/ 3"), [{ name: "a", clean: "b=c", corrupted: 3 }]);
  assert.deepEqual(readRoles("x"), [{ name: "x", clean: "", corrupted: null }]);
  assert.deepEqual(readRoles(" "), []);
});
