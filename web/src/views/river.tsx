// The river: layers by positions of one text for one direction, one thin row a layer, the last layer on top.

import type { Model, View } from "../host.ts";
import { signed } from "../numbers.ts";
import { frameProjection, labelsOf, titled } from "./projected.tsx";
import { type Cell, OUT, siteLabel, stepsOf } from "./heat.ts";
import { createHeatMap, type HeatMapElement } from "./heat_map.tsx";
import { colourLimit, type Picked, type Reading, unitName, valueText, visiblePiece } from "./reading.ts";

/** Draws the river of one text; the answer is the end of the range it used. */
function drawStrip(map: HeatMapElement, model: Model, { payload, shape, values, units, scale }: Reading, text: number, shared: number): number {
  const { rows = [], here = 0, left_out, name } = payload;
  const pieces = payload.pieces[text];
  const [, layers, width] = shape;
  const table = rows.map((_, layer) => values.subarray((text * layers + layer) * width).subarray(0, pieces.length));
  const limit = scale.mode === "text" ? colourLimit(table, left_out) : shared;
  const steps = new Int8Array(layers * pieces.length);
  table.forEach((row, layer) => steps.set(stepsOf(row, limit), layer * pieces.length));
  for (const pos of left_out) for (let layer = 0; layer < layers && pos < pieces.length; layer++) steps[layer * pieces.length + pos] = OUT;
  const valueAt = ({ row, column }: Cell): number => table[row][column];
  const picked = model.get("picked") as Picked | undefined;
  map.draw({
    label: `${name} at ${layers} layers by ${pieces.length} positions, in ${unitName(units)}`,
    rows: rows.map((row, layer) => ({ text: siteLabel(row, rows[Math.max(0, here)]), mark: layer === payload.here })),
    columns: pieces.map((piece, index) => ({ index, text: visiblePiece(piece) })),
    steps,
    upward: true,
    bare: true,
    width: [5, 28],
    height: Math.max(5, Math.min(13, 240 / layers)),
    start: { row: Math.max(0, here), column: 0 },
    picked: picked?.text === text ? [{ row: layers - 1, column: picked.pos, lines: layers }] : [],
    number: (cell) => signed(valueAt(cell)),
    tip: (cell) => ({
      piece: visiblePiece(pieces[cell.column]),
      value: valueText(valueAt(cell), units),
      facts: [`position ${cell.column}`, rows[cell.row], ...(left_out.includes(cell.column) ? ["left out of the colours"] : [])],
    }),
    onPick({ column: pos }) {
      model.set("picked", picked?.text === text && picked.pos === pos ? null : { text, pos });
      model.save_changes();
    },
  });
  return limit;
}

function render({ model, el }: { model: Model; el: HTMLElement }): () => void {
  let maps: HeatMapElement[] = [];
  let known = "";
  const remove = (): void => maps.forEach((map) => map.remove());
  const takeDown = frameProjection(model, el, (reading, body) => {
    const { payload, shape, scale } = reading;
    const [batch, layers, width] = shape;
    const labels = labelsOf(model, payload);
    if (labels.join("\n") !== known) {
      known = labels.join("\n");
      remove();
      maps = Array.from({ length: batch }, createHeatMap);
      maps.forEach((map) => map.el.classList.add("river"));
      body.replaceChildren(...maps.map((map, i) => (batch > 1 && !model.get("bare") ? titled(labels[i], map.el) : map.el)));
    }
    const rows = Array.from({ length: batch * layers }, (_, i) => reading.values.subarray(i * width, (i + 1) * width));
    const limit = scale.mode === "fixed" ? scale.limit : colourLimit(rows, payload.left_out);
    return Math.max(...maps.map((map, text) => drawStrip(map, model, reading, text, limit)));
  });
  return () => {
    remove();
    takeDown();
  };
}

export default { render } satisfies View;
