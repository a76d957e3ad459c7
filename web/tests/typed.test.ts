import assert from "node:assert/strict";
import { test } from "node:test";
import { readNumber, readPositions } from "../src/pages/bench/typed.ts";

test("what is typed is a number, or is refused in a sentence", () => {
  for (const [text, number] of [["10", 10], [" -0.5 ", -0.5], ["1e-3", 0.001], [".5", 0.5]] as const) assert.equal(readNumber(text, "2"), number);
  for (const text of ["abc", "0x10", "1_000", "Infinity", "NaN", "1e999", "1,5", "5 %"]) assert.throws(() => readNumber(text, "0.5"), { message: `“${text}” is no number.`, hint: "Give one, as 0.5." });
  for (const text of ["", "  "]) assert.throws(() => readNumber(text, "2"), { message: "No number is given." });
});

test("positions are whole numbers", () => {
  assert.deepEqual(readPositions("3, -1,0"), [3, -1, 0]);
  for (const text of ["a", "2-5", "1.5", "1e3"]) assert.throws(() => readPositions(`3, ${text}`), { message: `“${text}” is no position.` });
  for (const text of ["", "3,"]) assert.throws(() => readPositions(text), { message: "No position is given." });
});
