// The shades behind a paragraph's tokens, on one canvas: a change of them styles no token and lays nothing out.
// They are rectangles, because rounded ones cost twice the time.

import { type Palette, readPalette, shadeText, STEPS } from "../shades.ts";

const GAP = 1; // px between tokens: two of one shade are still seen to be two
const MOST = 16_000; // pixels of a canvas on a side: on larger ones some browsers draw nothing

interface Box {
  pos: number; // of its token; one that goes on in the next line has several boxes
  x: number; // in whole pixels of the canvas, as the rest
  y: number;
  width: number;
  height: number;
}

export interface Backdrop {
  el: HTMLElement; // the canvas, and the paragraph on it
  draw(steps: Int8Array<ArrayBuffer>): void; // by token; 0 is the bare ground
  remove(): void;
}

export function createBackdrop(paragraph: HTMLElement, tokens: readonly HTMLElement[]): Backdrop {
  const el = document.createElement("div");
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d")!;
  el.className = "shaded";
  canvas.ariaHidden = "true";
  el.append(canvas, paragraph);
  let steps = new Int8Array(tokens.length);
  let boxes: Box[] | null = null; // null until the paragraph is laid out
  let palette: Palette | null = null;
  let inSight = true;

  // What is out of sight is measured and drawn when it comes near; until then it has no pixels.
  function paint(): void {
    if (!boxes || !inSight) return;
    palette ??= readPalette(el);
    context.clearRect(0, 0, canvas.width, canvas.height);
    for (const { pos, x, y, width, height } of boxes) {
      const step = steps[pos];
      if (!step) continue;
      context.fillStyle = palette.shades[step + STEPS];
      context.fillRect(x, y, width, height);
    }
  }

  function measure(): void {
    const { left, top, width, height } = paragraph.getBoundingClientRect();
    if (!width || !inSight) return;
    const ratio = Math.min(devicePixelRatio, MOST / Math.max(width, height));
    const pixels = (length: number): number => Math.round(length * ratio);
    const gap = Math.max(1, pixels(GAP));
    boxes = tokens.flatMap((token, pos) =>
      Array.from(token.getClientRects(), (box) => {
        const [x, y] = [pixels(box.left - left), pixels(box.top - top)];
        return { pos, x, y, width: pixels(box.right - left) - x - gap, height: pixels(box.bottom - top) - y };
      }),
    );
    canvas.width = pixels(width);
    canvas.height = pixels(height);
    canvas.style.width = `${canvas.width / ratio}px`;
    canvas.style.height = `${canvas.height / ratio}px`;
    paint();
  }

  const over = new AbortController();
  const { signal } = over;
  const resized = new ResizeObserver(measure);
  resized.observe(paragraph);
  const sight = new IntersectionObserver(
    ([{ isIntersecting }]) => {
      if (isIntersecting === inSight) return;
      inSight = isIntersecting;
      if (inSight) measure();
      else canvas.width = 0;
    },
    { rootMargin: "240px" },
  );
  sight.observe(paragraph);
  document.fonts.addEventListener("loadingdone", measure, { signal });
  const listen = (): void =>
    matchMedia(`(resolution: ${devicePixelRatio}dppx)`).addEventListener("change", () => (measure(), listen()), { signal, once: true });
  listen();
  canvas.addEventListener("transitionend", () => {
    palette = null;
    paint();
  });
  // Paper has lines of another length, and its own theme.
  addEventListener("beforeprint", () => tokens.forEach((token, pos) => steps[pos] && (token.style.background = shadeText(steps[pos]))), { signal });
  addEventListener("afterprint", () => tokens.forEach((token) => (token.style.background = "")), { signal });
  return {
    el,
    draw(next) {
      if (next.every((step, pos) => step === steps[pos])) return;
      steps = next;
      paint();
    },
    remove() {
      over.abort();
      resized.disconnect();
      sight.disconnect();
    },
  };
}
