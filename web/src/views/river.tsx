// The river: layers by positions of one text for one direction, one thin row a layer, the last layer on top.

import type { Model, View } from "../host.ts";
import { signed } from "../numbers.ts";
import { type Palette, readPalette, STEPS, stepOf } from "../shades.ts";
import { frame, labelsOf, titled } from "./frame.tsx";
import { colourLimit, type Picked, type Reading, unitName, valueText, visiblePiece } from "./reading.ts";
import { createTooltip } from "./tooltip.ts";
import "./river.css";

const MIN_CELL = 5; // px; below it the river scrolls sideways
const MAX_CELL = 28;

/** "3" for a layer of the direction's own kind; the last row of `resid_pre` is "4 post". */
function rowLabel(row: string, own: string): string {
  const [kind, layer = kind] = row.split(".");
  return kind === own.split(".")[0] ? layer : `${layer} ${kind.replace(/^resid_/, "")}`;
}

const make = <K extends keyof HTMLElementTagNameMap>(tag: K, className = ""): HTMLElementTagNameMap[K] =>
  Object.assign(document.createElement(tag), { className });

interface Cell {
  layer: number;
  pos: number;
}

/** The mark of what is left out. */
function hatch(context: CanvasRenderingContext2D, [x, y, w, h]: readonly [number, number, number, number], { line }: Palette): void {
  context.save();
  context.beginPath();
  context.rect(x, y, w, h);
  context.clip();
  context.strokeStyle = line;
  context.lineWidth = 1;
  context.beginPath();
  for (let at = -h; at < w; at += 3) {
    context.moveTo(x + at, y + h);
    context.lineTo(x + at + h, y);
  }
  context.stroke();
  context.restore();
}

/** The numbers for readers who do not see the canvas: the last layer first, as in the picture. */
function tableOf(rows: string[], pieces: string[], row: (layer: number) => Float32Array): HTMLTableElement {
  const grid = make("table");
  const heading = (textContent: string, scope: string): HTMLElement => Object.assign(make("th"), { textContent, scope });
  const head = grid.createTHead().insertRow();
  head.append(...["", ...pieces.map((piece, pos) => `${pos} ${visiblePiece(piece)}`)].map((label) => heading(label, "col")));
  const body = grid.createTBody();
  for (let layer = rows.length - 1; layer >= 0; layer--) {
    const line = body.insertRow();
    line.append(heading(rows[layer], "row"));
    for (const value of row(layer)) line.insertCell().textContent = signed(value);
  }
  return grid;
}

/** The cell that a key leads to. */
function stepTo(key: string, at: Cell, layers: number, positions: number): Cell | undefined {
  return {
    ArrowLeft: { ...at, pos: Math.max(0, at.pos - 1) },
    ArrowRight: { ...at, pos: Math.min(positions - 1, at.pos + 1) },
    ArrowUp: { ...at, layer: Math.min(layers - 1, at.layer + 1) },
    ArrowDown: { ...at, layer: Math.max(0, at.layer - 1) },
    Home: { ...at, pos: 0 },
    End: { ...at, pos: positions - 1 },
  }[key];
}

interface Strip {
  river: HTMLElement;
  draw(reading: Reading, limit: number): number; // the end of the range it used
  remove(): void;
}

/** The river of one text. */
function createStrip(model: Model, text: number): Strip {
  const river = make("div", "river");
  const tooltip = createTooltip(river);
  const flow = make("div", "flow");
  const labels = make("ol");
  const scroll = make("div", "scroll");
  const canvas = make("canvas");
  const details = make("details");
  const table = make("div", "table");
  const summary = make("summary");
  summary.textContent = "as a table";
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  scroll.append(canvas);
  flow.append(labels, scroll);
  details.append(summary, table);
  river.append(flow, details);

  let reading: Reading;
  let limit = 1;
  let cell = { width: 0, height: 0, gap: 1 };
  let cursor: Cell | null = null;
  let palette: Palette | null = null;
  let room = 0; // px; kept, because asking for it in the middle of a frame would lay the page out twice

  const pieces = (): string[] => reading.payload.pieces[text];
  const size = (): [number, number] => [reading.shape[1], pieces().length];
  const row = (layer: number): Float32Array => {
    const [, layers, width] = reading.shape;
    return reading.values.subarray((text * layers + layer) * width).subarray(0, pieces().length);
  };
  const valueAt = (layer: number, pos: number): number => row(layer)[pos];

  function paint(): void {
    const [layers, positions] = size();
    const ratio = devicePixelRatio || 1;
    if (!room) return;
    const width = Math.min(MAX_CELL, Math.max(MIN_CELL, room / positions));
    const height = Math.max(5, Math.min(13, 240 / layers));
    cell = { width, height, gap: Math.min(1, width / 6) };
    palette ??= readPalette(river);
    canvas.style.width = `${width * positions}px`;
    canvas.style.height = `${height * layers}px`;
    canvas.width = Math.round(width * positions * ratio);
    canvas.height = Math.round(height * layers * ratio);
    for (const item of labels.children) (item as HTMLElement).style.height = `${height}px`;
    const context = canvas.getContext("2d")!;
    context.scale(ratio, ratio);
    const { left_out } = reading.payload;
    for (let layer = 0; layer < layers; layer++) {
      const y = (layers - 1 - layer) * height;
      // Hairlines between the cells, so that a row near zero is still seen to be one.
      context.fillStyle = palette.line;
      context.fillRect(0, y + 0.5, width * positions - cell.gap, height - 1.5);
      for (let pos = 0; pos < positions; pos++) {
        const box = [pos * width, y + 0.5, width - cell.gap, height - 1.5] as const;
        if (left_out.includes(pos)) {
          context.fillStyle = palette.ground;
          context.fillRect(...box);
          hatch(context, box, palette);
          continue;
        }
        context.fillStyle = palette.shades[stepOf(valueAt(layer, pos), limit) + STEPS];
        context.fillRect(...box);
      }
    }
    const picked = model.get("picked") as Picked | undefined;
    if (picked?.text === text && picked.pos < positions) {
      context.strokeStyle = palette.accent;
      context.lineWidth = 2;
      context.strokeRect(picked.pos * width, 1, Math.max(2, width - cell.gap), height * layers - 2);
    }
    if (cursor) {
      context.strokeStyle = palette.ink;
      context.lineWidth = 1;
      context.strokeRect(cursor.pos * width + 0.5, (layers - 1 - cursor.layer) * height + 0.5, Math.max(2, width - cell.gap) - 1, height - 1);
    }
  }

  function fillTable(): void {
    const { rows = [] } = reading.payload;
    table.replaceChildren(...(details.open ? [tableOf(rows, pieces(), row)] : []));
  }

  function draw(next: Reading, shared: number): number {
    reading = next;
    const { rows = [], here = -1, left_out, name } = next.payload;
    const [layers, positions] = size();
    limit = next.scale.mode === "text" ? colourLimit(rows.map((_, layer) => row(layer)), left_out) : shared;
    labels.replaceChildren(
      ...rows
        .map((row, layer) => Object.assign(make("li", layer === here ? "here" : ""), { textContent: rowLabel(row, rows[here] ?? row), title: row }))
        .reverse(),
    );
    canvas.setAttribute("aria-label", `${name} at ${layers} layers by ${positions} positions, in ${unitName(next.units)}. Arrow keys go from cell to cell, Enter picks a position.`);
    paint();
    fillTable();
    return limit;
  }

  function point(at: typeof cursor): void {
    const moved = cursor?.layer !== at?.layer || cursor?.pos !== at?.pos;
    cursor = at;
    if (moved) paint();
    if (!at) return tooltip.hide();
    const { payload, units } = reading;
    const [layers] = size();
    const box = canvas.getBoundingClientRect();
    tooltip.show(
      {
        piece: visiblePiece(pieces()[at.pos]),
        value: valueText(valueAt(at.layer, at.pos), units),
        facts: [`position ${at.pos}`, payload.rows?.[at.layer] ?? "", ...(payload.left_out.includes(at.pos) ? ["left out of the colours"] : [])],
      },
      new DOMRect(box.left + at.pos * cell.width, box.top + (layers - 1 - at.layer) * cell.height, cell.width, cell.height),
    );
  }

  function pick(pos: number): void {
    const picked = model.get("picked") as Picked | undefined;
    model.set("picked", picked?.text === text && picked.pos === pos ? null : { text, pos });
    model.save_changes();
  }

  const cellUnder = ({ clientX, clientY }: MouseEvent): typeof cursor => {
    const [layers, positions] = size();
    const box = canvas.getBoundingClientRect();
    const pos = Math.floor((clientX - box.left) / cell.width);
    const layer = layers - 1 - Math.floor((clientY - box.top) / cell.height);
    return pos >= 0 && pos < positions && layer >= 0 && layer < layers ? { layer, pos } : null;
  };
  canvas.addEventListener("pointermove", (event) => point(cellUnder(event)));
  canvas.addEventListener("pointerleave", () => point(null));
  canvas.addEventListener("blur", () => point(null));
  canvas.addEventListener("click", (event) => {
    const at = cellUnder(event);
    if (at) pick(at.pos);
  });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [layers, positions] = size();
    const at = cursor ?? { layer: Math.max(0, reading.payload.here ?? 0), pos: 0 };
    const to = stepTo(event.key, at, layers, positions);
    if (to) point(to);
    else if (event.key === "Enter") pick(at.pos);
    else if (event.key === "Escape" && cursor) point(null);
    else return;
    event.preventDefault();
  });
  canvas.addEventListener("transitionend", () => {
    palette = null;
    paint();
  });
  details.addEventListener("toggle", fillTable);
  const resized = new ResizeObserver(() => {
    room = scroll.clientWidth;
    if (reading) paint();
  });
  resized.observe(scroll);
  return {
    river,
    draw,
    remove() {
      resized.disconnect();
      tooltip.remove();
      river.remove();
    },
  };
}

function render({ model, el }: { model: Model; el: HTMLElement }): () => void {
  let strips: Strip[] = [];
  let known = "";
  const remove = (): void => strips.forEach((strip) => strip.remove());
  const takeDown = frame(model, el, (reading, body) => {
    const { payload, shape, scale } = reading;
    const [batch, layers, width] = shape;
    const labels = labelsOf(model, payload);
    if (labels.join("\n") !== known) {
      known = labels.join("\n");
      remove();
      strips = Array.from({ length: batch }, (_, text) => createStrip(model, text));
      body.replaceChildren(...strips.map(({ river }, i) => (batch > 1 && !model.get("bare") ? titled(labels[i], river) : river)));
    }
    const rows = Array.from({ length: batch * layers }, (_, i) => reading.values.subarray(i * width, (i + 1) * width));
    const limit = scale.mode === "fixed" ? scale.limit : colourLimit(rows, payload.left_out);
    const limits = strips.map((strip) => strip.draw(reading, limit));
    return Math.max(...limits);
  });
  return () => {
    remove();
    takeDown();
  };
}

export default { render } satisfies View;
