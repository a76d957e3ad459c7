// Where everything of a graph stands: layers as rows from bottom to top, or as columns from left to right; in each, a place for every position.

import type { Curve } from "../pen.ts";
import type { Scene } from "./net.ts";

export type Across = "rows" | "columns";

/** Of a card with what is free beside it, px: lines pass there. */
export const GAP = [12, 8] as const;
export const CARD = [76, 30] as const;
const BETWEEN = { rows: 72, columns: 120 }; // px, for edges
const MARGIN = 4; // px, for frames
const SWEEPS = 4;
const DEEPEST = 20; // cards behind each other in a layer; of more it grows broader than the room

export interface Row {
  level: number;
  start: number; // along the layers
  size: number;
  cards: readonly number[]; // where cards begin across the layers
}

export interface Layout {
  across: Across;
  card: readonly [width: number, height: number];
  width: number;
  height: number;
  x: Float32Array; // of each item, its left and top
  y: Float32Array;
  into: Float32Array; // across the layers: where edges come to an item, and where they leave it
  from: Float32Array;
  rows: readonly Row[]; // the lowest layer first
  rowOf: Uint32Array; // of each item
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
export function layOut(scene: Scene, place: readonly number[], across: Across, room: number, card: Layout["card"] = CARD): Layout {
  const { items } = scene;
  const [long, broad] = across === "rows" ? [1, 0] : [0, 1]; // which side of a card lies along the layers
  const [along, wide] = [card[long] + GAP[long], card[broad] + GAP[broad]];
  const positions = [...new Set(items.map(({ pos }) => pos))].sort((a, b) => a - b);
  const cells = new Map<string, number[]>();
  items.forEach(({ level, pos }, i) => {
    const key = `${level} ${pos}`;
    cells.set(key, [...(cells.get(key) ?? []), i]);
  });
  const inCell = (level: number, pos: number): number[] => cells.get(`${level} ${pos}`) ?? [];
  const levels = [...new Set(items.map(({ level }) => level))].sort((a, b) => a - b);
  const most = (pos: number): number => Math.max(1, ...levels.map((level) => inCell(level, pos).length));
  const slots = Math.max(1, Math.floor((room - 2 * MARGIN) / wide / Math.max(1, positions.length)), Math.ceil(Math.max(...positions.map(most)) / DEEPEST));
  let end = MARGIN;
  const columns = positions.map((pos) => {
    const column = { pos, start: end, size: Math.min(slots, most(pos)) * wide };
    end += column.size + (positions.length > 1 ? GAP[broad] : 0);
    return column;
  });
  end += MARGIN;
  const shift = Math.max(0, (room - end) / 2);
  columns.forEach((column) => (column.start += shift));
  const [x, y, into, from] = Array.from({ length: 4 }, () => new Float32Array(items.length));
  const rowOf = new Uint32Array(items.length);
  const rows: Row[] = [];
  let at = MARGIN;
  for (const level of levels) {
    const lines = Math.max(1, ...columns.map(({ pos, size }) => Math.ceil(inCell(level, pos).length / (size / wide))));
    const cards = new Set<number>();
    for (const { pos, start, size } of columns) {
      const own = inCell(level, pos).sort((a, b) => place[a] - place[b] || a - b);
      const high = Math.ceil(own.length / (size / wide));
      const n = Math.ceil(own.length / high);
      own.forEach((item, i) => {
        const line = i % high;
        x[item] = start + (size - n * wide) / 2 + Math.floor(i / high) * wide;
        y[item] = at + line * along;
        cards.add(x[item]);
        rowOf[item] = rows.length;
        // What stands before or behind a card is passed beside it, each card's edges at a place of their own.
        const middle = x[item] + card[broad] / 2;
        const beside = x[item] + card[broad] + (GAP[broad] * (line + 1)) / (high + 1);
        into[item] = line === 0 ? middle : beside;
        from[item] = line === high - 1 || i === own.length - 1 ? middle : beside;
      });
    }
    rows.push({ level, start: at, size: lines * along - GAP[long], cards: [...cards] });
    at += lines * along - GAP[long] + BETWEEN[across];
  }
  const length = Math.max(0, at - BETWEEN[across]) + MARGIN;
  const breadth = Math.max(room, end);
  const made = { across, card, into, from, rowOf, columns };
  if (across === "columns") return { ...made, width: length, height: breadth, x: y, y: x, rows };
  // Upwards: what comes later in the model lies higher.
  for (let i = 0; i < items.length; i++) y[i] = length - y[i] - card[1];
  return { ...made, width: breadth, height: length, x, y, rows: rows.map(({ start, size, ...row }) => ({ ...row, start: length - start - size, size })) };
}

/** The way of a link, as curves from one card to another: through layers between them, and past what stands before its ends, it goes in the gaps. */
export function routeOf(layout: Layout, source: number, target: number): Curve[] {
  const { across, card, x, y, into, from, rows, rowOf } = layout;
  const [first, last] = [rowOf[source], rowOf[target]];
  if (first > last) return routeOf(layout, target, source); // of a group, which stands in a layer but has others too
  const upward = across === "rows";
  const [long, broad] = upward ? [card[1], card[0]] : card;
  const gap = GAP[upward ? 0 : 1];
  // u is along the layers, forward, and v across them. In rows forward is up.
  const near = (item: number): number => (upward ? -(y[item] + long) : x[item]);
  const side = (item: number): number => (upward ? x[item] : y[item]) + broad;
  const begin = (row: number): number => (upward ? -(rows[row].start + rows[row].size) : rows[row].start);
  const stop = (row: number): number => begin(row) + rows[row].size;
  const curves: Curve[] = [];
  const draw = (u0: number, v0: number, u1: number, v1: number, u2: number, v2: number, u3: number, v3: number): void =>
    void curves.push(upward ? [v0, -u0, v1, -u1, v2, -u2, v3, -u3] : [u0, v0, u1, v1, u2, v2, u3, v3]);
  const go = (u0: number, v0: number, u1: number, v1: number): void => {
    if (u0 !== u1 || v0 !== v1) draw(u0, v0, (u0 + u1) / 2, v0, (u0 + u1) / 2, v1, u1, v1);
  };
  /** Between a card and the end of its layer. */
  const leave = (item: number, v: number): void => {
    const far = near(item) + long;
    const inner = far - long / 3;
    if (v > side(item)) draw(inner, side(item), inner, v, inner, v, far, v);
    go(far, v, stop(first), v);
  };
  leave(source, from[source]);
  let [u, v] = [stop(first), from[source]];
  if (first === last) {
    const high = u + (first === rows.length - 1 ? MARGIN : BETWEEN[across] / 2); // above the last there is no more
    draw(u, v, high, v, high, from[target], u, from[target]);
    leave(target, from[target]);
    return curves;
  }
  const end = near(target);
  for (let row = first + 1; row < last; row++) {
    const straight = v + ((into[target] - v) * (begin(row) - u)) / (end - u);
    const inWay = rows[row].cards.find((start) => straight > start - 1 && straight < start + broad + 1);
    const free = inWay === undefined ? straight : straight < inWay + broad / 2 ? inWay - gap / 2 : inWay + broad + gap / 2;
    go(u, v, begin(row), free);
    go(begin(row), free, stop(row), free);
    [u, v] = [stop(row), free];
  }
  go(u, v, begin(last), into[target]);
  go(begin(last), into[target], end, into[target]);
  if (into[target] > side(target)) {
    const inner = end + long / 3;
    draw(end, into[target], inner, into[target], inner, into[target], inner, side(target));
  }
  return curves;
}

/** The item whose card a point lies on. */
export function itemAt({ x, y, card: [width, height] }: Layout, px: number, py: number): number | null {
  for (let i = 0; i < x.length; i++) if (px >= x[i] && py >= y[i] && px < x[i] + width && py < y[i] + height) return i;
  return null;
}

/** The item that an arrow key goes to: the nearest that lies in its direction. */
export function stepFrom({ x, y, card }: Layout, item: number, key: string): number | null {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
  if (!way) return null;
  let [best, nearest]: [number | null, number] = [null, Infinity];
  for (let i = 0; i < x.length; i++) {
    const [dx, dy] = [x[i] - x[item], y[i] - y[item]];
    const ahead = dx * way[0] + dy * way[1];
    const aside = Math.abs(dx * way[1]) + Math.abs(dy * way[0]);
    if (ahead <= 0 || (way[1] === 0 && aside > card[1] / 2)) continue;
    const far = ahead + 2 * aside;
    if (far < nearest) [best, nearest] = [i, far];
  }
  return best;
}
