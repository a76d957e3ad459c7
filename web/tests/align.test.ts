import assert from "node:assert/strict";
import { test } from "node:test";
import { align, sayAligned } from "../src/pages/stream/align.ts";

const split = (text: string): string[] => text.split(" ");
const compare = (a: string, b: string): (string | null)[] => align(split(a), split(b)).map((at) => (at === null ? null : split(b)[at]));

test("texts of one length are compared position by position, whatever they say", () => {
  assert.deepEqual(align(split("a b c d"), split("b c d e")), [0, 1, 2, 3]);
  assert.deepEqual(align([], []), []);
});

test("what both have is aligned around what one lacks", () => {
  assert.deepEqual(align(split("Tom gave it to Anna"), split("Tom gave it back to Anna")), [0, 1, 2, 4, 5]);
  assert.deepEqual(align(split("Tom gave it back to Anna"), split("Tom gave it to Anna")), [0, 1, 2, null, 3, 4]);
  assert.deepEqual(align(split("a b"), split("x y a b")), [2, 3]);
  assert.deepEqual(align(split("a b x"), split("a b")), [0, 1, null]);
});

test("two changes leave what stands between them aligned", () => {
  assert.deepEqual(compare("one two three four five six", "one 2 two three four six"), ["one", "2", "two", "three", "four", "six"]);
  assert.deepEqual(compare("the cat sat on the mat right now", "the old cat sat on the mat"), ["the", "cat", "sat", "on", "the", "mat", null, null]);
});

test("what stands in the place of as many others is compared with them", () => {
  assert.deepEqual(compare("Tom saw Anna in the park", "Tom saw Mary in the old park"), ["Tom", "saw", "Mary", "in", "the", "park"]);
  assert.deepEqual(compare("a b c", "x y"), [null, null, null]);
});

test("positions rise, none is named twice, and the same text is itself", () => {
  let seed = 1;
  const draw = (n: number): number => (seed = (seed * 48271) % 2147483647) % n;
  for (let round = 0; round < 300; round++) {
    const [a, b] = [0, 1].map(() => Array.from({ length: draw(12) }, () => "abcd"[draw(4)]));
    const match = align(a, b);
    const named = match.filter((at): at is number => at !== null);
    assert.equal(match.length, a.length);
    assert.ok(named.every((at, i) => at >= 0 && at < b.length && (i === 0 || at > named[i - 1])), `${a} | ${b} | ${match}`);
    assert.deepEqual(align(a, a), a.map((_, i) => i));
    if (a.some((token) => b.includes(token))) assert.ok(named.length > 0);
  }
});

test("what was aligned is said", () => {
  const say = (a: string, b: string): string => sayAligned(split(a), split(b), align(split(a), split(b)));
  assert.equal(say("a b", "c d"), "Both have 2 tokens, which are compared position by position.");
  assert.equal(say("a b c", "x y"), "The two have no token in common, and nothing is compared.");
  assert.equal(say("Tom saw Anna in the park", "Tom saw Mary in the old park"), "Of 6 tokens here and 7 there, 5 are the same, and 1 in the place of another. Compared with none: 0 here, hatched, and 1 there.");
});
