import assert from "node:assert/strict";
import { test } from "node:test";
import { STEPS } from "../src/shades.ts";
import { boxOf, cellAt, type Heat, layOut, OUT, siteLabel, stepsOf, stepTo } from "../src/views/heat.ts";
import { columnsOf, fitted, svgPen, widthOf } from "../src/views/pen.ts";

const heat: Heat = {
  rows: ["0", "1", "2"].map((text) => ({ text })),
  columns: ["·a", "·a", "·cat", "日"].map((text, index) => ({ text, index })),
  steps: new Int8Array(12),
  upward: true,
  width: [10, 30],
  height: 20,
};

test("values fall into shades; what is not there is left out, what is noise is zero", () => {
  assert.deepEqual([...stepsOf(Float32Array.of(1, -2, 0.05, -0.05, NaN, 0.5), 1, 0.1)], [STEPS, -STEPS, 0, 0, OUT, STEPS / 2]);
});

test("every cell is found where it is drawn, and nothing where there is none", () => {
  const layout = layOut(heat, 200);
  const window = { x: 7, y: 5, width: 100, height: 60 };
  for (const [row] of heat.rows.entries())
    for (const [column] of heat.columns.entries()) {
      const [x, y, width, height] = boxOf(heat, layout, window, { row, column });
      const inside = x + width / 2 >= layout.left && y + height / 2 >= layout.top;
      assert.deepEqual(cellAt(heat, layout, window, x + width / 2, y + height / 2), inside ? { row, column } : null);
    }
  assert.equal(cellAt(heat, layout, window, layout.left - 1, layout.top + 5), null);
  assert.equal(cellAt(heat, layout, window, layout.left + 500, layout.top + 5), null);
  const [, top] = boxOf(heat, layout, window, { row: 2, column: 0 });
  const [, bottom] = boxOf(heat, layout, window, { row: 0, column: 0 });
  assert.ok(top < bottom, "the last layer is on top");
});

test("cells share the room within their bounds, and a zoom widens them", () => {
  assert.equal(layOut(heat, 2000).width, 30);
  assert.equal(layOut(heat, 20).width, 10);
  assert.equal(layOut(heat, 20, 2).width, 20);
  assert.ok(layOut(heat, 20, 1e-9).width >= 2);
  assert.equal(layOut({ ...heat, height: "square" }, 2000).height, 30);
  assert.equal(layOut({ ...heat, bare: true }, 2000).top, 0);
});

test("labels stand upright where they fit, and are turned where not", () => {
  assert.equal(layOut({ ...heat, columns: [{ text: "5" }, { text: "6" }] }, 2000).turned, false);
  assert.equal(layOut({ ...heat, columns: [{ text: "·everybody" }] }, 2000).turned, true);
});

test("keys go from cell to cell and stop at the edges", () => {
  assert.deepEqual(stepTo("ArrowUp", { row: 0, column: 1 }, heat), { row: 1, column: 1 });
  assert.deepEqual(stepTo("ArrowUp", { row: 2, column: 1 }, heat), { row: 2, column: 1 });
  assert.deepEqual(stepTo("ArrowUp", { row: 1, column: 1 }, { ...heat, upward: false }), { row: 0, column: 1 });
  assert.deepEqual(stepTo("End", { row: 0, column: 1 }, heat), { row: 0, column: 3 });
  assert.deepEqual(stepTo("PageDown", { row: 2, column: 1 }, heat), { row: 0, column: 1 });
  assert.equal(stepTo("x", { row: 0, column: 0 }, heat), undefined);
});

test("sites have short names beside their own kind", () => {
  assert.deepEqual(["resid_pre.3", "resid_post.4", "embed"].map((site) => siteLabel(site, "resid_pre.0")), ["3", "4 post", "embed"]);
});

test("texts are cut where they do not fit", () => {
  assert.equal(fitted("·upon", widthOf("·upon")), "·upon");
  assert.equal(fitted("·upon", widthOf("·upo")), "·up…");
  assert.equal(fitted("·upon", 3), "");
  assert.equal(columnsOf("日本→"), 5);
});

test("a token of markup is text in a drawing", () => {
  const style = { getPropertyValue: () => "monospace" };
  globalThis.getComputedStyle = (() => style) as never;
  const out: string[] = [];
  svgPen(out, null as never).text('</text><script>alert("1")</script>\u0001', 0, 0, "#000");
  assert.match(out[0], /&lt;\/text&gt;&lt;script&gt;alert\(&quot;1&quot;\)&lt;\/script&gt;\ufffd<\/text>$/);
});
