import assert from "node:assert/strict";
import { test } from "node:test";
import { plain, ticks, within } from "../src/numbers.ts";
import { namesOf } from "../src/views/attribution.tsx";
import { boxesOf, massOf, stepIn } from "../src/views/icicle.tsx";
import { bootstrapInterval } from "../src/views/bootstrap.ts";
import { arrangeAxes } from "../src/views/patching.tsx";
import { writeCsv } from "../src/views/present.tsx";
import { barsOf, orderRows, type Rows } from "../src/views/token_table.tsx";

const rows: Rows = {
  noun: "token",
  texts: [" a", "b", " Ab", "</script>"],
  ids: [7, 8, 9, 10],
  columns: [{ name: "logit", values: Float32Array.of(1, NaN, 3, -2), show: plain, bar: 3 }],
};
const order = (query: string, by: number | null, down = true): number[] => [...orderRows(rows, query, by, down)];

test("rows are sorted both ways, NaN last", () => {
  assert.deepEqual(order("", null), [0, 1, 2, 3]);
  assert.deepEqual(order("", 0), [2, 0, 3, 1]);
  assert.deepEqual(order("", 0, false), [3, 0, 2, 1]);
});

test("a search finds texts of either case, spaces written as dots, and ids", () => {
  assert.deepEqual(order("AB", null), [2]);
  assert.deepEqual(order("·a", null), [0, 2]);
  assert.deepEqual(order("10", null), [3]);
  assert.deepEqual(order("</scr", null), [3]);
  assert.deepEqual(order("zzz", 0), []);
});

test("bars have one zero, and running ones begin where the last has ended", () => {
  const at = barsOf({ ...rows.columns[0], bar: 4 }, Uint32Array.of(0, 3, 1));
  assert.deepEqual(at(0), { from: 0.5, to: 0.625, zero: 0.5 });
  assert.deepEqual(at(1), { from: 0.25, to: 0.5, zero: 0.5 });
  assert.deepEqual(at(2), { from: 0.5, to: 0.5, zero: 0.5 });
  const running = barsOf({ ...rows.columns[0], running: true }, Uint32Array.of(2, 3, 0)); // sums 3, 1, 2
  assert.deepEqual([0, 1, 2].map((i) => [running(i).from * 3, running(i).to * 3]), [[0, 3], [1, 3], [1, 2]]); // prettier-ignore
});

test("parts are named in the order of their values", () => {
  const names = namesOf({ embed: {}, head: { layer: 1, head: 2 }, source: { layer: 1, head: 1, key: 2 }, bias: {} }, ["<s>", " upon"]);
  assert.deepEqual(names, ["embed", "head.0.0", "head.0.1", "source.0.0 ← 0 <s>", "source.0.0 ← 1 ·upon", "bias"]);
});

test("axes of a patching are rows, columns, or shown one at a time", () => {
  const cases: [string[], string[], string | null, string[]][] = [
    [["layer", "pos", "pair"], ["layer"], "pos", []],
    [["direction", "site", "layer", "role", "pair"], ["layer"], "role", ["direction", "site"]],
    [["layer", "head", "pair"], ["layer"], "head", []],
    [["layer", "kv_head", "role", "pair"], ["layer", "kv_head"], "role", []],
    [["layer", "pair"], ["layer"], null, []],
  ];
  for (const [axes, rows, columns, sliced] of cases) assert.deepEqual(arrangeAxes(axes), { rows, columns, sliced }, axes.join());
});

test("intervals are those of a mean, the same each time", () => {
  const values = Float64Array.from({ length: 100 }, (_, i) => (i * 37) % 100);
  const ones = new Float64Array(100).fill(1);
  const [low, high] = bootstrapInterval(values, ones);
  assert.deepEqual(bootstrapInterval(values, ones), [low, high]);
  const error = 28.87 / Math.sqrt(100);
  assert.ok(Math.abs(low - (49.5 - 1.96 * error)) < 0.8 && Math.abs(high - (49.5 + 1.96 * error)) < 0.8, `${low} ${high}`);
  assert.deepEqual(bootstrapInterval([2, 2], [1, 1]), [2, 2]);
  assert.deepEqual(bootstrapInterval([2, 6], [1, 3]), [2, 2], "a ratio of sums over the same pairs");
});

test("numbers beside each other have as many decimals as their range", () => {
  assert.deepEqual([0.0131, 0.00001, -0.00001, -0.006, NaN].map((value) => within(value, 0.012)), ["0.013", "0.000", "0.000", "−0.006", ""]);
  assert.deepEqual([within(12.3, 40), within(-0.059, 1), within(1, 1.2)], ["12", "−0.06", "1.00"]);
  assert.equal(plain(0.734), "0.73");
});

test("ticks are round and within", () => {
  assert.deepEqual(ticks(-0.9, 1, 4), [-0.5, 0, 0.5, 1]);
  assert.deepEqual(ticks(0, 0.013, 6), [0, 0.005, 0.01]);
});

test("CSV quotes what has to be quoted", () => {
  assert.equal(writeCsv([["a", "b"], [',"', 1.5], ["\n", "日"]]), 'a,b\n",""",1.5\n"\n",日\n'); // prettier-ignore
});

test("probability is grouped, nothing of it is lost, and what is not listed is said", () => {
  const root = massOf([" the", " then", "12", "!", " "], [0.4, 0.1, 0.2, 0.1, 0.05]);
  assert.ok(Math.abs(root.mass - 1) < 1e-12);
  assert.deepEqual(root.children.map(({ name }) => name), ["·…", "no space", "not listed"]);
  const [spaced, bare, rest] = root.children;
  assert.ok(Math.abs(spaced.mass - 0.55) < 1e-12 && Math.abs(bare.mass - 0.3) < 1e-12 && Math.abs(rest.mass - 0.15) < 1e-12);
  assert.deepEqual(spaced.children.map(({ name }) => name), ["word", "space"]);
  assert.deepEqual(spaced.children[0].children[0].children.map(({ name }) => name), ["·the", "·then"]);
  assert.deepEqual(bare.children.map(({ name, n }) => [name, n]), [["number", 1], ["marks", 1]]); // prettier-ignore
  const boxes = boxesOf(root);
  for (const { node, depth, from, to } of boxes) {
    assert.ok(Math.abs(to - from - node.mass) < 1e-12);
    const below = boxes.filter((box) => box.depth === depth + 1 && box.from >= from && box.to <= to + 1e-12);
    assert.ok(below.length === node.children.length);
  }
});

test("boxes too narrow to be read share one, and nothing of their mass is lost", () => {
  const boxes = boxesOf(massOf(Array.from("abcdefghijklmnopqrstuvwxyz", (letter) => ` ${letter}`), [0.9, ...Array<number>(25).fill(0.004)]));
  const letters = boxes.filter(({ depth }) => depth === 3);
  assert.deepEqual(letters.map(({ node }) => [node.name, node.n]), [["a…", 1], ["others", 25]]); // prettier-ignore
  assert.ok(Math.abs(letters[1].to - 1) < 1e-9);
});

test("keys go from box to box of what probability is made of", () => {
  const boxes = boxesOf(massOf([" the", "12"], [0.6, 0.4]));
  const name = (i: number | undefined): string | undefined => (i === undefined ? i : boxes[i].node.name);
  const at = (name: string): number => boxes.findIndex(({ node }) => node.name === name);
  const cases: [string, string, string | undefined][] = [
    ["all tokens", "ArrowDown", "·…"], ["·…", "ArrowRight", "no space"], ["no space", "ArrowLeft", "·…"], ["no space", "ArrowDown", "number"],
    ["number", "ArrowUp", "no space"], ["all tokens", "ArrowUp", undefined], ["no space", "ArrowRight", undefined], ["number", "x", undefined],
  ]; // prettier-ignore
  for (const [from, key, to] of cases) assert.equal(name(stepIn(boxes, at(from), key)), to, `${from} ${key}`);
});

test("of many tokens the most probable have a place, the others share one", () => {
  const texts = Array.from({ length: 500 }, (_, i) => ` a${i}`);
  const root = massOf(texts, Array.from({ length: 500 }, (_, i) => (i + 1) / 125_250));
  const [letter] = root.children[0].children[0].children;
  assert.equal(letter.children.length, 61);
  assert.equal(letter.children.find(({ name }) => name === "others")!.n, 440);
});
