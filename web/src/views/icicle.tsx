// Where the probability goes: all mass on top, below it by what a token begins with, its kind, its first letter, and itself.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { counted, percent } from "../numbers.ts";
import { STEPS } from "../shades.ts";
import type { Drawing } from "./files.ts";
import { fitted, widthOf } from "./pen.ts";
import { visiblePiece } from "./reading.ts";
import { createTooltip, type Tooltip } from "./tooltip.ts";
import "./icicle.css";

export interface Mass {
  name: string;
  mass: number;
  n: number; // tokens
  children: Mass[];
}

const SHOWN = 60; // tokens with a place of their own; the others of their group share one

/** What a token is: a word, a number, marks, other letters, or bytes that are no text. */
function kindOf(text: string): string {
  const body = text.trim();
  if (/^\p{L}/u.test(body)) return "word";
  if (/^\p{N}/u.test(body)) return "number";
  return body ? "marks" : "space";
}

/** The mass of tokens, grouped; what the tokens leave of one is the mass of those that are not here. */
export function massOf(texts: readonly string[], probs: ArrayLike<number>): Mass {
  const order = [...texts.keys()].sort((a, b) => probs[b] - probs[a]);
  const shown = new Set(order.slice(0, SHOWN));
  const root: Mass = { name: "all tokens", mass: 0, n: 0, children: [] };
  const into = (parent: Mass, name: string): Mass => {
    const found = parent.children.find((child) => child.name === name);
    if (found) return found;
    parent.children.push({ name, mass: 0, n: 0, children: [] });
    return parent.children.at(-1)!;
  };
  for (const i of order) {
    const body = texts[i].trim();
    const path = [texts[i].startsWith(" ") ? "·…" : "no space", kindOf(texts[i]), `${[...body][0] ?? ""}…`, shown.has(i) ? visiblePiece(texts[i]) : "others"];
    let at = root;
    for (const node of [root, ...path.map((name) => (at = into(at, name)))]) {
      node.mass += probs[i];
      node.n++;
    }
  }
  const left = 1 - root.mass;
  if (left > 1e-3) root.children.push({ name: "not listed", mass: left, n: 0, children: [] });
  root.mass += Math.max(0, left);
  const sort = (node: Mass): void => {
    node.children.sort((a, b) => b.mass - a.mass);
    node.children.forEach(sort);
  };
  sort(root);
  return root;
}

interface Box {
  node: Mass;
  depth: number;
  from: number; // of the width, 0 to 1
  to: number;
}

const LEVEL = 30; // px
const LEVELS = 5;
const SLIM = 0.008; // of the width: what is narrower shares a box

const sumOf = (nodes: readonly Mass[], what: "mass" | "n"): number => nodes.reduce((sum, node) => sum + node[what], 0);

/** Every node as a box under its parent's. */
export function boxesOf(root: Mass): Box[] {
  const found: Box[] = [];
  const place = (node: Mass, depth: number, from: number, to: number): void => {
    found.push({ node, depth, from, to });
    const slim = node.children.filter(({ mass }) => ((to - from) * mass) / node.mass < SLIM);
    const rest: Mass = { name: "others", mass: sumOf(slim, "mass"), n: sumOf(slim, "n"), children: [] };
    let at = from;
    for (const child of slim.length > 1 ? [...node.children.filter((child) => !slim.includes(child)), rest] : node.children) {
      const end = at + ((to - from) * child.mass) / node.mass;
      place(child, depth + 1, at, end);
      at = end;
    }
  };
  place(root, 0, 0, 1);
  return found;
}

const shadeOf = (depth: number): number => (100 * (depth + 1)) / (LEVELS + 2);
const WIDTH = 960; // px, in a file
const LEAST = 40; // px of a box with a name; icicle.css says it too

export const icicleDrawing = (root: Mass): Drawing => ({
  size: [WIDTH, LEVELS * LEVEL],
  draw: (pen, palette) => {
    for (const { node, depth, from, to } of boxesOf(root)) {
      const [x, width] = [from * WIDTH, (to - from) * WIDTH - 1];
      pen.box(x, depth * LEVEL, Math.max(0.5, width), LEVEL - 1, palette.shades[STEPS + Math.round((STEPS * shadeOf(depth)) / 100)]);
      const [name, share] = [node.name, percent(node.mass)];
      const whole = widthOf(`${name} ${share}`) <= width - 8;
      if (whole || width > LEAST) pen.text(whole ? `${name} ${share}` : fitted(name, width - 8), x + 4, depth * LEVEL + LEVEL / 2, palette.ink);
    }
  },
});

export function Icicle({ root, label }: { root: Mass; label: string }) {
  const boxes = useMemo(() => boxesOf(root), [root]);
  const [at, setAt] = useState(0);
  const place = useRef<HTMLDivElement>(null);
  const tooltip = useRef<Tooltip | null>(null);
  useEffect(() => () => tooltip.current?.remove(), []);
  const show = ({ name, mass, n }: Mass, { currentTarget }: { currentTarget: Element }): void =>
    (tooltip.current ??= createTooltip(place.current!)).show({ piece: name, value: percent(mass), facts: n > 1 ? [counted(n, "token")] : [] }, currentTarget.getBoundingClientRect());
  const hide = (): void => tooltip.current?.hide();
  const step = (event: KeyboardEvent & { currentTarget: HTMLElement }): void => {
    const to = stepIn(boxes, Math.min(at, boxes.length - 1), event.key);
    if (to === undefined) return;
    event.preventDefault();
    setAt(to);
    (event.currentTarget.children[to] as HTMLElement).focus();
  };
  return (
    <div class="icicle" role="group" aria-label={`${label}. Arrow keys go from box to box.`} ref={place}>
      <div style={{ height: `${LEVELS * LEVEL}px` }} onKeyDown={step}>
        {boxes.map(({ node, depth, from, to }, i) => (
          <span
            key={i}
            class="box"
            role="img"
            tabIndex={i === at ? 0 : -1}
            aria-label={`${node.name} ${percent(node.mass)}`}
            onPointerEnter={(event) => show(node, event)}
            onPointerLeave={hide}
            onFocus={(event) => (setAt(i), show(node, event))}
            onBlur={hide}
            style={{ left: `${100 * from}%`, width: `${100 * (to - from)}%`, top: `${depth * LEVEL}px`, background: `color-mix(in oklab, var(--positive) ${shadeOf(depth)}%, var(--ground))` }}
          >
            <b>
              {node.name} <small>{percent(node.mass)}</small>
            </b>
          </span>
        ))}
      </div>
      <details>
        <summary>as a table</summary>
        <table>
          <tbody>
            {boxes.map(({ node, depth }, i) => (
              <tr key={i}>
                <th scope="row" style={{ paddingLeft: `${depth * 16}px` }}>
                  {node.name}
                </th>
                <td>{percent(node.mass)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </details>
    </div>
  );
}

/** The box that a key leads to: beside it on its level, the first below it, the one above. */
export function stepIn(boxes: readonly Box[], at: number, key: string): number | undefined {
  const { depth, from, to } = boxes[at];
  const level = [...boxes.keys()].filter((i) => boxes[i].depth === depth);
  const beside = (by: number): number | undefined => level[level.indexOf(at) + by];
  if (key === "ArrowLeft" || key === "ArrowRight") return beside(key === "ArrowLeft" ? -1 : 1);
  const found = {
    ArrowDown: (box: Box) => box.depth === depth + 1 && box.from >= from && box.from < to,
    ArrowUp: (box: Box) => box.depth === depth - 1 && box.from <= from && box.to > from,
  }[key];
  const i = found ? boxes.findIndex(found) : -1;
  return i < 0 ? undefined : i;
}
