// Curves over a share of a whole, which runs by powers of ten; a file has the same strokes.

import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { percent, plain, ticks } from "../numbers.ts";
import type { Palette } from "../shades.ts";
import type { Drawing } from "./files.ts";
import { type Curve, type Pen, svgPen } from "./pen.ts";
import "./curves.css";

export interface Line {
  said: string; // beside its stroke
  values: ArrayLike<number>;
  ink: "positive" | "negative" | "accent" | "ink2";
  dotted: boolean; // has a dot at each share
}

export interface CurvesProps {
  shares: ArrayLike<number>; // rising
  of: string; // what they are shares of
  lines: readonly Line[];
  mark: { share: number; said: string; values: readonly number[] }; // of the first lines
  label: string;
}

const WIDEST = 720; // px
const HEIGHT = 220; // px of the picture, without what its strokes mean
const [LEFT, RIGHT, TOP, BOTTOM, LEGEND] = [48, 16, 20, 40, 17];

/** The colours as the page's theme has them, whichever it is. */
const THEMED: Palette = { ground: "var(--ground)", line: "var(--line)", ink: "var(--ink)", ink2: "var(--ink-2)", accent: "var(--accent)", negative: "var(--negative)", positive: "var(--positive)", shades: [] };

const heightOf = ({ lines }: CurvesProps): number => lines.length * LEGEND + HEIGHT;

const straight = (x0: number, y0: number, x1: number, y1: number): Curve => [x0, y0, x0, y0, x1, y1, x1, y1];

function draw(pen: Pen, palette: Palette, width: number, { shares, of, lines, mark }: CurvesProps): void {
  lines.forEach(({ said, ink }, i) => {
    pen.box(0, i * LEGEND + 6, 20, 3, palette[ink]);
    pen.text(said, 28, i * LEGEND + 8, palette.ink, { face: "sans" });
  });
  const [first, last] = [shares[0], shares[shares.length - 1]].map(Math.log10);
  const across = (share: number): number => LEFT + ((Math.log10(Math.max(share, shares[0])) - first) / (last - first)) * (width - LEFT - RIGHT);
  const all = [0, 1, ...mark.values, ...lines.flatMap(({ values }) => Array.from(values))].filter(Number.isFinite);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const [top, bottom] = [lines.length * LEGEND + TOP, lines.length * LEGEND + HEIGHT - BOTTOM];
  const up = (value: number): number => bottom - ((value - low) / (high - low)) * (bottom - top);
  for (const value of ticks(low, high, 5)) {
    pen.curves([straight(LEFT, up(value), width - RIGHT, up(value))], value === 0 || value === 1 ? palette.ink2 : palette.line, 1, 1);
    pen.text(plain(value), LEFT - 6, up(value), palette.ink2, { align: "right" });
  }
  for (let power = Math.round(first); power <= last; power++) {
    const x = across(10 ** power);
    pen.curves([straight(x, top, x, bottom)], palette.line, 1, 1);
    pen.text(percent(10 ** power).replace(".0%", "%"), x, bottom + 12, palette.ink2, { align: power === last ? "right" : "center" });
  }
  pen.text(`share of ${of}, by powers of ten →`, width - RIGHT, bottom + 30, palette.ink2, { align: "right", face: "sans" });
  const at = across(mark.share);
  pen.curves([straight(at, top, at, bottom)], palette.ink2, 1, 1);
  pen.text(mark.said, at, top - 8, palette.ink2, { align: at > width / 2 ? "right" : "left", face: "sans" });
  for (const { values, ink, dotted } of lines) {
    const points = Array.from(values, (value, i) => [across(shares[i]), up(value)]).filter(([, y]) => Number.isFinite(y));
    pen.curves(points.slice(1).map(([x, y], i) => straight(points[i][0], points[i][1], x, y)), palette[ink], dotted ? 2 : 1.5, 1);
    if (dotted) for (const [x, y] of points) pen.dot(x, y, 2.5, palette[ink]);
  }
  mark.values.forEach((value, i) => {
    pen.dot(at, up(value), 5, palette.ground);
    pen.dot(at, up(value), 4, palette[lines[i].ink]);
  });
}

export const curvesDrawing = (props: CurvesProps): Drawing => ({ size: [WIDEST, heightOf(props)], draw: (pen, palette) => draw(pen, palette, WIDEST, props) });

export function Curves(props: CurvesProps) {
  const place = useRef<HTMLDivElement>(null);
  const picture = useRef<SVGSVGElement>(null);
  const [width, setWidth] = useState(WIDEST);
  useLayoutEffect(() => {
    const resized = new ResizeObserver(() => setWidth(Math.min(WIDEST, Math.max(240, place.current!.clientWidth))));
    resized.observe(place.current!);
    return () => resized.disconnect();
  }, []);
  useLayoutEffect(() => {
    const out: string[] = [];
    draw(svgPen(out, picture.current!), THEMED, width, props);
    picture.current!.innerHTML = out.join("");
  });
  const { shares, of, lines, label } = props;
  return (
    <div class="curves" ref={place}>
      <svg ref={picture} width={width} height={heightOf(props)} role="img" aria-label={label} />
      <details>
        <summary>as a table</summary>
        <div>
          <table>
            <thead>
              <tr>
                <th scope="col">share of {of}</th>
                {lines.map(({ said }) => (
                  <th key={said} scope="col">
                    {said.split(":")[0]}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {Array.from(shares, (share, i) => (
                <tr key={share}>
                  <td>{percent(share)}</td>
                  {lines.map(({ said, values }) => (
                    <td key={said}>{plain(values[i])}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </details>
    </div>
  );
}
