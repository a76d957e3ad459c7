// The coloured text as an SVG file, drawn from where the browser put each token.

import { count, percent, rounded } from "../../numbers.ts";
import { readPalette, STEPS, stepOf } from "../../shades.ts";
import { escapeXml as escape } from "../../views/pen.ts";
import { CENTRES } from "../../views/legend.tsx";
import { shownValues, unitName } from "../../views/reading.ts";
import { chosen, direction, limits, picture, settings, stripsOf } from "./state.ts";

interface Part {
  text: string;
  box: DOMRect;
}

/** A token's text line by line, each with its box: a token at the end of a line may go on in the next. */
function partsOf(span: HTMLElement): Part[] {
  const boxes = [...span.getClientRects()].filter(({ width }) => width > 0);
  if (boxes.length === 1) return [{ text: span.textContent!.replaceAll("\n", ""), box: boxes[0] }];
  const parts: Part[] = boxes.map((box) => ({ text: "", box }));
  const range = document.createRange();
  const walker = document.createTreeWalker(span, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    let at = 0;
    for (const char of node.textContent!) {
      range.setStart(node, at);
      range.setEnd(node, (at += char.length));
      const box = range.getBoundingClientRect();
      const part = parts.find(({ box: line }) => box.top + box.height / 2 >= line.top && box.top + box.height / 2 <= line.bottom);
      if (part && char !== "\n") part.text += char;
    }
  }
  return parts;
}

const WIDTH_OF_BAR = 220;

/** The picture as it is on the page, in its theme: legend, and every text shown. */
export function drawSvg(root: HTMLElement): string {
  const { name, pca, sum, texts } = picture.value!;
  const { units, centre, scale } = settings.value;
  const colours = readPalette(root);
  const paragraphs = [...root.querySelectorAll<HTMLElement>(".tokens")];
  const style = getComputedStyle(paragraphs[0] ?? root);
  const size = Number.parseFloat(style.fontSize);
  const width = Math.ceil(Math.max(560, ...paragraphs.map((el) => el.getBoundingClientRect().width))) + 48;
  const out: string[] = [];
  const sans = `font-family="${escape(getComputedStyle(document.body).fontFamily)}"`;
  const say = (x: number, y: number, text: string, fill = colours.ink2, extra = "font-size=\"12\""): void =>
    void out.push(`<text x="${x}" y="${y}" fill="${fill}" ${sans} ${extra}>${escape(text)}</text>`);
  say(24, 36, name, colours.ink, 'font-size="16" font-weight="600"');
  say(24, 56, `${percent(sum.share)} of variance, ${count(pca.n_tokens)} tokens, centred on ${CENTRES.find(([one]) => one === centre)![1]}`);
  const end = rounded(Math.max(...limits.value));
  say(24, 81, `−${end}`);
  out.push(`<rect x="72" y="72" width="${WIDTH_OF_BAR}" height="10" rx="4" fill="url(#range)" stroke="${colours.line}"/>`);
  const leftOut = direction.value!.left_out;
  say(72 + WIDTH_OF_BAR + 12, 81, `+${end} ${unitName(units)}${scale.mode === "text" ? ", each text has its own range" : ""}${leftOut.length ? `; position ${leftOut.join(", ")} left out` : ""}`);
  let top = 104;
  const readable = texts.map((text, i) => ({ text, i })).filter(({ text }) => !text.problem);
  let at = 0;
  for (const { text, i } of readable)
    for (const { label, direction: along, values } of stripsOf(i)) {
      const paragraph = paragraphs[at++];
      const shown = shownValues(values, along, units, centre);
      const frame = paragraph.getBoundingClientRect();
      out.push(`<path d="M24 ${top}H${width - 24}" stroke="${colours.line}"/>`);
      say(24, top + 18, `${text.label}, ${label || `${text.pieces.length} tokens`}`, i === chosen.value ? colours.accent : colours.ink2);
      const dy = top + 28 - frame.top;
      const dx = 24 - frame.left;
      const words: string[] = [];
      [...paragraph.querySelectorAll<HTMLElement>(":scope > span")].forEach((span, pos) => {
        const step = stepOf(shown[pos], limits.value[i]);
        const fill = along.left_out.includes(pos) ? "url(#out)" : step ? colours.shades[step + STEPS] : "none";
        for (const { text: part, box } of partsOf(span)) {
          const x = (box.left + dx).toFixed(1);
          out.push(`<rect x="${x}" y="${(box.top + dy).toFixed(1)}" width="${Math.max(0, box.width - 1).toFixed(1)}" height="${box.height.toFixed(1)}" fill="${fill}"/>`);
          words.push(`<text xml:space="preserve" x="${x}" y="${(box.top + dy + box.height / 2 + size * 0.35).toFixed(1)}" fill="${along.left_out.includes(pos) ? colours.ink2 : colours.ink}">${escape(part)}</text>`);
        }
      });
      out.push(`<g font-family="${escape(style.fontFamily)}" font-size="${size}">${words.join("")}</g>`);
      top += 28 + frame.height + 14;
    }
  const [negative, ground, positive] = [colours.shades[0], colours.ground, colours.shades[2 * STEPS]];
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${Math.ceil(top)}" viewBox="0 0 ${width} ${Math.ceil(top)}">
<title>${escape(name)}</title>
<defs><linearGradient id="range"><stop offset="0" stop-color="${negative}"/><stop offset=".25" stop-color="${colours.shades[STEPS / 2]}"/><stop offset=".5" stop-color="${ground}"/><stop offset=".75" stop-color="${colours.shades[STEPS * 1.5]}"/><stop offset="1" stop-color="${positive}"/></linearGradient>
<pattern id="out" width="4" height="4" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path d="M0 0V4" stroke="${colours.line}" stroke-width="2"/></pattern></defs>
<rect width="100%" height="100%" fill="${ground}"/>
${out.join("\n")}
</svg>`;
}
