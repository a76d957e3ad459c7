import assert from "node:assert/strict";
import { test } from "node:test";
import { writeArrays } from "../src/arrays.ts";
import { hostedModel } from "../src/host.ts";
import { readEvents } from "../src/pages/server.ts";
import { colourLimit, type Payload, rankOf, readModel, visiblePiece, watch } from "../src/views/reading.ts";

const payload: Payload = {
  view: "coloured_text", name: "PCA 0 of resid_pre.1", pieces: [["<s>", " a", "b"]], special: [[true, false, false]],
  deviation: 2, offset: 3, centred: true, left_out: [0],
}; // prettier-ignore
const data = writeArrays({ payload, arrays: { values: { shape: [1, 3], data: Float32Array.of(90, 4, -2) } } });
const read = (keys: Record<string, unknown>): number[] => [...readModel(hostedModel({ data, ...keys })).values];

test("values in each unit and on each centre", () => {
  assert.deepEqual(read({}), [45, 2, -1]);
  assert.deepEqual(read({ units: "stream" }), [90, 4, -2]);
  assert.deepEqual(read({ units: "stream", centre: "none" }), [93, 7, 1]);
  assert.deepEqual(read({ centre: "none" }), [46.5, 3.5, 0.5]);
});

test("each position may have a mean of its own", () => {
  const by_position = [80, 1, -1];
  assert.deepEqual(read({ units: "stream", centre: "position", payload: { by_position } }), [10, 3, -1]);
  assert.deepEqual(read({ units: "stream", centre: "position" }), [90, 4, -2]);
  const centred = { by_position, centre: "position" };
  assert.deepEqual(read({ units: "stream", payload: centred }), [90, 4, -2]);
  assert.deepEqual(read({ units: "stream", centre: "mean", payload: centred }), [170, 5, -3]);
  assert.deepEqual(read({ units: "stream", payload: { centre: "none" } }), [90, 4, -2]);
  assert.deepEqual(read({ units: "stream", centre: "mean", payload: { centre: "none" } }), [87, 1, -5]);
});

test("values and parts of the payload can be replaced", () => {
  assert.deepEqual(read({ values: Float32Array.of(1, 2, 3), payload: { deviation: 0.5 } }), [2, 4, 6]);
  assert.deepEqual(read({ units: "sd", payload: { deviation: null } }), [90, 4, -2]);
  assert.deepEqual(read({ centre: "none", units: "stream", payload: { centred: false } }), [90, 4, -2]);
});

test("colour ranges leave out what they say they leave out", () => {
  assert.equal(colourLimit([Float32Array.of(900, 1, -2, NaN)], [0]), 1.99);
  assert.equal(colourLimit([Float32Array.of(900)], [0]), 1);
  assert.equal(colourLimit([new Float32Array(9)], []), 1);
});

test("ranks count from the highest", () => {
  const values = Float32Array.of(3, NaN, 5, -1);
  assert.deepEqual([5, 3, -1].map((value) => rankOf(values, value)), [1, 2, 3]);
});

test("white space in a piece can be seen", () => assert.equal(visiblePiece(" a\tb\n"), "·a⇥b↵"));

test("many changes in one task are one call, and none after the end", async () => {
  const model = hostedModel({ a: 0, b: 0 });
  let calls = 0;
  const stop = watch(model, ["a", "b"], () => calls++);
  model.set("a", 1);
  model.set("b", 1);
  model.set("b", 1);
  await null;
  assert.equal(calls, 1);
  model.set("a", 2);
  stop();
  await null;
  assert.equal(calls, 1);
});

test("server-sent events are read across chunks", async () => {
  const text = 'event: progress\ndata: {"done": 1}\n\nevent: result\r\ndata: {"é":\r\ndata: 2}\r\n\r\n: note\n\n';
  const bytes = new TextEncoder().encode(text);
  async function* chunks(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < bytes.length; at += 3) yield bytes.subarray(at, at + 3);
  }
  const events = [];
  for await (const event of readEvents(chunks())) events.push(event);
  assert.deepEqual(events, [{ event: "progress", data: '{"done": 1}' }, { event: "result", data: '{"é":\n2}' }]);
});
