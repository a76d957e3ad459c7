// A heat map on a canvas: only what is in sight is drawn. Hover and arrow keys show numbers, click and Enter pick.

import { useLayoutEffect, useRef } from "preact/hooks";
import { type Palette, readPalette } from "../shades.ts";
import { boxOf, type Cell, cellAt, drawHeat, type Heat, isSame, type Label, layOut, type Layout, stepTo, type Window } from "./heat.ts";
import { canvasPen } from "./pen.ts";
import { createTooltip, type Tip } from "./tooltip.ts";
import "./heat_map.css";

export interface HeatMapProps extends Heat {
  label: string; // what it shows, for who does not see it
  start?: Cell; // where keys begin
  picked?: readonly (Cell & { lines?: number })[]; // so many lines of the picture, from the cell downwards
  number: (cell: Cell) => string; // in the table
  tip: (cell: Cell) => Tip;
  onPick?: (cell: Cell, also: boolean) => void; // `also`: beside what is picked
}

export interface HeatMapElement {
  el: HTMLElement;
  draw(props: HeatMapProps): void;
  remove(): void;
}

const HIGHEST = 560; // px; a map that is higher scrolls
const SCROLLBAR = 16; // px

const make = <K extends keyof HTMLElementTagNameMap>(tag: K, className = ""): HTMLElementTagNameMap[K] =>
  Object.assign(document.createElement(tag), { className });

/** The numbers for readers who do not see the canvas, in its order. */
function tableOf({ rows, columns, upward, number }: HeatMapProps): HTMLTableElement {
  const grid = make("table");
  const heading = ({ text, index, mark }: Label, scope: string): HTMLElement => {
    const th = Object.assign(make("th"), { textContent: index === undefined ? text : `${index} ${text}`, scope });
    if (mark) th.ariaCurrent = "true";
    return th;
  };
  grid.createTHead().insertRow().append(heading({ text: "" }, "col"), ...columns.map((label) => heading(label, "col")));
  const body = grid.createTBody();
  const order = [...rows.keys()];
  for (const row of upward ? order.reverse() : order) {
    const line = body.insertRow();
    line.append(heading(rows[row], "row"));
    for (const column of columns.keys()) line.insertCell().textContent = number({ row, column });
  }
  return grid;
}

export function createHeatMap(): HeatMapElement {
  const el = make("div", "heat");
  const scroll = make("div", "scroll");
  const space = make("div");
  const canvas = make("canvas");
  const details = make("details");
  const zooms = make("div", "zooms");
  const summary = make("summary");
  const table = make("div", "table");
  const tooltip = createTooltip(el);
  const context = canvas.getContext("2d")!;
  summary.textContent = "as a table";
  scroll.style.maxHeight = `${HIGHEST}px`;
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  space.append(canvas);
  scroll.append(space);
  details.append(summary, table);
  for (const [sign, label] of [["−", "Narrower cells"], ["+", "Wider cells"]]) {
    const button = Object.assign(make("button"), { type: "button", textContent: sign, ariaLabel: label, title: label });
    button.addEventListener("click", () => zoomBy(sign === "+" ? 1.5 : 1 / 1.5));
    zooms.append(button);
  }
  el.append(scroll, zooms, details);

  let props: HeatMapProps;
  let layout: Layout;
  let window: Window = { x: 0, y: 0, width: 0, height: 0 };
  let cursor: Cell | null = null;
  let palette: Palette | null = null;
  let zoom = 1;
  let room = 0; // px; kept, because asking for it in the middle of a frame would lay the page out twice

  function paint(): void {
    if (!window.width) return;
    el.classList.toggle("wider", window.x + window.width < layout.size[0] - 1);
    const ratio = devicePixelRatio || 1;
    palette ??= readPalette(el);
    const pixels = [window.width, window.height].map((size) => Math.round(size * ratio));
    if (canvas.width !== pixels[0] || canvas.height !== pixels[1]) [canvas.width, canvas.height] = pixels;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, window.width, window.height);
    const pen = canvasPen(context, palette);
    drawHeat(pen, props, layout, window, palette);
    pen.within(layout.left - 1, layout.top - 1, window.width, window.height, () => {
      for (const { lines = 1, ...cell } of props.picked ?? []) mark(cell, lines, palette!.accent, 2);
      if (cursor) mark(cursor, 1, palette!.ink, 1);
    });
    function mark(cell: Cell, lines: number, stroke: string, thickness: number): void {
      const [x, y, width, height] = boxOf(props, layout, window, cell);
      pen.outline(x, y, Math.max(2, width - 1), Math.max(2, height * lines - 1), stroke, thickness);
    }
  }

  /** After other data, another width or another zoom. */
  function arrange(): void {
    if (!room) return;
    layout = layOut(props, room, zoom);
    if (layout.size[1] > HIGHEST) layout = layOut(props, room - SCROLLBAR, zoom);
    const [width, height] = layout.size;
    window = { ...window, width: Math.min(room, width), height: Math.min(HIGHEST, height) };
    zooms.hidden = zoom === 1 && width <= room;
    space.style.width = `${width}px`;
    space.style.height = `${height}px`;
    canvas.style.width = `${window.width}px`;
    canvas.style.height = `${window.height}px`;
    paint();
  }

  function fillTable(): void {
    table.replaceChildren(...(details.open ? [tableOf(props)] : []));
  }

  function draw(next: HeatMapProps): void {
    props = next;
    if (cursor && (cursor.row >= next.rows.length || cursor.column >= next.columns.length)) point(null);
    canvas.setAttribute("aria-label", `${next.label}. Arrow keys go from cell to cell${next.onPick ? ", Enter picks" : ""}, plus and minus zoom.`);
    canvas.classList.toggle("pickable", !!next.onPick);
    arrange();
    fillTable();
  }

  function point(at: Cell | null): void {
    const moved = cursor?.row !== at?.row || cursor?.column !== at?.column;
    cursor = at;
    if (moved) paint();
    if (!at) return tooltip.hide();
    const { left, top } = canvas.getBoundingClientRect();
    const [x, y, width, height] = boxOf(props, layout, window, at);
    tooltip.show(props.tip(at), new DOMRect(left + x, top + y, width, height));
  }

  /** Scrolls so far that a cell is seen. */
  function reveal(at: Cell): void {
    const [x, y, width, height] = boxOf(props, layout, window, at);
    const by = (from: number, size: number, low: number, high: number): number => (from < low ? from - low : Math.max(0, Math.min(from - low, from + size - high)));
    scroll.scrollBy(by(x, width, layout.left, window.width), by(y, height, layout.top, window.height));
    slide();
  }

  function slide(): void {
    window = { ...window, x: canvas.offsetLeft, y: canvas.offsetTop };
    paint();
  }

  /** Keeps what lies at `px` of the window where it is. */
  function zoomBy(factor: number, px = window.width / 2): void {
    const before = layout.width;
    const inside = px - layout.left + window.x;
    zoom = Math.max(1 / 32, Math.min(32, zoom * factor));
    arrange();
    zoom *= before === layout.width ? 1 / factor : 1; // it was at its end
    scroll.scrollLeft = (inside * layout.width) / before - (px - layout.left);
    slide();
  }

  const cellUnder = ({ clientX, clientY }: MouseEvent): Cell | null => {
    const { left, top } = canvas.getBoundingClientRect();
    return cellAt(props, layout, window, clientX - left, clientY - top);
  };
  scroll.addEventListener("scroll", () => {
    slide();
    point(canvas.matches(":focus") ? cursor : null);
  });
  scroll.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      zoomBy(Math.exp(-event.deltaY / 200), event.clientX - canvas.getBoundingClientRect().left);
    },
    { passive: false },
  );
  canvas.addEventListener("pointermove", (event) => {
    const at = cellUnder(event);
    if (!at || !cursor || !isSame(at, cursor)) point(at);
  });
  canvas.addEventListener("pointerleave", () => point(null));
  canvas.addEventListener("blur", () => point(null));
  canvas.addEventListener("click", (event) => {
    const at = cellUnder(event);
    if (!at || !props.onPick) return;
    tooltip.hide(); // it would lie over what the click opens
    props.onPick(at, event.shiftKey);
  });
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = cursor ?? props.start ?? { row: 0, column: 0 };
    const to = stepTo(event.key, at, props);
    if (to) {
      reveal(to);
      point(to);
    } else if (event.key === "Enter") props.onPick?.(at, event.shiftKey);
    else if (event.key === "+" || event.key === "-") zoomBy(event.key === "+" ? 1.5 : 1 / 1.5);
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
    room = el.clientWidth;
    if (props) arrange();
  });
  resized.observe(el);
  return {
    el,
    draw,
    remove() {
      resized.disconnect();
      tooltip.remove();
      el.remove();
    },
  };
}

export function HeatMap(props: HeatMapProps) {
  const place = useRef<HTMLDivElement>(null);
  const map = useRef<HeatMapElement | null>(null);
  useLayoutEffect(() => {
    map.current = createHeatMap();
    place.current!.append(map.current.el);
    return () => map.current!.remove();
  }, []);
  useLayoutEffect(() => map.current!.draw(props));
  return <div ref={place} />;
}
