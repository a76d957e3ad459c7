// Where everything of a graph stands: layers as rows from bottom to top, or as columns from left to right; in each, a place for every position.

import type { Scene } from "./net.ts";

export type Across = "rows" | "columns";

export const CARD = [84, 38] as const; // px, with what is free around it
export const GAP = [8, 8] as const; // of which so much is free
const BETWEEN = { rows: 64, columns: 112 }; // px, for edges
const SWEEPS = 4;

export interface Row {
  level: number;
  start: number; // along the layers
  size: number;
}

export interface Layout {
  across: Across;
  width: number;
  height: number;
  x: Float32Array; // of each item, its left and top
  y: Float32Array;
  rows: readonly Row[]; // the lowest layer first
  columns: readonly { pos: number; start: number; size: number }[]; // across the layers
}

/** Orders items within layers so that what is joined lies near: each goes to the mean of those it is joined with. */
export function orderItems({ items, links }: Scene, activity: readonly number[]): number[] {
  const place = new Float64Array(items.length);
  const levels = [...new Set(items.map(({ level }) => level))].sort((a, b) => a - b);
  const members = new Map(levels.map((level) => [level, items.flatMap((item, i) => (item.level === level ? [i] : []))]));
  const settle = (level: number): void => {
    const own = members.get(level)!;
    own.sort((a, b) => items[a].pos - items[b].pos || place[a] - place[b] || a - b);
    own.forEach((item, i) => (place[item] = (i + 0.5) / own.length));
  };
  items.forEach((_, i) => (place[i] = -activity[i]));
  levels.forEach(settle);
  for (let sweep = 0; sweep < SWEEPS; sweep++) {
    const [sums, weights] = [new Float64Array(items.length), new Float64Array(items.length)];
    const up = sweep % 2 === 0;
    const pull = (item: number, other: number, weight: number): void => {
      sums[item] += Math.abs(weight) * place[other];
      weights[item] += Math.abs(weight);
    };
    for (const level of up ? levels : [...levels].reverse()) {
      const own = new Set(members.get(level));
      for (const { from, to, weight } of links) {
        if (up && own.has(to)) pull(to, from, weight);
        if (!up && own.has(from)) pull(from, to, weight);
      }
      for (const item of own) if (weights[item]) place[item] = sums[item] / weights[item];
      settle(level);
    }
  }
  return [...place];
}

/** Lays out a scene in a room of so many pixels across the layers. */
export function layOut(scene: Scene, place: readonly number[], across: Across, room: number): Layout {
  const { items } = scene;
  const [along, wide] = across === "rows" ? [CARD[1], CARD[0]] : [CARD[0], CARD[1]];
  const positions = [...new Set(items.map(({ pos }) => pos))].sort((a, b) => a - b);
  const cells = new Map<string, number[]>();
  items.forEach(({ level, pos }, i) => {
    const key = `${level} ${pos}`;
    cells.set(key, [...(cells.get(key) ?? []), i]);
  });
  const inCell = (level: number, pos: number): number[] => cells.get(`${level} ${pos}`) ?? [];
  const levels = [...new Set(items.map(({ level }) => level))].sort((a, b) => a - b);
  const most = (pos: number): number => Math.max(1, ...levels.map((level) => inCell(level, pos).length));
  const slots = Math.max(1, Math.floor(room / wide / Math.max(1, positions.length)));
  let end = 0;
  const columns = positions.map((pos) => {
    const column = { pos, start: end, size: Math.min(slots, most(pos)) * wide };
    end += column.size + (positions.length > 1 ? GAP[0] : 0);
    return column;
  });
  const shift = Math.max(0, (room - end) / 2);
  columns.forEach((column) => (column.start += shift));
  const [x, y] = [new Float32Array(items.length), new Float32Array(items.length)];
  const rows: Row[] = [];
  let at = 0;
  for (const level of levels) {
    const lines = Math.max(1, ...columns.map(({ pos, size }) => Math.ceil(inCell(level, pos).length / (size / wide))));
    for (const { pos, start, size } of columns) {
      const own = inCell(level, pos).sort((a, b) => place[a] - place[b] || a - b);
      const high = Math.ceil(own.length / (size / wide));
      const n = Math.ceil(own.length / high);
      own.forEach((item, i) => {
        x[item] = start + (size - n * wide) / 2 + Math.floor(i / high) * wide;
        y[item] = at + (i % high) * along;
      });
    }
    rows.push({ level, start: at, size: lines * along });
    at += lines * along + BETWEEN[across];
  }
  const length = Math.max(0, at - BETWEEN[across]);
  const breadth = Math.max(room, end);
  if (across === "columns") return { across, width: length, height: breadth, x: y, y: x, rows, columns };
  // Upwards: what comes later in the model lies higher.
  for (let i = 0; i < items.length; i++) y[i] = length - y[i] - along;
  return { across, width: breadth, height: length, x, y, rows: rows.map(({ level, start, size }) => ({ level, start: length - start - size, size })), columns };
}

/** The way of a link, as a curve: its ends and the points that bend it. */
export function curveOf({ across, x, y }: Layout, from: number, to: number): readonly [number, number, number, number, number, number, number, number] {
  const [width, height] = [CARD[0] - GAP[0], CARD[1] - GAP[1]];
  if (across === "rows") {
    const [x0, y0, x1, y1] = [x[from] + width / 2, y[from], x[to] + width / 2, y[to] + height];
    const bend = Math.max(24, (y0 - y1) / 2);
    return [x0, y0, x0, y0 - bend, x1, y1 + bend, x1, y1];
  }
  const [x0, y0, x1, y1] = [x[from] + width, y[from] + height / 2, x[to], y[to] + height / 2];
  const bend = Math.max(24, (x1 - x0) / 2);
  return [x0, y0, x0 + bend, y0, x1 - bend, y1, x1, y1];
}

/** The item whose card a point lies on. */
export function itemAt({ x, y }: Layout, px: number, py: number): number | null {
  for (let i = 0; i < x.length; i++) if (px >= x[i] && py >= y[i] && px < x[i] + CARD[0] - GAP[0] && py < y[i] + CARD[1] - GAP[1]) return i;
  return null;
}

/** The item that an arrow key goes to: the nearest that lies in its direction. */
export function stepFrom({ x, y }: Layout, item: number, key: string): number | null {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  if (!way) return null;
  let [best, nearest]: [number | null, number] = [null, Infinity];
  for (let i = 0; i < x.length; i++) {
    const [dx, dy] = [x[i] - x[item], y[i] - y[item]];
    const ahead = dx * way[0] + dy * way[1];
    const aside = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
    if (ahead <= 0 || (way[1] === 0 && aside > CARD[1] / 2)) continue;
    const far = ahead + 2 * aside;
    if (far < nearest) [best, nearest] = [i, far];
  }
  return best;
}
