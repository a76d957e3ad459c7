// A picture as a file: SVG with its title, what it shows and its range, and a PNG made of it.

import { type Palette, readPalette, STEPS } from "../shades.ts";
import { endsOf, type RangeProps, rangeWords } from "./legend.tsx";
import { escapeXml, type Pen, svgPen, widthOf } from "./pen.ts";

export interface Drawing {
  size: readonly [width: number, height: number];
  draw: (pen: Pen, palette: Palette) => void; // from 0, 0 on
}

export interface Headed extends Drawing {
  title: string;
  lines: readonly string[]; // under the title
  range?: RangeProps;
}

const MARGIN = 24; // px
const BAR = 220;

/** Several drawings, each under its title. */
export function drawBeside(parts: readonly (Drawing & { title: string })[]): Drawing {
  const across = Math.ceil(Math.sqrt(parts.length));
  const [width, height] = [Math.max(...parts.map(({ size }) => size[0])) + 32, Math.max(...parts.map(({ size }) => size[1])) + 48];
  return {
    size: [across * width, Math.ceil(parts.length / across) * height],
    draw: (pen, palette) =>
      parts.forEach(({ title, draw }, i) =>
        pen.moved((i % across) * width, Math.floor(i / across) * height, () => {
          pen.text(title, 0, 8, palette.ink, { face: "sans", bold: true });
          pen.moved(0, 24, () => draw(pen, palette));
        }),
      ),
  };
}

/** A whole drawing, in the theme that holds at `el`. */
export function drawSvg(el: Element, { title, lines, range, size, draw }: Headed): string {
  const palette = readPalette(el);
  const out: string[] = [];
  const pen = svgPen(out, el);
  pen.text(title, 0, 8, palette.ink, { face: "sans", size: 16, bold: true });
  lines.forEach((line, i) => pen.text(line, 0, 32 + 18 * i, palette.ink2, { face: "sans" }));
  let top = 32 + 18 * lines.length;
  if (range) {
    const [low, high] = endsOf(range);
    const shades = palette.shades.slice(range.signed ? 0 : STEPS);
    const left = widthOf(low) + 8;
    pen.text(low, 0, top + 4, palette.ink2);
    shades.forEach((shade, i) => pen.box(left + (i * BAR) / shades.length, top, BAR / shades.length + 0.5, 8, shade));
    pen.text(`${high} · ${rangeWords(range)}`, left + BAR + 8, top + 4, palette.ink2);
    top += 28;
  }
  const head = out.splice(0);
  draw(pen, palette);
  const [width, height] = [Math.ceil(Math.max(size[0], 480)) + 2 * MARGIN, Math.ceil(top + size[1]) + 2 * MARGIN];
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}">
<title>${escapeXml(title)}</title>
<defs><pattern id="out" width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path d="M0 0V4" stroke="${palette.line}" stroke-width="2"/></pattern></defs>
<rect width="100%" height="100%" fill="${palette.ground}"/>
<g transform="translate(${MARGIN} ${MARGIN})">${head.join("\n")}
<g transform="translate(0 ${top})">
${out.join("\n")}
</g></g>
</svg>`;
}

/** The same picture in pixels, two for each of the page's. */
export async function drawPng(svg: string): Promise<Blob> {
  const url = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
  try {
    const image = new Image();
    image.src = url;
    await image.decode();
    const ratio = Math.min(2, 16000 / image.height, 16000 / image.width);
    const canvas = document.createElement("canvas");
    canvas.width = image.width * ratio;
    canvas.height = image.height * ratio;
    canvas.getContext("2d")!.drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((resolve, reject) => canvas.toBlob((blob) => (blob ? resolve(blob) : reject(new Error("The browser could not make the PNG."))), "image/png"));
  } finally {
    URL.revokeObjectURL(url);
  }
}

/** Offers a file to be saved; the answer is its name. */
export function saveFile(content: Blob, name: string, extension: string): string {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = `${name.replace(/[^\w.-]+/g, "_")}.${extension}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  return link.download;
}
