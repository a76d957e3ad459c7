// What pictures are drawn with: on a canvas for the eye, as SVG for a paper. Both get the same strokes.

import type { Palette } from "../shades.ts";

export interface TextStyle {
  align?: "left" | "center" | "right";
  face?: "mono" | "sans";
  size?: number; // px
  bold?: boolean;
  turned?: boolean; // a quarter to the left, read upwards
}

/** From a point to another, bent by two between. */
export type Curve = readonly [x0: number, y0: number, x1: number, y1: number, x2: number, y2: number, x3: number, y3: number];

export interface Pen {
  box(x: number, y: number, width: number, height: number, fill: string): void;
  hatch(x: number, y: number, width: number, height: number): void; // the mark of what is left out
  outline(x: number, y: number, width: number, height: number, stroke: string, thickness: number): void;
  dot(x: number, y: number, radius: number, fill: string): void;
  curves(curves: readonly Curve[], stroke: string, thickness: number, opacity: number): void; // of one ink: where they cross they are no darker
  text(text: string, x: number, y: number, fill: string, style?: TextStyle): void; // y is its middle
  within(x: number, y: number, width: number, height: number, draw: () => void): void; // nothing is drawn outside
  moved(x: number, y: number, draw: () => void): void; // 0, 0 is there
}

const CHAR = 7.25; // px of a monospaced character at 12 px, in the widest of our faces

/** How many characters of a monospaced face a text is wide; those of Chinese, Japanese, Korean and emoji count twice. */
export function columnsOf(text: string): number {
  let n = 0;
  for (const char of text) n += char.codePointAt(0)! >= 0x1100 && !/[\u2000-\u2e7f]/.test(char) ? 2 : 1;
  return n;
}

export const widthOf = (text: string): number => columnsOf(text) * CHAR;

/** The beginning of a text that fits, with an ellipsis where it is cut; nothing where not even that fits. */
export function fitted(text: string, width: number): string {
  if (widthOf(text) <= width) return text;
  let cut = "";
  for (const char of text) {
    if (widthOf(`${cut}${char}…`) > width) break;
    cut += char;
  }
  return cut && `${cut}…`;
}

const LETTER = 0.54; // of the size, px of a letter of the sans face, on average

/** A text on two lines of so many px in the sans face, broken between words where that is possible; the second is cut. */
export function wrapped(text: string, width: number, size: number): [first: string, second: string] {
  const most = Math.floor(width / (LETTER * size));
  const chars = [...text];
  if (chars.length <= most) return [text, ""];
  const space = chars.lastIndexOf(" ", most);
  const [first, rest] = space > 0 ? [chars.slice(0, space), chars.slice(space + 1)] : [chars.slice(0, most), chars.slice(most)];
  return [first.join(""), rest.length <= most ? rest.join("") : `${rest.slice(0, most - 1).join("")}…`];
}

const faceOf = (el: Element, face: "mono" | "sans"): string => getComputedStyle(el).getPropertyValue(`--${face}`);

/** Draws on a canvas that is inside the document: its faces are those of the page. */
export function canvasPen(context: CanvasRenderingContext2D, { line, ground }: Palette): Pen {
  const faces = { mono: faceOf(context.canvas, "mono"), sans: faceOf(context.canvas, "sans") };
  let pattern: CanvasPattern | null = null;
  const hatching = (): CanvasPattern => {
    const tile = new OffscreenCanvas(4, 4);
    const ink = tile.getContext("2d")!;
    ink.fillStyle = ground;
    ink.fillRect(0, 0, 4, 4);
    ink.strokeStyle = line;
    ink.lineWidth = 1.5;
    for (const at of [-4, 0, 4]) {
      ink.moveTo(at - 1, 5);
      ink.lineTo(at + 5, -1);
    }
    ink.stroke();
    return context.createPattern(tile, "repeat")!;
  };
  return {
    box(x, y, width, height, fill) {
      context.fillStyle = fill;
      context.fillRect(x, y, width, height);
    },
    hatch(x, y, width, height) {
      context.fillStyle = pattern ??= hatching();
      context.fillRect(x, y, width, height);
    },
    outline(x, y, width, height, stroke, thickness) {
      context.strokeStyle = stroke;
      context.lineWidth = thickness;
      context.strokeRect(x, y, width, height);
    },
    dot(x, y, radius, fill) {
      context.fillStyle = fill;
      context.beginPath();
      context.arc(x, y, radius, 0, 7);
      context.fill();
    },
    curves(curves, stroke, thickness, opacity) {
      context.strokeStyle = stroke;
      context.lineWidth = thickness;
      context.globalAlpha = opacity;
      context.beginPath();
      for (const [x0, y0, x1, y1, x2, y2, x3, y3] of curves) {
        context.moveTo(x0, y0);
        context.bezierCurveTo(x1, y1, x2, y2, x3, y3);
      }
      context.stroke();
      context.globalAlpha = 1;
    },
    text(text, x, y, fill, { align = "left", face = "mono", size = 12, bold, turned } = {}) {
      context.font = `${bold ? "600 " : ""}${size}px ${faces[face]}`;
      context.fillStyle = fill;
      context.textAlign = align;
      context.textBaseline = "middle";
      if (!turned) return context.fillText(text, x, y);
      context.save();
      context.translate(x, y);
      context.rotate(-Math.PI / 2);
      context.fillText(text, 0, 0);
      context.restore();
    },
    within(x, y, width, height, draw) {
      context.save();
      context.beginPath();
      context.rect(x, y, width, height);
      context.clip();
      draw();
      context.restore();
    },
    moved(x, y, draw) {
      context.save();
      context.translate(x, y);
      draw();
      context.restore();
    },
  };
}

// XML 1.0 has no place for most control characters, escaped or not.
export const escapeXml = (text: string): string =>
  text
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, "\ufffd")
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");

const short = (n: number): string => String(Math.round(n * 100) / 100);
const ANCHORS = { left: "start", center: "middle", right: "end" };

/** Draws into a list of SVG elements; `url(#out)` is the pattern of what is left out. */
export function svgPen(out: string[], el: Element): Pen {
  const faces = { mono: escapeXml(faceOf(el, "mono")), sans: escapeXml(faceOf(el, "sans")) };
  const rect = (x: number, y: number, width: number, height: number, rest: string): void =>
    void out.push(`<rect x="${short(x)}" y="${short(y)}" width="${short(width)}" height="${short(height)}" ${rest}/>`);
  return {
    box: (x, y, width, height, fill) => rect(x, y, width, height, `fill="${fill}"`),
    hatch: (x, y, width, height) => rect(x, y, width, height, 'fill="url(#out)"'),
    outline: (x, y, width, height, stroke, thickness) => rect(x, y, width, height, `fill="none" stroke="${stroke}" stroke-width="${thickness}"`),
    dot: (x, y, radius, fill) => void out.push(`<circle cx="${short(x)}" cy="${short(y)}" r="${radius}" fill="${fill}"/>`),
    curves(curves, stroke, thickness, opacity) {
      const path = curves.map(([x0, y0, ...rest]) => `M${short(x0)} ${short(y0)}C${rest.map(short).join(" ")}`).join("");
      if (path) out.push(`<path d="${path}" fill="none" stroke="${stroke}" stroke-width="${thickness}" stroke-opacity="${short(opacity)}"/>`);
    },
    text(text, x, y, fill, { align = "left", face = "mono", size = 12, bold, turned } = {}) {
      const turn = turned ? ` transform="rotate(-90 ${short(x)} ${short(y)})"` : "";
      out.push(
        `<text xml:space="preserve" x="${short(x)}" y="${short(y)}" dy=".35em" fill="${fill}" font-family="${faces[face]}" font-size="${size}"${bold ? ' font-weight="600"' : ""} text-anchor="${ANCHORS[align]}"${turn}>${escapeXml(text)}</text>`,
      );
    },
    within: (_x, _y, _width, _height, draw) => draw(),
    moved(x, y, draw) {
      out.push(`<g transform="translate(${short(x)} ${short(y)})">`);
      draw();
      out.push("</g>");
    },
  };
}
