import assert from "node:assert/strict";
import { test } from "node:test";
import { joinPieces, readTexts } from "../src/pages/bench/opened.ts";

test("texts are read as Python writes them", () => {
  const cases: [string, string[] | null][] = [
    ["' Mary', ' John'", [" Mary", " John"]],
    [`"it's", '\\'"\\\\'`, ["it's", `'"\\`]],
    [String.raw`'\n\t\x85\u3042\U0001f642🙂'`, ["\n\t\x85あ🙂🙂"]],
    ["", []],
    ["464", null],
    ["{' a', ' b'}", null],
    ["' a", null],
  ];
  for (const [code, texts] of cases) assert.deepEqual(readTexts(code), texts, code);
});

test("a character that is split over tokens is one again", () => {
  assert.equal(joinPieces(["He", " \\xf0\\x9f", "\\x99\\x82", "!"]), "He 🙂!");
});
