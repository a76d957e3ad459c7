// Texts as running prose, each token shaded by its value.

import type { Model, View } from "../host.ts";
import { stepOf } from "../shades.ts";
import { type Backdrop, createBackdrop } from "./backdrop.ts";
import { frameProjection, labelsOf, titled } from "./projected.tsx";
import { colourLimit, type Picked, rankOf, type Reading, valueText, visiblePiece } from "./reading.ts";
import { createTooltip } from "./tooltip.ts";
import "./coloured_text.css";

interface Paragraph {
  tokens: HTMLElement;
  spans: HTMLElement[];
  backdrop: Backdrop;
}

/** A span for one token. Text stays text: only text nodes are made of it. */
function spanOf(piece: string): HTMLElement {
  const span = document.createElement("span");
  const [first, ...rest] = piece.split("\n");
  span.append(first);
  for (const line of rest) {
    const mark = document.createElement("i");
    mark.textContent = "↵";
    mark.ariaHidden = "true";
    span.append(mark, `\n${line}`);
  }
  return span;
}

function paragraphOf(pieces: string[], special: boolean[], leftOut: number[], label: string): Paragraph {
  const tokens = document.createElement("p");
  tokens.className = "tokens";
  tokens.tabIndex = 0;
  tokens.dir = "auto";
  tokens.setAttribute("role", "group");
  tokens.setAttribute("aria-label", `${label}: arrow keys go from token to token, Enter picks one`);
  const spans = pieces.map((piece, pos) => {
    const span = spanOf(piece);
    if (special[pos]) span.dataset.special = "";
    if (leftOut.includes(pos)) span.className = "out";
    return span;
  });
  tokens.append(...spans);
  return { tokens, spans, backdrop: createBackdrop(tokens, spans) };
}

/** The step of each token's shade. */
function stepsOf(values: Float32Array, limit: number, leftOut: number[]): Int8Array<ArrayBuffer> {
  const steps = new Int8Array(values.length);
  for (let pos = 0; pos < steps.length; pos++) if (!leftOut.includes(pos)) steps[pos] = stepOf(values[pos], limit);
  return steps;
}

function render({ model, el }: { model: Model; el: HTMLElement }): () => void {
  const tooltip = createTooltip(el);
  let reading: Reading;
  let paragraphs: Paragraph[] = [];
  let places = new Map<Element, { text: number; pos: number }>();
  let built: string[][] | null = null; // the pieces that the paragraphs were made of
  let limits: number[] = [];
  let marked: Element | undefined;
  let cursor: Picked = null;
  let under: Element | null = null; // the token that the cursor is on

  const valuesOf = (text: number): Float32Array => {
    const width = reading.shape[1];
    return reading.values.subarray(text * width, text * width + reading.payload.pieces[text].length);
  };

  function build(body: HTMLElement): void {
    const { pieces, special, left_out } = reading.payload;
    const alone = !model.get("bare");
    const labels = labelsOf(model, reading.payload);
    paragraphs.forEach(({ backdrop }) => backdrop.remove());
    paragraphs = pieces.map((text, i) => paragraphOf(text, special[i], left_out, labels[i]));
    places = new Map(paragraphs.flatMap(({ spans }, text) => spans.map((span, pos) => [span, { text, pos }] as const)));
    cursor = null;
    body.replaceChildren(...paragraphs.map(({ backdrop: { el } }, i) => (alone ? titled(labels[i], el) : el)));
  }

  function draw(next: Reading, body: HTMLElement): number {
    reading = next;
    const { pieces, left_out } = next.payload;
    if (pieces !== built && JSON.stringify(pieces) !== JSON.stringify(built)) build(body);
    built = pieces;
    const rows = pieces.map((_, text) => valuesOf(text));
    limits =
      next.scale.mode === "text"
        ? rows.map((row) => colourLimit([row], left_out))
        : rows.map(((limit) => () => limit)(next.scale.mode === "fixed" ? next.scale.limit : colourLimit(rows, left_out)));
    paragraphs.forEach(({ backdrop }, text) => backdrop.draw(stepsOf(rows[text], limits[text], left_out)));
    marked?.removeAttribute("aria-current");
    const picked = model.get("picked") as Picked | undefined;
    marked = picked ? paragraphs[picked.text]?.spans[picked.pos] : undefined;
    marked?.setAttribute("aria-current", "true");
    return Math.max(0, ...limits) || 1;
  }

  function point(at: Picked): void {
    under?.removeAttribute("data-cursor");
    under = at ? paragraphs[at.text].spans[at.pos] : null;
    under?.setAttribute("data-cursor", "");
    cursor = at;
    if (!at) return tooltip.hide();
    const { payload, units } = reading;
    const values = valuesOf(at.text);
    const value = values[at.pos];
    tooltip.show(
      {
        piece: visiblePiece(payload.pieces[at.text][at.pos]),
        value: valueText(value, units),
        facts: [`position ${at.pos}`, Number.isNaN(value) ? "nothing to compare it with" : payload.left_out.includes(at.pos) ? "left out of the colours" : `rank ${rankOf(values, value)} of ${values.length}`],
      },
      under!.getClientRects()[0],
    );
  }

  function pick(at: Picked): void {
    const picked = model.get("picked") as Picked | undefined;
    model.set("picked", at && picked?.text === at.text && picked.pos === at.pos ? null : at);
    model.save_changes();
  }

  const placeOf = (event: Event): Picked => places.get((event.target as Element).closest(".tokens > span")!) ?? null;
  const over = (event: Event): void => point(placeOf(event));
  const leave = (): void => point(null);
  const click = (event: Event): void => {
    const at = placeOf(event);
    if (at && getSelection()?.isCollapsed !== false) pick(at);
  };
  const key = (event: KeyboardEvent): void => {
    const text = paragraphs.findIndex(({ tokens }) => tokens === event.target);
    if (text < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const last = paragraphs[text].spans.length - 1;
    const pos = cursor?.text === text ? cursor.pos : -1;
    const moves: Record<string, number> = { ArrowLeft: Math.max(0, pos - 1), ArrowRight: Math.min(last, pos + 1), Home: 0, End: last };
    if (event.key in moves) point({ text, pos: moves[event.key] });
    else if (event.key === "Enter" && cursor) pick(cursor);
    else if (event.key === "Escape" && cursor) point(null);
    else return;
    event.preventDefault();
  };
  el.addEventListener("pointerover", over);
  el.addEventListener("pointerleave", leave);
  el.addEventListener("focusout", leave);
  el.addEventListener("click", click);
  el.addEventListener("keydown", key);
  const takeDown = frameProjection(model, el, draw);
  return () => {
    el.removeEventListener("pointerover", over);
    el.removeEventListener("pointerleave", leave);
    el.removeEventListener("focusout", leave);
    el.removeEventListener("click", click);
    el.removeEventListener("keydown", key);
    paragraphs.forEach(({ backdrop }) => backdrop.remove());
    tooltip.remove();
    takeDown();
  };
}

export default { render } satisfies View;
