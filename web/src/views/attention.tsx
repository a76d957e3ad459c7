// Attention: patterns of many heads side by side, and the one that was picked, query by key.

import { useLayoutEffect, useMemo, useRef } from "preact/hooks";
import type { Tensor } from "../arrays.ts";
import { counted, plain } from "../numbers.ts";
import { type Palette, readPalette, STEPS } from "../shades.ts";
import type { Drawing } from "./files.ts";
import { type Heat, heatDrawing, OUT, stepsOf } from "./heat.ts";
import { HeatMap } from "./heat_map.tsx";
import { Word } from "./legend.tsx";
import { below, type Head, oneOf, oneOfHeads } from "./look.ts";
import { type Named, present, rangeOf, type Shown, Stand } from "./present.tsx";
import { visiblePiece } from "./reading.ts";
import "./attention.css";

interface Payload extends Named {
  heads: [layer: number, head: number][];
  pieces: string[][];
  settings: Named["settings"] & { value: string; unit: string };
}

interface Chosen {
  text: number;
  size: Size;
}

type Size = "small" | "medium" | "large";

const SIZES: Record<Size, number> = { small: 56, medium: 96, large: 192 }; // px

/** One head's pattern of one text: [query key]. */
function patternOf({ shape, data }: Tensor, text: number, head: number, length: number): Float32Array {
  const [, n_heads, width] = shape;
  const pattern = new Float32Array(length * length);
  const start = (text * n_heads + head) * width * width;
  for (let query = 0; query < length; query++) pattern.set(data.subarray(start + query * width, start + query * width + length), query * length);
  return pattern;
}

/** A pattern, a pixel a cell. */
function paintThumb(canvas: HTMLCanvasElement, steps: Int8Array, palette: Palette): void {
  const side = Math.sqrt(steps.length);
  const image = new ImageData(side, side);
  const pixels = new Uint32Array(image.data.buffer);
  const inks = palette.shades.map((shade) => {
    const rgb = Number.parseInt(shade.slice(1), 16);
    return (0xff000000 | ((rgb & 0xff) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0;
  });
  steps.forEach((step, i) => (pixels[i] = step === OUT ? 0 : inks[step + STEPS]));
  canvas.width = canvas.height = side;
  canvas.getContext("2d")!.putImageData(image, 0, 0);
}

function Thumbs({ names, patterns, limit, size, picked, onPick }: { names: string[]; patterns: Float32Array[]; limit: number; size: number; picked: number; onPick: (i: number) => void }) {
  const place = useRef<HTMLDivElement>(null);
  const paint = (): void => {
    const palette = readPalette(place.current!);
    place.current!.querySelectorAll("canvas").forEach((canvas, i) => paintThumb(canvas, stepsOf(patterns[i], limit), palette));
  };
  useLayoutEffect(paint, [patterns, limit]);
  return (
    <div class="thumbs" ref={place} style={{ "--side": `${size}px` }} role="group" aria-label="Heads" onTransitionEnd={({ target, currentTarget }) => target === currentTarget && paint()}>
      {names.map((name, i) => (
        <button key={name} type="button" aria-pressed={i === picked} onClick={() => onPick(i)}>
          <canvas aria-hidden="true" />
          {name}
        </button>
      ))}
    </div>
  );
}

function Attention({ payload, arrays, alone, tools, chosen, choose, picked, pick, scale, onScale }: Shown<Payload, Chosen, Head>) {
  const { heads, settings } = payload;
  const { size = heads.length > 40 ? "small" : "medium" } = chosen;
  const text = Math.min(chosen.text ?? 0, payload.pieces.length - 1);
  const pieces = payload.pieces[text];
  const names = heads.map((pair) => pair.join("."));
  const patterns = useMemo(() => heads.map((_, head) => patternOf(arrays.values, text, head, pieces.length)), [arrays, text]);
  const at = Math.max(0, picked ? heads.findIndex(([layer, head]) => layer === picked.layer && head === picked.head) : 0);
  const unit = settings.unit === "probability" ? "" : "units of the stream";
  const shared = useMemo(() => rangeOf(Float32Array.from(patterns.flatMap((pattern) => [...pattern.filter((value) => value > 0)])), { mode: "shared" }, unit).limit, [patterns]);
  const limit = scale.mode === "fixed" ? scale.limit : shared;
  const labels = pieces.map((piece, index) => ({ index, text: visiblePiece(piece) }));
  const pattern = patterns[at];
  const valueAt = (row: number, column: number): number => pattern[row * pieces.length + column];
  const heat: Heat = {
    rows: labels,
    columns: labels,
    steps: useMemo(() => stepsOf(pattern, limit), [pattern, limit]),
    width: [5, 26],
    height: "square",
  };
  const drawing = (): Drawing => heatDrawing(heat, 900);
  return (
    <Stand
      shown={{ payload, alone, tools }}
      caption={`Head ${names[at]}${heads.length > 1 ? `, one of ${counted(heads.length, "head")}` : ""}`}
      sentence={
        <>
          Show {counted(heads.length, "head")}, <Word label="Size" value={size} options={(Object.keys(SIZES) as Size[]).map((size) => [size, size] as const)} onChange={(size) => choose({ size })} />
          {payload.pieces.length > 1 && (
            <>
              , of <Word label="Text" value={String(text)} options={payload.pieces.map((_, i) => [String(i), `text ${i}`])} onChange={(text) => choose({ text: Number(text) })} />
            </>
          )}
        </>
      }
      range={{ limit, signed: false, unit, scale, each: null, onScale }}
      notes={[settings.value, "queries downwards, keys across"]}
      drawing={drawing}
      table={() => [
        ["layer", "head", "query", "query_token", "key", "key_token", "value"],
        ...patterns.flatMap((one, i) => pieces.flatMap((piece, query) => pieces.slice(0, query + 1).map((other, key) => [...heads[i], query, piece, key, other, one[query * pieces.length + key]]))),
      ]}
    >
      {heads.length > 1 && <Thumbs names={names} patterns={patterns} limit={limit} size={SIZES[size]} picked={at} onPick={(i) => pick({ layer: heads[i][0], head: heads[i][1] })} />}
      <section class="pattern">
        <h2>Head {names[at]}</h2>
        <HeatMap
          {...heat}
          label={`Attention of head ${names[at]}, ${pieces.length} queries by as many keys`}
          number={({ row, column }) => (column > row ? "" : plain(valueAt(row, column)))}
          tip={({ row, column }) => ({
            piece: `${row} ${labels[row].text} → ${column} ${labels[column].text}`,
            value: `${plain(valueAt(row, column))} ${unit}`.trim(),
            facts: [column > row ? "comes later: not seen" : `head ${names[at]}`],
          })}
        />
      </section>
    </Stand>
  );
}

export default present(Attention, ({ heads, pieces }) => ({
  chosen: { text: below(pieces.length), size: oneOf(...Object.keys(SIZES)) },
  picked: oneOfHeads(heads),
}));
