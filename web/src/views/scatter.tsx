// One number against another, a dot each.

import { useEffect, useRef } from "preact/hooks";
import { plain, ticks } from "../numbers.ts";
import type { Palette } from "../shades.ts";
import type { Drawing } from "./files.ts";
import { type Pen, widthOf } from "./pen.ts";
import { createTooltip, type Tip, type Tooltip } from "./tooltip.ts";
import "./scatter.css";

export interface ScatterProps {
  x: ArrayLike<number>;
  y: ArrayLike<number>;
  names: readonly [x: string, y: string];
  origin: number; // what is nothing, on both axes
  label: (i: number) => string;
  tip: (i: number) => Tip;
  picked: number | null;
  onPick: (i: number) => void;
}

const SIZE = [560, 420] as const; // px
const [LEFT, RIGHT, TOP, BOTTOM] = [56, 28, 16, 44];
const FAR = 0.2; // of the furthest: nearer to nothing labels would lie over each other
const LABELLED = 4; // dots furthest out along each axis that have their label

/** Where numbers lie along an axis, and its ticks; a little room at both ends. */
function axisOf(values: ArrayLike<number>, origin: number, from: number, to: number): { at: (value: number) => number; marks: number[] } {
  const known = Array.from(values).filter(Number.isFinite);
  const [least, most] = [Math.min(origin, ...known), Math.max(origin, ...known)];
  const room = (most - least || 1) * 0.04;
  const [low, high] = [least < origin ? least - room : origin, most > origin ? most + room : origin];
  return { at: (value) => from + ((value - low) / (high - low)) * (to - from), marks: ticks(low, high, 6) };
}

/** Where everything lies, for the page and for files. */
function arrange({ x, y, origin, label }: Pick<ScatterProps, "x" | "y" | "origin" | "label">) {
  const across = axisOf(x, origin, LEFT, SIZE[0] - RIGHT);
  const up = axisOf(y, origin, SIZE[1] - BOTTOM, TOP);
  const known = Array.from(x, (_, i) => i).filter((i) => Number.isFinite(x[i]) && Number.isFinite(y[i]));
  const furthest = (values: ArrayLike<number>): number[] => {
    const out = (i: number): number => Math.abs(values[i] - origin);
    const order = known.toSorted((i, j) => out(j) - out(i)).slice(0, LABELLED);
    return order.filter((i) => out(i) > FAR * out(order[0]));
  };
  const labelled: number[] = [];
  for (const i of [y, x].flatMap(furthest))
    if (labelled.every((j) => Math.abs(across.at(x[i]) - across.at(x[j])) > Math.max(widthOf(label(i)), widthOf(label(j))) + 8 || Math.abs(up.at(y[i]) - up.at(y[j])) > 14)) labelled.push(i);
  return { across, up, known, labelled };
}

export function Scatter({ x, y, names, origin, label, tip, picked, onPick }: ScatterProps) {
  const { across, up, known, labelled } = arrange({ x, y, origin, label });
  const place = useRef<HTMLDivElement>(null);
  const tooltip = useRef<Tooltip | null>(null);
  const show = (i: number, { currentTarget }: { currentTarget: Element }): void => (tooltip.current ??= createTooltip(place.current!)).show(tip(i), currentTarget.getBoundingClientRect());
  useEffect(() => () => tooltip.current?.remove(), []);
  const hide = (): void => tooltip.current?.hide();
  const key = (event: KeyboardEvent & { currentTarget: Element }, i: number): void => {
    const { currentTarget: dot } = event;
    const to = { ArrowRight: dot.nextElementSibling, ArrowLeft: dot.previousElementSibling }[event.key];
    if (to) (to as SVGElement).focus();
    else if (event.key === "Enter") onPick(i);
    else return;
    event.preventDefault();
  };
  return (
    <div class="scatter" ref={place}>
      <svg viewBox={`0 0 ${SIZE.join(" ")}`} role="group" aria-label={`${names[1]} against ${names[0]}, a dot each. Arrow keys go from dot to dot, Enter picks.`}>
        {across.marks.map((value) => (
          <g key={value}>
            <path class={value === origin ? "zero" : ""} d={`M${across.at(value)} ${TOP}V${SIZE[1] - BOTTOM}`} />
            <text class="mark" x={across.at(value)} y={SIZE[1] - BOTTOM + 16} text-anchor="middle">
              {plain(value)}
            </text>
          </g>
        ))}
        {up.marks.map((value) => (
          <g key={value}>
            <path class={value === origin ? "zero" : ""} d={`M${LEFT} ${up.at(value)}H${SIZE[0] - RIGHT}`} />
            <text class="mark" x={LEFT - 8} y={up.at(value) + 4} text-anchor="end">
              {plain(value)}
            </text>
          </g>
        ))}
        <text x={SIZE[0] - RIGHT} y={SIZE[1] - 8} text-anchor="end">
          {names[0]} →
        </text>
        <text x={-TOP} y="12" text-anchor="end" transform="rotate(-90)">
          {names[1]} →
        </text>
        <g>
          {known.map((i) => (
            <circle
              key={i}
              class={picked === i ? "picked" : ""}
              cx={across.at(x[i])}
              cy={up.at(y[i])}
              r={picked === i ? 6 : 4}
              tabIndex={i === (picked ?? known[0]) ? 0 : -1}
              role="button"
              aria-label={`${label(i)}: ${plain(x[i])}, ${plain(y[i])}`}
              aria-pressed={picked === i}
              onPointerEnter={(event) => show(i, event)}
              onPointerLeave={hide}
              onFocus={(event) => show(i, event)}
              onBlur={hide}
              onClick={() => onPick(i)}
              onKeyDown={(event) => key(event, i)}
            />
          ))}
        </g>
        {labelled.map((i) => (
          <text key={i} class="name" x={across.at(x[i]) + 7} y={up.at(y[i]) - 5}>
            {label(i)}
          </text>
        ))}
      </svg>
    </div>
  );
}

/** The same for a file. */
export function scatterDrawing({ x, y, names, origin, label }: Pick<ScatterProps, "x" | "y" | "names" | "origin" | "label">): Drawing {
  const { across, up, known, labelled } = arrange({ x, y, origin, label });
  const draw = (pen: Pen, { line, ink, ink2, positive }: Palette): void => {
    for (const value of across.marks) {
      pen.box(across.at(value) - 0.5, TOP, 1, SIZE[1] - BOTTOM - TOP, value === origin ? ink2 : line);
      pen.text(plain(value), across.at(value), SIZE[1] - BOTTOM + 12, ink2, { align: "center" });
    }
    for (const value of up.marks) {
      pen.box(LEFT, up.at(value) - 0.5, SIZE[0] - RIGHT - LEFT, 1, value === origin ? ink2 : line);
      pen.text(plain(value), LEFT - 8, up.at(value), ink2, { align: "right" });
    }
    pen.text(`${names[0]} →`, SIZE[0] - RIGHT, SIZE[1] - 12, ink, { align: "right", face: "sans" });
    pen.text(`${names[1]} →`, 8, TOP, ink, { align: "right", face: "sans", turned: true });
    for (const i of known) pen.dot(across.at(x[i]), up.at(y[i]), 4, positive);
    for (const i of labelled) pen.text(label(i), across.at(x[i]) + 7, up.at(y[i]) - 9, ink);
  };
  return { size: SIZE, draw };
}
