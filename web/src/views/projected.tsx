// What views of projections have in common: a header where they stand alone, and texts under their labels.

import { render } from "preact";
import type { Model } from "../host.ts";
import { counted } from "../numbers.ts";
import { frame } from "./frame.tsx";
import { Header } from "./legend.tsx";
import { type Payload, readModel, type Reading } from "./reading.ts";

const KEYS = ["data", "payload", "values", "units", "centre", "scale", "picked"];

/** A text, or what is drawn of it, under its label: where nothing around the view says it. */
export function titled(label: string, el: HTMLElement): HTMLElement {
  const section = document.createElement("section");
  const heading = document.createElement("h2");
  section.className = "text";
  heading.textContent = label;
  section.append(heading, el);
  return section;
}

/** The label of each text with its length: "text 0, 46 tokens". */
export function labelsOf(model: Model, { pieces }: Pick<Payload, "pieces">): string[] {
  const labels = model.get("labels") as string[] | undefined;
  return pieces.map((text, i) => `${labels?.[i] ?? `text ${i}`}, ${counted(text.length, "token")}`);
}

/** `draw` is called with each new reading and answers the end of its colour range; the answer takes everything down again. */
export function frameProjection(model: Model, el: HTMLElement, draw: (reading: Reading, body: HTMLElement) => number): () => void {
  const header = document.createElement("header");
  const body = document.createElement("div");
  const alone = !model.get("bare");
  const write = (key: string, value: unknown): void => {
    model.set(key, value);
    model.save_changes();
  };
  const takeDown = frame(model, el, KEYS, (root) => {
    if (!body.isConnected) root.replaceChildren(...(alone ? [header, body] : [body]));
    const reading = readModel(model);
    const limit = draw(reading, body);
    if (!alone) return;
    const { payload, units, centre, scale } = reading;
    render(
      <Header
        payload={payload}
        units={units}
        centre={centre}
        scale={scale}
        limit={limit}
        leftOut={payload.left_out}
        several={reading.shape[0] > 1}
        onUnits={(value) => write("units", value)}
        onCentre={(value) => write("centre", value)}
        onScale={(value) => write("scale", value)}
      />,
      header,
    );
  });
  return () => {
    render(null, header);
    takeDown();
  };
}
