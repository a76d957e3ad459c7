// A graph on two canvases, of which only what is in sight is drawn: everything on one; on the other what lies on paths through one node.

import { useLayoutEffect, useRef } from "preact/hooks";
import { type Palette, readPalette, STEPS, stepOf } from "../../shades.ts";
import { canvasPen, type Curve, fitted, type Pen, wrapped } from "../pen.ts";
import { createTooltip, type Tip } from "../tooltip.ts";
import { GAP, itemAt, type Layout, routeOf, stepFrom } from "./layout.ts";
import { pathsThrough, type Scene } from "./net.ts";

/** What a card says. */
export interface Face {
  title: string;
  named: boolean; // by a person, not a number
  value: string; // its activation, or how many it stands for; a long name takes its place
  share: number; // of the largest activation of its kind
  effect: number | null; // on the chosen output, within -1..1
}

export interface Drawn {
  scene: Scene;
  layout: Layout;
  faces: readonly Face[];
  limit: number; // of the weights
  sign: 1 | -1; // -1: colours are of what ablating does
  pinned: ReadonlySet<number>;
  heads: readonly string[]; // over the columns
}

interface Props extends Drawn {
  label: string;
  picked: number | null;
  found: ReadonlySet<number>;
  tip: (item: number) => Tip;
  onPick: (item: number) => void;
  onZoom: (zoom: number) => void;
  tall: number; // px
}

interface Window {
  x: number; // in the drawing
  y: number;
  width: number;
  height: number;
}

const INKS = 12; // steps of opacity
const READABLE = 0.55; // a zoom under which no card has words
const HEAD = 22; // px

const everything: Window = { x: -Infinity, y: -Infinity, width: Infinity, height: Infinity };

function drawLinks(pen: Pen, { scene, layout, limit, sign }: Drawn, { x, y, width, height }: Window, palette: Palette, only: ReadonlySet<number> | null): void {
  const inks = Array.from({ length: 2 * INKS + 1 }, (): Curve[] => []);
  const room = layout.card.map((size, side) => size + GAP[side]); // which a way takes beside its ends
  scene.links.forEach(({ from, to, weight }, i) => {
    if (only && !only.has(i)) return;
    const [[x0, x1], [y0, y1]] = [layout.x, layout.y].map((at, side) => [Math.min(at[from], at[to]) - room[side], Math.max(at[from], at[to]) + room[side]]);
    if (x1 < x || x0 > x + width || y1 < y || y0 > y + height) return;
    const size = Math.max(1, Math.ceil(INKS * Math.min(1, Math.abs(weight) / limit)));
    inks[INKS + Math.sign(weight * sign) * size].push(...routeOf(layout, from, to));
  });
  for (let size = 1; size <= INKS; size++)
    for (const side of [-1, 1]) pen.curves(inks[INKS + side * size], side > 0 ? palette.positive : palette.negative, 1.5, size / INKS);
}

function drawCards(pen: Pen, { scene, layout, faces, pinned }: Drawn, window: Window, palette: Palette, only: ReadonlySet<number> | null, words: boolean): void {
  const [width, height] = layout.card;
  scene.items.forEach(({ kind }, i) => {
    const [x, y] = [layout.x[i], layout.y[i]];
    if ((only && !only.has(i)) || x + width < window.x || x > window.x + window.width || y + height < window.y || y > window.y + window.height) return;
    const { title, named, value, share, effect } = faces[i];
    pen.box(x, y, width, height, palette.ground);
    if (kind === "error") pen.hatch(x, y, width, height);
    if (share > 0) pen.box(x + 6, y + height - 5, (width - 12) * share, 2, palette.ink2);
    if (effect !== null) pen.box(x, y, 4, height, palette.shades[stepOf(effect, 1) + STEPS]);
    const several = kind === "group" || kind === "layer";
    pen.outline(x, y, width, height, pinned.has(i) ? palette.accent : several ? palette.ink2 : palette.line, pinned.has(i) || several ? 1.5 : 1);
    if (!words) return;
    const sans = { face: "sans", size: 11 } as const;
    const [first, second] = named ? wrapped(title, width - 9, sans.size) : [fitted(title, width - 6), ""];
    pen.text(first, x + 7, y + 9, palette.ink, named ? sans : { bold: several });
    if (second) pen.text(second, x + 7, y + 20, palette.ink, sans);
    else pen.text(value, x + 7, y + 19, palette.ink2, { size: 10 });
  });
}

export function drawGraph(pen: Pen, drawn: Drawn, palette: Palette): void {
  const { layout, heads } = drawn;
  if (heads.length) layout.columns.forEach(({ start, size }, i) => pen.text(fitted(heads[i], size), start + size / 2, HEAD / 2, palette.ink2, { align: "center" }));
  pen.moved(0, heads.length ? HEAD : 0, () => {
    drawLinks(pen, drawn, everything, palette, null);
    drawCards(pen, drawn, everything, palette, null, true);
  });
}

const make = <K extends keyof HTMLElementTagNameMap>(tag: K, className = ""): HTMLElementTagNameMap[K] =>
  Object.assign(document.createElement(tag), { className });

function createGraph() {
  const el = make("div", "net");
  const scroll = make("div", "scroll");
  const space = make("div");
  const [below, above] = [make("canvas", "below"), make("canvas", "above")];
  const said = make("span", "said");
  const tooltip = createTooltip(el);
  said.setAttribute("role", "status");
  above.tabIndex = 0;
  above.setAttribute("role", "img");
  below.ariaHidden = "true";
  space.append(below, above);
  scroll.append(space);
  el.append(scroll, said);

  let props: Props;
  let palette: Palette | null = null;
  let window: Window = { x: 0, y: 0, width: 0, height: 0 }; // in pixels of the page
  let zoom = 1;
  let hovered: number | null = null;
  let waiting = false;
  let bare = false; // whether nothing stands on the upper canvas

  const headOf = (): number => (props.heads.length ? HEAD : 0);

  /** Where the window is: a drawing that is narrower stands in its middle. */
  const sideOf = (): number => scroll.scrollLeft - Math.max(0, (scroll.clientWidth - props.layout.width * zoom) / 2);

  /** Draws into a canvas what lies in sight, or only in a part of it. */
  function onCanvas(canvas: HTMLCanvasElement, part: Window | null, draw: (pen: Pen, seen: Window) => void): void {
    const context = canvas.getContext("2d")!;
    const ratio = devicePixelRatio || 1;
    const pixels = [window.width, window.height].map((size) => Math.round(size * ratio));
    if (canvas.width !== pixels[0] || canvas.height !== pixels[1]) [canvas.width, canvas.height] = pixels;
    palette ??= readPalette(el);
    const head = headOf();
    const { x, y, width, height } = part ?? { ...window, x: 0, y: head, height: window.height - head };
    context.save();
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.beginPath();
    context.rect(x, y, width, height);
    context.clip();
    context.clearRect(x, y, width, height);
    context.setTransform(ratio * zoom, 0, 0, ratio * zoom, -window.x * ratio, (head - window.y) * ratio);
    draw(canvasPen(context, palette), { x: (window.x + x) / zoom, y: (window.y + y - head) / zoom, width: width / zoom, height: height / zoom });
    context.restore();
  }

  function paintHeads(): void {
    const context = below.getContext("2d")!;
    const ratio = devicePixelRatio || 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, window.width, HEAD);
    const pen = canvasPen(context, palette!);
    props.layout.columns.forEach(({ start, size }, i) => pen.text(fitted(props.heads[i], size * zoom - 4), (start + size / 2) * zoom - window.x, HEAD / 2, palette!.ink2, { align: "center" }));
  }

  function paintBelow(part: Window | null = null): void {
    onCanvas(below, part, (pen, seen) => {
      drawLinks(pen, props, seen, palette!, null);
      drawCards(pen, props, seen, palette!, null, zoom >= READABLE);
    });
    if (props.heads.length && !part) paintHeads();
  }

  function paintAbove(): void {
    const focus = hovered ?? props.picked;
    const lit = focus === null ? null : pathsThrough(props.scene, focus);
    const empty = lit === null && props.found.size === 0;
    el.classList.toggle("dim", !empty);
    if (empty && bare) return;
    bare = empty;
    onCanvas(above, null, (pen, seen) => {
      if (lit) drawLinks(pen, props, seen, palette!, lit.links);
      if (!empty) drawCards(pen, props, seen, palette!, new Set([...(lit?.items ?? []), ...props.found]), zoom >= READABLE);
      for (const item of props.found) frame(item, 1.5);
      if (focus !== null) frame(focus, 2.5);
      function frame(item: number, thickness: number): void {
        const [width, height] = props.layout.card;
        pen.outline(props.layout.x[item] - 1, props.layout.y[item] - 1, width + 2, height + 2, palette!.accent, thickness);
      }
    });
  }

  /** After scrolling: what is still in sight is moved, and only what has come into it is drawn. */
  function slide(): void {
    const ratio = devicePixelRatio || 1;
    const [x, y] = [sideOf(), scroll.scrollTop].map((at) => Math.round(at * ratio) / ratio);
    const [dx, dy] = [x - window.x, y - window.y];
    if (!dx && !dy) return;
    window = { ...window, x, y };
    const { width, height } = window;
    if (waiting || Math.abs(dx) >= width || Math.abs(dy) >= height) return paint(true);
    const head = headOf();
    const context = below.getContext("2d")!;
    context.save();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.beginPath();
    context.rect(0, head * ratio, width * ratio, (height - head) * ratio);
    context.clip();
    context.globalCompositeOperation = "copy";
    context.drawImage(below, -Math.round(dx * ratio), -Math.round(dy * ratio));
    context.restore();
    if (dy > 0) paintBelow({ x: 0, y: height - dy, width, height: dy });
    if (dy < 0) paintBelow({ x: 0, y: head, width, height: -dy });
    if (dx > 0) paintBelow({ x: width - dx, y: head, width: dx, height: height - head });
    if (dx < 0) paintBelow({ x: 0, y: head, width: -dx, height: height - head });
    if (head) paintHeads();
    paintAbove();
  }

  /** At the next frame, once. */
  function paint(all: boolean): void {
    if (waiting || !window.width) return;
    if (!all) return paintAbove();
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      paintBelow();
      paintAbove();
    });
  }

  function arrange(): void {
    const room = el.clientWidth;
    if (!room || !props) return;
    const [width, height] = [props.layout.width * zoom, props.layout.height * zoom + headOf()];
    space.style.width = `${width}px`;
    space.style.height = `${height}px`;
    const tall = Math.min(props.tall, height + (width > room ? 16 : 0));
    scroll.style.height = `${tall}px`;
    window = { x: sideOf(), y: scroll.scrollTop, width: scroll.clientWidth, height: scroll.clientHeight };
    bare = false;
    for (const canvas of [below, above]) {
      canvas.style.width = `${window.width}px`;
      canvas.style.height = `${window.height}px`;
    }
    paint(true);
  }

  function point(item: number | null, aloud = false): void {
    if (hovered !== item) {
      hovered = item;
      paint(false);
    }
    above.style.cursor = item === null ? "grab" : "pointer";
    if (item === null) return tooltip.hide();
    const tip = props.tip(item);
    if (aloud) said.textContent = `${tip.piece} ${tip.value}. ${tip.facts.join(". ")}`;
    tooltip.show(tip, boxOf(item));
  }

  function boxOf(item: number): DOMRect {
    const { left, top } = above.getBoundingClientRect();
    const [width, height] = props.layout.card;
    return new DOMRect(left + props.layout.x[item] * zoom - window.x, top + headOf() + props.layout.y[item] * zoom - window.y, width * zoom, height * zoom);
  }

  function under({ clientX, clientY }: MouseEvent): number | null {
    const { left, top } = above.getBoundingClientRect();
    return itemAt(props.layout, (clientX - left + window.x) / zoom, (clientY - top + window.y - headOf()) / zoom);
  }

  function reveal(item: number): void {
    const box = boxOf(item);
    const frame = above.getBoundingClientRect();
    const by = (from: number, to: number, low: number, high: number): number => (from < low ? from - low : Math.max(0, to - high));
    scroll.scrollBy(by(box.left, box.right, frame.left, frame.right), by(box.top, box.bottom, frame.top + HEAD, frame.bottom));
    slide();
  }

  /** Keeps what lies in the middle where it is. */
  function zoomTo(next: number): void {
    const before = zoom;
    zoom = Math.max(0.1, Math.min(2, next));
    const [x, y] = [(window.x + window.width / 2) / before, (window.y + window.height / 2) / before];
    arrange();
    scroll.scrollTo(x * zoom - window.width / 2, y * zoom - window.height / 2);
    window = { ...window, x: sideOf(), y: scroll.scrollTop };
    paint(true);
    props.onZoom(zoom);
  }

  /** So that all of it is seen. */
  const fit = (): void => zoomTo(Math.min(1, el.clientWidth / props.layout.width, (props.tall - headOf()) / props.layout.height));

  let grabbed: { x: number; y: number; moved: boolean } | null = null;
  above.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && event.button === 0) grabbed = { x: event.clientX, y: event.clientY, moved: false };
  });
  above.addEventListener("pointermove", (event) => {
    if (grabbed && event.buttons & 1) {
      const [dx, dy] = [event.clientX - grabbed.x, event.clientY - grabbed.y];
      if (!grabbed.moved && Math.hypot(dx, dy) < 4) return;
      if (!grabbed.moved) above.setPointerCapture(event.pointerId);
      grabbed = { x: event.clientX, y: event.clientY, moved: true };
      point(null);
      above.style.cursor = "grabbing";
      scroll.scrollBy(-dx, -dy);
      return;
    }
    point(under(event));
  });
  above.addEventListener("pointerleave", () => point(null));
  above.addEventListener("blur", () => point(null));
  above.addEventListener("click", (event) => {
    const dragged = grabbed?.moved;
    grabbed = null;
    const item = under(event);
    if (dragged || item === null) return;
    tooltip.hide();
    props.onPick(item);
  });
  above.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = hovered ?? props.picked;
    const to = at === null ? (event.key.startsWith("Arrow") ? 0 : null) : stepFrom(props.layout, at, event.key);
    if (to !== null && to < props.scene.items.length) {
      reveal(to);
      point(to, true);
    } else if (event.key === "Enter" && at !== null) props.onPick(at);
    else if (event.key === "+" || event.key === "-") zoomTo(zoom * (event.key === "+" ? 1.25 : 0.8));
    else if (event.key === "0") fit();
    else if (event.key === "Escape" && hovered !== null) point(null);
    else return;
    event.preventDefault();
  });
  scroll.addEventListener("scroll", slide);
  scroll.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      zoomTo(zoom * Math.exp(-event.deltaY / 200));
    },
    { passive: false },
  );
  above.addEventListener("transitionend", () => {
    palette = null;
    paint(true);
  });
  const resized = new ResizeObserver(arrange);
  resized.observe(el);
  return {
    el,
    draw(next: Props): void {
      const other = props?.scene !== next.scene || props.layout !== next.layout;
      props = next;
      if (other) hovered = null;
      above.setAttribute("aria-label", `${next.label}. Arrow keys go from node to node, Enter pins one, plus and minus zoom, 0 shows all.`);
      arrange();
    },
    zoomBy: (factor: number) => zoomTo(zoom * factor),
    fit,
    reveal: (item: number) => props.scene.items[item] && reveal(item),
    remove(): void {
      resized.disconnect();
      tooltip.remove();
      el.remove();
    },
  };
}

export type GraphElement = ReturnType<typeof createGraph>;

export function GraphCanvas({ handle, ...props }: Props & { handle: { current: GraphElement | null } }) {
  const place = useRef<HTMLDivElement>(null);
  useLayoutEffect(() => {
    handle.current = createGraph();
    place.current!.append(handle.current.el);
    return () => handle.current!.remove();
  }, []);
  useLayoutEffect(() => handle.current!.draw(props));
  return <div ref={place} />;
}
