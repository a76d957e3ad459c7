// A heat map as data, where its cells lie, and how it is drawn. No element, no event: heat_map.tsx has those.

import { type Palette, STEPS, stepOf } from "../shades.ts";
import type { Drawing } from "./files.ts";
import { fitted, type Pen, widthOf } from "./pen.ts";

export interface Label {
  text: string;
  index?: number; // beside the text, so that equal tokens stay apart
  below?: string; // under it, where there is room
  mark?: boolean; // in the accent
}

export interface Cell {
  row: number;
  column: number;
}

export const isSame = (a: Cell, b: Cell): boolean => a.row === b.row && a.column === b.column;

export interface Heat {
  rows: readonly Label[];
  columns: readonly Label[];
  steps: Int8Array; // [row column] the shade: -STEPS..STEPS, or OUT
  upward?: boolean; // the first row is the lowest
  bare?: boolean; // columns have no labels
  words?: (cell: Cell) => string; // what stands in a cell, where there is room
  wordWidth?: number; // px of the widest word, where a part of one would mislead: then all stand there, or none
  width: readonly [least: number, most: number]; // px of a cell
  height: number | "square"; // px of a cell
}

export interface Layout {
  left: number; // px of the rows' labels
  top: number; // px of the columns' labels
  width: number; // px of a cell
  height: number;
  turned: boolean; // the columns' labels are read upwards
  size: [width: number, height: number]; // px of all
}

export interface Window {
  x: number; // px that were scrolled
  y: number;
  width: number; // px that are seen, labels included
  height: number;
}

export const OUT = 127; // the step of what is left out, or is not there
const GAP = 8; // px between labels and cells
const LINE = 13; // px of a line of labels
const LONGEST = 112; // px of a label
const [NARROWEST, WIDEST] = [2, 240]; // px of a zoomed cell
const WORDS = 28; // px of a cell that words fit in

/** Shades of values; those within `floor` are noise, and drawn as zero. */
export function stepsOf(values: Float32Array, limit: number, floor = 0): Int8Array {
  return Int8Array.from(values, (value) => (Number.isNaN(value) ? OUT : Math.abs(value) <= floor ? 0 : stepOf(value, limit)));
}

/** "3" for a layer of one's own kind of site; the last row of `resid_pre` is "4 post". */
export function siteLabel(site: string, own: string): string {
  const [kind, layer] = site.split(".");
  return layer === undefined ? kind : kind === own.split(".")[0] ? layer : `${layer} ${kind.replace(/^resid_/, "")}`;
}

const whole = ({ text, index }: Label): string => (index === undefined ? text : `${index} ${text}`);
const longest = (texts: string[]): number => texts.reduce((most, text) => Math.max(most, Math.min(LONGEST, widthOf(text))), 0);

/** Where everything lies in so much room; `zoom` widens the cells. */
export function layOut({ rows, columns, bare, width: [least, most], height, words }: Heat, room: number, zoom = 1): Layout {
  const left = rows.some(({ text }) => text) ? Math.ceil(longest(rows.map(whole))) + GAP : 0;
  const width = Math.max(NARROWEST, Math.min(WIDEST, Math.max(least, Math.min(most, (room - left) / columns.length)) * zoom));
  const labels = longest(columns.map(({ text }) => text));
  const flat = width >= Math.min(48, labels + GAP) && (words !== undefined || width >= labels + GAP);
  const lines = Number(columns.some(({ index }) => index !== undefined)) + Number(columns.some(({ below }) => below)) + 1;
  const top = bare ? 0 : flat ? lines * LINE + GAP : Math.ceil(longest(columns.map(whole))) + GAP;
  const high = height === "square" ? width : height * Math.max(1, height < LINE ? zoom : 1);
  return { left, top, width, height: high, turned: !flat, size: [left + width * columns.length, top + high * rows.length] };
}

const lineOf = ({ rows, upward }: Heat, row: number): number => (upward ? rows.length - 1 - row : row);

/** The cell at a point of the window; none on the labels. */
export function cellAt(heat: Heat, { left, top, width, height }: Layout, { x, y }: Window, px: number, py: number): Cell | null {
  const column = Math.floor((px + x - left) / width);
  const row = lineOf(heat, Math.floor((py + y - top) / height));
  return px >= left && py >= top && column < heat.columns.length && row >= 0 && row < heat.rows.length ? { row, column } : null;
}

/** A cell's box in the window. */
export function boxOf(heat: Heat, { left, top, width, height }: Layout, { x, y }: Window, { row, column }: Cell): [number, number, number, number] {
  return [left + column * width - x, top + lineOf(heat, row) * height - y, width, height];
}

/** The cell that a key leads to. */
export function stepTo(key: string, { row, column }: Cell, { rows, columns, upward }: Heat): Cell | undefined {
  const up = upward ? 1 : -1;
  const within = (row: number, column: number): Cell => ({
    row: Math.max(0, Math.min(rows.length - 1, row)),
    column: Math.max(0, Math.min(columns.length - 1, column)),
  });
  return {
    ArrowLeft: within(row, column - 1),
    ArrowRight: within(row, column + 1),
    ArrowUp: within(row + up, column),
    ArrowDown: within(row - up, column),
    PageUp: within(row + up * 10, column),
    PageDown: within(row - up * 10, column),
    Home: within(row, 0),
    End: within(row, columns.length - 1),
  }[key];
}

/** Draws what a window shows: cells, and the labels that stay at its edges. */
export function drawHeat(pen: Pen, heat: Heat, layout: Layout, window: Window, { shades, line, ink, ink2, accent }: Palette): void {
  const { left, top, width, height, turned } = layout;
  const { rows, columns, steps, words, wordWidth = WORDS } = heat;
  const { x, y } = window;
  const first = Math.floor(x / width);
  const last = Math.min(columns.length, Math.ceil((x + window.width - left) / width));
  const above = Math.floor(y / height);
  const under = Math.min(rows.length, Math.ceil((y + window.height - top) / height));
  const [gapX, gapY] = [width, height].map((size) => (size >= 4 ? 1 : 0));
  const atX = (column: number): number => Math.round(left + column * width - x);
  const atY = (line: number): number => Math.round(top + line * height - y);
  pen.within(left, top, window.width - left, window.height - top, () => {
    // Hairlines between the cells, so that a row near zero is still seen to be one.
    pen.box(atX(first), atY(above), atX(last) - atX(first) - gapX, atY(under) - atY(above) - gapY, line);
    for (let at = above; at < under; at++) {
      const row = lineOf(heat, at);
      const cellY = atY(at);
      const cellHeight = atY(at + 1) - cellY - gapY;
      for (let column = first; column < last; column++) {
        const step = steps[row * columns.length + column];
        const cellX = atX(column);
        // Where no line parts them, cells of one shade are one box.
        while (!gapX && column + 1 < last && steps[row * columns.length + column + 1] === step) column++;
        const cellWidth = atX(column + 1) - cellX - gapX;
        if (step === OUT) pen.hatch(cellX, cellY, cellWidth, cellHeight);
        else pen.box(cellX, cellY, cellWidth, cellHeight, shades[step + STEPS]);
        if (words && width >= wordWidth && height >= LINE)
          pen.text(fitted(words({ row, column }), width - 3), cellX + width / 2, cellY + height / 2, step === OUT ? ink2 : ink, { align: "center" });
      }
    }
  });
  const everyRow = Math.ceil(LINE / height);
  pen.within(0, top - LINE / 2, left, window.height - top + LINE / 2, () => {
    for (let at = above; at < under; at++) {
      const label = rows[lineOf(heat, at)];
      if (!left || (lineOf(heat, at) % everyRow && !label.mark)) continue;
      pen.text(fitted(whole(label), left - GAP), left - GAP, top + (at + 0.5) * height - y, label.mark ? accent : ink2, { align: "right", bold: label.mark });
    }
  });
  if (!top) return;
  const below = columns.some(({ below }) => below);
  const everyColumn = turned ? Math.ceil(LINE / width) : 1;
  pen.within(left - 2, 0, window.width - left + 2, top, () => {
    for (let column = first; column < last; column++) {
      const label = columns[column];
      if (column % everyColumn && !label.mark) continue;
      const middle = left + (column + 0.5) * width - x;
      const fill = label.mark ? accent : ink;
      if (turned) pen.text(fitted(whole(label), top - GAP), middle, top - GAP / 2, fill, { turned });
      else {
        const lowest = top - GAP / 2 - LINE / 2;
        const middleY = below ? lowest - LINE : lowest;
        if (label.index !== undefined) pen.text(String(label.index), middle, middleY - LINE, ink2, { align: "center", size: 10 });
        pen.text(fitted(label.text, width - 4), middle, middleY, fill, { align: "center", bold: label.mark });
        if (label.below) pen.text(fitted(label.below, width - 4), middle, lowest, ink2, { align: "center" });
      }
    }
  });
}

/** The whole map, for a file. */
export function heatDrawing(heat: Heat, room = 1100): Drawing {
  const layout = layOut(heat, room);
  const [width, height] = layout.size;
  return { size: layout.size, draw: (pen, palette) => drawHeat(pen, heat, layout, { x: 0, y: 0, width, height }, palette) };
}
