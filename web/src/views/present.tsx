// A view of one result: its name, a sentence whose words are its controls, the legend, the picture, and files made of it.

import { type ComponentChildren, type FunctionComponent, render } from "preact";
import { useState } from "preact/hooks";
import { type Arrays, type Bytes, parseArrays, type Tensor } from "../arrays.ts";
import type { View } from "../host.ts";
import { frame } from "./frame.tsx";
import { type Fit, type Fitting, fitLook, type Head, isOf, type Look, type Onward } from "./look.ts";
import { Range, type RangeProps } from "./legend.tsx";
import { type Drawing, drawPng, drawSvg, saveFile } from "./files.ts";
import { colourLimit, type Scale } from "./reading.ts";

/** What the payload of every result has. */
export interface Named {
  name: string;
  settings: Record<string, unknown>;
  python: string[];
}

export type Tool = readonly [name: string, title: string, run: (root: HTMLElement) => unknown];

/** What a host offers. */
export interface HostTools {
  first: readonly Tool[]; // before the view's own exports
  last: readonly Tool[]; // after them
  model: string | null; // whose heads it shows when they are picked
  cells: boolean; // whether it shows those of a lens
}

const NO_TOOLS: HostTools = { first: [], last: [], model: null, cells: false };

/** A view whose look can be asked about. */
export interface Presented extends View {
  fit: (data: Bytes, look: Look) => { look: Fitting; left: string[] };
  first: (data: Bytes) => Look; // as a result says that it is looked at
  onward: (data: Bytes, picked: unknown) => Onward; // `picked` fits
}

/** What a view is given. `chosen` is how its controls stand, `picked` what a reader picked in it. */
export interface Shown<Payload extends Named, Chosen extends object, Picked> {
  payload: Payload;
  arrays: Record<string, Tensor>;
  alone: boolean; // nothing around the view says what it shows
  tools: HostTools;
  chosen: Partial<Chosen>;
  choose: (changed: Partial<Chosen>) => void;
  picked: Picked | null;
  pick: (picked: Picked | null) => void;
  scale: Scale;
  onScale: (scale: Scale) => void;
}

const parsed = new WeakMap<object, Arrays>();

/** Reads a result, each but once. */
export function parseOnce(data: Bytes): Arrays {
  const known = parsed.get(data) ?? parseArrays(data);
  parsed.set(data, known);
  return known;
}

const LOOKS = ["chosen", "picked", "scale"] as const;

/** A module of a component that draws what it is given; `fitOf` says which looks fit a result. */
export function present<Payload extends Named, Chosen extends object, Picked>(
  Body: FunctionComponent<Shown<Payload, Chosen, Picked>>,
  fitOf: (payload: Payload, arrays: Record<string, Tensor>) => Fit<Picked>,
): Presented {
  const read = (data: Bytes) => {
    const { payload, arrays } = parseOnce(data) as Arrays<Payload>;
    return { payload, arrays, fits: fitOf(payload, arrays) };
  };
  return {
    fit: (data, look) => fitLook(look, read(data).fits),
    first: (data) => read(data).fits.first ?? {},
    onward: (data, picked) => (picked === null ? {} : (read(data).fits.onward?.(picked as Picked) ?? {})),
    render({ model, el }) {
      const write = (key: string, value: unknown): void => {
        model.set(key, value);
        model.save_changes();
      };
      const leave = ({ key }: KeyboardEvent): void => {
        if (key === "Escape" && model.get("picked")) write("picked", null);
      };
      let [root, begun]: [HTMLElement | null, boolean] = [null, false];
      const takeDown = frame(model, el, ["data", ...LOOKS, "tools"], (place) => {
        root = place;
        const { payload, arrays, fits } = read(model.get("data"));
        if (!begun && LOOKS.every((key) => model.get(key) == null)) for (const [key, value] of Object.entries(fits.first ?? {})) write(key, value);
        begun = true;
        const { chosen = {}, picked = null, scale = { mode: "shared" as const } } = fitLook({ chosen: model.get("chosen"), picked: model.get("picked"), scale: model.get("scale") }, fits).look;
        const tools: HostTools = model.get("tools") ?? NO_TOOLS;
        const { heads = [] } = picked === null ? {} : (fits.onward?.(picked as Picked) ?? {});
        try {
          render(
            <>
              <Body
                payload={payload}
                arrays={arrays}
                alone={!model.get("bare")}
                tools={tools}
                chosen={chosen as Partial<Chosen>}
                choose={(changed) => write("chosen", { ...chosen, ...changed })}
                picked={picked as Picked | null}
                pick={(picked) => write("picked", picked)}
                scale={scale}
                onScale={(scale) => write("scale", scale)}
              />
              {heads.length > 0 && (!tools.model || !isOf(tools.model, heads[0])) && <HeadsInPython heads={heads} />}
            </>,
            place,
          );
        } catch (error) {
          render(null, place); // what was drawn before is of something else
          throw error;
        }
      });
      el.addEventListener("keydown", leave);
      return () => {
        el.removeEventListener("keydown", leave);
        if (root) render(null, root);
        takeDown();
      };
    },
  };
}

/** Where no model is at hand, how to see where heads look. */
function HeadsInPython({ heads }: { heads: readonly Head[] }) {
  const { model = "the model" } = heads[0];
  return (
    <p class="onward">
      Where {heads.length > 1 ? "they look" : "it looks"} in any run of {model}: <code>rs.attention(run, heads=[{heads.map(({ layer, head }) => `(${layer}, ${head})`).join(", ")}])</code>
    </p>
  );
}

interface StandProps {
  shown: Pick<Shown<Named, object, unknown>, "payload" | "alone" | "tools">;
  caption: string; // what is shown, as the sentence says it: for files
  sentence?: ComponentChildren;
  range?: RangeProps;
  notes?: readonly (string | null)[]; // beside the legend: conventions
  reading?: readonly (string | null)[]; // below the picture: how it is read
  drawing: () => Drawing;
  table: () => readonly (readonly (string | number)[])[]; // CSV, its head first
  more?: readonly Tool[]; // other files that it makes; what one answers is said
  children: ComponentChildren;
}

/** What stands around a picture. */
export function Stand({ shown: { payload, alone, tools }, caption, sentence, range, notes = [], reading = [], drawing, table, more = [], children }: StandProps) {
  const [said, read] = [notes, reading].map((lines) => [...new Set(lines.filter((line) => line !== null))]);
  if (!alone) return <>{children}</>;
  return (
    <>
      <header>
        <strong>{payload.name}</strong>
        <Tools payload={payload} tools={tools} table={table} more={more} svg={(el) => drawSvg(el, { title: payload.name, lines: [...new Set([caption, ...said, ...read])], range, ...drawing() })} />
        {sentence && <p class="sentence">{sentence}</p>}
        {(range || said.length > 0) && (
          <div class="legend">
            {range && <Range {...range} />}
            {said.map((note) => (
              <span key={note}>{note}</span>
            ))}
          </div>
        )}
      </header>
      {children}
      {read.length > 0 && <p class="reading">{read.join(" · ")}</p>}
    </>
  );
}

interface ToolsProps {
  payload: Named;
  tools: HostTools;
  table: StandProps["table"];
  more: readonly Tool[];
  svg: (el: HTMLElement) => string;
}

/** Files and code of what is shown. */
function Tools({ payload, tools: { first, last }, table, more, svg }: ToolsProps) {
  const [said, setSaid] = useState<string | null>(null);
  const [code, setCode] = useState<string | null>(null);
  const say = (text: string): void => {
    setSaid(text);
    setTimeout(() => setSaid(null), 2500);
  };
  const save = (content: Blob, extension: string): void => say(`${saveFile(content, payload.name, extension)} saved`);
  const python = payload.python.join("\n");
  const rootOf = (event: Event): HTMLElement => (event.currentTarget as Element).closest<HTMLElement>(".residscope.view")!;
  const tools: readonly Tool[] = [
    ...first,
    ["Python", "Copy the code that computes this", () => navigator.clipboard.writeText(python).then(() => say("Python copied"), () => setCode(python))],
    ["PNG", "Save the picture as pixels", async (root) => save(await drawPng(svg(root)), "png")],
    ["SVG", "Save the picture as a drawing", (root) => save(new Blob([svg(root)], { type: "image/svg+xml" }), "svg")],
    ["CSV", "Save the numbers as a table", () => save(new Blob([writeCsv(table())], { type: "text/csv" }), "csv")],
    ...more.map(([name, title, act]): Tool => [name, title, async (root) => say(String(await act(root)))]),
    ...last,
    ["Full screen", "Fill the screen, or leave it", (root) => (document.fullscreenElement ? document.exitFullscreen() : root.requestFullscreen())],
  ];
  const run = async (act: (root: HTMLElement) => unknown, root: HTMLElement): Promise<void> => {
    try {
      await act(root);
    } catch (error) {
      say(`This cannot be done here. ${error instanceof Error ? error.message : error}`);
    }
  };
  return (
    <div class="files" role="group" aria-label="Export">
      <span role="status">{said}</span>
      {tools.map(([name, title, act]) => (
        <button key={name} type="button" title={title} onClick={(event) => run(act, rootOf(event))}>
          {name}
        </button>
      ))}
      {code !== null && <textarea readOnly aria-label="Python, to copy by hand" rows={payload.python.length} value={code} ref={(el) => el?.select()} onBlur={() => setCode(null)} />}
    </div>
  );
}

export const FIRST_LEFT_OUT = "position 0 has no colour, nor a part in the range";

/** Values [row pos] as they are shaded: without position 0, which is like no other; NaN there, unless it is alone. */
export const withoutFirst = (values: Float32Array, columns: number): Float32Array => (columns > 1 ? values.map((value, i) => (i % columns ? value : NaN)) : values);

/** The range of colours of some values. */
export function rangeOf(values: Float32Array, scale: Scale, unit: string): { limit: number; signed: boolean; unit: string } {
  return { limit: scale.mode === "fixed" ? scale.limit : colourLimit([values], []), signed: values.some((value) => value < 0), unit };
}

/** One line a row; quoted where it has to be. */
export function writeCsv(rows: readonly (readonly (string | number)[])[]): string {
  const cell = (value: string | number): string => (/[",\n\r]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  return rows.map((row) => `${row.map(cell).join(",")}\n`).join("");
}
